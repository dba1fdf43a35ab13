"""Downloads that survive: a killed process or a cut connection resumes where it was, and only verified files count.

A download in `folder` is `<first 16 digits of its sha256>.partial`, beside it what the server said of the file; a
verified one is `<...>.archive`.
"""

import json
import logging
import os
import shutil
import string
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from tqdm import tqdm
from urllib3.exceptions import InvalidHeader, MaxRetryError
from urllib3.util import Retry

from mobile_centernet.data.download.cloud import FsspecFile
from mobile_centernet.data.download.http import HttpFile
from mobile_centernet.data.download.kinds import BEGIN, foreign_kind
from mobile_centernet.data.download.remote import Archive, Reading, Remote, RemoteVersion, TransientError
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.files import file_digest, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetryPolicy:
    """How long a server may keep us waiting. Times in seconds."""

    retries: int = 8  # in a row, without a byte more than before
    backoff: float = 1.0  # doubles with every attempt
    longest_wait: int = 120  # also where the server asks for more (Retry-After)
    connect: float = 10.0
    silence: float = 60.0  # without a byte
    least_rate: float = 1000.0  # bytes per second, over each `window`
    window: float = 600.0
    unannounced: int = 64 << 30  # bytes of a file whose length neither its server nor `Archive.size` tells

    def attempts(self) -> Retry:
        """A new budget of attempts."""
        return Retry(
            self.retries,
            backoff_factor=self.backoff,
            backoff_max=self.longest_wait,
            retry_after_max=self.longest_wait,
        )


RETRY_POLICY = RetryPolicy()


def download_all(
    archives: Sequence[Archive], folder: Path, *, policy: RetryPolicy = RETRY_POLICY, progress: bool = True
) -> list[Path]:
    """Fetch every archive, once it is clear that the disk holds them and what they unpack to.

    What is there already is verified and not fetched again. The room asked for is that of the missing bytes and once
    more that of all archives: images hardly shrink in an archive.

    Args:
        archives: what to fetch.
        folder: where downloads are kept.
        policy: how long servers may keep us waiting.
        progress: show a progress bar on a terminal.

    Returns:
        The verified files, in the order of `archives`.

    Raises:
        DataError: as `download`, or the disk is too small.
        UserError: as `download`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing, packed = 0, 0
    for archive in archives:
        place, partial = _places(archive, folder)
        size = place.stat().st_size if place.exists() else remote_version(archive, policy=policy).size or 0
        packed += size
        missing += 0 if place.exists() else max(0, size - _size(partial))
    needed, free = missing + packed, shutil.disk_usage(folder).free
    if free < needed:
        what = f"{len(archives)} archives and what they hold"
        raise DataError(f"{folder}: expected {needed / 1e9:.1f} GB free for {what}, found {free / 1e9:.1f} GB")
    return [download(archive, folder, policy=policy, progress=progress) for archive in archives]


def download(archive: Archive, folder: Path, *, policy: RetryPolicy = RETRY_POLICY, progress: bool = True) -> Path:
    """Fetch one archive, or what an earlier run left of it; a file that has changed meanwhile is fetched again.

    Args:
        archive: what to fetch.
        folder: where downloads are kept.
        policy: how long the server may keep us waiting.
        progress: show a progress bar on a terminal.

    Returns:
        The verified file.

    Raises:
        DataError: the server refuses, `policy` is used up, the disk is full, or the digest is another one (then nothing
            is kept).
        UserError: another process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place, partial = _places(archive, folder)
    lock = folder / f"{place.stem}.lock"
    try:
        # Two processes that append to one file would spoil it. The kernel releases the lock of a killed one.
        alone = FileLock(lock, timeout=0).acquire()
    except Timeout as error:
        raise UserError(f"{archive.url}: another process is already downloading this archive ({lock})") from error
    with alone:
        if place.exists() and file_digest(place) == archive.sha256:
            return place
        remote = _open_remote(archive, (policy.connect, policy.silence))
        for is_last in (False, True):
            doubtful = _complete(remote, archive, partial, policy, progress)
            found = file_digest(partial)
            if found == archive.sha256:
                partial.replace(place)
                _version_file(partial).unlink(missing_ok=True)
                logger.info("%s: fetched and verified, %s bytes", archive.url, f"{_size(place):,}")
                return place
            size = _size(partial)
            with partial.open("rb") as file:
                kind = foreign_kind(file.read(BEGIN))
            _forget(partial)
            if is_last or not doubtful:
                break
        hint = f"the file has changed, or the digest is not its own; nothing was kept{kind and f'; got {kind}'}"
        raise DataError(f"{archive.url}: expected sha256 {archive.sha256}, found {found} in {size} bytes ({hint})")


def remote_version(archive: Archive, *, policy: RetryPolicy = RETRY_POLICY) -> RemoteVersion:
    """What the server says about an archive now. Raises what `download` raises."""
    remote, attempts = _open_remote(archive, (policy.connect, policy.silence)), policy.attempts()
    while True:
        try:
            return remote.version()
        except TransientError as problem:
            attempts = _wait(attempts, problem, archive, "an answer")


