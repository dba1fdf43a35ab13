"""Mirror a registry in three states of it, and print what ZenML then holds, as JSON on the last line."""

import json

from pipelines.environment import prepare_environment

prepare_environment()

from zenml.client import Client  # noqa: E402 after its environment is made

from pipelines.mirror import mirror_registry  # noqa: E402
from steps import tracking  # noqa: E402

NAME = "mobile-centernet"


def held() -> dict[str, tuple[str, str]]:
    """Stage and aliases by version."""
    versions = Client().list_model_versions(model=NAME, hydrate=True)
    return {each.name: (each.stage, each.run_metadata["aliases"]) for each in versions}


mirror_registry()  # nothing is registered yet
mlflow = tracking.connect()
client = mlflow.MlflowClient()
with mlflow.start_run() as run:
    pass
client.create_registered_model(NAME)
states = []
for number, aliases in ((1, ["challenger", "champion"]), (2, ["challenger"])):
    client.create_model_version(NAME, source=run.info.artifact_uri, run_id=run.info.run_id, tags={"map50": "0.5"})
    for alias in aliases:
        client.set_registered_model_alias(NAME, alias, str(number))
    mirror_registry()
    states.append(held())
client.set_registered_model_alias(NAME, "previous", "1")
client.set_registered_model_alias(NAME, "champion", "2")
mirror_registry()
mirror_registry()  # once more changes nothing
states.append(held())
print(json.dumps(states))
