"""Statements: one text each, and nothing else is taken for one."""

import json
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.layout import MAX_STATEMENT, bundle_path
from mobile_centernet.trust.statement import Statement

DIGEST = sha256(b"bundle").hexdigest()
OTHER = sha256(b"other").hexdigest()
STATEMENT = Statement(
    model="street",
    channel="champion",
    number=7,
    bundle=bundle_path("street", "12", DIGEST),
    sha256=DIGEST,
    bytes=1000,
    manifest=sha256(b"manifest").hexdigest(),
    version="12",
    gate=OTHER,
    approver="Ann",
    share=0.25,
    devices=("orin", "default"),
    previous=OTHER,
    withdrawn=(OTHER,),
)


def test_what_is_encoded_is_parsed_again() -> None:
    for statement in (STATEMENT, replace(STATEMENT, number=1, previous=None, gate=None, approver=None, devices=())):
        assert Statement.parse(statement.encode()) == statement


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "a/b"},
        {"model": "../x"},
        {"channel": "nightly"},
        {"number": 0},
        {"number": True},
        {"number": 1 << 31},
        {"number": 1},
        {"previous": None},
        {"bundle": "bundles/street-13-000000000000.tar"},
        {"sha256": "A" * 64},
        {"sha256": DIGEST[:-1]},
        {"bytes": 0},
        {"bytes": 1 << 70},
        {"manifest": None},
        {"manifest": OTHER},
        {"version": "ä"},
        {"version": 12},
        {"gate": "yes"},
        {"approver": ""},
        {"approver": "a\x1b[2J"},
        {"share": 0.0},
        {"share": 1.5},
        {"share": float("nan")},
        {"share": 1},
        {"devices": ("orin nano",)},
        {"devices": ("a",) * 257},
        {"withdrawn": ("x",)},
    ],
    ids=str,
)
def test_values_outside_their_bounds_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(TrustError, match="expected"):
        replace(STATEMENT, **changes)


def edited(**changes: Any) -> bytes:
    return json.dumps({**json.loads(STATEMENT.encode()), **changes}, indent=1, sort_keys=True).encode() + b"\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 50_000,
        b"9" * 5_000,
        b"{}",
        b"null",
        b"\xff",
        edited(format=2),
        edited(kind="mobile-centernet bundle"),
        edited(more=1),
        edited(devices="orin"),
        edited(devices=[["orin"]]),
        edited(withdrawn={}),
        edited(share=float("inf")),
        edited(number=7.0),
        STATEMENT.encode()[:-1],
        STATEMENT.encode().replace(b'"number": 7', b'"number": 7, "number": 7'),
        STATEMENT.encode().replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + STATEMENT.encode(),
        STATEMENT.encode() + b" " * MAX_STATEMENT,
    ],
)
def test_other_texts_are_no_statements(content: bytes) -> None:
    with pytest.raises(TrustError):
        Statement.parse(content)


@given(st.binary(max_size=300))
def test_whatever_is_read_is_a_statement_or_an_error(content: bytes) -> None:
    with pytest.raises(TrustError):
        Statement.parse(content)


@given(st.sampled_from(sorted(json.loads(STATEMENT.encode()))), st.none() | st.integers() | st.text() | st.floats())
def test_any_field_may_hold_anything_without_another_error(name: str, value: Any) -> None:
    content = edited(**{name: value})
    with suppress(TrustError):
        assert Statement.parse(content).encode() == content
