"""One DVC stage as one ZenML step. DVC owns caching: it decides whether the stage's command has to run at all."""

import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import click
import yaml
from pydantic import BaseModel, ConfigDict, Field

from mobile_centernet.errors import UserError
from mobile_centernet.mlops.lineage import flatten
from mobile_centernet.mlops.mlflow_server import CLASSIC, EXPERIMENT, connect, failures
from pipelines.graph import DVC_FILE, load_stages, outputs

logger = logging.getLogger(__name__)

DVC_LOCK = Path("dvc.lock")


class StageReport(BaseModel):
    """What a step leaves in ZenML: where the stage stands. The outputs themselves stay with DVC."""

    model_config = ConfigDict(frozen=True)

    stage: str
    executed: bool = Field(description="whether the stage's command ran; False: DVC had the outputs already")
    outputs: dict[str, str] = Field(description="path → digest in dvc.lock, such as md5:0cc1…")
    metrics: dict[str, float] = Field(default={}, description="numbers of the stage's metrics files, by dotted name")
    mlflow_run: str | None = Field(default=None, description="page of the MLflow run that it made, if it made one")


class StageFailedError(RuntimeError):
    """DVC could not reproduce a stage; ZenML tries it again as often as the stack's settings say."""


def reproduce_stage(stage: str, *, remote: bool = False) -> StageReport:
    """Reproduce `stage` alone by DVC in the current directory and report it.

    With `remote` the stages before it may have run on another machine: what they left comes through the DVC remote,
    and what this one leaves goes there.

    Raises StageFailedError where DVC fails; UserError where dvc.lock does not hold the stage afterwards.
    """
    before = _newest_run(stage)
    if remote:
        # The run-cache says what earlier stages made of the same inputs: restored without dvc.lock, not run again. What
        # dvc.lock knows, if it is committed, is taken as it stands there: only what this stage reads is fetched.
        run_dvc("fetch", "--run-cache", f"{DVC_FILE}:{stage}")
        lines = run_dvc("repro", "--pull", "--allow-missing", f"{DVC_FILE}:{stage}")
        run_dvc("checkout", f"{DVC_FILE}:{stage}")  # what did not change was left out, and its metrics are read below
        again = [line.split("'")[1] for line in lines if line.startswith("Running stage '")]
        if others := [name for name in again if name != stage]:
            logger.warning("%s: the DVC remote did not hold %s, so they ran here", stage, ", ".join(others))
        run_dvc("push", "--run-cache", f"{DVC_FILE}:{stage}")
    else:
        lines = run_dvc("repro", "--single-item", f"{DVC_FILE}:{stage}")
    executed = f"Running stage '{stage}':" in lines
    after = _newest_run(stage) if executed else before

    lock = yaml.safe_load(DVC_LOCK.read_text(encoding="utf-8")) if DVC_LOCK.is_file() else {}
    entry = lock.get("stages", {}).get(stage)
    if entry is None:
        raise UserError(f"{DVC_LOCK}: expected stage {stage}, which has just been reproduced, found no such entry")

    metrics: dict[str, float] = {}
    for item in load_stages()[stage].get("metrics", []):
        path = Path(next(iter(item)) if isinstance(item, dict) else item)
        for name, value in flatten(json.loads(path.read_text(encoding="utf-8"))):
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                metrics[name] = float(value)

    return StageReport(
        stage=stage,
        executed=executed,
        outputs={out["path"]: f"{out['hash']}:{out[out['hash']]}" for out in entry.get("outs", [])},
        metrics=metrics,
        mlflow_run=after if after != before else None,
    )


def fetch_inputs(stage: str) -> None:
    """Bring what `stage` reads of other stages, and what it makes, to a machine that shares the DVC remote alone."""
    reproduce_stage(stage, remote=True)  # out of the run-cache; dvc.lock is complete then
    stages = load_stages()
    made = [path for each in stages.values() for path in outputs(each)]
    run_dvc("pull", *(dep for dep in stages[stage]["deps"] if any(Path(dep).is_relative_to(path) for path in made)))


def run_dvc(*arguments: str) -> list[str]:
    """Run DVC, pass on what it prints as it comes, and return its lines.

    Raises StageFailedError with the command and its last words where it ends with another code than 0.
    """
    command = [sys.executable, "-m", "dvc", *arguments]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            click.echo(line, nl=False)
            lines.append(line.rstrip("\n"))
    if process.returncode:
        last = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no output")
        raise StageFailedError(f"`dvc {' '.join(arguments)}` ended with code {process.returncode}: {last}")
    return lines


def _newest_run(stage: str) -> str | None:
    """Address of the newest MLflow run of `stage`. Best effort, like all tracking: None where MLflow has no answer."""
    if not os.environ.get("MLFLOW_TRACKING_URI") and not Path("mlflow.db").exists():
        return None
    try:
        mlflow = connect()
        runs = mlflow.search_runs(
            experiment_names=[EXPERIMENT],
            filter_string=f"tags.stage = '{stage}'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
            output_format="list",
        )
    except failures() as error:
        logger.warning("%s: MLflow was not asked for its run (%s)", stage, type(error).__name__)
        return None
    if not runs:
        return None
    server = mlflow.get_tracking_uri()
    page = f"/#/experiments/{runs[0].info.experiment_id}/runs/{runs[0].info.run_id}{CLASSIC}"
    return f"{server.rstrip('/')}{page}" if server.startswith("http") else f"runs:/{runs[0].info.run_id}"
