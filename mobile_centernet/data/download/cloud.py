"""A file behind s3, gs, file and whatever else fsspec knows."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import fsspec

from mobile_centernet.data.download.remote import CHUNK, Reading, RemoteVersion, TransientError
from mobile_centernet.errors import DataError, UserError

LIBRARIES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
NO_ACCESS = (
    "botocore.exceptions.NoCredentialsError",
    "botocore.exceptions.PartialCredentialsError",
    "botocore.exceptions.CredentialRetrievalError",
    "google.auth.exceptions.DefaultCredentialsError",
    "google.auth.exceptions.RefreshError",
)
CLOUD_ERRORS = ("botocore.exceptions.BotoCoreError", "google.auth.exceptions.GoogleAuthError")


class FsspecFile:
    """A file behind any protocol that fsspec knows."""

    def __init__(self, url: str, shown: str) -> None:
        self._shown = shown
        protocol = urlsplit(url).scheme
        try:
            with self._named_errors():  # some connect at once
                self._files, self._path = fsspec.core.url_to_fs(url)
        except TransientError as error:
            raise DataError(f"{shown}: expected an answer, found: {error}") from error
        except ImportError as error:
            wanted = f"pip install {LIBRARIES[protocol]}" if protocol in LIBRARIES else str(error)
            raise UserError(f"{shown}: expected the library for {protocol}://, which is not there: {wanted}") from error
        except ValueError as error:
            raise UserError(f"{shown}: expected a protocol that fsspec knows, found {protocol}://") from error

    def version(self) -> RemoteVersion:
        with self._named_errors():
            info = self._files.info(self._path)
        etag = next((str(info[key]) for key in ("ETag", "etag", "md5Hash") if info.get(key)), "")
        modified = next((str(info[key]) for key in ("LastModified", "updated", "mtime") if info.get(key)), "")
        return RemoteVersion(info.get("size"), etag, modified)

    @contextmanager
    def read(self, start: int, seen: RemoteVersion) -> Iterator[Reading]:
        version = self.version()
        start = 0 if version.differs(seen) else start
        with self._named_errors():
            file = self._files.open(self._path, "rb")

        def chunks() -> Iterator[bytes]:
            with self._named_errors():
                file.seek(start)
                yield from iter(lambda: file.read(CHUNK), b"")

        with file:
            yield Reading(start, version, chunks())

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise DataError(f"{self._shown}: expected a file, found none") from error
        except _raised_by("builtins.PermissionError", *NO_ACCESS) as error:
            hint = "the credentials in the environment are missing, wrong or expired"
            raise DataError(f"{self._shown}: expected access, found {type(error).__name__}; {hint}") from error
        except OSError as error:
            raise TransientError(error.strerror or type(error).__name__) from error
        except _raised_by(*CLOUD_ERRORS) as error:
            raise TransientError(type(error).__name__) from error


def _raised_by(*names: str) -> tuple[type[Exception], ...]:
    """Exceptions of the cloud libraries, of those that are in use at all: neither is a dependency."""
    pairs = [name.rsplit(".", 1) for name in names]
    return tuple(getattr(sys.modules[module], name) for module, name in pairs if module in sys.modules)
