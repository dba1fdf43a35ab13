"""ZenML's model versions as a mirror of the MLflow registry, which alone says what devices run.

Version 7 of the registry is `v7` in ZenML, which keeps plain numbers for itself. Its tags are metadata there, its alias
is a stage: `champion` is in production, `challenger` in staging (unless it is the champion), `previous` archived.
"""

from typing import Any

from steps import workspace
from steps.params import load_params
from steps.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, Version

STAGES = {PREVIOUS: "archived", CHALLENGER: "staging", CHAMPION: "production"}  # a later one wins


def mirror_registry() -> None:
    """Bring ZenML's Model of the registered name up to date. Running it again changes nothing."""
    from zenml import log_metadata
    from zenml.client import Client

    registry = Registry(load_params(workspace.PARAMS).register_.name)
    versions, aliases = registry.versions(), registry.aliases()
    if not versions:
        return
    client = Client()
    mirrored = _mirrored(client, registry.name)
    for version in versions:
        facts = _facts(version, [alias for alias, number in aliases.items() if number == version.number])
        name = _name(version.number)
        if name not in mirrored:
            mirrored[name] = client.create_model_version(registry.name, name=name)
        if any(mirrored[name].run_metadata.get(key) != value for key, value in facts.items()):
            log_metadata(metadata=facts, model_version_id=mirrored[name].id)
    wanted = {_name(aliases[alias]): stage for alias, stage in STAGES.items() if alias in aliases}
    for name, found in mirrored.items():  # archiving first: of the other stages ZenML allows one version each
        if wanted.get(name, "archived") == "archived" and found.stage in ("staging", "production"):
            client.update_model_version(registry.name, found.id, stage="archived", force=True)
    for name, stage in wanted.items():
        if mirrored[name].stage != stage:
            client.update_model_version(registry.name, mirrored[name].id, stage=stage, force=True)


def _mirrored(client: Any, model: str) -> dict[str, Any]:
    """ZenML's versions by name; the Model itself is made where there is none."""
    from zenml.utils.pagination_utils import depaginate

    if not client.list_models(name=model).total:
        client.create_model(name=model)
    found = depaginate(client.list_model_versions, model=model, hydrate=True)
    return {version.name: version for version in found}


def _name(number: int) -> str:
    return f"v{number}"


def _facts(version: Version, aliases: list[str]) -> dict[str, str]:
    """What ZenML keeps of a version: where MLflow has it, its aliases, its tags."""
    return {
        "mlflow_run": version.run_id,
        "aliases": ", ".join(sorted(aliases)) or "none",
        **{key: value for key, value in version.tags.items() if value},
    }
