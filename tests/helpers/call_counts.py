"""How often each function is used: `python -m tests.helpers.call_counts [ROOM ...]` lists those used once.

A use is a place in the product's code that names the function, imports apart; tests do not count. A private function is
looked for in its own file, any other one everywhere, by its name alone: where several share a name, each counts the
uses of all.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENTRY_POINTS = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PRODUCT = ("mobile_centernet", "steps", "pipelines", "sample", "examples")


@dataclass(frozen=True)
class Function:
    """Where it stands and how long it is, its docstring and decorators included."""

    file: Path
    line: int
    name: str
    lines: int
    is_entry: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} {self.name} ({self.lines} lines)"


def functions() -> list[Function]:
    """Every function and method of the product."""
    return [each for file in product_files() for each in _functions(file, ast.parse(file.read_text(encoding="utf-8")))]


def used_once() -> list[Function]:
    """Functions that one place uses; entry points, commands, stages and what a library calls by its name are none."""
    within = {file: _uses(file) for file in product_files()}
    everywhere = sum(within.values(), Counter[str]())
    return [
        each
        for each in functions()
        if not each.is_entry and (within[each.file] if each.name.startswith("_") else everywhere)[each.name] == 1
    ]


def product_files() -> Iterator[Path]:
    for room in PRODUCT:
        yield from sorted((ROOT / room).rglob("*.py"))


def _functions(file: Path, tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            lines = (node.end_lineno or node.lineno) - first + 1
            yield Function(file, node.lineno, node.name, lines, _is_entry(file, node))


def _is_entry(file: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Called by Python, click, ZenML, `python -m` or an entry point of pyproject.toml, not by the product's code."""
    decorators = {ast.unparse(decorator).split("(")[0].split(".")[-1] for decorator in node.decorator_list}
    return (
        (node.name.startswith("__") and node.name.endswith("__"))
        or node.name == "main"
        or bool(decorators & {"command", "group", "override", "field_validator", "model_validator", "step", "pipeline"})
        or (file.parent.name == "steps" and not node.name.startswith("_"))
        or f'{".".join(file.relative_to(ROOT).with_suffix("").parts)}:{node.name}"' in ENTRY_POINTS
    )


def _uses(file: Path) -> Counter[str]:
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    return Counter([*names, *(node.attr for node in nodes if isinstance(node, ast.Attribute))])


if __name__ == "__main__":
    wanted = tuple(str(ROOT / room) for room in sys.argv[1:]) or (str(ROOT),)
    once, total = used_once(), len(functions())
    for function in once:
        if str(function.file).startswith(wanted):
            print(function)
    print(f"{len(once)} of {total} functions are used once: {len(once) / total:.1%}")
