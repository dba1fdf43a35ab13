"""What stands in the way of a run on a remote stack, one sentence each. A local stack needs none of it."""

import os
import subprocess
from configparser import ConfigParser, Error
from pathlib import Path

import click

from mobile_centernet.errors import UserError
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import CHAMPION_INIT, Params, load_params
from pipelines.settings import LOCAL, is_remote, load_settings, mounts

REMOTE_SOURCES = ("sample", "urls", "none", "url")


def check_stack(params: Params, settings: Path) -> None:
    """Raises UserError with every obstacle where the active ZenML stack is remote."""
    if not is_remote():
        return
    from zenml.client import Client

    found = obstacles(params, settings)
    if Client().zen_store.config.type.value != "rest":
        server = "a server (`zenml login https://...`) that every pod reaches"
        found = [f"ZenML: expected {server}, found this machine's sqlite.", *found]
    if found:
        raise UserError("the active stack is remote: " + " ".join(found))


def obstacles(params: Params, settings: Path) -> list[str]:
    """The sentences; empty where pods with these settings could run this checkout."""
    found: list[str] = []
    # Raw data and initial weights that only this machine has. What lies in the checkout, pods have, too.
    local = {
        f"{name}.source is {section.source}, path": section.path
        for name, section in (
            ("fetch_bdd100k", params.fetch_bdd100k),
            ("fetch_ivslab", params.fetch_ivslab),
            ("fetch_field", params.fetch_field),
        )
        if section.source not in REMOTE_SOURCES
    }
    if params.fetch_field.source != "none":
        local["fetch_field.reviewed"] = params.fetch_field.reviewed
    for name, trained in (("train_teacher", params.train_teacher), ("distill_student", params.distill_student)):
        if trained.init not in (None, CHAMPION_INIT):
            local[f"{name}.init"] = trained.init
    mounted = list(mounts(load_settings(settings).get("settings", {})))
    for name, path in local.items():
        in_git = subprocess.run(["git", "ls-files", "--error-unmatch", path], capture_output=True, check=False)
        if in_git.returncode and not any(path.is_relative_to(mount) for mount in mounted):
            found.append(
                f"params.yaml: {name}: expected a path in git or below a volume that the settings mount, found {path}."
            )

    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not address.startswith(("http://", "https://", "databricks")):
        kind = address.split(":")[0] if address else "the project's own sqlite file"
        found.append(f"MLFLOW_TRACKING_URI: expected a server (https://...) that every pod reaches, found {kind}.")

    config = ConfigParser()
    try:
        config.read([".dvc/config", ".dvc/config.local"], encoding="utf-8")
    except Error as error:
        found.append(f".dvc/config: expected DVC's settings, found: {str(error).splitlines()[0]}.")
    else:
        remote = config.get("core", "remote", fallback="").strip("\"'")
        url = config.get(f"'remote \"{remote}\"'", "url", fallback="")
        if not remote:
            found.append(".dvc/config: expected a default remote (`dvc remote add --default NAME URL`), found none.")
        elif "://" not in url or url.startswith("file://"):
            expected = f"expected remote {remote} to be a storage that every pod reaches"
            found.append(f".dvc/config: {expected}, found {url or 'no url'}.")

    status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=False)
    changed = [line[3:] for line in status.stdout.splitlines()]
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    if status.returncode:
        found.append(f"{Path.cwd()}: expected a git checkout, found: {status.stderr.strip()}.")
    elif changed:
        found.append(
            f"git: expected everything committed, because pods run the commit, found changes in {changed[0]}{more}."
        )
    return found


@click.command()
@click.option(
    "--settings", type=click.Path(path_type=Path), default=LOCAL, metavar="FILE", help="ZenML run configuration."
)
@click.pass_context
def main(ctx: click.Context, settings: Path) -> None:
    """What a remote stack would refuse. Exit code 0: nothing. 1: what is printed."""
    try:
        found = obstacles(load_params(paths.PARAMS), settings)
    except UserError as error:
        found = [str(error)]
    click.echo("\n".join(found) or "nothing stands in the way of a remote stack")
    ctx.exit(1 if found else 0)


if __name__ == "__main__":
    main()
