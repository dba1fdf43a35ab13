"""Texts and numbers that come from outside this process: one bounded way to read them."""

import json
from typing import Any

MAX_TEXT = 1 << 20


def parse_object(content: bytes | str) -> dict[str, Any]:
    """A JSON object of at most MAX_TEXT bytes. ValueError, whatever is wrong with it."""
    if len(content) > MAX_TEXT:
        raise ValueError(f"expected at most {MAX_TEXT} bytes of JSON, found {len(content)}")
    try:
        document = json.loads(content)
    except RecursionError:
        raise ValueError("expected JSON that is not nested so deep") from None
    if not isinstance(document, dict):
        raise ValueError(f"expected a JSON object, found {type(document).__name__}")
    return document


def parse_count(text: object, most: int) -> int:
    """A whole number from 0 to `most` in digits, however many somebody sent. ValueError for all else."""
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= most):
        raise ValueError(f"expected a number from 0 to {most}, found {text!r:.60}")
    return int(text)
