"""The ablation's finished runs: read from the folders that hold them, and compared in pairs."""

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobile_centernet.errors import DataError
from mobile_centernet.evaluation.bootstrap import MapDifference, MatchedFrames, paired_bootstrap
from mobile_centernet.files import file_digest
from mobile_centernet.mlops import paths
from mobile_centernet.reports.ablation import NOTE, ablation_table, ablation_tables
from mobile_centernet.reports.run_page import DistillationGain

RESAMPLES, CONFIDENCE = 1000, 0.975
"""Draws, and how sure either end of the interval is: 95 % lie between both."""


def read_run(folder: Path) -> dict[str, Any]:
    """The figures of one finished run, and as `folder` where it lies. Raises DataError where there is none."""
    path = folder / paths.RUN_FILE
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a finished run (`make ablation` trains it), found: {error}") from error
    if not isinstance(run, dict) or "fingerprint" not in run:
        raise DataError(f"{path}: expected a run with a fingerprint, found one of an earlier version: remove it")
    return run | {"folder": folder}


def read_runs(folder: Path, wanted: Collection[tuple[str, int]] | None = None) -> list[dict[str, Any]]:
    """Finished runs in ROW/SEED of a folder, in the table's order: these rows and seeds; None: all that are there.

    Raises:
        DataError: there is none, a wanted one is missing, or they were not all scored on the same frames.
    """
    places = [path.parent for path in folder.glob(f"*/*/{paths.RUN_FILE}")]
    if wanted is not None:
        places = [folder / row / str(seed) for row, seed in wanted]
    runs = [read_run(place) for place in places]
    if not runs:
        raise DataError(f"{folder}: expected finished runs, ROW/SEED/{paths.RUN_FILE}, found none")
    runs.sort(key=lambda run: (run["place"], run["row"], run["seed"]))
    for run in runs:
        if run["scored_on"] != runs[0]["scored_on"]:
            raise DataError(
                f"{run['folder']}: expected a run scored on the same frames as {runs[0]['folder']}, "
                f"{runs[0]['scored_on']}, found {run['scored_on']}"
            )
    return runs


def measure_gains(runs: Sequence[dict[str, Any]]) -> dict[str, MapDifference]:
    """By row: what it gains in mAP@0.5 over the row it names as its baseline, with the seeds that both have.

    Rows without a baseline, or without a seed that it has too, are left out.
    """
    by_row: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for run in runs:
        by_row[run["row"]][run["seed"]] = run
    gains = {}
    for row, seeds in by_row.items():
        baseline = by_row.get(next(iter(seeds.values()))["baseline"], {})
        if shared := sorted(seeds.keys() & baseline.keys()):
            sides: tuple[list[MatchedFrames], list[MatchedFrames]] = ([], [])
            for side, of_row in zip(sides, (baseline, seeds), strict=True):
                for seed in shared:
                    with np.load(of_row[seed]["folder"] / paths.MATCHES_FILE, allow_pickle=False) as columns:
                        side.append(MatchedFrames(**columns))
            gains[row] = paired_bootstrap(*sides, resamples=RESAMPLES, confidence=CONFIDENCE)
    return gains


def kept_comparison(annotations: Path, student: str, teacher: str) -> DistillationGain | None:
    """What the ablation that git keeps says of these models on just these frames; None where it says nothing.

    Args:
        annotations: the scored split's annotation file.
        student: the model that was taught.
        teacher: the model that taught it.
    """
    for folder in sorted({path.parents[2] for path in paths.KEPT_RESULTS.glob(f"*/*/*/{paths.RUN_FILE}")}):
        runs = read_runs(folder)
        if runs[0]["scored_on"]["annotations_sha256"] != file_digest(annotations):
            continue
        models, gains = {run["row"]: run["model"] for run in runs}, measure_gains(runs)
        for run in runs:
            if run["row"] in gains and run["model"] == student and models.get(run["teacher"]) == teacher:
                tables = ablation_tables(ablation_table(runs, gains), runs)
                of = [{other["seed"] for other in runs if other["row"] == run[key]} for key in ("row", "baseline")]
                return DistillationGain(
                    run["row"], run["baseline"], gains[run["row"]], len(of[0] & of[1]), tables, NOTE
                )
    return None
