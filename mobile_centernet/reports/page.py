"""Self-contained HTML pages in one style: images inline, no links outward, no scripts, every value escaped."""

import base64
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from mobile_centernet.files import write_atomically
from mobile_centernet.reports.style import STUDENT, TEACHER, class_colour

_MIME_TYPES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG or JPEG file's bytes; `alt` says what it shows, for those who cannot see it."""

    data: bytes
    alt: str
    caption: str = ""

    @property
    def uri(self) -> str:
        """The image as a data URI. Raises ValueError when it is neither PNG nor JPEG."""
        for start, mime_type in _MIME_TYPES.items():
            if self.data.startswith(start):
                return f"data:{mime_type};base64,{base64.b64encode(self.data).decode('ascii')}"
        raise ValueError(f"image {self.alt!r}: expected PNG or JPEG, found {self.data[:8]!r}")


def write_page(path: Path, template: str, **values: object) -> None:
    """Fill in a template of `pages/` and write it to `path`, whole or not at all. Raises OSError where that fails."""
    environment = Environment(
        loader=PackageLoader("mobile_centernet.reports", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"teacher_colour": TEACHER, "student_colour": STUDENT}
    environment.filters |= {
        "score": score,
        "signed": signed,
        "percent": percent,
        "number": number,
        "scale": scale,
        "class_colour": class_colour,
    }
    page = environment.get_template(template).render(values)
    write_atomically(path, page.encode(errors="replace"))  # a file's name need not be valid text


def score(value: float | None) -> str:
    """Three decimals; a dash for what does not exist."""
    return "–" if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Three decimals with a sign, no sign on zero."""
    if value is None:
        return "–"
    return "0.000" if round(value, 3) == 0 else f"{value:+.3f}".replace("-", "−")


def percent(part: float, whole: float) -> str:
    """A share in whole per cent; a dash where there is nothing to take it from."""
    return f"{part / whole:.0%}" if whole else "–"


def number(value: int) -> str:
    """Thousands separated."""
    return f"{value:,}"


def scale(value: float) -> str:
    """Three significant digits with k, M or G."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g} "
