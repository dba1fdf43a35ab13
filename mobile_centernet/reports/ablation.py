"""The ablation's runs as one table and one figure: mean and standard deviation over the seeds of every row."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mobile_centernet.reports.style import INK, MUTED, STUDENT, WIDTH, canvas, png
from mobile_centernet.tables import markdown_table

Run = Mapping[str, Any]

PAPER = ("paper_params_m", "paper_gflops")


def ablation_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One line per row, in the order of their first runs.

    A run: row, model, balanced, teacher, seed, map50 and ap50 {class: value or None} in 0..1, params, conv_gmacs,
    paper_params_m and paper_gflops (None for a model that is not the paper's). Columns map50_std and ap50.<class>_std
    are the sample standard deviation, empty with a single seed; a class without ground truth has no value.
    """
    lines = []
    for run in runs:
        facts = {name: value for name, value in run.items() if name != "ap50"}
        ap50 = {f"ap50.{label}": value for label, value in run["ap50"].items()}
        lines.append(facts | {"teacher": run["teacher"] or ""} | ap50)
    flat = pd.DataFrame(lines)
    scores = [name for name in flat.columns if name.startswith(("map50", "ap50."))]
    grouped = flat.groupby("row", sort=False)
    same = grouped[["model", "balanced", "teacher", "params", "conv_gmacs", *PAPER]].first()
    table = same.assign(seeds=grouped["seed"].count())
    for name in scores:
        table[name] = grouped[name].mean()
        table[f"{name}_std"] = grouped[name].std(ddof=1)
    return table.reset_index()


def ablation_markdown(table: pd.DataFrame, measured_on: str) -> str:
    """The table for people; `measured_on` says on what, and stands above it."""
    classes = [name for name in table.columns if name.startswith("ap50.") and not name.endswith("_std")]
    head = [
        "row",
        "model",
        "balanced",
        "distilled",
        "seeds",
        "mAP@0.5",
        *(name.removeprefix("ap50.") for name in classes),
    ]
    head += ["parameters", "conv GMACs", "paper: parameters", "paper: GFLOPs"]
    rows = []
    for row in table.to_dict("records"):
        cells = [row["row"], row["model"], _yes(row["balanced"]), _yes(row["teacher"] != ""), str(row["seeds"])]
        for name in ("map50", *classes):
            mean, std = row[name], row[f"{name}_std"]
            cells.append("-" if pd.isna(mean) else f"{mean:.3f}" if pd.isna(std) else f"{mean:.3f} ± {std:.3f}")
        cells += [f"{row['params'] / 1e6:.2f} M", f"{row['conv_gmacs']:.2f}"]
        cells += [_known(row["paper_params_m"], " M"), _known(row["paper_gflops"], "")]
        rows.append(cells)
    note = (
        "Mean ± sample standard deviation over the seeds (none with one seed). The last two columns are the paper's "
        "Table 2 (10 classes, 576×320); all others were counted and measured here."
    )
    return f"{measured_on}\n\n{markdown_table(head, rows)}\n\n{note}\n"


def ablation_figure(table: pd.DataFrame, measured_on: str) -> bytes:
    """mAP@0.5 of every row as a dot with one standard deviation to either side, as PNG."""
    with canvas(WIDTH, 1.3 + 0.42 * len(table)) as figure:
        axes = figure.subplots()
        places = list(range(len(table)))[::-1]
        spread = table["map50_std"].fillna(0.0)
        axes.errorbar(table["map50"], places, xerr=spread, fmt="o", color=STUDENT, ecolor=MUTED, capsize=4)
        for place, value in zip(places, table["map50"], strict=True):
            axes.annotate(f"{value:.3f}", (value, place), (0, 7), textcoords="offset points", ha="center", color=INK)
        axes.set_yticks(places, list(table["row"]))
        axes.set_ylim(-0.6, len(table) - 0.2)
        axes.set_xlim(0, max(0.1, 1.1 * float((table["map50"] + spread).max())))
        axes.set_xlabel(f"mAP@0.5, mean ± std over {table['seeds'].max()} seeds")
        axes.set_title(measured_on)
        return png(figure)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _known(value: float | None, unit: str) -> str:
    return "-" if value is None or pd.isna(value) else f"{value:g}{unit}"
