"""A release on a device: a verified bundle's files in a folder."""

import os
import stat
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from mobile_centernet.bundle.bundle import checked, discard, open_bundle, walk
from mobile_centernet.bundle.errors import BundleError, StorageError
from mobile_centernet.bundle.keys import TrustedKeys, check_signatures, signature_files
from mobile_centernet.bundle.manifest import MANIFEST, SIGNATURES, Manifest
from mobile_centernet.files import new_folder, sync_folder

_CHUNK = 1 << 20


def extract(path: Path, folder: Path, expected: TrustedKeys | str) -> Manifest:
    """Verify a bundle and unpack it into the new `folder`, which appears whole or not at all, also after a crash.

    What is written is what was verified: the file is read once. Only one process may unpack to a place.

    Args:
        path: the bundle.
        folder: the new folder.
        expected: SHA-256 of its manifest, or the keys of which one must have signed it.

    Raises:
        BundleError: verification fails, or `folder` exists.
        StorageError: the disk refuses.
    """
    if os.path.lexists(folder):
        raise BundleError(f"{folder}: expected a folder that is not there yet")
    with (
        new_folder(folder, "the bundle cannot be unpacked there", StorageError, parents=False) as filling,
        open_bundle(path) as file,
    ):

        def save(name: str, pieces: Iterable[bytes]) -> None:
            member = filling / name
            member.parent.mkdir(exist_ok=True)
            with member.open("xb") as target:
                for piece in pieces:
                    target.write(piece)
                target.flush()
                os.fsync(target.fileno())

        manifest, _ = walk(file, path, None if isinstance(expected, str) else expected, save)
        if isinstance(expected, str) and manifest.sha256 != expected:
            raise BundleError(f"{path}: expected the manifest {expected}, found {manifest.sha256}")
        for inside in (entry for entry in filling.iterdir() if entry.is_dir()):
            sync_folder(inside)
    return manifest


def verify_folder(folder: Path, trusted: TrustedKeys | None = None) -> Manifest:
    """What `extract` has checked, for the folder that it made: disks rot.

    Args:
        folder: of a release; without keys its name is the SHA-256 of its manifest.
        trusted: the keys of which one must have signed.

    Raises:
        BundleError: it is not whole.
        StorageError: the disk does not let it be read, which says nothing about it.
    """
    try:
        found = set()
        for entry in folder.rglob("*"):
            mode = entry.lstat().st_mode
            if stat.S_ISREG(mode):
                found.add(entry.relative_to(folder).as_posix())
            elif not stat.S_ISDIR(mode):
                raise BundleError(f"{entry}: expected a plain file, found a link or a device")
        signed = (folder / MANIFEST).read_bytes()
        pems = (folder / name for name in sorted(found) if name.startswith(SIGNATURES) and name.endswith(".pem"))
        signatures = {pem.stem: (pem.read_bytes(), pem.with_suffix(".sig").read_bytes()) for pem in pems}
        check_signatures(signed, signatures, trusted, str(folder))
        manifest = Manifest.from_json(signed, str(folder / MANIFEST))
        for name in sorted(manifest.files):
            with (folder / name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                discard(name, checked(iter(partial(file.read, _CHUNK), b""), size, manifest, name, str(folder)))
    except OSError as error:
        kind = BundleError if isinstance(error, FileNotFoundError | NotADirectoryError) else StorageError
        raise kind(f"{folder}: expected a whole release, but {error.filename}: {error.strerror}") from error
    if trusted is None and manifest.sha256 != folder.name:
        raise BundleError(f"{folder}: expected the manifest of that digest, found {manifest.sha256}")
    extra = found - {MANIFEST, *manifest.files, *(name for name, _ in signature_files(signatures))}
    if extra:
        raise BundleError(f"{folder}: expected no files but those of its manifest, found {', '.join(sorted(extra))}")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a release that was verified when it was unpacked. Raises BundleError or OSError."""
    path = folder / MANIFEST
    return Manifest.from_json(path.read_bytes(), str(path))
