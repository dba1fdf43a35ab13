"""The ablation's table by hand-computed means and deviations, its page, and its figure."""

import math
from pathlib import Path

import numpy as np
import pytest

from mobile_centernet.evaluation.bootstrap import MapDifference
from mobile_centernet.reports.ablation import (
    Run,
    ablation_figure,
    ablation_markdown,
    ablation_table,
    ablation_tables,
    write_ablation_page,
)


def a_run(row: str, seed: int, map50: float, **more: object) -> Run:
    facts: dict[str, object] = {
        "row": row,
        "model": "hrnet_w16",
        "balanced": True,
        "teacher": None,
        "baseline": None,
        "seed": seed,
        "map50": map50,
        "map50_95": map50 / 2,
        "ap50": {"vehicle": map50, "bicycle": None},
        "scored_on": {"data_set": "ivslab", "split": "test", "source": "synthetic clips", "frames": 10},
        "seconds": 120.0,
        "cpu_seconds": 1000.0 * seed,
        "on_gpu": False,
        "device": "a processor",
        "precision": "bf16-mixed",
        "threads": 1,
        "params": 1_616_366,
        "conv_gmacs": 0.56,
    }
    return facts | more


RUNS = [
    a_run("plain", 1, 0.30, balanced=False),
    a_run("plain", 2, 0.40, balanced=False),
    a_run("taught", 1, 0.50, teacher="big", baseline="plain", ap50={"vehicle": 0.4, "bicycle": 0.6}, on_gpu=True),
    a_run("lite", 1, 0.20, model="hrnet_w16_lite"),
]
TABLE = ablation_table(RUNS, {"taught": MapDifference(0.15, -0.02, 0.31, np.zeros(1))})


def test_mean_and_sample_deviation_over_seeds() -> None:
    table = TABLE.set_index("row")
    assert list(table.index) == ["plain", "taught", "lite"]
    assert table.loc["plain", "map50"] == pytest.approx(0.35)
    assert table.loc["plain", "map50_std"] == pytest.approx(math.sqrt(2 * 0.05**2))  # n - 1 = 1
    assert table.loc["plain", "seeds"] == 2
    assert table.loc["plain", "cpu_seconds"] == 1500
    assert math.isnan(table.loc["taught", "map50_std"])
    assert (table.loc["taught", "gain"], table.loc["taught", "gain_lower"]) == (0.15, -0.02)
    assert math.isnan(table.loc["plain", "gain"])


def test_a_class_without_truth_has_no_value_and_does_not_count_as_zero() -> None:
    table = TABLE.set_index("row")
    assert math.isnan(table.loc["plain", "ap50.bicycle"])
    assert table.loc["taught", "ap50.bicycle"] == 0.6


def test_markdown_says_what_is_ours_how_sure_gains_are_and_what_is_the_papers() -> None:
    lines = ablation_markdown(ablation_tables(TABLE, RUNS)).splitlines()
    assert lines[0] == "Rows, on 10 frames of ivslab test (synthetic clips):"
    plain, taught = (next(line for line in lines if line.startswith(f"| {row} |")) for row in ("plain", "taught"))
    assert "| no | no | 2 | 0.350 ± 0.071 | - | - | 0.175 ± 0.035 | 0.350 ± 0.071 | - | 1,500 s CPU |" in plain
    assert "| a processor, bf16-mixed, threads: 1 |" in plain
    assert "| yes | yes | 1 | 0.500 | +0.150 (−0.020 … +0.310) | plain | 0.250 | 0.400 | 0.600 | 120 s GPU |" in taught
    assert "| plain | 2 | 0.400 | 0.200 | 0.400 | – |" in lines
    paper = lines.index("The paper's Table 2 (10 classes, 576×320, on BDD100K and ivslab), not ours:")
    assert "| hrnet_w32 | 28.6 M | 29.5 | - | - |" in lines[paper:]
    assert "| hrnet_w16 | 1.62 M | 5.7 | 1.62 M | 0.56 |" in lines[paper:]


def test_the_page_opens_with_what_distillation_brought_and_needs_nothing_from_outside(tmp_path: Path) -> None:
    figure = ablation_figure(TABLE, RUNS)
    write_ablation_page(tmp_path / "ablation.html", TABLE, RUNS, figure)
    page = (tmp_path / "ablation.html").read_text(encoding="utf-8")
    assert "Distillation: +0.150 mAP@0.5 (taught over plain; 95 %: −0.020 to +0.310)." in page
    assert "synthetic clips, which this project draws itself" in page
    assert "not ours" in page and "http" not in page.replace("http-equiv", "")
    write_ablation_page(tmp_path / "ablation.html", ablation_table(RUNS, {}), RUNS, figure)
    assert "No distilled row was compared with a plain one." in (tmp_path / "ablation.html").read_text(encoding="utf-8")


def test_figure_is_a_png_and_the_same_each_time() -> None:
    picture = ablation_figure(TABLE, RUNS)
    assert picture.startswith(b"\x89PNG")
    assert picture == ablation_figure(TABLE, RUNS)
