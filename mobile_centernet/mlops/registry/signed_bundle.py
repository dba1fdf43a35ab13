"""The signed bundle of a registered version, in which devices get it (docs/edge.md).

Signed is only what this machine exported itself, or what a trusted signature already covers: never files as the
registry has them, because who has its password could have changed them.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock
from PIL import Image

from mobile_centernet.bundle.build import build_bundle
from mobile_centernet.bundle.bundle import sign_bundle, verify_bundle
from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.keys import TrustedKeys, key_id, read_private_key
from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.bundle.protocol import BUNDLE_BYTES, BUNDLE_PATH, BUNDLE_RELEASE, BUNDLE_SHA256
from mobile_centernet.bundle.unpack import extract
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.files import file_digest
from mobile_centernet.inference.graph import PRECISIONS
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.registry.registry import Registry, RegistryError, Version

KEY_VARIABLE = "MOBILE_CENTERNET_SIGNING_KEY"
PLACE = "bundle"  # among the artifacts of the version's run
LINEAGE = ("git_commit", "params_sha256", "dvc_lock_sha256", "export_sha256", "map50", "measured_on")


@dataclass(frozen=True, slots=True)
class BundleContents:
    """What goes into a bundle beside its name and numbers."""

    models: Sequence[Path]
    pictures: Sequence[Path]
    thresholds: Mapping[str, float]
    latency_ms: Mapping[str, float]
    lineage: Mapping[str, str]


def signing_key() -> Path | None:
    """The private key's file, where MOBILE_CENTERNET_SIGNING_KEY names one; the key itself is in no setting."""
    named = os.environ.get(KEY_VARIABLE)
    return Path(named) if named else None


def is_attached(version: Version) -> bool:
    return BUNDLE_SHA256 in version.tags  # it is written last


def release_of(version: Version) -> int:
    """Release number of its bundle, as the tag says; 0 without one."""
    text = version.tags.get(BUNDLE_RELEASE, "")
    return int(text) if text.isdecimal() and is_attached(version) else 0


def sign_exported(registry: Registry, version: Version, params: Params, key_file: Path) -> int:
    """Attach a signed bundle of data/export to the version that holds these files; returns its release number.

    Raises BundleError for a key that cannot be used, RegistryError.
    """
    models = [path for name in PRECISIONS if (path := paths.EXPORT / f"model.{name}.onnx").is_file()]
    section = params.register_.bundle
    prepared = PreparedSet(paths.PREPARED / "ivslab", "test")
    with TemporaryDirectory() as folder:
        golden = []  # frames of the test set, spread evenly over it
        for index in sorted({number * len(prepared) // section.pictures for number in range(section.pictures)}):
            golden.append(Path(folder) / f"{index:06d}.png")
            Image.fromarray(prepared.image(index)).save(golden[-1])
        contents = BundleContents(
            models,
            golden,
            section.thresholds,
            section.latency_ms,
            {key: version.tags[key] for key in LINEAGE if key in version.tags},
        )
        return _build_and_attach(registry, version, contents, key_file)


def sign_again(registry: Registry, version: Version, params: Params, key_file: Path) -> int:
    """Attach the version's bundle again with a release number above all others, so that devices take it after those.

    Raises BundleError where the present bundle has no trusted signature, RegistryError.
    """
    own = read_private_key(key_file).public_key()
    trusted = TrustedKeys({key_id(own): own})
    if params.promotion.trusted_keys:
        loaded = TrustedKeys.load(params.promotion.trusted_keys, params.promotion.revoked_keys)
        trusted = TrustedKeys({**loaded.keys, key_id(own): own}, loaded.revoked)
    with TemporaryDirectory() as place:
        folder = Path(place)
        old = extract(download(registry, version, folder), folder / "old", trusted)
        _check_identity(old, registry, version)
        contents = BundleContents(
            [folder / "old" / variant.model for variant in old.variants.values()],
            [folder / "old" / picture for picture in old.pictures],
            old.thresholds,
            old.latency_ms,
            old.lineage,
        )
        return _build_and_attach(registry, version, contents, key_file)


def download(registry: Registry, version: Version, folder: Path) -> Path:
    """The version's bundle, unverified, in `folder`. RegistryError: there is none, or another than its tag says."""
    if not is_attached(version):
        raise RegistryError(f"{registry.name} version {version.number}: expected a signed bundle, found none attached")
    path = registry.download(version, folder, attached=version.tags.get(BUNDLE_PATH, ""))
    if (found := file_digest(path)) != version.tags[BUNDLE_SHA256]:
        raise RegistryError(
            f"{registry.name} version {version.number}: expected the bundle of SHA-256 {version.tags[BUNDLE_SHA256]}, "
            f"found {found}"
        )
    return path


def verified(registry: Registry, version: Version, params: Params, folder: Path) -> Manifest:
    """The manifest of the version's bundle, whose signature by a trusted key holds. RegistryError, BundleError."""
    promotion = params.promotion
    trusted = TrustedKeys.load(promotion.trusted_keys, promotion.revoked_keys)
    manifest = verify_bundle(download(registry, version, folder), trusted)
    _check_identity(manifest, registry, version)
    return manifest


def _check_identity(manifest: Manifest, registry: Registry, version: Version) -> None:
    """A good signature of another version's bundle must not pass for this one's."""
    expected, found = (registry.name, str(version.number)), (manifest.name, manifest.version)
    if found != expected:
        raise BundleError(f"expected the bundle of {' version '.join(expected)}, found {' version '.join(found)}")


def _build_and_attach(registry: Registry, version: Version, contents: BundleContents, key_file: Path) -> int:
    """Build, sign, upload; then the tags, the digest last: a version has a bundle when it has that."""
    key = read_private_key(key_file)
    paths.RELEASE_LOCK.parent.mkdir(exist_ok=True)
    with FileLock(paths.RELEASE_LOCK), TemporaryDirectory() as folder:  # two at once would take the same number
        # Also of bundles whose last tag was never written.
        used = [other.tags.get(BUNDLE_RELEASE, "") for other in registry.versions()]
        release = 1 + max((int(text) for text in used if text.isdecimal()), default=0)
        path = Path(folder) / f"{registry.name}-{release}.tar"
        build_bundle(
            path,
            contents.models,
            name=registry.name,
            version=str(version.number),
            release=release,
            pictures=contents.pictures,
            thresholds=contents.thresholds,
            latency_ms=contents.latency_ms,
            lineage=contents.lineage,
        )
        sign_bundle(path, key)
        registry.attach(version, Path(folder), PLACE)
        registry.untag(registry.version(version.number), BUNDLE_SHA256)
        place = {
            BUNDLE_PATH: f"{PLACE}/{path.name}",
            BUNDLE_BYTES: str(path.stat().st_size),
            BUNDLE_RELEASE: str(release),
        }
        registry.tag(version.number, **place, **{BUNDLE_SHA256: file_digest(path)})
    return release
