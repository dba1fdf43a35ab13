"""The ablation's table by hand-computed means and deviations, and its figure."""

import math

import pytest

from mobile_centernet.reports.ablation import Run, ablation_figure, ablation_markdown, ablation_table


def a_run(row: str, seed: int, map50: float, **more: object) -> Run:
    facts: dict[str, object] = {
        "row": row,
        "model": "hrnet_w16",
        "balanced": True,
        "teacher": None,
        "seed": seed,
        "map50": map50,
        "ap50": {"vehicle": map50, "bicycle": None},
        "params": 1_616_366,
        "conv_gmacs": 0.56,
        "paper_params_m": 1.62,
        "paper_gflops": 5.7,
    }
    return facts | more


RUNS = [
    a_run("plain", 1, 0.30, balanced=False),
    a_run("plain", 2, 0.40, balanced=False),
    a_run("taught", 1, 0.50, teacher="big", ap50={"vehicle": 0.4, "bicycle": 0.6}),
    a_run("lite", 1, 0.20, model="hrnet_w16_lite", paper_params_m=None, paper_gflops=None),
]


def test_mean_and_sample_deviation_over_seeds() -> None:
    table = ablation_table(RUNS).set_index("row")
    assert list(table.index) == ["plain", "taught", "lite"]
    assert table.loc["plain", "map50"] == pytest.approx(0.35)
    assert table.loc["plain", "map50_std"] == pytest.approx(math.sqrt(2 * 0.05**2))  # n - 1 = 1
    assert table.loc["plain", "seeds"] == 2
    assert math.isnan(table.loc["taught", "map50_std"])


def test_a_class_without_truth_has_no_value_and_does_not_count_as_zero() -> None:
    table = ablation_table(RUNS).set_index("row")
    assert math.isnan(table.loc["plain", "ap50.bicycle"])
    assert table.loc["taught", "ap50.bicycle"] == 0.6


def test_markdown_says_what_is_ours_and_what_is_the_papers() -> None:
    text = ablation_markdown(ablation_table(RUNS), "10 frames of synthetic clips")
    lines = text.splitlines()
    assert lines[0] == "10 frames of synthetic clips"
    plain, taught, lite = (
        next(line for line in lines if line.startswith(f"| {row} |")) for row in ("plain", "taught", "lite")
    )
    assert "| no | no | 2 | 0.350 ± 0.071 | 0.350 ± 0.071 | - | 1.62 M | 0.56 | 1.62 M | 5.7 |" in plain
    assert "| yes | yes | 1 | 0.500 | 0.400 | 0.600 |" in taught
    assert lite.endswith("| - | - |")
    assert "paper: parameters" in lines[2]
    assert "The last two columns are the paper's" in text


def test_figure_is_a_png_and_the_same_each_time() -> None:
    table = ablation_table(RUNS)
    picture = ablation_figure(table, "10 frames of synthetic clips")
    assert picture.startswith(b"\x89PNG")
    assert picture == ablation_figure(table, "10 frames of synthetic clips")
