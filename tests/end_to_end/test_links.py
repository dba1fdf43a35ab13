"""What lies behind a link is watched by DVC as what lies in the folder itself."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.end_to_end.project import copy_project, run


@pytest.mark.slow
def test_an_image_that_changes_or_comes_behind_a_link_runs_the_stage_again(tmp_path: Path) -> None:
    mine, disk = tmp_path / "mine", tmp_path / "disk"
    (mine / "images").mkdir(parents=True)
    (disk / "train").mkdir(parents=True)
    (mine / "images/train").symlink_to(disk / "train")
    for number in range(2):
        cv2.imwrite(str(disk / f"train/{number}.jpg"), np.full((36, 64, 3), 99 * number, np.uint8))
    more = {"source": "folder", "path": str(mine), "linked": str(disk)}
    project = copy_project(tmp_path / "project", {f"fetch_bdd100k.{key}": value for key, value in more.items()})

    def files() -> dict[str, str]:
        done = run(project, "dvc", "repro", "--single-item", "fetch_bdd100k")
        assert done.returncode == 0, done.stderr
        assert ("Running stage" in done.stdout) is not ("didn't change" in done.stdout), done.stdout
        ran.append("Running stage" in done.stdout)
        return json.loads((project / "data/raw/bdd100k/source.json").read_text())["files"]

    ran: list[bool] = []
    first = files()
    assert files() == first and list(first) == ["images/train/0.jpg", "images/train/1.jpg"]
    cv2.imwrite(str(disk / "train/1.jpg"), np.full((36, 64, 3), 200, np.uint8))
    assert files()["images/train/1.jpg"] != first["images/train/1.jpg"]
    cv2.imwrite(str(disk / "train/2.jpg"), np.full((36, 64, 3), 200, np.uint8))
    assert list(files()) == ["images/train/0.jpg", "images/train/1.jpg", "images/train/2.jpg"]
    assert ran == [True, False, True, True]
