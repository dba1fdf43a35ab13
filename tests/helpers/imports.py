"""Which of the project's own code a module imports, by package, as dvc.yaml names it."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
OURS = ("mobile_centernet", "steps", "sample")

# Code that a stage's output does not depend on, and what it imports in turn.
NEUTRAL = {
    "mobile_centernet/errors.py": "only how errors are called",
    "mobile_centernet/files.py": "how files are written, not what is in them",
    "mobile_centernet/logs.py": "where the log goes",
    "mobile_centernet/processes.py": "when processes end, not what they do",
    "mobile_centernet/mlops/params.py": "DVC compares the values themselves",
    "mobile_centernet/mlops/paths.py": "dvc.yaml names the same paths",
    "mobile_centernet/mlops/stages.py": "DVC compares what it lists",
    "mobile_centernet/mlops/tracking": "what MLflow is told",
    "mobile_centernet/mlops/mlflow_server.py": "where MLflow is",
}
# Rooms that are packages of packages: what lies in them is named one level deeper.
CORRIDORS = ("mobile_centernet", "mobile_centernet/data", "mobile_centernet/mlops")


def imported_packages(module: Path) -> frozenset[str]:
    """Packages, and modules that lie directly in a corridor, that `module` imports, directly or not.

    Imports inside functions count, those for type checkers alone do not, those of NEUTRAL code are not followed. Paths
    are relative to ROOT.
    """
    files = closure(imported_files(module)) - {module}
    return frozenset(package(file) for file in files if file.name != "__init__.py") - {"steps"}


def closure(files: Iterable[Path]) -> set[Path]:
    """These files and all of ours that they import, directly or not; NEUTRAL code is left out and not followed."""
    found: set[Path] = set()
    todo = [*files]
    while todo:
        file = todo.pop()
        if file not in found and package(file) not in NEUTRAL:
            found.add(file)
            todo += imported_files(file)
    return found


def imported_files(file: Path) -> Iterator[Path]:
    """Files of ours that one file imports, the `__init__.py` of their packages included."""
    return imported_in(ast.parse(file.read_text(encoding="utf-8")))


def imported_in(tree: ast.AST) -> Iterator[Path]:
    """The same for a piece of a file's code."""
    for_types = {
        id(each)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for each in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] in OURS:
                yield from filter(None, (_file(ROOT.joinpath(*parts[:depth])) for depth in range(1, len(parts) + 1)))


def package(file: Path) -> str:
    """The room of a file: a module that lies directly in a corridor is its own."""
    path = PurePosixPath(file.relative_to(ROOT).as_posix())
    for parent in reversed(path.parents[:-1]):
        if str(parent) not in CORRIDORS:
            return str(parent)
    return str(path)


def _file(place: Path) -> Path | None:
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)
