"""Fetching a bundle of known size and SHA-256, in as many attempts as the network needs."""

import http.client
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from mobile_centernet.agent.registry_client import Offer
from mobile_centernet.agent.web import read_piece, request
from mobile_centernet.bundle.errors import StorageError, TransferError
from mobile_centernet.files import file_digest

LEAST_RATE = 1024
"""Bytes a second, over the time-out, that a download must bring; a slower one is left for later, not lost."""

_CHUNK = 1 << 16
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def download(offer: Offer, partial: Path, headers: Mapping[str, str], timeout_s: float) -> None:
    """Bring `partial` to the offer's size and digest, going on from what it holds already.

    A server that ignores Range is read from the beginning. What was fetched stays for the next attempt, unless its
    digest is wrong. Raises TransferError when that may be tried again, StorageError when the disk refuses.
    """
    try:
        have = partial.stat().st_size if partial.exists() else 0
        if have > offer.bytes:
            partial.unlink()
            have = 0
        if have < offer.bytes:
            _fetch(offer, partial, have, headers, timeout_s)
        found = file_digest(partial)
        if found != offer.digest:
            partial.unlink()
            raise TransferError(f"{_place(offer)}: expected SHA-256 {offer.digest}, found {found}; begins anew")
    except OSError as error:
        raise StorageError(f"{partial}: cannot be written ({error.strerror})") from error


def _fetch(offer: Offer, partial: Path, have: int, headers: Mapping[str, str], timeout_s: float) -> None:
    wanted = {**headers, "Range": f"bytes={have}-"} if have else headers
    with request("GET", offer.url, wanted, timeout_s) as response:
        start = _start(response, offer, have)
        with partial.open("r+b" if partial.exists() else "wb") as file:
            file.seek(start)
            file.truncate()
            _copy(response, file, offer, start, timeout_s)


def _start(response: http.client.HTTPResponse, offer: Offer, have: int) -> int:
    """Where in the file the answer's bytes belong. Raises TransferError for an answer that is not of this file."""
    if response.status == 206:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found and (int(found[1]), int(found[3])) == (have, offer.bytes):
            return have
        raise TransferError(
            f"{_place(offer)}: expected bytes {have}- of {offer.bytes}, "
            f"found {response.headers.get('Content-Range', 'no Content-Range')}"
        )
    if response.status != 200:
        raise TransferError(f"{_place(offer)}: expected the bundle, found status {response.status}")
    length = response.headers.get("Content-Length")
    if length is not None and length != str(offer.bytes):
        raise TransferError(f"{_place(offer)}: expected {offer.bytes} bytes, found an answer of {length}")
    return 0


def _copy(response: http.client.HTTPResponse, file: IO[bytes], offer: Offer, start: int, timeout_s: float) -> None:
    size, mark, marked = start, time.monotonic(), start
    while size < offer.bytes:
        piece = read_piece(response, min(_CHUNK, offer.bytes - size), _place(offer))
        if not piece:
            raise TransferError(f"{_place(offer)}: expected {offer.bytes} bytes, found {size}; goes on later")
        file.write(piece)
        size += len(piece)
        elapsed = time.monotonic() - mark
        if elapsed > timeout_s:
            if size - marked < LEAST_RATE * elapsed:
                raise TransferError(f"{_place(offer)}: too slow: {size - marked} bytes in {elapsed:.0f} s")
            mark, marked = time.monotonic(), size


def _place(offer: Offer) -> str:
    return offer.url.partition("?")[0]
