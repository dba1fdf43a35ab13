"""The pipelines `training` and `retraining`: stages of dvc.yaml as steps, then a version, and the gate."""

import os
import subprocess
import sys
from typing import Annotated, Any

from zenml import get_step_context, log_metadata, pipeline, step

from mobile_centernet.errors import UserError
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.lineage import EXECUTION
from mobile_centernet.mlops.params import load_params
from mobile_centernet.mlops.registration import Registration, registered
from pipelines.dvc_step import StageReport, fetch_inputs, reproduce_stage
from pipelines.graph import stage_graph
from pipelines.promotion import judge_step


# DVC alone decides what is up to date. With both caches on, DVC deletes an output, ZenML skips the step, the run fails.
@step(name="reproduce", enable_cache=False)
def reproduce(stage: str, remote: bool) -> Annotated[StageReport, "{stage}_report"]:
    """Reproduce one stage by DVC; its report is the step's artifact, and its facts are the step's metadata."""
    os.environ[EXECUTION] = f"ZenML run {get_step_context().pipeline_run.name}"  # its stages are one run in MLflow
    report = reproduce_stage(stage, remote=remote)
    log_metadata(report.model_dump(exclude_none=True))
    return report


@step(name="register", enable_cache=False)
def register_step(remote: bool) -> Annotated[Registration, "registration"]:
    """`python -m steps register`: the version that the exported files are, an old one where they are not new."""
    os.environ[EXECUTION] = f"ZenML run {get_step_context().pipeline_run.name}"
    if remote:
        fetch_inputs("report")  # it reads all that a version is made of
    subprocess.run([sys.executable, "-m", "steps", "register"], check=True)
    found = registered(load_params(paths.PARAMS))
    if found is None:
        raise UserError(f"{paths.REGISTRATION}: expected the version that was just registered, found none")
    log_metadata(found.model_dump())
    return found


@pipeline(name="training", enable_cache=False)
def training(remote: bool, stages: list[str] | None = None) -> None:
    """Steps are named as their stages, and wait for the stages whose outputs theirs reads; None: all of dvc.yaml."""
    _stages_and_version(remote, stages)


@pipeline(name="retraining", enable_cache=False)
def retraining(remote: bool, stages: list[str] | None = None) -> None:
    """The same, and then the gate, about this very version."""
    judge_step(_stages_and_version(remote, stages), remote, id="promote")


def _stages_and_version(remote: bool, stages: list[str] | None) -> Any:
    """The steps of these stages and, after them, `register`; returns its artifact."""
    graph = stage_graph()
    wanted = [stage for stage in graph if stages is None or stage in stages]
    for stage in wanted:
        named = reproduce.with_options(substitutions={"stage": stage})
        named(stage, remote, id=stage, after=sorted(graph[stage].intersection(wanted)))
    return register_step(remote, id="register", after=sorted(wanted))
