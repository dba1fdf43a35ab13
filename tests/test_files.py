"""Files are written whole or not at all."""

import json
import os
from pathlib import Path

import pytest

from mobile_centernet.errors import DataError
from mobile_centernet.files import new_folder, write_atomically, write_json


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


def test_a_new_folder_begins_without_what_a_killed_run_left(tmp_path: Path) -> None:
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial/half").write_bytes(b"half")
    with new_folder(tmp_path / "out", "cannot be made", DataError) as folder:
        (folder / "a").write_bytes(b"1")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["out", "out/a"]


def test_a_folder_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "out", "cannot be made", DataError) as folder:
        (folder / "a").write_bytes(b"1")
        assert not (tmp_path / "out").exists()
        _ = 1 / 0
    assert not list(tmp_path.iterdir())


def test_a_new_folder_takes_the_place_of_an_empty_one_only(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "out").mkdir(exist_ok=True)
        with new_folder(tmp_path / "out", "cannot be made", DataError) as folder:
            (folder / content).write_text(content)
        with (
            pytest.raises(DataError, match="out: expected a new or empty folder, found something in it"),
            new_folder(tmp_path / "out", "cannot be made", DataError),
        ):
            pass
        assert [path.name for path in (tmp_path / "out").iterdir()] == [content]
        (tmp_path / "out" / content).unlink()


def test_a_disk_that_refuses_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(DataError, match=r"out: cannot be made \(Not a directory\)"),
        new_folder(tmp_path / "file" / "out", "cannot be made", DataError),
    ):
        pass
