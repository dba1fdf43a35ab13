"""Finished runs as folders hold them: compared in pairs, found for a report, refused where they do not fit."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from mobile_centernet.errors import DataError
from mobile_centernet.evaluation.bootstrap import MatchedFrames
from mobile_centernet.files import file_digest
from mobile_centernet.mlops.ablation import kept_comparison, measure_gains, read_run, read_runs

SHARES = {"plain": 0.4, "big": 0.9, "taught": 0.6}
MODELS = {"plain": "hrnet_w16", "big": "hrnet_w32", "taught": "hrnet_w16"}
BASELINES = {"plain": None, "big": "plain", "taught": "plain"}


def write_run(folder: Path, row: str, seed: int, **more: object) -> None:
    """A run whose detector finds this share of 80 boxes, one in each frame, and nothing else."""
    place = folder / row / str(seed)
    place.mkdir(parents=True)
    hit = np.random.default_rng([seed, len(row)]).random(80) < SHARES[row]
    frames = np.flatnonzero(hit).astype(np.uint32)
    none = np.zeros(len(frames), np.uint8)
    ones = np.ones(len(frames), bool)
    matches = MatchedFrames(np.ones((1, 80), np.uint16), none, frames, ones, ones)
    np.savez_compressed(place / "matches.npz", **asdict(matches))
    run = {
        "row": row,
        "place": list(SHARES).index(row),
        "fingerprint": f"{row} {seed}",
        "model": MODELS[row],
        "balanced": True,
        "teacher": "big" if row == "taught" else None,
        "baseline": BASELINES[row],
        "seed": seed,
        "map50": float(hit.mean()),
        "map50_95": 0.1,
        "ap50": {"car": float(hit.mean())},
        "scored_on": {"data_set": "ivslab", "split": "test", "source": "x", "frames": 80, "annotations_sha256": "0"},
        "seconds": 1.0,
        "cpu_seconds": 1.0,
        "on_gpu": False,
        "device": "a processor",
        "precision": "32-true",
        "threads": 1,
        "params": 10,
        "conv_gmacs": 0.1,
    }
    (place / "run.json").write_text(json.dumps(run | more))


def test_each_row_is_compared_with_its_baseline_over_the_seeds_that_both_have(tmp_path: Path) -> None:
    for row, seeds in (("plain", (1, 2, 3)), ("big", (2, 3, 4)), ("taught", (1, 2))):
        for seed in seeds:
            write_run(tmp_path, row, seed)
    runs = read_runs(tmp_path)
    assert [(run["row"], run["seed"]) for run in runs][:4] == [("plain", 1), ("plain", 2), ("plain", 3), ("big", 2)]
    gains = measure_gains(runs)
    assert list(gains) == ["big", "taught"]
    score = {(run["row"], run["seed"]): run["map50"] for run in runs}
    by_hand = np.mean([score["taught", seed] - score["plain", seed] for seed in (1, 2)])
    assert gains["taught"].value == pytest.approx(by_hand, abs=0.02)  # recall in 101 steps
    assert gains["big"].lower > 0.2 and gains["big"].value < 0.7


def test_runs_on_other_frames_are_no_table(tmp_path: Path) -> None:
    write_run(tmp_path, "plain", 1)
    write_run(tmp_path, "taught", 1, scored_on={"split": "val"})
    with pytest.raises(DataError, match=r"taught/1: expected a run scored on the same frames as .*plain/1"):
        read_runs(tmp_path)


def test_what_is_no_finished_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected finished runs, ROW/SEED/run\.json, found none"):
        read_runs(tmp_path)
    with pytest.raises(DataError, match=r"plain/1/run.json: expected a finished run \(`make ablation` trains it\)"):
        read_runs(tmp_path, [("plain", 1)])
    (tmp_path / "run.json").write_text('{"map50": 0.3}')
    with pytest.raises(DataError, match="found one of an earlier version: remove it"):
        read_run(tmp_path)


def test_a_report_finds_the_kept_rows_of_its_models_on_its_frames_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    annotations = tmp_path / "annotations_test.json"
    annotations.write_text("{}")
    scored_on = {"data_set": "ivslab", "split": "test", "source": "x", "frames": 80}
    for name, digest in (("street", "0"), ("synthetic", file_digest(annotations))):
        for row in SHARES:
            folder = tmp_path / "docs/results" / name
            write_run(folder, row, 1, scored_on=scored_on | {"annotations_sha256": digest})
    found = kept_comparison(annotations, "hrnet_w16", "hrnet_w32")
    assert found is not None and (found.row, found.baseline, found.seeds) == ("taught", "plain", 1)
    assert [row[0] for row in next(iter(found.tables.values()))[1]] == ["plain", "big", "taught"]
    assert kept_comparison(annotations, "hrnet_w16_lite", "hrnet_w32") is None
    annotations.write_text("{ }")
    assert kept_comparison(annotations, "hrnet_w16", "hrnet_w32") is None
