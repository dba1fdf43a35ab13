"""A folder of one's own is taken stock of, never copied; what is wrong with it is one sentence."""

from pathlib import Path

import pytest

from mobile_centernet.errors import DataError
from steps.fetch import fetch_bdd100k
from steps.footage import footage_root, read_footage
from steps.params import Params, load_params

ROOT = Path(__file__).resolve().parents[2]


def params_for(folder: Path) -> Params:
    params = load_params(ROOT / "params.yaml")
    section = params.fetch_bdd100k.model_copy(update={"source": "folder", "path": folder})
    return params.model_copy(update={"fetch_bdd100k": section})


def test_a_folder_is_listed_with_its_digests_and_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine"
    (mine / "images").mkdir(parents=True)
    (mine / "images/a.jpg").write_bytes(b"a")
    fetch_bdd100k(params_for(mine))
    out = tmp_path / "data/raw/bdd100k"
    assert [path.name for path in out.iterdir()] == ["source.json"]
    assert footage_root(out) == mine
    before = read_footage(out).files
    assert list(before) == ["images/a.jpg"]

    (mine / "images/a.jpg").write_bytes(b"b")
    (mine / "images/b.jpg").write_bytes(b"c")
    fetch_bdd100k(params_for(mine))
    after = read_footage(out).files
    assert list(after) == ["images/a.jpg", "images/b.jpg"]
    assert after["images/a.jpg"] != before["images/a.jpg"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: expected a folder of footage .* found none"):
        fetch_bdd100k(params_for(tmp_path / "nowhere"))


def test_an_empty_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: expected footage, found an empty folder"):
        fetch_bdd100k(params_for(tmp_path / "empty"))
