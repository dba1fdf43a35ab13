"""What the trust repository holds of a registered model: bundles that `register` listed, statements that were signed.

Of this the registry is a mirror: no alias and no tag of it is believed.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from tuf.api.metadata import TargetFile

from mobile_centernet.bundle.build import build_bundle
from mobile_centernet.bundle.bundle import verify_bundle
from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.inference.graph import PRECISIONS
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.registry.registry import CHAMPION, PREVIOUS, Registry, Version
from mobile_centernet.mlops.registry.version_files import VersionFiles
from mobile_centernet.trust.ceremony import Staged
from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.repository import KEPT_STATEMENTS, Repository, SignedState, described, open_repository
from mobile_centernet.trust.statement import MAX_LISTED, Statement

PINNED = "manifest_sha256"
"""Tag, and signed lineage: the digest that pins a version's files in the registry."""
LINEAGE = ("git_commit", "params_sha256", "dvc_lock_sha256", "export_sha256", "map50", "measured_on", PINNED)
"""Of a version's tags, as this checkout made them, what the bundle says about its origin."""

logger = logging.getLogger(__name__)


def trust_repository(params: Params) -> Repository | None:
    """None where params name none; then nothing reaches devices, and the log says so."""
    if params.trust.repository is None:
        logger.warning("unsigned: trust.repository names none, so no device will run what is registered or promoted")
        return None
    keys = {str(role): places for role, places in params.trust.keys.items()}
    return open_repository(params.trust.repository, params.trust.root, keys)


def publish_exported(repository: Repository, version: Version, params: Params, lineage: Mapping[str, str]) -> None:
    """List a bundle of data/export as the release of the version that holds these files, unless there is one.

    Args:
        repository: where to.
        version: the registry's.
        params: of these `register`.
        lineage: what this checkout says about the files' origin.

    Raises:
        UserError: the bundle cannot be made, or not signed.
    """
    name, section = params.register_.name, params.register_.bundle
    if repository.bundle(repository.state(), name, str(version.number)):
        return
    prepared = PreparedSet(paths.PREPARED / "ivslab", "test")
    with TemporaryDirectory() as folder:
        golden = []  # frames of the test set, spread evenly over it
        for index in sorted({number * len(prepared) // section.pictures for number in range(section.pictures)}):
            golden.append(Path(folder) / f"{index:06d}.png")
            Image.fromarray(prepared.image(index)).save(golden[-1])
        path = Path(folder) / "bundle.tar"
        manifest = build_bundle(
            path,
            [model for each in PRECISIONS if (model := paths.EXPORT / f"model.{each}.onnx").is_file()],
            name=name,
            version=str(version.number),
            pictures=golden,
            thresholds=section.thresholds,
            latency_ms=section.latency_ms,
            lineage={key: lineage[key] for key in LINEAGE if key in lineage},
        )
        listed = repository.publish_bundle(path.read_bytes(), name, str(version.number), manifest.sha256)
    logger.info("listed for devices, which take it when a statement names it: %s", listed.path)


def pinned_files(registry: Registry, version: Version, folder: Path, params: Params | None) -> VersionFiles:
    """A version's files, downloaded to `folder` and checked.

    Args:
        registry: where from.
        version: whose.
        folder: an empty one.
        params: of the model's project: what its repository lists as this version pins the files by a signature. Without
            them, and for versions that are not listed, the registry's own word has to do.

    Raises:
        UserError: the registry does not answer, or a file is not the registered one.
    """
    digest = version.tags.get(PINNED)
    repository = trust_repository(params) if params and params.trust.repository else None
    if repository and (release := Channel.read(repository, registry.name, CHAMPION).release(version.number)):
        digest = release[1].lineage.get(PINNED, digest)
    return VersionFiles.checked(registry.download(version, folder), digest)


@dataclass(frozen=True)
class SignedFacts:
    """What the gate asks about a version, from signatures.

    release:   what is listed for devices; pinned: by version, the digest that pins its files in the registry
    withdrawn: by whom, if it was
    """

    release: tuple[TargetFile, Manifest] | None
    pinned: Mapping[int, str]
    withdrawn: str | None


@dataclass(frozen=True)
class Channel:
    """What the devices of one channel run, and what they ran before: signed statements, newest first."""

    repository: Repository
    state: SignedState
    model: str
    name: str
    statements: Sequence[Statement]

    @classmethod
    def read(cls, repository: Repository, model: str, name: str) -> "Channel":
        state = repository.state()
        found = islice(repository.statements(state, name), KEPT_STATEMENTS)
        return cls(
            repository,
            state,
            model,
            name,
            [each for each, _ in found if each.model == model and each.version.isdecimal()],
        )

    @property
    def head(self) -> Statement | None:
        """The newest statement."""
        return self.statements[0] if self.statements else None

    @property
    def previous(self) -> Statement | None:
        """The newest statement about another release, one that was not withdrawn: what a rollback goes back to."""
        out = {self.head.manifest, *self.head.withdrawn} if self.head else set()
        return next((each for each in self.statements if each.manifest not in out), None)

    @property
    def aliases(self) -> dict[str, int]:
        """What the registry's aliases must say."""
        found = {CHAMPION: self.head, PREVIOUS: self.previous} if self.name == CHAMPION else {self.name: self.head}
        return {alias: int(statement.version) for alias, statement in found.items() if statement}

    def release(self, number: int) -> tuple[TargetFile, Manifest] | None:
        """What is listed as a version's release, checked; None where nothing is."""
        target = self.repository.bundle(self.state, self.model, str(number))
        if target is None:
            return None
        with TemporaryDirectory() as folder:
            path = Path(folder) / target.path.rpartition("/")[2]
            path.write_bytes(self.repository.read_target(target.path, target.hashes["sha256"]))
            manifest = verify_bundle(path)
        for statement in self.statements:
            if statement.version == str(number) and statement.manifest != manifest.sha256:
                raise TrustError(f"{target.path}: expected the release of {self.name} statement {statement.number}")
        return target, manifest

    def judge(self, number: int) -> "SignedFacts":
        """What is signed about a version that wants to follow the head of this channel, champion's."""
        release = self.release(number)
        found = {
            number: release,
            **({int(self.head.version): self.release(int(self.head.version))} if self.head else {}),
        }
        pinned = {n: each[1].lineage[PINNED] for n, each in found.items() if each and PINNED in each[1].lineage}
        out = self.head.withdrawn if self.head else ()
        withdrawn = "by a signed statement" if release and release[1].sha256 in out else None
        return SignedFacts(release, pinned, withdrawn)

    def stage(self, number: int, *, withdraw: bool = False, **fields: Any) -> Staged:
        """The next statement, not signed yet: devices run that version; with `withdraw` never again the present one."""
        target = self.repository.bundle(self.state, self.model, str(number))
        if target is None:
            raise TrustError(f"{self.model} version {number}: expected a bundle that the repository lists, found none")
        head = self.head
        out = [*(head.withdrawn if head else ()), *([head.manifest] if head and withdraw else [])]
        kept = [manifest for manifest in out if manifest != described(target)["manifest"]]
        named = self.repository.next_statement(
            self.state, self.name, target, withdrawn=tuple(dict.fromkeys(kept))[-MAX_LISTED:], **fields
        )
        return Staged(self.name, self.repository.stage_statement(self.state, named), named)
