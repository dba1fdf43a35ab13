"""Run `training` once more in this process and print what ZenML holds of all its runs, as JSON on the last line."""

import json
from pathlib import Path

from pipelines.settings import prepare_environment, run

prepare_environment()

from zenml.client import Client  # noqa: E402 after its environment is made

from pipelines.training import training  # noqa: E402

run(training, Path("settings.yaml"), False, model="toy")
client = Client()
runs = [client.get_pipeline_run(run.id) for run in client.list_pipeline_runs(sort_by="asc:created")]
document = {
    "store": client.zen_store.url,
    "models": sorted(model.name for model in client.list_models()),
    "linked": [bool(run.model_version) for run in runs],
    "runs": [
        {
            name: {
                "upstream": sorted(step.spec.upstream_steps),
                "report": step.output.load().model_dump(),
                "metadata": sorted(step.run_metadata),
                "artifact": step.output.name,
            }
            for name, step in run.steps.items()
        }
        for run in runs
        if run.status.value == "completed"
    ],
}
print(json.dumps(document))
