"""What stands in the way of a run on a remote stack, one sentence each. A local stack needs none of it."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from configparser import ConfigParser, Error
from pathlib import Path

from mobile_centernet.errors import UserError
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import FetchBdd100k, FetchIvslab, Params, load_params
from pipelines.settings import LOCAL, is_remote, mounts

REMOTE_SOURCES = ("sample", "urls")


def check_stack(params: Params, settings: Path) -> None:
    """Raises UserError with every obstacle where the active ZenML stack is remote."""
    if not is_remote():
        return
    found = [*_store(), *obstacles(params, settings)]
    if found:
        raise UserError("the active stack is remote: " + " ".join(found))


def obstacles(params: Params, settings: Path) -> list[str]:
    """The sentences; empty where pods with these settings could run this checkout."""
    return [*_local_paths(params, mounts(settings)), *_tracking(), *_dvc_remote(), *_uncommitted()]


def _store() -> list[str]:
    """Where ZenML itself keeps its records."""
    from zenml.client import Client

    if Client().zen_store.config.type.value == "rest":
        return []
    return ["ZenML: expected a server (`zenml login https://...`) that every pod reaches, found this machine's sqlite."]


def _local_paths(params: Params, mounted: Sequence[Path]) -> list[str]:
    """Footage and initial weights that only this machine has. What lies in the checkout, pods have, too."""
    sections: dict[str, FetchBdd100k | FetchIvslab] = {
        "fetch_bdd100k": params.fetch_bdd100k,
        "fetch_ivslab": params.fetch_ivslab,
    }
    weights = {
        f"{name}.source is {section.source}, path": section.path
        for name, section in sections.items()
        if section.source not in REMOTE_SOURCES
    }
    for name, trained in (("train_teacher", params.train_teacher), ("distill_student", params.distill_student)):
        if trained.init is not None:
            weights[f"{name}.init"] = trained.init
    return [
        f"params.yaml: {name}: expected a path in git or below a volume that the settings mount, found {path}."
        for name, path in weights.items()
        if not any(path.is_relative_to(mount) for mount in mounted) and not _in_git(path)
    ]


def _in_git(path: Path) -> bool:
    command = ["git", "ls-files", "--error-unmatch", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


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
    parser = argparse.ArgumentParser("python -m pipelines.preflight", description="What a remote stack would refuse.")
    parser.add_argument("--settings", type=Path, default=LOCAL, metavar="FILE", help="ZenML run configuration")
    arguments = parser.parse_args()
    try:
        found = obstacles(load_params(paths.PARAMS), arguments.settings)
    except UserError as error:
        found = [str(error)]
    print("\n".join(found) or "nothing stands in the way of a remote stack")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
