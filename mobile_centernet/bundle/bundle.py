"""A bundle: one file that holds a release, and the only way to write, verify and unpack it.

    manifest.json                    what the release is; pins every file below by size and SHA-256
    MODEL_CARD.md golden/fp32.json golden/000.png model.fp32.onnx ...    in the order of their names

Every byte of it is what the manifest and the one possible tar form make it, so the SHA-256 of the manifest is what a
release is. Whose release it is, the trust repository says: `bundles` lists it, and a channel's statement names it.
"""

import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from mobile_centernet.bundle.errors import BundleError, StorageError
from mobile_centernet.bundle.manifest import MANIFEST, Manifest, PinnedFile
from mobile_centernet.bundle.tar import END, Reader, pack
from mobile_centernet.files import file_digest, new_folder, sync_folder, write_atomically

MAX_MANIFEST = 1 << 20


def write_bundle(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Write a bundle of the files that the manifest names, atomically. Raises BundleError."""
    try:
        write_atomically(path, pack([(MANIFEST, manifest.to_json()), *sorted(files.items())]) + END)
    except OSError as error:
        raise BundleError(f"{path}: cannot be written ({error.strerror})") from error


def verify_bundle(
    path: Path, expected: str | None = None, keep: Callable[[str, Iterable[bytes]], object] | None = None
) -> Manifest:
    """Read every byte once and in order; only when this returns has the last one been checked.

    Args:
        path: the bundle.
        expected: SHA-256 of its manifest, which is what is signed; without it nobody vouches for what is found.
        keep: takes the name and all pieces of each member, whose place and size are right; what it raises ends this.

    Raises:
        BundleError: it is not whole, or another one.
        StorageError: it cannot be read.
    """
    keep = keep or (lambda _, pieces: deque(pieces, maxlen=0))
    try:
        file = path.open("rb")
    except OSError as error:
        raise StorageError(f"{path}: expected a bundle, but it cannot be read ({error.strerror})") from error
    with file:
        reader = Reader(file, path)
        content = reader.read(MANIFEST, MAX_MANIFEST)
        manifest = Manifest.from_json(content, f"{path}: {MANIFEST}")
        if expected not in (None, manifest.sha256):
            raise BundleError(f"{path}: expected the manifest {expected}, found {manifest.sha256}")
        keep(MANIFEST, [content])
        for name in sorted(manifest.files):
            if (found := reader.peek()[0]) != name:
                raise BundleError(f"{path}: expected {name} as its next member, found {found}")
            keep(name, _checked(reader, manifest.files[name], f"{path}: {name}"))
        if not reader.at_end():
            raise BundleError(f"{path}: expected no members but those of its manifest, found {reader.peek()[0]}")
    return manifest


def extract(path: Path, folder: Path, expected: str) -> Manifest:
    """Verify a bundle and unpack it into the new `folder`, which appears whole or not at all, also after a crash.

    What is written is what was verified: the file is read once. Only one process may unpack to a place.

    Args:
        path: the bundle.
        folder: the new folder.
        expected: SHA-256 of its manifest.

    Raises:
        BundleError: verification fails, or `folder` exists.
        StorageError: the disk refuses.
    """
    if os.path.lexists(folder):
        raise BundleError(f"{folder}: expected a folder that is not there yet")
    with new_folder(folder, "the bundle cannot be unpacked there", StorageError, parents=False) as filling:

        def save(name: str, pieces: Iterable[bytes]) -> None:
            member = filling / name
            member.parent.mkdir(exist_ok=True)
            with member.open("xb") as target:
                target.writelines(pieces)
                target.flush()
                os.fsync(target.fileno())

        manifest = verify_bundle(path, expected, save)
        for inside in (entry for entry in filling.iterdir() if entry.is_dir()):
            sync_folder(inside)
    return manifest


def verify_folder(folder: Path) -> Manifest:
    """What `extract` has checked, for the folder that it made, whose name is the manifest's SHA-256: disks rot.

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
        manifest = read_manifest(folder)
        for name, pinned in manifest.files.items():
            if (digest := file_digest(folder / name)) != pinned.sha256:
                raise BundleError(f"{folder}: {name}: expected SHA-256 {pinned.sha256}, found {digest}")
    except OSError as error:
        kind = BundleError if isinstance(error, FileNotFoundError | NotADirectoryError) else StorageError
        raise kind(f"{folder}: expected a whole release, but {error.filename}: {error.strerror}") from error
    if manifest.sha256 != folder.name:
        raise BundleError(f"{folder}: expected the manifest of that digest, found {manifest.sha256}")
    if extra := found - {MANIFEST, *manifest.files}:
        raise BundleError(f"{folder}: expected no files but those of its manifest, found {', '.join(sorted(extra))}")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a release that was verified when it was unpacked. Raises BundleError or OSError."""
    path = folder / MANIFEST
    return Manifest.from_json(path.read_bytes(), str(path))


def _checked(reader: Reader, pinned: PinnedFile, where: str) -> Iterator[bytes]:
    """The pieces of the next member; raises BundleError at once for a wrong size, at the end for wrong contents."""
    if (size := reader.peek()[1]) != pinned.bytes:
        raise BundleError(f"{where}: expected {pinned.bytes} bytes, found {size}")
    digest = hashlib.sha256()
    for piece in reader.chunks():
        digest.update(piece)
        yield piece
    if digest.hexdigest() != pinned.sha256:
        raise BundleError(f"{where}: expected SHA-256 {pinned.sha256}, found {digest.hexdigest()}")
