"""The manual is short, plain and of one width."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MANUAL = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])
PAGES = sorted([*MANUAL, *ROOT.glob("docs/*/*.md"), ROOT / "data/README.md", ROOT / "SECURITY.md"])
LONGEST_PAGE, WIDEST_LINE, LONGEST_README = 1200, 120, 130
DIALECT = re.compile(
    r"\b(anew|mend(s|ed|ing)?|go(es)? on|(?<![-`])pictures?(?!`)|(one|once|twice) an? \w+)\b", re.IGNORECASE
)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.mark.parametrize("page", MANUAL, ids=lambda page: page.name)
def test_a_page_is_read_in_minutes(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").split()) <= LONGEST_PAGE


def test_the_front_door_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= LONGEST_README


@each_page
def test_lines_fit_a_terminal(page: Path) -> None:
    """Rows of tables, images and JSON documents cannot be broken."""
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > WIDEST_LINE and not line.startswith(("|", "![", "{"))] == []


@each_page
def test_words_are_plain(page: Path) -> None:
    assert [found[0] for found in DIALECT.finditer(page.read_text(encoding="utf-8"))] == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    assert [page.name for page in ROOT.glob("docs/*.md") if page.name != "README.md" and page.name not in index] == []