def _complete(remote: Remote, archive: Archive, partial: Path, policy: RetryPolicy, progress: bool) -> bool:
    """Fetch what `partial` lacks. True where it was continued without a way to tell that the file is still the same."""
    attempts, furthest, doubtful = policy.attempts(), _size(partial), False
    pace = _Pace(policy)
    name = archive.url.partition("?")[0].rpartition("/")[2]
    with tqdm(desc=name, unit="B", unit_scale=True, initial=furthest, disable=None if progress else True) as bar:
        while True:
            start = _size(partial)
            try:
                seen = RemoteVersion(**json.loads(_version_file(partial).read_text(encoding="utf-8")))
            except (FileNotFoundError, ValueError, TypeError):  # a crash may have taken it
                seen = RemoteVersion()
            if start and start == seen.size:
                return doubtful
            try:
                with remote.read(start, seen) as reading:
                    doubtful = reading.start > 0 and (doubtful or not reading.version.validator)
                    _append(reading, archive, partial, pace, bar)
                return doubtful
            except TransientError as problem:
                if problem.start_over:
                    _forget(partial)
                if _size(partial) > furthest:
                    attempts, furthest = policy.attempts(), _size(partial)
                kept = f"the whole file ({_size(partial)} bytes are kept, the next run resumes there)"
                attempts = _wait(attempts, problem, archive, kept)


class _Pace:
    """Adds up what has arrived in each window of time, over all answers of one download."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy, self._begin, self._bytes = policy, time.monotonic(), 0

    def count(self, arrived: int, archive: Archive) -> None:
        """Raises DataError where a window that has ended brought too little."""
        self._bytes += arrived
        seconds = time.monotonic() - self._begin
        if seconds < self.policy.window:
            return
        if self._bytes < self.policy.least_rate * seconds:
            found = f"{self._bytes} bytes in {seconds:.0f} s (kept; the next run resumes there)"
            raise DataError(f"{archive.url}: expected {self.policy.least_rate:g} bytes per second, found {found}")
        self._begin, self._bytes = time.monotonic(), 0


def _append(reading: Reading, archive: Archive, partial: Path, pace: _Pace, bar: "tqdm[NoReturn]") -> None:
    """Write an answer's bytes to where they belong; TransientError where they are not as many as announced."""
    size, written = reading.version.size, reading.start
    bar.total, bar.n = size, reading.start
    if size is not None or archive.size is not None:
        longest = min(each for each in (size, archive.size) if each is not None)
        told = f"{longest} bytes (size)"
    else:  # the other half of the disk is for what it holds
        longest = min(pace.policy.unannounced, reading.start + shutil.disk_usage(partial.parent).free // 2)
        told = "an end to what neither its server nor `size` tells the length of"
    try:
        if reading.start == 0:
            bar.reset()
            _forget(partial)
            write_json(_version_file(partial), asdict(reading.version))
        with partial.open("ab") as file:
            for chunk in reading.chunks:
                written += len(chunk)
                if written > longest:
                    break
                file.write(chunk)
                bar.update(len(chunk))
                pace.count(len(chunk), archive)
    except OSError as error:
        raise DataError(
            f"{partial}: expected room for {archive.url} ({size or 'unknown'} bytes), found: {error.strerror} after "
            f"{_size(partial)} bytes (kept; the next run resumes there)"
        ) from error
    if written > longest and (size is None or size > longest):
        _forget(partial)
        raise DataError(f"{archive.url}: expected {told}, found more than {longest} bytes; nothing was kept")
    if size is not None and written != size:
        raise TransientError(f"{written} of {size} bytes", start_over=written > size)


def _wait(attempts: Retry, problem: TransientError, archive: Archive, expected: str) -> Retry:
    """Sleep as long as the server asks for, or ever longer; DataError where the attempts are used up."""
    try:
        attempts = attempts.increment("GET", error=problem)
    except MaxRetryError as error:
        found = f"{problem}, {len(attempts.history) + 1} times in a row"
        raise DataError(f"{archive.url}: expected {expected}, found {found}") from error
    try:
        attempts.sleep(problem.response)
    except InvalidHeader:  # a Retry-After that is neither seconds nor a date
        attempts.sleep()
    return attempts


def _places(archive: Archive, folder: Path) -> tuple[Path, Path]:
    """Where the verified file and the unfinished one are kept."""
    return folder / f"{archive.sha256[:16]}.archive", folder / f"{archive.sha256[:16]}.partial"


def _version_file(partial: Path) -> Path:
    """What the server said when `partial` was begun."""
    return partial.with_suffix(".partial.json")


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _version_file(partial).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _open_remote(archive: Archive, timeout: tuple[float, float]) -> Remote:
    """The file at an archive's address. `timeout`: seconds to connect, and seconds without a byte.

    Raises UserError where a variable is not set, or a protocol is unknown or not installed.
    """
    try:
        url = string.Template(archive.url).substitute(os.environ)
    except KeyError as error:
        raise UserError(f"{archive.url}: expected the environment variable {error.args[0]}, which is not set") from None
    except ValueError:
        raise UserError(f"{archive.url}: expected $NAME, or $$ for a dollar sign") from None
    token = None
    if archive.token_env is not None:
        token = os.environ.get(archive.token_env)
        if not token:
            raise UserError(f"{archive.url}: expected a token in the variable {archive.token_env}, which is not set")
    if urlsplit(url).scheme in ("http", "https"):
        return HttpFile(url, archive.url, token, timeout)
    return FsspecFile(url, archive.url)
