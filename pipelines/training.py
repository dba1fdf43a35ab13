"""The pipelines `training` and `retraining`: stages of dvc.yaml as steps; `retraining` ends with the gate."""

import os
from typing import Annotated

from zenml import get_step_context, log_metadata, pipeline, step

from mobile_centernet.mlops.lineage import EXECUTION
from pipelines.dvc_step import StageReport, reproduce_stage
from pipelines.graph import stage_graph
from pipelines.promotion import promote_step


# DVC alone decides what is up to date. With both caches on, DVC deletes an output, ZenML skips the step, the run fails.
@step(name="reproduce", enable_cache=False)
def reproduce(stage: str, remote: bool) -> Annotated[StageReport, "{stage}_report"]:
    """Reproduce one stage by DVC; its report is the step's artifact, and its facts are the step's metadata."""
    os.environ[EXECUTION] = f"ZenML run {get_step_context().pipeline_run.name}"  # its stages are one run in MLflow
    report = reproduce_stage(stage, remote=remote)
    log_metadata(report.model_dump(exclude_none=True))
    return report


@pipeline(name="training", enable_cache=False)
def training(remote: bool, stages: list[str] | None = None) -> None:
    """Steps are named as their stages, and wait for the stages whose outputs theirs reads; None: all of dvc.yaml."""
    graph = stage_graph()
    wanted = [stage for stage in graph if stages is None or stage in stages]
    for stage in wanted:
        named = reproduce.with_options(substitutions={"stage": stage})
        named(stage, remote, id=stage, after=sorted(graph[stage].intersection(wanted)))


@pipeline(name="retraining", enable_cache=False)
def retraining(remote: bool, stages: list[str] | None = None) -> None:
    """The same, and then the gate."""
    graph = stage_graph()
    wanted = [stage for stage in graph if stages is None or stage in stages]
    for stage in wanted:
        named = reproduce.with_options(substitutions={"stage": stage})
        named(stage, remote, id=stage, after=sorted(graph[stage].intersection(wanted)))
    promote_step([], id="promote", after=sorted(wanted))
