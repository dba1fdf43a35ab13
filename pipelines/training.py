"""The pipeline `training`: every stage of dvc.yaml as a step, in the order that dvc.yaml gives."""

from pathlib import Path
from typing import Any

from zenml import log_metadata, pipeline, step

from pipelines.graph import stage_graph
from pipelines.runs import completed
from pipelines.stage import StageReport, reproduce_stage

LOCAL = Path(__file__).with_name("stacks") / "local.yaml"


def _reproduce(stage: str) -> StageReport:
    """Reproduce one stage by DVC; its report is the step's artifact, and its facts are the step's metadata."""
    report = reproduce_stage(stage)
    log_metadata(report.model_dump(exclude_none=True))
    return report


# DVC alone decides what is up to date. With both caches on, DVC deletes an output, ZenML skips the step, the run fails.
reproduce: Any = step(_reproduce, name="reproduce", enable_cache=False)


def _training() -> None:
    """Steps are named as their stages, and wait for the stages whose outputs theirs reads."""
    for stage, upstream in stage_graph().items():
        reproduce(stage, id=stage, after=sorted(upstream))


training: Any = pipeline(_training, name="training", enable_cache=False)


def run_training(settings: Path = LOCAL) -> bool:
    """Run the pipeline on the active stack; `settings` is a ZenML run configuration. True: every step completed."""
    return completed(training.with_options(config_path=str(settings)))
