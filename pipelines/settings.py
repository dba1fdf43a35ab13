"""ZenML: its environment, run configurations (pipelines/stacks/*.yaml), the active stack, running a pipeline."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from mobile_centernet.errors import UserError
from mobile_centernet.files import write_atomically
from mobile_centernet.mlops import paths

LOCAL = Path(__file__).with_name("stacks") / "local.yaml"
WITHOUT_SCHEDULE = paths.WORK / "settings.yaml"
WORKPLACES = ("orchestrator", "artifact_store", "step_operator")
CODE = Path(__file__).resolve().parents[1]
CONFIG = paths.WORK / "zenml"


class RunFailedError(UserError):
    """A step failed, as often as the stack's settings let it try; what it printed says why."""


def prepare_environment() -> None:
    """ZenML's settings and database under .work/zenml of the current directory; no usage reports, no browser.

    A variable that is set already stays: with ZENML_CONFIG_PATH a team points at its own configuration.
    """
    defaults = {
        "ZENML_CONFIG_PATH": str(CONFIG.resolve()),
        "ZENML_CUSTOM_SOURCE_ROOT": str(CODE),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_ENABLE_REPO_INIT_WARNINGS": "false",
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
        "AUTO_OPEN_DASHBOARD": "false",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    Path(os.environ["ZENML_CONFIG_PATH"]).mkdir(parents=True, exist_ok=True)
    # A stage's command says `python`: it shall be the interpreter that runs this.
    tools = str(Path(sys.executable).parent)
    if os.environ.get("PATH", "").split(os.pathsep)[0] != tools:
        os.environ["PATH"] = os.pathsep.join([tools, os.environ.get("PATH", "")])


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


def without_schedule(path: Path) -> Path:
    """The same settings for a run now."""
    document = load_settings(path)
    if document.pop("schedule", None) is None:
        return path
    WITHOUT_SCHEDULE.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(WITHOUT_SCHEDULE, yaml.safe_dump(document).encode())
    return WITHOUT_SCHEDULE


def mounts(tree: object) -> Iterator[Path]:
    """Where the section `settings` of a run configuration mounts volumes into the pods of every step."""
    if isinstance(tree, dict):
        yield from (Path(str(mount["mountPath"])) for mount in tree.get("volume_mounts", []))
        for key, value in tree.items():
            if key != "orchestrator_pod_settings":  # that pod runs no stage
                yield from mounts(value)


def is_remote() -> bool:
    """Whether steps of the active ZenML stack run on, or store on, anything but this machine."""
    from zenml.client import Client

    components = Client().active_stack_model.components
    where = [component for kind, found in components.items() if kind.value in WORKPLACES for component in found]
    return any(component.flavor_name != "local" for component in where)


def run(pipeline: Any, settings: Path | None, *arguments: Any, model: str | None = None) -> Any:
    """Run a pipeline now, on the active stack, and wait.

    Args:
        pipeline: one of ZenML's.
        settings: a ZenML run configuration, whose schedule does not count; None for no settings.
        arguments: what the pipeline takes.
        model: name of the registered model: the run makes a version of ZenML's Model of that name, which leads to it.

    Returns:
        ZenML's record of the completed run.

    Raises:
        RunFailedError: it did not complete.
    """
    from zenml import Model
    from zenml.client import Client
    from zenml.enums import ExecutionStatus

    options: dict[str, Any] = {"config_path": str(without_schedule(settings))} if settings else {}
    if model:
        options["model"] = Model(name=model)
    try:
        started = pipeline.with_options(**options)(*arguments)
    except RuntimeError as error:  # what ZenML's local orchestrator raises when a step has failed
        raise RunFailedError(str(error)) from error
    ended = Client().get_pipeline_run(started.id)
    says = f"{ended.status.value}, {len(ended.steps)} steps (ZenML run {ended.name})"
    if ended.status != ExecutionStatus.COMPLETED:
        raise RunFailedError(says)
    click.echo(f"{pipeline.name}: {says}")
    return ended
