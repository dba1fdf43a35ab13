"""The pipelines `training` and `retraining`: every stage of dvc.yaml as a step; `retraining` ends with the gate."""

from zenml import log_metadata, pipeline, step

from pipelines.dvc_step import StageReport, reproduce_stage
from pipelines.graph import stage_graph
from pipelines.promotion import promote_step


# DVC alone decides what is up to date. With both caches on, DVC deletes an output, ZenML skips the step, the run fails.
@step(name="reproduce", enable_cache=False)
def reproduce(stage: str, remote: bool) -> StageReport:
    """Reproduce one stage by DVC; its report is the step's artifact, and its facts are the step's metadata."""
    report = reproduce_stage(stage, remote=remote)
    log_metadata(report.model_dump(exclude_none=True))
    return report


@pipeline(name="training", enable_cache=False)
def training(remote: bool) -> None:
    """Steps are named as their stages, and wait for the stages whose outputs theirs reads."""
    for stage, upstream in stage_graph().items():
        reproduce(stage, remote, id=stage, after=sorted(upstream))


@pipeline(name="retraining", enable_cache=False)
def retraining(remote: bool) -> None:
    """The same, and then the gate."""
    graph = stage_graph()
    for stage, upstream in graph.items():
        reproduce(stage, remote, id=stage, after=sorted(upstream))
    promote_step([], id="promote", after=sorted(graph))
