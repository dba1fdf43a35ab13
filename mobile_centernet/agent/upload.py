"""Sends kept frames: the most useful first, each to an address made of its content, so that none is there twice.

A day's frames leave when the day is over (UTC), because only then the choice is final. For each the image is stored,
then its record. A frame leaves the device only once the server has shown that it holds all bytes of both: a 200 alone
proves nothing. Killed anywhere, the next attempt asks first what is there already. Nothing is resumed within a file.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlencode

from mobile_centernet.agent.config import Config
from mobile_centernet.agent.errors import LockedError, StoppedError, TransferError
from mobile_centernet.agent.http import Answer, credentials, read_within, request
from mobile_centernet.errors import UserError
from mobile_centernet.field.spool import FOLDER, KeptFrame, days, read_record, remove, waiting
from mobile_centernet.files import write_atomically
from mobile_centernet.outside import MAX_TEXT, parse_object

LEDGER = "sent.json"
"""What left on the last days, in bytes, and the frame that was acknowledged last."""

_DAYS = 8
_STORED, _REFUSED = (200, 201, 204), (400, 409, 413, 415, 422)
_MD5 = re.compile(r"[0-9a-f]{32}")
_HTTP = re.compile(r"https?://[^/\s]+/\S*", re.ASCII)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Addresses:
    """Of one file: where to put it, with which headers, and where to ask for it, if anywhere."""

    put: str
    headers: Mapping[str, str]
    head: str | None
    is_presigned: bool = False


class RefusedError(TransferError):
    """The server will not have this file; others it may."""


class FrameSender:
    """One for a device. Works through the spools of all its applications.

    Attributes:
        problem: why nothing is sent at present, None while all is well.
        sent: frames since the start.
        waiting: frames when it looked last.

    Args:
        config: the agent's settings, of which [upload] says where to.
        stop: ends what is being done.
    """

    def __init__(self, config: Config, stop: threading.Event | None = None) -> None:
        self.problem: str | None = None
        self.sent = self.waiting = 0
        self._config, self._stop = config, stop or threading.Event()
        self._root = config.paths.root / FOLDER
        self._wire: dict[str, int] = {}
        self._failures = 0

    def send(self, *, unfinished_days: bool = False) -> None:
        """Send what is due, as far as the day's megabytes go.

        Args:
            unfinished_days: today's, too, which may be replaced by more useful ones later.

        Raises:
            TransferError: the server did not take one; all others wait with it.
            LockedError: another process sends.
            OSError: the disk refuses.
        """
        today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
        if not (self._config.upload.url or self._config.upload.presign) or not self._root.is_dir():
            return
        with self._locked():
            try:
                ledger = parse_object((self._root / LEDGER).read_bytes())
                self._wire = {str(day): int(nbytes) for day, nbytes in dict(ledger["wire"]).items()}
                name, day, digest = str(ledger["done"] or "//").split("/")
                if digest:  # acknowledged, and maybe still here
                    remove(self._root / name, KeptFrame(day, digest, 0.0, False, 0))
            except FileNotFoundError:
                pass
            except (ValueError, KeyError, TypeError, AttributeError):
                logger.warning("%s: damaged; counted from 0 again", self._root / LEDGER)
            refused: RefusedError | None = None
            folders = [folder for folder in sorted(self._root.iterdir()) if folder.is_dir()]
            found = [(folder, frame) for folder in folders for frame in waiting(folder)]
            self.waiting = len(found)
            due = [each for each in found if unfinished_days or each[1].day != today]
            for folder, frame in sorted(due, key=lambda each: (-each[1].usefulness, each[1].digest)):
                if self._wire.get(today, 0) + frame.nbytes > self._config.upload.mb_a_day * 1e6:
                    logger.info("%d frames wait: upload.mb_a_day is spent for today", self.waiting)
                    break
                try:
                    self._send_one(folder, frame, today)
                except RefusedError as error:
                    refused = refused or error  # of this frame alone: the others are still sent
            for folder in folders:
                for empty in days(folder):
                    if empty.name != today and not any(empty.iterdir()):
                        empty.rmdir()
            if refused:
                raise refused

    def status(self) -> dict[str, object]:
        """What is known now; may be called from another thread."""
        return {"waiting": self.waiting, "sent": self.sent, "problem": self.problem}

    def follow(self) -> None:
        """Send again and again until asked to stop; failures make the waits longer, and are told once each."""
        while not self._stop.is_set():
            try:
                self.send()
                self._failures, problem = 0, None
            except StoppedError:
                return
            except Exception as error:  # noqa: BLE001  # whatever it is, the agent's own work continues
                self._failures += 1
                problem = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            if problem != self.problem:
                self.problem = problem
                logger.log(logging.WARNING if problem else logging.INFO, "upload: %s", problem or "works again")
            self._stop.wait(self._config.poll.backed_off(self._failures))

    def _send_one(self, folder: Path, frame: KeptFrame, today: str) -> None:
        picture, record = frame.files(folder)
        try:
            read_record(record)  # it may have made room for another one meanwhile
            contents = {picture: picture.read_bytes(), record: record.read_bytes()}
        except (FileNotFoundError, ValueError):
            return
        if hashlib.sha256(contents[picture]).hexdigest() != frame.digest:
            logger.warning("%s: damaged on the disk, and removed", picture)
            remove(folder, frame)
            return
        for path, content in contents.items():
            key = f"{self._config.device.name}/{folder.name}/{frame.day}/{path.name}"
            target = self._addresses(key, content)
            where = target.put.partition("?")[0]
            if not self._holds(target, content):
                # Counted first: what breaks off has used the network, too.
                self._wire[today] = self._wire.get(today, 0) + len(content)
                self._save("")
                answer = self._ask("PUT", target.put, target.headers, content)
                if answer.status in _REFUSED:
                    raise RefusedError(f"{where}: expected the frame to be taken, found status {answer.status}")
                if answer.status not in _STORED:
                    raise TransferError(f"{where}: expected the frame to be taken, found status {answer.status}")
                shown = self._holds(target, content) if target.head else _etag(answer) == _md5(content)
                if not shown:
                    raise TransferError(f"{where}: expected a server that holds what it has taken, found none of it")
        self._save(f"{folder.name}/{frame.day}/{frame.digest}")
        remove(folder, frame)
        self.sent += 1
        self.waiting -= 1

    def _holds(self, target: _Addresses, content: bytes) -> bool:
        """Whether the server shows that it has these bytes; False where it cannot be asked."""
        if target.head is None:
            return False
        answer = self._ask("HEAD", target.head, {} if target.is_presigned else target.headers)
        if answer.status in (401, 407, 429) or answer.status >= 500:
            where = target.head.partition("?")[0]
            raise TransferError(f"{where}: asking what is there failed (HTTP {answer.status})")
        length, etag = answer.headers.get("Content-Length"), _etag(answer)
        is_other = _MD5.fullmatch(etag) is not None and etag != _md5(content)  # other tags say nothing
        return answer.status == 200 and length == str(len(content)) and not is_other

    def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        trust = self._config.trust
        patience = trust.timeout_s + len(body or b"") / (trust.least_kb_s * 1000)
        with request(method, url, headers, patience, self._hear, body) as answer:
            if method == "GET":
                content = read_within(answer, MAX_TEXT, patience, url.partition("?")[0])
                return replace(answer, read=lambda: content)
            return answer

    def _addresses(self, key: str, content: bytes) -> _Addresses:
        settings = self._config.upload
        asked = settings.url or settings.presign
        if settings.token:
            try:
                headers = {"Authorization": f"Bearer {Path(settings.token).read_text(encoding='ascii').strip()}"}
            except (OSError, UnicodeDecodeError) as error:
                raise TransferError(
                    f"{settings.token}: expected a token, found none ({type(error).__name__})"
                ) from None
        else:
            headers = credentials(asked, environment=False)
        if settings.url:
            url = f"{settings.url.rstrip('/')}/{key}"
            return _Addresses(url, headers, url)
        query = urlencode({"key": key, "size": len(content), "md5": _md5(content)})
        answer = self._ask("GET", f"{settings.presign}?{query}", headers)
        try:
            if answer.status != 200:
                raise ValueError(f"found status {answer.status}")
            document = parse_object(answer.read())
            put, head, own = document.get("put"), document.get("head"), document.get("headers", {})
            for each in (put, head) if head is not None else (put,):
                if not (isinstance(each, str) and _HTTP.match(each)):
                    raise ValueError("found another one")
            if not (isinstance(own, dict) and all(isinstance(value, str) for value in own.values())):
                raise ValueError("found other headers")
        except ValueError as error:
            raise TransferError(f"{settings.presign}: expected addresses to put and head a file, {error}") from error
        return _Addresses(str(put), own, head, is_presigned=True)

    def _hear(self) -> None:
        if self._stop.is_set():
            raise StoppedError

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise LockedError(f"{self._root}: another process is already sending") from error
        finally:
            os.close(descriptor)

    def _save(self, done: str) -> None:
        self._wire = dict(sorted(self._wire.items())[-_DAYS:])
        write_atomically(self._root / LEDGER, json.dumps({"wire": self._wire, "done": done}).encode())


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _etag(answer: Answer) -> str:
    return answer.headers.get("ETag", "").strip('"').lower()
