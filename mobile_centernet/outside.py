"""Texts and records that come from outside this process: one bounded, exact way to read them."""

import functools
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

MAX_TEXT = 1 << 20
_hints = functools.cache(get_type_hints)


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


def typed(value: Any, kind: Any, where: str = "") -> Any:
    """What JSON or TOML holds, as a dataclass or whatever its fields are: exactly these types, True is no number.

    Args:
        value: of dict, list, str, int, float, bool and None.
        kind: a dataclass, `tuple[X, ...]`, `Mapping[str, X]`, `X | None`, Path (a str), float (also an int), int, str.
        where: names the value in errors.

    Raises:
        ValueError: a field is missing, unknown, or of another type.
    """
    at = f"{where}: " if where else ""
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{at}expected a section of {kind.__name__}, found {type(value).__name__}")
        known, hints = {field.name: field for field in fields(kind)}, _hints(kind)
        if unknown := sorted(set(value) - set(known)):
            raise ValueError(f"{at}expected {', '.join(known)}, found {', '.join(unknown)}")
        inside = f"{where}." if where else ""
        values = {}
        for name, field in known.items():
            if name in value:
                values[name] = typed(value[name], hints[name], f"{inside}{name}")
            elif field.default is MISSING and field.default_factory is MISSING:
                raise ValueError(f"{inside}{name}: expected {field.metadata.get('expected', 'a value')}, found nothing")
        return kind(**values)
    origin, parts = get_origin(kind), get_args(kind)
    if NoneType in parts:
        return None if value is None else typed(value, parts[0], where)
    outer = {tuple: list, Mapping: dict, Path: str}.get(origin or kind, origin or kind)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not outer:
        shown = "" if isinstance(value, dict | list) else f" {value!r:.100}"  # the latter may hold what is an address
        raise ValueError(f"{at}expected {outer.__name__}, found {type(value).__name__}{shown}")
    if origin is tuple:
        return tuple(typed(each, parts[0], where) for each in value)
    if origin is Mapping:
        return {name: typed(each, parts[1], f"{where}.{name}") for name, each in value.items()}
    return Path(value) if kind is Path else value
