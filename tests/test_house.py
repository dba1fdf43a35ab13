"""The layout of the repository: one meaning per class name, files and functions of a size to read, a wheel with
one package."""

import ast
import shutil
import subprocess
import sys
from collections import defaultdict
from zipfile import ZipFile

import pytest

from tests.helpers.call_counts import ROOT, functions, product_files, used_once

LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 400, 80
SETTINGS = ROOT / "mobile_centernet/mlops/params.py"  # all settings in one file, however many


def test_every_class_name_means_one_thing() -> None:
    places = defaultdict(list)
    for file in product_files():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_file_is_too_long_to_read() -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in product_files() if file != SETTINGS}
    assert [(str(file), lines) for file, lines in lengths.items() if lines > LINES_OF_A_FILE] == []


def test_no_function_is_too_long_to_read() -> None:
    assert [str(each) for each in functions() if each.lines > LINES_OF_A_FUNCTION] == []


def test_few_functions_are_used_from_one_place_alone() -> None:
    """Reading is no hopping: `python -m tests.helpers.call_counts ROOM` lists them."""
    once, total = used_once(), len(functions())
    assert len(once) <= 0.15 * total, f"{len(once)} of {total}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in the wheel, built from the tracked files alone."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():  # one that was just deleted is tracked still
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-w", out, "."], cwd=source, check=True, timeout=300)
    (built,) = out.glob("*.whl")
    with ZipFile(built) as archive:
        return archive.namelist()


def test_the_wheel_installs_one_package(wheel: list[str]) -> None:
    """No `steps`, `tests` or `sample` in anybody's site-packages."""
    tops = {name.partition("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mobile_centernet"}
    assert len(tops) == 2


def test_the_wheel_has_what_is_no_code(wheel: list[str]) -> None:
    for folder, pattern in (("reports/pages", "*"), ("export", "*.json"), (".", "py.typed")):
        files = [file for file in (ROOT / "mobile_centernet" / folder).glob(pattern) if file.is_file()]
        assert files and {str(file.relative_to(ROOT)) for file in files} <= set(wheel)
