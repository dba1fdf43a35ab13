"""The pipelines `training` and `retraining`: every stage of dvc.yaml as a step; `retraining` ends with the gate."""

from pathlib import Path
from typing import Any

from zenml import log_metadata, pipeline, step

from pipelines.dvc_step import StageReport, reproduce_stage
from pipelines.graph import stage_graph
from pipelines.promotion import gate_code, promote_step
from pipelines.settings import LOCAL, is_remote, run, without_schedule


def _reproduce(stage: str, remote: bool) -> StageReport:
    """Reproduce one stage by DVC; its report is the step's artifact, and its facts are the step's metadata."""
    report = reproduce_stage(stage, remote=remote)
    log_metadata(report.model_dump(exclude_none=True))
    return report


# DVC alone decides what is up to date. With both caches on, DVC deletes an output, ZenML skips the step, the run fails.
reproduce: Any = step(_reproduce, name="reproduce", enable_cache=False)


def _training(remote: bool) -> None:
    """Steps are named as their stages, and wait for the stages whose outputs theirs reads."""
    for stage, upstream in stage_graph().items():
        reproduce(stage, remote, id=stage, after=sorted(upstream))


def _retraining(remote: bool) -> None:
    """The same, and then the gate."""
    graph = stage_graph()
    _training(remote)
    promote_step([], id="promote", after=sorted(graph))


training: Any = pipeline(_training, name="training", enable_cache=False)
retraining: Any = pipeline(_retraining, name="retraining", enable_cache=False)


def run_training(settings: Path = LOCAL) -> None:
    """Run `training` now on the active stack; `settings` is a ZenML run configuration.

    Raises RunFailedError where a step failed.
    """
    run(training.with_options(config_path=str(without_schedule(settings))), is_remote())


def run_retraining(settings: Path = LOCAL) -> int:
    """Run `retraining` now; the gate's exit code. Raises RunFailedError where a step failed."""
    return gate_code(run(retraining.with_options(config_path=str(without_schedule(settings))), is_remote()))


def schedule_retraining(settings: Path) -> None:
    """Hand `retraining` to the stack's scheduler, as often as `settings` says."""
    retraining.with_options(config_path=str(settings))(is_remote())
