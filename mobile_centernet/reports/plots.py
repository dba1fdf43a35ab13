"""Figures of an evaluation as PNG bytes: same numbers, same bytes.

In the look and colours of `style`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from mobile_centernet.evaluation.coco_eval import MapResult
from mobile_centernet.reports.style import INK, MUTED, STUDENT, WIDTH, canvas, model_colour, png

_COUNTS = LinearSegmentedColormap.from_list("counts", ["#FFFFFF", "#9CC9E6", STUDENT, "#003B5C"])
_LINES = (STUDENT, "#E69F00", "#009E73", "#CC79A7")
_DASHES = ("-", (0, (4, 1.6)), (0, (1, 1.2)), (0, (5, 1, 1, 1)))


def pr_curves(results: Mapping[str, MapResult]) -> bytes:
    """Precision over recall, one panel per class with ground truth, one line per model (name -> result), AP above.

    Raises ValueError where there is nothing to draw.
    """
    classes = _classes_with_truth(results)
    colours = [model_colour(model, position) for position, model in enumerate(results)]
    dashes = [_DASHES[position % len(_DASHES)] for position in range(len(results))]
    with _panels(classes) as (figure, panels):
        for name, axes in panels.items():
            for model, colour, dash in zip(results, colours, dashes, strict=True):
                precision = results[model].precision[name]
                reached = np.where(precision > 0, precision, math.nan)  # 0 stands for a recall never reached
                axes.plot(results[model].recall, reached, color=colour, linestyle=dash, label=model)
            axes.set(xlim=(0, 1), ylim=(0, 1.04))
            axes.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
            axes.set_yticks((0, 0.5, 1), ("0", "0.5", "1"))
            axes.set_title(name)
            values = " · ".join(f"{result.ap50[name]:.3f}" for result in results.values())
            axes.set_title(values, loc="right", fontsize=9, fontweight="normal", color=MUTED)
        lines = next(iter(panels.values())).get_lines()
        figure.legend(handles=lines, loc="outside upper left", ncols=len(results), handlelength=2.2)
        figure.supxlabel("recall", fontsize=9.5, color=MUTED)
        figure.supylabel("precision", fontsize=9.5, color=MUTED)
        return png(figure)


def ap_bars(results: Mapping[str, MapResult]) -> bytes:
    """AP at IoU 0.5 per class with ground truth, one bar per model (name -> result), and their mean below.

    Raises ValueError where there is nothing to draw.
    """
    classes = _classes_with_truth(results)
    rows = [*classes, "mean"]
    thickness = 0.78 / len(results)
    with canvas(WIDTH, 0.9 + 0.3 * len(rows) * max(1.6, len(results) * 0.9)) as figure:
        axes = figure.subplots()
        for position, (model, result) in enumerate(results.items()):
            values = [result.ap50[name] or 0.0 for name in classes] + [result.map50]
            middles = np.arange(len(rows)) + (position - (len(results) - 1) / 2) * thickness
            colour = model_colour(model, position)
            axes.barh(middles, values, height=thickness * 0.9, color=colour, label=model)
            for middle, value in zip(middles, values, strict=True):
                axes.text(value + 0.01, middle, f"{value:.3f}", va="center", fontsize=8.5)
        axes.axhline(len(classes) - 0.5, color=MUTED, linewidth=0.8)
        axes.set(yticks=range(len(rows)), xlim=(0, 1.08), xticks=(0, 0.25, 0.5, 0.75, 1))
        axes.set_yticklabels(rows, color=INK)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=len(results), handlelength=1.0)
        return png(figure)


def training_curves(records: Sequence[Mapping[str, float]], *, score: str = "map50") -> bytes:
    """One panel per quantity over the epochs, lines of one quantity (`train/size`, `val/size`) sharing a panel.

    A record holds `epoch` and any of the quantities; a missing one leaves a gap in its line. The quantity `score`
    comes first, with its best epoch marked. Raises ValueError where there is nothing to draw.
    """
    keys = list(dict.fromkeys(key for record in records for key in record if key != "epoch"))
    if not keys:
        raise ValueError("training_curves: expected at least one record with a quantity beside `epoch`")
    groups: dict[str, list[str]] = {}
    for key in sorted(keys, key=lambda key: _quantity(key) != score):
        groups.setdefault(_quantity(key), []).append(key)
    epochs = [record["epoch"] for record in records]
    with _panels(list(groups)) as (figure, panels):
        for name, axes in panels.items():
            for position, key in enumerate(groups[name]):
                values = [record.get(key, math.nan) for record in records]
                colour = _LINES[position % len(_LINES)]
                label = key.rpartition("/")[0] or name
                marker = "o" if np.isfinite(values).sum() == 1 else ""
                axes.plot(
                    epochs, values, color=colour, linestyle=_DASHES[position % len(_DASHES)], marker=marker, label=label
                )
                if name == score and np.isfinite(values).any():
                    best = int(np.nanargmax(values))
                    axes.plot(epochs[best], values[best], "o", color=INK, markersize=5)
                    axes.annotate(
                        f"{values[best]:.3f}",
                        (epochs[best], values[best]),
                        xytext=(0, 6),
                        textcoords="offset points",
                        ha="right" if best > len(values) / 2 else "left",
                        fontsize=9,
                    )
            axes.set_title("mAP@0.5" if name == "map50" else name.replace("_", " "))
            axes.margins(x=0.03, y=0.14)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
            if len(set(epochs)) == 1:
                axes.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
            if name == score:
                axes.set_ylim(bottom=0)
            axes.yaxis.set_major_locator(MaxNLocator(4))
            if len(groups[name]) > 1:
                axes.legend(fontsize=8.5, handlelength=1.6)
        figure.supxlabel("epoch", fontsize=9.5, color=MUTED)
        return png(figure)


def confusion_figure(matrix: NDArray[np.int64], classes: Sequence[str]) -> bytes:
    """A confusion matrix [C + 1, C + 1] as `confusion_matrix` counts it; each row is coloured by its shares.

    Raises ValueError where the matrix and the classes do not fit.
    """
    size = len(classes) + 1
    if matrix.shape != (size, size):
        raise ValueError(f"confusion matrix: expected {(size, size)} for {len(classes)} classes, found {matrix.shape}")
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    with canvas(WIDTH, WIDTH * 0.92) as figure:
        axes = figure.subplots()
        axes.imshow(shares, cmap=_COUNTS, vmin=0, vmax=1)
        font_size = min(10.0, 58 / size)
        for (row, column), count in np.ndenumerate(matrix):
            if (row, column) != (size - 1, size - 1):  # nothing taken for nothing has no count
                colour = "white" if shares[row, column] > 0.5 else INK
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=font_size)
        axes.axhline(size - 1.5, color=MUTED, linewidth=0.8)
        axes.axvline(size - 1.5, color=MUTED, linewidth=0.8)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_xticks(range(size), [*classes, "missed"], rotation=35, ha="right", rotation_mode="anchor", color=INK)
        axes.set_yticks(range(size), [*classes, "false alarm"], color=INK)
        axes.set(xlabel="predicted", ylabel="true")
        return png(figure)


def class_frequencies(counts: Mapping[str, int], weights: Mapping[str, float] | None = None) -> bytes:
    """Boxes per class on a logarithmic axis, each bar with its count and, where given, its loss weight.

    Raises ValueError without classes.
    """
    if not counts:
        raise ValueError("class_frequencies: expected at least one class")
    largest = max([*counts.values(), 1])
    with canvas(WIDTH, 0.9 + 0.42 * len(counts)) as figure:
        axes = figure.subplots()
        axes.barh(list(counts), [max(count, 0.5) for count in counts.values()], height=0.62, color=STUDENT)
        for row, (name, count) in enumerate(counts.items()):
            weight = f"  ×{weights[name]:.2f}" if weights else ""
            axes.text(max(count, 0.5) * 1.15, row, f"{count:,}{weight}", va="center", fontsize=9)
        axes.set_xscale("log")
        axes.set_xlim(0.5, largest * (60 if weights else 12))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xticks([10**power for power in range(1 + int(math.log10(largest)))])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="y", labelcolor=INK)
        axes.grid(axis="y", visible=False)
        axes.invert_yaxis()
        axes.set_xlabel("boxes, logarithmic" + (", × loss weight" if weights else ""))
        return png(figure)


def _classes_with_truth(results: Mapping[str, MapResult]) -> list[str]:
    """Classes every model was measured on, in their order."""
    measured = [set(result.precision) for result in results.values()]
    if not measured or not set.intersection(*measured):
        raise ValueError("expected a result with ground truth in at least one class")
    first = next(iter(results.values()))
    return [name for name in first.ap50 if all(name in classes for classes in measured)]


def _quantity(key: str) -> str:
    return key.rpartition("/")[2]


@contextmanager
def _panels(names: Sequence[str]) -> Iterator[tuple[Figure, dict[str, Axes]]]:
    """A figure with one panel per name, two per row."""
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    with canvas(WIDTH, 0.4 + 2.0 * rows * (1 if columns == 2 else 1.5)) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for unused in grid[len(names) :]:
            unused.set_axis_off()
        yield figure, dict(zip(names, grid, strict=False))
