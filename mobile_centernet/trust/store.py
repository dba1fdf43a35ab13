"""Where a repository's files lie: a folder that a web server serves, or a bucket of an object store (s3://...)."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from mobile_centernet.files import sync_folder, write_atomically
from mobile_centernet.trust.errors import TrustError

LOCK = ".lock"


class RepositoryStore(Protocol):
    """Files by name. Every method raises TrustError where the store fails."""

    where: str

    def read(self, name: str) -> bytes | None:
        """A file's contents; None where there is none."""

    def names(self, folder: str) -> list[str]:
        """Of the files in a folder."""

    def create(self, name: str, content: bytes) -> None:
        """Write a file once and for all: one that is there already must have these contents."""

    def replace(self, name: str, content: bytes, before: bytes | None) -> None:
        """Write a file that has the contents `before` (None: that is not there), unless somebody was faster."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other publishers out, where the store can."""
        yield


class FolderStore:
    """A folder. Two publishers are kept apart by a lock in it, so both must see one file system."""

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        path = self._place(name)
        try:
            if path.exists() and not path.is_file():  # whose reading may never end
                raise TrustError(f"{path}: expected a plain file, found another kind")
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TrustError(f"{path}: cannot be read ({error.strerror})") from error

    def names(self, folder: str) -> list[str]:
        return [path.name for path in self._place(folder).glob("*")]

    def create(self, name: str, content: bytes) -> None:
        found = self.read(name)
        if found is None:
            self._write(name, content)
        elif found != content:
            raise TrustError(f"{self._folder / name}: expected no such file yet, found another: it is written once")

    def replace(self, name: str, content: bytes, before: bytes | None) -> None:
        if self.read(name) != before:
            raise TrustError(f"{self._folder / name}: somebody else has published meanwhile; run this again")
        self._write(name, content)

    @contextmanager
    def locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout  # devices read repositories and write none

        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / LOCK, timeout=30):
                yield
        except Timeout as error:
            raise TrustError(f"{self._folder}: somebody else is publishing there ({LOCK}); run this again") from error
        except OSError as error:
            raise TrustError(f"{self._folder}: cannot be written ({error.strerror})") from error

    def _write(self, name: str, content: bytes) -> None:
        path = self._place(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
            sync_folder(path.parent)
        except OSError as error:
            raise TrustError(f"{path}: cannot be written ({error.strerror})") from error

    def _place(self, name: str) -> Path:
        """Whoever may write into the folder must not lead its publishers out of it."""
        path = self._folder / name
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise TrustError(f"{path}: expected a place in {self._folder}, found a link out of it")
        return path


class ObjectStore:
    """A bucket: every write asks the store to refuse it where somebody else was faster (If-None-Match, If-Match)."""

    def __init__(self, address: str) -> None:
        if not address.startswith("s3://"):  # of the others no driver is known to pass the conditions on
            raise TrustError(f"{address}: expected a folder or s3://BUCKET/FOLDER")
        try:
            import s3fs
        except ImportError as error:
            raise TrustError(f"{address}: expected the extra `s3` of this package, found no s3fs") from error
        self.where = address
        self._root = address.rstrip("/")
        self._files: Any = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)

    def read(self, name: str) -> bytes | None:
        with self._translated(name), suppress(FileNotFoundError):
            return bytes(self._files.cat_file(f"{self._root}/{name}"))
        return None

    def names(self, folder: str) -> list[str]:
        with self._translated(folder), suppress(FileNotFoundError):
            return [each.rpartition("/")[2] for each in self._files.ls(f"{self._root}/{folder}", detail=False)]
        return []

    def create(self, name: str, content: bytes) -> None:
        found = self.read(name)
        if found is None:
            with self._translated(name):
                headers = {"IfNoneMatch": "*", "CacheControl": "max-age=31536000, immutable"}
                self._files.pipe_file(f"{self._root}/{name}", content, **headers)
        elif found != content:
            raise TrustError(f"{self._root}/{name}: expected no such file yet, found another: it is written once")

    def replace(self, name: str, content: bytes, before: bytes | None) -> None:
        with self._translated(name):
            condition = {"IfNoneMatch": "*"}
            if before is not None:  # the tag first: where the file changes after that, its contents or the tag differ
                condition = {"IfMatch": self._files.info(f"{self._root}/{name}", refresh=True)["ETag"]}
            if self.read(name) != before:
                raise TrustError(f"{self._root}/{name}: somebody else has published meanwhile; run this again")
            self._files.pipe_file(f"{self._root}/{name}", content, CacheControl="no-cache", **condition)

    @contextmanager
    def locked(self) -> Iterator[None]:
        yield

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        """Whatever the driver raises as one sentence."""
        try:
            yield
        except TrustError:
            raise
        except Exception as error:
            said = str(error).splitlines() or [type(error).__name__]
            raise TrustError(f"{self._root}/{name}: the store refuses: {said[0]}; run this again") from error


def open_store(address: str) -> RepositoryStore:
    """The store at an address of an object store, or in a folder."""
    return ObjectStore(address) if "://" in address else FolderStore(Path(address).expanduser())
