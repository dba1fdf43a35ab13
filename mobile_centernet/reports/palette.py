"""The colours of every plot and drawing: Okabe and Ito's, which colour-blind people can tell apart."""

CLASS_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2", "#BBBBBB")
"""Classes in label order, from the first again after eight."""

TEACHER, STUDENT = "#D55E00", "#0072B2"
INK, MUTED, GRID = "#1F2933", "#5B6673", "#E3E7EB"

MODEL_COLOURS = {"teacher": TEACHER, "student": STUDENT}


def model_colour(name: str, position: int) -> str:
    """The colour of a model: fixed for teacher and student, otherwise by its position among those shown."""
    others = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00")
    return MODEL_COLOURS.get(name.lower(), others[position % len(others)])


def class_colour(label: int) -> str:
    """The colour of a class, as #RRGGBB."""
    return CLASS_COLOURS[label % len(CLASS_COLOURS)]


def text_colour(background: str) -> str:
    """Black or white, whichever reads better on the background (relative luminance of WCAG 2)."""
    channels = [int(background[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    luminance = sum(part * value for part, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "#000000" if luminance > 0.179 else "#FFFFFF"
