"""Running a pipeline and saying in one sentence how it ended."""

from typing import Any

from mobile_centernet.errors import UserError


class RunFailedError(UserError):
    """A step failed, as often as the stack's settings let it try; what it printed says why."""


def run(pipeline: Any, *arguments: Any) -> Any:
    """Run it and wait; ZenML's record of the completed run. Raises RunFailedError where it did not complete."""
    from zenml.client import Client
    from zenml.enums import ExecutionStatus

    try:
        started = pipeline(*arguments)
    except RuntimeError as error:  # what ZenML's local orchestrator raises when a step has failed
        raise RunFailedError(str(error)) from error
    ended = Client().get_pipeline_run(started.id)
    says = f"{ended.status.value}, {len(ended.steps)} steps (ZenML run {ended.name})"
    if ended.status != ExecutionStatus.COMPLETED:
        raise RunFailedError(says)
    print(f"{pipeline.name}: {says}")
    return ended
