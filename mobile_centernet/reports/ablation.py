"""The ablation's runs as a table, a figure and a page: mean and deviation over the seeds, and how sure each gain is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mobile_centernet.evaluation.bootstrap import MapDifference
from mobile_centernet.models.variants import MODELS
from mobile_centernet.reports.page import Picture, score, signed, write_page
from mobile_centernet.reports.style import INK, MUTED, STUDENT, WIDTH, canvas, png
from mobile_centernet.tables import markdown_table

Run = Mapping[str, Any]
"""What the ablation writes of one row with one seed: row, model, balanced, teacher, baseline, seed, map50, map50_95 and
ap50 {class: value or None} in 0..1, scored_on {data_set, split, source, frames}, cpu_seconds, seconds, on_gpu, device,
precision, threads, params and conv_gmacs."""

Cells = tuple[list[str], list[list[str]]]
"""A table as people read it: headings, and the cells of each row."""

NOTE = (
    "Mean ± sample standard deviation over the seeds (none with one seed). Gain: mAP@0.5 above the row beside it, "
    "and where 95 % of 1,000 draws lie, in which frames and seeds are drawn with replacement, the same for both rows. "
    "Time: of the training with its validation, per seed; GPU: wall time in which the card was held."
)


def ablation_table(runs: Sequence[Run], gains: Mapping[str, MapDifference]) -> pd.DataFrame:
    """One line per row, in the order of their first runs.

    Columns that end in _std are the sample standard deviation over the seeds, empty with a single seed; a class without
    ground truth has no value. `gains`, by row, fill gain, gain_lower and gain_upper.
    """
    lines = []
    for run in runs:
        facts = {name: value for name, value in run.items() if name not in ("ap50", "scored_on")}
        ap50 = {f"ap50.{label}": value for label, value in run["ap50"].items()}
        lines.append(facts | {"teacher": run["teacher"] or "", "baseline": run["baseline"] or ""} | ap50)
    flat = pd.DataFrame(lines)
    scores = [name for name in flat.columns if name.startswith(("map50", "ap50."))]
    grouped = flat.groupby("row", sort=False)
    same = grouped[["model", "balanced", "teacher", "baseline", "params", "conv_gmacs"]].first()
    table = same.assign(seeds=grouped["seed"].count())
    for name in scores:
        table[name] = grouped[name].mean()
        table[f"{name}_std"] = grouped[name].std(ddof=1)
    for column, part in (("gain", "value"), ("gain_lower", "lower"), ("gain_upper", "upper")):
        table[column] = [getattr(gains[row], part) if row in gains else np.nan for row in table.index]
    for name in ("cpu_seconds", "seconds"):
        table[name] = grouped[name].mean()
    for name in ("on_gpu", "device", "precision", "threads"):
        table[name] = grouped[name].agg(lambda values: ", ".join(map(str, dict.fromkeys(values))))
    return table.reset_index()


def describe_runs(runs: Sequence[Run]) -> str:
    """On what they were scored."""
    on = runs[0]["scored_on"]
    return f"{on['frames']} frames of {on['data_set']} {on['split']} ({on['source']})"


def ablation_tables(table: pd.DataFrame, runs: Sequence[Run]) -> dict[str, Cells]:
    """All tables, by title; NOTE belongs to the first."""
    classes = [name for name in table.columns if name.startswith("ap50.") and not name.endswith("_std")]
    head = ["row", "model", "balanced", "distilled", "seeds", "mAP@0.5", "gain", "over", "AP@[.5:.95]"]
    head += [*(name.removeprefix("ap50.") for name in classes), "time", "trained on"]
    rows = []
    for row in table.to_dict("records"):
        cells = [row["row"], row["model"], "yes" if row["balanced"] else "no", "yes" if row["teacher"] else "no"]
        pairs = [(row[name], row[f"{name}_std"]) for name in ("map50", "map50_95", *classes)]
        map50, *others = (
            "-" if pd.isna(mean) else f"{mean:.3f}" if pd.isna(std) else f"{mean:.3f} ± {std:.3f}"
            for mean, std in pairs
        )
        known = not pd.isna(row["gain"])
        interval = f"{signed(row['gain'])} ({signed(row['gain_lower'])} … {signed(row['gain_upper'])})"
        cells += [str(row["seeds"]), map50, interval if known else "-", row["baseline"] or "-", *others]
        on_gpu = row["on_gpu"] == "True"
        cells.append(f"{row['seconds']:,.0f} s GPU" if on_gpu else f"{row['cpu_seconds']:,.0f} s CPU")
        threads = "" if on_gpu else f", threads: {row['threads']}"
        cells.append(f"{row['device']}, {row['precision']}{threads}")
        rows.append(cells)

    counted = {row["model"]: row for row in table.to_dict("records")}
    paper = []
    for name, spec in MODELS.items():
        if spec.paper is not None:
            ours = counted.get(name)
            here = [f"{ours['params'] / 1e6:.2f} M", f"{ours['conv_gmacs']:.2f}"] if ours else ["-", "-"]
            paper.append([name, f"{spec.paper.params_m:g} M", f"{spec.paper.gflops:g}", *here])
    labels = list(runs[0]["ap50"])
    seeds = [
        [run["row"], str(run["seed"]), score(run["map50"]), score(run["map50_95"])]
        + [score(run["ap50"][name]) for name in labels]
        for run in runs
    ]
    return {
        f"Rows, on {describe_runs(runs)}": (head, rows),
        "Every seed, AP@0.5 by class": (["row", "seed", "mAP@0.5", "AP@[.5:.95]", *labels], seeds),
        "The paper's Table 2 (10 classes, 576×320, on BDD100K and ivslab), not ours": (
            ["model", "paper: parameters", "paper: GFLOPs", "parameters here", "conv GMACs here"],
            paper,
        ),
    }


def ablation_markdown(tables: Mapping[str, Cells]) -> str:
    """The page's tables for terminals and for docs."""
    parts = [f"{title}:\n\n{markdown_table(*table)}\n" for title, table in tables.items()]
    return "\n".join([parts[0], f"{NOTE}\n", *parts[1:]])


def ablation_figure(table: pd.DataFrame, runs: Sequence[Run]) -> bytes:
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
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(f"mAP@0.5, mean ± std over {table['seeds'].max()} seeds")
        axes.set_title(describe_runs(runs))
        return png(figure)


def write_ablation_page(path: Path, table: pd.DataFrame, runs: Sequence[Run], figure: bytes) -> None:
    """Write the self-contained HTML page to `path`, whole or not at all."""
    distilled = table[(table["teacher"] != "") & table["gain"].notna()].to_dict("records")
    headline = "No distilled row was compared with a plain one."
    if distilled:
        row = distilled[0]
        bounds = f"{signed(row['gain_lower'])} to {signed(row['gain_upper'])}"
        headline = f"Distillation: {signed(row['gain'])} mAP@0.5 ({row['row']} over {row['baseline']}; 95 %: {bounds})."
    write_page(
        path,
        "ablation.html.j2",
        headline=headline,
        measured_on=describe_runs(runs),
        synthetic=runs[0]["scored_on"]["source"] == "synthetic clips",
        figure=Picture(figure, "mAP@0.5 of every row, with its standard deviation over the seeds"),
        tables=ablation_tables(table, runs),
        note=NOTE,
    )
