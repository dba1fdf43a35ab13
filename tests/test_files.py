"""Files are written whole or not at all."""

import json
import os
from pathlib import Path

import pytest

from mobile_centernet.files import write_atomically, write_json


def test_replaces_what_was_there(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        write_atomically(tmp_path / "file", content)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file", b"new")]


def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "file", b"old")

    def crash(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="no space"):
        write_atomically(tmp_path / "file", b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file", b"old")]


def test_json_keeps_every_digit_and_every_letter(tmp_path: Path) -> None:
    document = {"classes": ["piéton", "自転車"], "score": 0.1 + 0.2}
    write_json(tmp_path / "file.json", document)
    assert json.loads((tmp_path / "file.json").read_text(encoding="utf-8")) == document
    assert "自転車" in (tmp_path / "file.json").read_text(encoding="utf-8")


def test_json_refuses_what_others_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file.json", {"score": float("nan")})
    assert not list(tmp_path.iterdir())
