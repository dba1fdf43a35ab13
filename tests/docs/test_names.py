"""Every file, module and link that the pages name is there."""

import importlib
import re
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("data/*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/*/*.md")])
ROOMS = "ablation|docs|examples|mobile_centernet|overlays|pipelines|sample|steps|tests"
FILE = re.compile(rf"(?<![\w./-])(?:{ROOMS})/[\w./{{}},*-]*[\w}}*]")
TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
TEST_FILE = re.compile(r"(?<![\w./*-])test_\w+\.py")
NAMED, DEFINED = re.compile(r"`(test_\w+)`"), re.compile(r"(?m)^def (test_\w+)\(")
NAME = re.compile(r"(?<![\w./-])(?:examples|mobile_centernet|pipelines|sample|steps)(?:\.[A-Za-z_]\w*)+")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def expanded(path: str) -> list[str]:
    """`a/{b,c}.py` → `a/b.py`, `a/c.py`."""
    parts = [part.split(",") for part in re.split(r"[{}]", path)]
    return ["".join(choice) for choice in product(*parts)]


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        if place.with_suffix(".py").is_file() or place.is_dir():
            value = importlib.import_module(".".join(parts[:count])) if count < len(parts) else place
            for attribute in parts[count:]:
                value = getattr(value, attribute, None)
            return value is not None
    return False


@each_page
def test_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = [path for found in FILE.findall(text) for path in expanded(found)]
    named = [path for path in named if not any(part.isupper() for part in path.split("/"))]  # ROW stands for any row
    assert [path for path in named if not any(ROOT.glob(path))] == []
    assert [name for name in TEST_FILE.findall(text) if not any(ROOT.glob(f"tests/**/{name}"))] == []
    assert [test for file, test in TEST.findall(text) if f"def {test}(" not in (ROOT / file).read_text()] == []


def test_the_tests_of_every_attack_are_there() -> None:
    named = set(NAMED.findall((ROOT / "docs/dev/attacks.md").read_text(encoding="utf-8")))
    defined = {name for file in ROOT.glob("tests/**/test_*.py") for name in DEFINED.findall(file.read_text())}
    assert len(named) > 60 and named - defined == set()


def test_the_architecture_names_every_room() -> None:
    house = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("\n## ")[0]
    rooms = [room.parent.name for room in (ROOT / "mobile_centernet").glob("*/__init__.py")]
    assert [room for room in [*ROOMS.split("|"), *rooms] if f"{room}/" not in house] == []


@each_page
def test_modules(page: Path) -> None:
    names = [name for name in NAME.findall(page.read_text(encoding="utf-8")) if not name.endswith((".py", ".md"))]
    assert [name for name in names if not is_there(name)] == []


@each_page
def test_links(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
