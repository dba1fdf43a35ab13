"""The look of everything people see: colours of plots, drawings and pages, and the style of figures.

Colours are Okabe and Ito's, which colour-blind people can tell apart. Figures are narrow with large type, to be read
on a phone; white behind, dark ink. matplotlib is imported by the first figure: drawings and pages want colours alone.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLASS_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2", "#BBBBBB")
"""Classes in label order, from the first again after eight."""

TEXT_COLOURS = {colour: "#FFFFFF" if colour == "#0072B2" else "#000000" for colour in CLASS_COLOURS}
"""Of text on each of them, black or white: whichever reads better (relative luminance of WCAG 2)."""

TEACHER, STUDENT = "#D55E00", "#0072B2"
INK, MUTED, GRID = "#1F2933", "#5B6673", "#E3E7EB"

MODEL_COLOURS = {"teacher": TEACHER, "student": STUDENT}

WIDTH = 5.6  # inches; shown on a phone, 10 pt type then still has some 7 pt
DPI = 200

_STYLE: dict[str, Any] = {
    "text.parse_math": False,  # a class may be called $x$
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "xtick.minor.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
}


def model_colour(name: str, position: int) -> str:
    """The colour of a model: fixed for teacher and student, otherwise by its position among those shown."""
    others = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00")
    return MODEL_COLOURS.get(name.lower(), others[position % len(others)])


def class_colour(label: int) -> str:
    """The colour of a class, as #RRGGBB."""
    return CLASS_COLOURS[label % len(CLASS_COLOURS)]


@contextmanager
def canvas(width: float, height: float) -> Iterator["Figure"]:
    """A figure in this style, width x height in inches, apart from pyplot and from the user's matplotlib settings."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        yield figure


def png(figure: "Figure") -> bytes:
    """The figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
