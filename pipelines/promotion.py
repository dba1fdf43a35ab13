"""The pipeline `promotion`: one step, which is `python -m steps.promote`."""

import subprocess
import sys
from typing import Annotated, Any

import click
from pydantic import BaseModel, ConfigDict, Field
from zenml import log_metadata, pipeline, step

ANSWERS = {0: "done", 11: "another promotion is running", 12: "rejected"}


class PromotionReport(BaseModel):
    """How the gate answered."""

    model_config = ConfigDict(frozen=True)

    code: int = Field(description="exit code of steps.promote: 0 done, 11 another promotion is running, 12 rejected")
    answer: str
    said: str = Field(description="its sentence")


class PromotionFailedError(RuntimeError):
    """The gate could not judge."""


@step(name="promote", enable_cache=False)
def promote_step(arguments: list[str]) -> Annotated[PromotionReport, "promotion_report"]:
    """Let the gate judge. A refusal is an answer, not a failed step; the step fails where nothing could be judged."""
    command = [sys.executable, "-m", "steps.promote", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    click.echo((done.stdout + done.stderr).strip())
    said = (done.stdout or done.stderr).strip()
    if done.returncode not in ANSWERS:
        raise PromotionFailedError(f"steps.promote ended with code {done.returncode}: {said}")
    report = PromotionReport(code=done.returncode, answer=ANSWERS[done.returncode], said=said)
    log_metadata(report.model_dump())
    return report


@pipeline(name="promotion", enable_cache=False)
def promotion(arguments: list[str]) -> None:
    """The gate alone, with these arguments of steps.promote."""
    promote_step(arguments, id="promote")


def gate_code(completed: Any) -> int:
    """The gate's exit code out of ZenML's record of a run that held its step."""
    return int(completed.steps["promote"].output.load().code)
