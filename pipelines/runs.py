"""Running a pipeline and saying in one sentence how it ended."""

import sys
from typing import Any


def completed(pipeline: Any, *arguments: Any) -> bool:
    """Run it and wait. A failed step is a sentence on stderr, after what the step itself has printed."""
    from zenml.client import Client
    from zenml.enums import ExecutionStatus

    name = pipeline.name
    try:
        run = pipeline(*arguments)
    except RuntimeError as error:  # what ZenML's local orchestrator raises when a step has failed
        print(f"error: {name}: {error}", file=sys.stderr)
        return False
    ended = Client().get_pipeline_run(run.id)
    print(f"{name}: {ended.status.value}, {len(ended.steps)} steps (ZenML run {ended.name})")
    return bool(ended.status == ExecutionStatus.COMPLETED)
