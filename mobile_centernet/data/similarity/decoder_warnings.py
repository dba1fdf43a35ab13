"""What libjpeg and libpng have to say about an image that they decode all the same."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import IO

# One file for all images of a process: making one takes longer than the rest of this.
one_file: Callable[[], IO[bytes]] = cache(tempfile.TemporaryFile)  # type: ignore[assignment]  # mypy takes the overload of text


@contextmanager
def decoder_warnings() -> Iterator[list[str]]:
    """Collect the lines that decoders print on stderr inside the block.

    They fill what they cannot decode with grey, return success and say so nowhere else. For the few milliseconds of
    one decoding, everything that is written to file descriptor 2 is taken for theirs.
    """
    warnings: list[str] = []
    caught = one_file()
    stderr = os.dup(2)
    os.dup2(caught.fileno(), 2)
    try:
        yield warnings
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        if os.fstat(caught.fileno()).st_size:
            caught.seek(0)
            warnings += caught.read().decode(errors="replace").splitlines()
            caught.seek(0)
            caught.truncate()
