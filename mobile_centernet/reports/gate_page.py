"""A decision of the gate as one self-contained HTML page for people."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.evaluation.gate import Decision, Facts, Limits, Value
from mobile_centernet.reports.page import Picture, signed, write_page
from mobile_centernet.reports.style import GRID, INK, MUTED, STUDENT, TEACHER, WIDTH, canvas, png


def write_gate_page(
    path: Path,
    decision: Decision,
    facts: Facts,
    limits: Limits,
    samples: Mapping[str, NDArray[np.float64]],
    details: Mapping[str, str],
) -> None:
    """Write the page to `path`, whole or not at all: no links outward, no scripts.

    `samples`: the bootstrap's by precision, of those that the champion has. `details`: what else to name, such as the
    test set's digest.
    """
    differences = {}
    for precision, draws in samples.items():
        found = facts.scored[precision].difference
        if found is None:
            continue
        # Where the difference lies by the draws, its interval, and the two lines it must be right of.
        with canvas(WIDTH, 2.9) as figure:
            axes = figure.subplots()
            draws = draws.round(9)  # those that differ by rounding alone leave no room between two edges
            edges = np.histogram_bin_edges(draws, bins=min(40, max(5, len(draws) // 20)))
            heights, _, _ = axes.hist(draws, bins=[float(edge) for edge in edges], color=GRID, edgecolor="white")
            top = float(np.max(heights))
            axes.axvline(0, color=INK, linewidth=1.2)
            axes.axvline(-limits.epsilon, color=TEACHER, linewidth=1.2, linestyle=(0, (4, 2)))
            axes.plot([found.lower, found.upper], [top * 0.1] * 2, color=STUDENT, linewidth=4)
            axes.plot(found.value, top * 0.1, "o", color=STUDENT, markersize=9, markeredgecolor="white")
            axes.text(0, top * 1.06, " equal", fontsize=8.5, color=INK, ha="left")
            axes.text(
                -limits.epsilon, top * 1.06, f"−ε = −{limits.epsilon:g} ", fontsize=8.5, color=TEACHER, ha="right"
            )
            axes.set_title(
                f"{precision}: {signed(found.value)}  ({signed(found.lower)} … {signed(found.upper)})", pad=18
            )
            axes.set(xlabel="challenger − champion, mAP@0.5", ylabel="draws", ylim=(0, top * 1.04))
            axes.tick_params(colors=MUTED)
            axes.margins(x=0.08)
            differences[precision] = Picture(
                png(figure),
                f"Challenger minus champion in mAP@0.5 of {precision}: {signed(found.value)}, "
                f"from {signed(found.lower)} to {signed(found.upper)}",
            )
    version = f"Version {facts.challenger}"
    if not decision.promote:
        headline = f"{version} is rejected: {len(decision.failed)} of {len(decision.checks)} checks failed."
    elif facts.gain is None:
        headline = f"{version} may become the first champion: it passed all {len(decision.checks)} checks."
    else:
        gain = signed(facts.gain)
        headline = f"{version} may replace version {facts.champion}: {gain} mAP@0.5, all checks passed."
    write_page(
        path,
        "gate.html.j2",
        decision=decision,
        facts=facts,
        differences=differences,
        details=details,
        headline=headline,
        cell=cell,
    )


def cell(value: Value) -> str:
    """A value of the table as people read it; a dash for what does not exist."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return (f"{value:.4f}" if abs(value) < 1 else f"{value:.4g}").replace("-", "−")
