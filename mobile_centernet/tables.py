"""Tables in plain text and in markdown."""

import re
from collections.abc import Iterable, Sequence

from mobile_centernet.errors import printable


def text_table(rows: Sequence[Sequence[str]], align: str) -> str:
    """Lay rows out in columns that are two spaces apart.

    Args:
        rows: cells; the first row may be the headings. All rows have the same number of cells.
        align: `<` (left) or `>` (right) for each column; the last one also holds for all further columns.

    Returns:
        One line per row, without spaces at its end; what is no character to be seen is shown as its escape.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    sides = [align[min(column, len(align) - 1)] for column in range(len(rows[0]))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write rows as a table in markdown; a `|` inside a cell becomes `/`, and what is markup there is shown as text."""
    lines = (header, ["---"] * len(header), *rows)
    return "\n".join(f"| {' | '.join(as_markdown(cell).replace('|', '/') for cell in line)} |" for line in lines)


def as_markdown(text: str) -> str:
    """Text that markdown shows as it is: no HTML, no link, no image comes of it."""
    return re.sub(r"[\[\]`]", r"\\\g<0>", text.replace("&", "&amp;").replace("<", "&lt;"))
