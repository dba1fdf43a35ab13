"""What stands in the way of a run on a remote stack, one sentence each. A local stack needs none of it."""

import os
import subprocess
import sys
from configparser import ConfigParser, Error
from pathlib import Path

from mobile_centernet.errors import UserError
from steps.params import FetchBdd100k, FetchIvslab, Params

REMOTE_SOURCES = ("sample", "urls")
WORKPLACES = ("orchestrator", "artifact_store", "step_operator")


def check_stack(params: Params) -> None:
    """Raises UserError with every obstacle where the active ZenML stack is remote."""
    from zenml.client import Client

    components = Client().active_stack_model.components
    where = [component for kind, found in components.items() if kind.value in WORKPLACES for component in found]
    if all(component.flavor_name == "local" for component in where):
        return
    found = obstacles(params)
    if found:
        raise UserError("the active stack is remote: " + " ".join(found))
    raise UserError(
        "the active stack is remote: expected a local one, because steps do not yet fetch and push through the DVC "
        "remote; choose one by `zenml stack set default`."
    )


def obstacles(params: Params) -> list[str]:
    """The sentences; empty where a remote stack could run this checkout."""
    return [*_local_sources(params), *_tracking(), *_dvc_remote(), *_uncommitted()]


def _local_sources(params: Params) -> list[str]:
    sections: dict[str, FetchBdd100k | FetchIvslab] = {
        "fetch_bdd100k": params.fetch_bdd100k,
        "fetch_ivslab": params.fetch_ivslab,
    }
    return [
        f"params.yaml: {name}.source is {section.source}, a folder of this machine ({section.path}): expected "
        f"{' or '.join(REMOTE_SOURCES)}."
        for name, section in sections.items()
        if section.source not in REMOTE_SOURCES
    ]


def _tracking() -> list[str]:
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if address.startswith(("http://", "https://", "databricks")):
        return []
    kind = address.split(":")[0] if address else "the project's own sqlite file"
    return [f"MLFLOW_TRACKING_URI: expected a server (https://...) that every pod reaches, found {kind}."]


def _dvc_remote() -> list[str]:
    config = ConfigParser()
    try:
        config.read([".dvc/config", ".dvc/config.local"], encoding="utf-8")
    except Error as error:
        return [f".dvc/config: expected DVC's settings, found: {str(error).splitlines()[0]}."]
    name = config.get("core", "remote", fallback="").strip("\"'")
    if not name:
        return [".dvc/config: expected a default remote (`dvc remote add --default NAME URL`), found none."]
    url = config.get(f"'remote \"{name}\"'", "url", fallback="")
    if "://" in url and not url.startswith("file://"):
        return []
    return [f".dvc/config: expected remote {name} to be a storage that every pod reaches, found {url or 'no url'}."]


def _uncommitted() -> list[str]:
    command = ["git", "status", "--porcelain"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"{Path.cwd()}: expected a git checkout, found: {done.stderr.strip()}."]
    changed = [line[3:] for line in done.stdout.splitlines()]
    if not changed:
        return []
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return [f"git: expected everything committed, because pods run the commit, found changes in {changed[0]}{more}."]


def main() -> int:
    """`python -m pipelines.preflight`: print what a remote stack would refuse; exit 0 when nothing, else 1."""
    from steps import workspace
    from steps.params import load_params

    try:
        found = obstacles(load_params(workspace.PARAMS))
    except UserError as error:
        found = [str(error)]
    print("\n".join(found) or "nothing stands in the way of a remote stack")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
