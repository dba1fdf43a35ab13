"""Commands that this package adds to `mobile-centernet` through the entry point group `mobile_centernet.commands`.

They run in the project's root, like the stages.
"""

from pathlib import Path

import click

from mobile_centernet.errors import UserError


@click.group()
def registry() -> None:
    """Versions of the model in MLflow: list, show, compare, go back to the previous one (docs/operations.md)."""


@registry.command("list")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def list_versions(as_json: bool) -> None:
    """Every version with its aliases, score and origin."""
    from mobile_centernet.mlops.registry.tables import list_versions

    click.echo(list_versions(_name(), as_json))


@registry.command("show")
@click.argument("which", metavar="VERSION_OR_ALIAS")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def show_version(which: str, as_json: bool) -> None:
    """One version: tags, and its files, downloaded and checked against their digests."""
    from mobile_centernet.mlops.registry.tables import show_version

    click.echo(show_version(_name(), which, as_json))


@registry.command("diff")
@click.argument("first", metavar="VERSION_OR_ALIAS")
@click.argument("second", metavar="VERSION_OR_ALIAS")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def diff_versions(first: str, second: str, as_json: bool) -> None:
    """What differs between two versions: scores, params, data, code."""
    from mobile_centernet.mlops.registry.tables import diff_versions

    click.echo(diff_versions(_name(), first, second, as_json))


@registry.command("download")
@click.argument("which", metavar="VERSION_OR_ALIAS")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New or empty folder to write.")
def download_version(which: str, out: Path) -> None:
    """The files of one version, checked against their digests."""
    from mobile_centernet.mlops.registry.tables import download_version

    click.echo(download_version(_name(), which, out))


@registry.command("release")
@click.argument("which", metavar="VERSION_OR_ALIAS")
def release_version(which: str) -> None:
    """Sign a version's bundle anew with the largest release number, so that devices take it after newer ones."""
    from mobile_centernet.mlops.params import load_params
    from mobile_centernet.mlops.paths import PARAMS
    from mobile_centernet.mlops.registry.tables import release_version

    click.echo(release_version(load_params(PARAMS), which))


@registry.command("rollback")
@click.option("--by", help="The person who decides so.  [default: the user's name]")
@click.pass_context
def rollback_version(ctx: click.Context, by: str | None) -> None:
    """Make the previous champion the champion again. Exit code 11: a promotion is running."""
    from mobile_centernet.mlops.lineage import user
    from mobile_centernet.mlops.params import load_params
    from mobile_centernet.mlops.paths import PARAMS
    from mobile_centernet.mlops.promotion.promote import rollback

    outcome = rollback(load_params(PARAMS), by or user())
    click.echo(outcome.says, err=outcome.code != 0)
    ctx.exit(outcome.code)


@click.group()
def tracking() -> None:
    """What stages have to tell MLflow, and whether it knows: list, sync (docs/operations.md)."""


@tracking.command("list")
def list_records() -> None:
    """Every run that was recorded here, and whether a server has it."""
    from mobile_centernet.mlops.tracking.record import all_records

    for record in all_records():
        click.echo(f"{'delivered' if record.complete else 'not yet  '}  {record.name}  {record.lines} events")


@tracking.command("sync")
def sync_records() -> None:
    """Send MLflow (MLFLOW_TRACKING_URI, or the project's own database) the runs that it missed. Repeats do no harm."""
    from mobile_centernet.mlops.tracking.record import all_records

    records = all_records()
    if all(record.complete for record in records):
        click.echo("nothing to send: MLflow has every run that was recorded here")
        return
    from mobile_centernet.mlops import mlflow_server
    from mobile_centernet.mlops.tracking.upload import sync

    try:
        counts = sync(records)
    except mlflow_server.failures() as error:
        raise UserError(
            f"tracking sync: expected MLflow to take the runs: {mlflow_server.first_line(error)}"
        ) from error
    click.echo(", ".join(f"{count} {what}" for what, count in counts.items()))


def _name() -> str:
    from mobile_centernet.mlops.params import load_params
    from mobile_centernet.mlops.paths import PARAMS

    return load_params(PARAMS).register_.name
