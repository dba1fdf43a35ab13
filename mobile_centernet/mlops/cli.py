"""Commands about models in MLflow. They run in the project's root, like the stages.

`registry` and `tracking` join `mobile-centernet` through the entry point group `mobile_centernet.commands`, and
`promote` is `python -m steps.promote`. Libraries are imported when a command runs, because `mobile-centernet --help`
imports this file.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from mobile_centernet.errors import UserError, exit_on_user_error
from mobile_centernet.files import folder_above
from mobile_centernet.logs import setup_logging
from mobile_centernet.tables import text_table

if TYPE_CHECKING:
    from mobile_centernet.mlops.params import Params
    from mobile_centernet.mlops.registry.registry import Registry, Version

SHOWN_DIGITS = 12
SHOWN_CHARACTERS = 40
SOME_REFUSED = 3  # exit code, as of every command that is done except for some bad items

json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
which_argument = click.argument("which", metavar="VERSION_OR_ALIAS")


@click.group()
def registry() -> None:
    """Versions in MLflow: list, show, diff, download, roll back.

    See docs/operations.md.
    """
    os.chdir(folder_above("dvc.yaml") or Path())  # from anywhere inside a project; without one, params.yaml is named


@registry.command("list")
@json_option
def list_versions(as_json: bool) -> None:
    """Every version with its aliases, score and origin, newest first."""
    found = _registry()
    aliases = _aliases(found)
    versions = list(reversed(found.versions()))
    if as_json:
        click.echo(json.dumps([_to_dict(version, aliases) for version in versions], indent=2))
        return
    if not versions:
        click.echo(f"{found.name}: no versions yet (python -m steps register makes the first)")
        return
    rows = [("version", "aliases", "mAP@0.5", "registered, UTC", "ONNX sha256", "commit")]
    for version in versions:
        withdrawn = "withdrawn" if "withdrawn" in version.tags else "-"
        rows.append((
            str(version.number),
            ", ".join(aliases.get(version.number, ())) or withdrawn,
            version.tags.get("map50", "-"),
            f"{version.created:%Y-%m-%d %H:%M}",
            version.tags.get("onnx_sha256", "-")[:SHOWN_DIGITS],
            version.tags.get("git_commit", "-")[:SHOWN_DIGITS],
        ))  # fmt: skip
    click.echo(text_table(rows, "<"))
    from mobile_centernet.mlops.registry.published import Channel, trust_repository
    from mobile_centernet.trust.layout import CHANNELS

    params = _params()
    if params.trust.repository and (repository := trust_repository(params)):
        mirrored = found.aliases()
        for channel in CHANNELS:
            for alias, number in Channel.read(repository, found.name, channel).aliases.items():
                if mirrored.get(alias) != number:
                    other = f"version {mirrored[alias]}" if alias in mirrored else "none"
                    click.echo(f"alias {alias} names {other}, but signed is version {number}, and devices go by that")


@registry.command("show")
@which_argument
@json_option
def show_version(which: str, as_json: bool) -> None:
    """One version: tags, and its files, downloaded and checked against their digests."""
    from mobile_centernet.mlops.registry.published import pinned_files

    found = _registry()
    version = found.resolve(which)
    aliases = _aliases(found)
    with TemporaryDirectory() as folder:
        files = pinned_files(found, version, Path(folder), _params())
        manifest, parity = files.manifest, files.parity
    if as_json:
        click.echo(json.dumps(_to_dict(version, aliases) | {"manifest": asdict(manifest), "parity": parity}, indent=2))
        return
    rows = [
        ("version", f"{version.number} of {found.name}"),
        ("aliases", ", ".join(aliases.get(version.number, ())) or "-"),
        ("registered", f"{version.created:%Y-%m-%d %H:%M:%S} UTC"),
        ("model", manifest.model),
        ("classes", ", ".join(manifest.classes)),
        ("input", "{width}x{height}".format(**manifest.input_size)),
        *((f"parity {key}", "within limits" if value is True else str(value)) for key, value in parity.items()),
        *sorted(version.tags.items()),
        *((key, f"{file.bytes} bytes, sha256 {file.sha256}") for key, file in manifest.files.items()),
    ]
    click.echo(text_table(rows, "<"))


@registry.command("diff")
@click.argument("first", metavar="VERSION_OR_ALIAS")
@click.argument("second", metavar="VERSION_OR_ALIAS")
@json_option
def diff_versions(first: str, second: str, as_json: bool) -> None:
    """What differs between two versions: scores, params, data, code."""
    from mobile_centernet.mlops.lineage import flatten
    from mobile_centernet.mlops.registry.published import pinned_files

    found = _registry()
    versions = [found.resolve(which) for which in (first, second)]
    sides: list[dict[str, str]] = []
    for version in versions:
        with TemporaryDirectory() as folder:
            params = flatten(pinned_files(found, version, Path(folder), _params()).params)
        sides.append({f"params {key}": json.dumps(value) for key, value in params} | dict(version.tags))
    left, right = sides
    changed = {key: (left.get(key), right.get(key)) for key in sorted(left | right) if left.get(key) != right.get(key)}
    names = [f"version {version.number}" for version in versions]
    if as_json:
        click.echo(json.dumps(changed, indent=2))
    elif not changed:
        click.echo(f"{names[0]} and {names[1]} of {found.name} do not differ")
    else:
        rows = [["", *names]]
        for key, values in changed.items():
            texts = ["-" if value is None else value for value in values]
            rows.append([key, *(t if len(t) <= SHOWN_CHARACTERS else f"{t[:SHOWN_DIGITS]}..." for t in texts)])
        click.echo(text_table(rows, "<"))


@registry.command("download")
@which_argument
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New or empty folder to write.")
def download_version(which: str, out: Path) -> None:
    """The files of one version, checked against their digests; nothing is left in OUT where one does not fit."""
    from mobile_centernet.mlops.registry.published import pinned_files

    found = _registry()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: expected a new or empty folder, found something in it")
    version = found.resolve(which)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        pinned_files(found, version, Path(folder), _params()).folder.rename(out)
    click.echo(f"{out}: version {version.number} of {found.name}, {len(list(out.iterdir()))} files checked")


@registry.command("rollback")
@click.option("--by", help="Name recorded as approver.  [default: the user's name]")
@click.pass_context
def rollback_version(ctx: click.Context, by: str | None) -> None:
    """Make the previous champion the champion again. Exit code 11: a promotion is running."""
    from mobile_centernet.mlops.lineage import user
    from mobile_centernet.mlops.promotion.promote import DONE, rollback

    outcome = rollback(_params(), by or user())
    click.echo(outcome.message, err=outcome.code != DONE)
    ctx.exit(outcome.code)


@click.command()
@click.option("--version", "which", default="challenger", show_default=True, help="Version number or alias to judge.")
@click.option("--dry-run", is_flag=True, help="Judge and write the page, but change nothing.")
@click.option("--approve-by", metavar="NAME", help="Name recorded as approver.")
@click.option("--rollback", is_flag=True, help="Make the previous champion the champion again.")
@click.option("--canary", is_flag=True, help="Promote for canary devices only, without approval.")
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the channel's devices, such as 0.1.  [default: all]",
)
@click.pass_context
def promote(
    ctx: click.Context,
    which: str,
    dry_run: bool,
    approve_by: str | None,
    rollback: bool,
    canary: bool,
    share: float | None,
) -> None:
    """Let the gate decide whether the challenger becomes the champion, or roll back.

    Exit codes: 0 promoted (or rolled back, or it is the champion already), 12 rejected, 11 another promotion is
    running, 1 failed. With --dry-run, 0 and 12 say what would happen.
    """
    from mobile_centernet.mlops.promotion.promote import DONE, FAILED, REJECTED
    from mobile_centernet.mlops.promotion.promote import promote as run_promotion

    if rollback and (dry_run or canary or share or which != "challenger"):
        raise click.UsageError("--rollback goes with --approve-by only")
    setup_logging()
    with exit_on_user_error("promotion", FAILED):
        if rollback:
            ctx.invoke(rollback_version, by=approve_by)  # ends the program
        outcome = run_promotion(
            _params(), which=which, approved_by=approve_by, dry_run=dry_run, canary=canary, share=share
        )
    click.echo(outcome.message, err=outcome.code not in (DONE, REJECTED))
    ctx.exit(outcome.code)


@click.group()
def tracking() -> None:
    """Runs that MLflow has or still misses: list, sync, drop.

    See docs/team.md.
    """
    os.chdir(folder_above("dvc.yaml") or Path())


@tracking.command("list")
def list_records() -> None:
    """Every run that was recorded here, and whether a server has it."""
    from mobile_centernet.mlops.tracking.record import all_records

    for record in all_records():
        click.echo(f"{'delivered' if record.complete else 'not yet  '}  {record.name}  {record.lines} events")


@tracking.command("sync")
@click.option(
    "--again",
    metavar="RECORD",
    multiple=True,
    help="Send RECORD again as a new run, even if MLflow has it; repeatable.",
)
@click.pass_context
def sync_records(ctx: click.Context, again: Sequence[str]) -> None:
    """Send MLflow (MLFLOW_TRACKING_URI, or the project's own database) the runs that it missed. Repeats do no harm.

    Exit code 3: MLflow has taken all but those that are named.
    """
    from mobile_centernet.mlops.tracking.record import all_records, find_record

    for name in again:
        find_record(name).forget_synced()
    records = all_records()
    if all(record.complete for record in records):
        click.echo("nothing to send: MLflow has every run that was recorded here")
        return
    from mobile_centernet.mlops import mlflow_server
    from mobile_centernet.mlops.tracking.upload import sync

    try:
        counts, refused = sync(records)
    except mlflow_server.failures() as error:
        raise UserError(
            f"tracking sync: expected MLflow to take the runs: {mlflow_server.first_line(error)}"
        ) from error
    click.echo(", ".join(f"{count} {what}" for what, count in counts.items()))
    for name, why in refused.items():
        click.echo(f"{name}: MLflow refuses it: {why}", err=True)
        click.echo(f"  as a new run: mobile-centernet tracking sync --again {name}", err=True)
        click.echo(f"  or not at all: mobile-centernet tracking drop {name}", err=True)
    if refused:
        ctx.exit(SOME_REFUSED)


@tracking.command("drop")
@click.argument("name", metavar="RECORD")
def drop_record(name: str) -> None:
    """Delete the local record of a run that MLflow should not get. What MLflow already has stays."""
    from mobile_centernet.mlops.tracking.record import find_record

    record = find_record(name)
    with record.when_dead() as dead:
        if not dead:
            raise UserError(f"{name}: expected a run that has ended, found one that is still running")
        shutil.rmtree(record.folder)
    click.echo(f"dropped {name}")


def _params() -> "Params":
    from mobile_centernet.mlops.params import load_params
    from mobile_centernet.mlops.paths import PARAMS

    return load_params(PARAMS)


def _registry() -> "Registry":
    from mobile_centernet.mlops.registry.registry import Registry

    return Registry(_params().register_.name)


def _aliases(found: "Registry") -> dict[int, list[str]]:
    """Aliases by version."""
    aliases: dict[int, list[str]] = {}
    for alias, number in sorted(found.aliases().items()):
        aliases.setdefault(number, []).append(alias)
    return aliases


def _to_dict(version: "Version", aliases: Mapping[int, Sequence[str]]) -> dict[str, Any]:
    return {
        "version": version.number,
        "aliases": list(aliases.get(version.number, ())),
        "registered": version.created.isoformat(),
        "run_id": version.run_id,
        "tags": dict(sorted(version.tags.items())),
    }
