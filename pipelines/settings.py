"""ZenML run configurations (pipelines/stacks/*.yaml), and whether the active stack is another machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mobile_centernet.errors import UserError
from mobile_centernet.files import write_atomically
from steps import workspace

LOCAL = Path(__file__).with_name("stacks") / "local.yaml"
WITHOUT_SCHEDULE = workspace.WORK / "settings.yaml"
WORKPLACES = ("orchestrator", "artifact_store", "step_operator")


def load_settings(path: Path) -> dict[str, Any]:
    """A run configuration as it stands in its file. Raises UserError where there is none."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: expected a ZenML run configuration, found no such file") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: expected YAML, found: {error}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a ZenML run configuration, found {type(document).__name__}")
    return document


def has_schedule(path: Path) -> bool:
    """Whether these settings hand the pipeline to the stack's scheduler."""
    return bool(load_settings(path).get("schedule"))


def without_schedule(path: Path) -> Path:
    """The same settings for a run now."""
    document = load_settings(path)
    if document.pop("schedule", None) is None:
        return path
    WITHOUT_SCHEDULE.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(WITHOUT_SCHEDULE, yaml.safe_dump(document).encode())
    return WITHOUT_SCHEDULE


def mounts(path: Path) -> list[Path]:
    """Where these settings mount volumes into the pods of every step."""
    return [Path(str(mount["mountPath"])) for mount in _volume_mounts(load_settings(path).get("settings", {}))]


def _volume_mounts(tree: object) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield from tree.get("volume_mounts", [])
        for key, value in tree.items():
            if key != "orchestrator_pod_settings":  # that pod runs no stage
                yield from _volume_mounts(value)


def is_remote() -> bool:
    """Whether steps of the active ZenML stack run on, or store on, anything but this machine."""
    from zenml.client import Client

    components = Client().active_stack_model.components
    where = [component for kind, found in components.items() if kind.value in WORKPLACES for component in found]
    return any(component.flavor_name != "local" for component in where)
