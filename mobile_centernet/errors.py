"""Errors that the user can fix. Commands print them as one sentence, without a traceback, and exit 2."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

USER_ERROR = 2

# What comes before the last @ of an address, also where a password has an @ or a / of its own; and what a query, or a
# property of a GStreamer pipeline such as user-pw, gives the name of a secret.
_LOGIN = re.compile(r"://(?:[^\s/@]+|[^\s/:]*:\S+)@(?:[^\s/]*@)*")
_SECRET = re.compile(
    r"""(\b(?:[\w-]*(?:password|passwd|pwd|token|secret|signature|credentials?|apikey)|(?:[\w-]*[-_])?(?:pass|pw|key|auth|sig))=)
    (?:"[^"]*"|[^\s&"]+)""",
    re.IGNORECASE | re.VERBOSE,
)


class UserError(Exception):
    """Something outside the code is wrong. The message names the item, what was expected and what was found."""


class DataError(UserError):
    """A data set, image or label cannot be used as a whole; single bad items become findings instead."""


class ModelError(UserError):
    """A model file, its classes or its shape do not fit what is asked of it."""


def printable(text: str) -> str:
    """A text that may come from anywhere, for a terminal or a journal: nothing in it acts on them."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def without_password(text: str) -> str:
    """User, password and whatever else is named as a secret taken out of every address in `text`."""
    return _SECRET.sub(r"\1...", _LOGIN.sub("://...@", text))


@contextmanager
def exit_on_user_error(subject: str, code: int = USER_ERROR) -> Iterator[None]:
    """End the program with `error: SUBJECT: sentence` on stderr where the block raises UserError or OSError.

    Args:
        subject: what was being done, such as the name of a stage.
        code: the exit code.

    Raises:
        SystemExit: with `code`, in place of these errors.
    """
    try:
        yield
    except (UserError, OSError) as error:  # OSError: a full disk, a folder that may not be written, a silent server
        print(printable(f"error: {subject}: {error}"), file=sys.stderr)
        raise SystemExit(code) from error
