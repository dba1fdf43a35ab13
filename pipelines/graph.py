"""The edges between the stages, read from dvc.yaml: the only place where they are written down."""

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from mobile_centernet.errors import UserError

DVC_FILE = Path("dvc.yaml")


def load_stages(dvc_file: Path = DVC_FILE) -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml as they stand there.

    Raises UserError where the file is missing, is no YAML or holds no stages.
    """
    try:
        document = yaml.safe_load(dvc_file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{dvc_file}: expected the pipeline's stages, found no such file") from error
    except yaml.YAMLError as error:
        raise UserError(f"{dvc_file}: expected YAML, found: {error}") from error
    stages = document.get("stages") if isinstance(document, dict) else None
    if not isinstance(stages, dict) or not stages:
        raise UserError(f"{dvc_file}: expected `stages`, found none")
    return stages


def stage_graph(dvc_file: Path = DVC_FILE) -> dict[str, frozenset[str]]:
    """Stage → the stages whose outputs it depends on; every stage comes after all of these.

    Raises UserError as `load_stages` does, and where stages depend on each other in a circle.
    """
    stages = load_stages(dvc_file)
    makers = {path: name for name, stage in stages.items() for path in outputs(stage)}
    graph = {
        name: frozenset(
            maker
            for path in map(PurePosixPath, stage.get("deps", []))
            for output, maker in makers.items()
            if maker != name and (path.is_relative_to(output) or output.is_relative_to(path))
        )
        for name, stage in stages.items()
    }
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise UserError(f"{dvc_file}: expected stages without a circle, found {circle}") from error
    return {name: graph[name] for name in order}


def with_followers(stages: Collection[str], dvc_file: Path = DVC_FILE) -> list[str]:
    """`stages`, and all whose inputs may change with theirs; every stage comes after those that it depends on."""
    reached: list[str] = []
    for stage, upstream in stage_graph(dvc_file).items():
        if stage in stages or not upstream.isdisjoint(reached):
            reached.append(stage)
    return reached


def outputs(stage: Mapping[str, Any]) -> list[PurePosixPath]:
    """What one stage of dvc.yaml writes, metrics and plots included."""
    return [
        PurePosixPath(next(iter(entry)) if isinstance(entry, dict) else entry)
        for kind in ("outs", "metrics", "plots")
        for entry in stage.get(kind, [])
    ]
