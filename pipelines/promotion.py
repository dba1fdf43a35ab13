"""The gate as a step: `python -m steps.promote`, for one version by its number, or with arguments as they are."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import click
from pydantic import BaseModel, ConfigDict, Field
from zenml import log_metadata, pipeline, step

from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import load_params
from mobile_centernet.mlops.registration import Registration
from mobile_centernet.mlops.registry.published import trust_repository
from mobile_centernet.trust.layout import CANARY, CHAMPION, CHANNELS
from pipelines.dvc_step import fetch_inputs
from pipelines.retraining import refresh_trust

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
    report = ask_gate(arguments)
    log_metadata(report.model_dump())
    return report


@step(name="promote", enable_cache=False)
def judge_step(registration: Registration, remote: bool) -> Annotated[PromotionReport, "promotion_report"]:
    """The same for the version that this run registered, by its number, because anybody may move an alias meanwhile.

    Where the key of the canaries' channel is, they get it first; where champion's is not, that is all.
    """
    version = ["--version", str(registration.version)]
    params = load_params(paths.PARAMS)
    signing = {CHAMPION}
    if params.trust.repository and (repository := trust_repository(params)):
        if remote:  # a schedule of the stack's does not come by `retrain`, which does it every night
            refresh_trust(params)
        state = repository.state()
        for channel in CHANNELS:
            delegator = state.delegator(channel)
            keys = map(delegator.get_key, delegator.get_delegated_role(channel).keyids)
            (signing.add if any(repository.keys.signers(channel, keys)) else signing.discard)(channel)
    if remote:
        fetch_inputs("report")
    report = ask_gate([*version, "--canary"] if CANARY in signing else version)
    if CANARY in signing and CHAMPION in signing and not report.code:
        report = ask_gate(version)
    log_metadata(report.model_dump())
    return report


def ask_gate(arguments: Sequence[str]) -> PromotionReport:
    """Raises PromotionFailedError where nothing could be judged."""
    command = [sys.executable, "-m", "steps.promote", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    click.echo((done.stdout + done.stderr).strip())
    said = (done.stdout or done.stderr).strip()
    if done.returncode not in ANSWERS:
        raise PromotionFailedError(f"steps.promote ended with code {done.returncode}: {said}")
    return PromotionReport(code=done.returncode, answer=ANSWERS[done.returncode], said=said)


@pipeline(name="promotion", enable_cache=False)
def promotion(arguments: list[str]) -> None:
    """The gate alone, with these arguments of steps.promote."""
    promote_step(arguments, id="promote")


def gate_code(completed: Any) -> int:
    """The gate's exit code out of ZenML's record of a run that held its step."""
    return int(completed.steps["promote"].output.load().code)
