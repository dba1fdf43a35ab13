"""`mobile-centernet-edge`: the agent on a device. Exit codes: 0 done; 1 the offered release was not taken; 2 an error
that the user can fix; 11 another agent works in the same folder."""

import json
import logging
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from mobile_centernet import __version__
from mobile_centernet.agent.config import load_config
from mobile_centernet.agent.errors import ConfigError, LockedError
from mobile_centernet.bundle.errors import StorageError
from mobile_centernet.errors import UserError, printable
from mobile_centernet.logs import setup_logging
from mobile_centernet.outside import parse_object

CONFIG = Path("/etc/mobile-centernet/edge.toml")
NOT_TAKEN, USER_ERROR, LOCKED = 1, 2, 11


class EdgeCommands(click.Group):
    """Every command's UserError becomes one sentence on stderr."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(printable(f"error: {error}"), err=True)
            ctx.exit(LOCKED if isinstance(error, LockedError) else USER_ERROR)


@click.group(cls=EdgeCommands)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=CONFIG,
    show_default=True,
    envvar="MOBILE_CENTERNET_EDGE_CONFIG",
    help="Settings file of the agent (TOML).",
)
@click.option("--verbose", is_flag=True, help="Log polls that found nothing new, too.")
@click.pass_context
def main(ctx: click.Context, config: Path, verbose: bool) -> None:
    """Keep this device on the release that its channel's signed statement names (docs/agent.md)."""
    setup_logging(logging.DEBUG if verbose else logging.INFO)
    ctx.obj = config


@main.command()
@click.pass_obj
def run(config: Path) -> None:
    """Follow the channel until stopped (SIGTERM or Ctrl-C)."""
    # Where boto3 is installed, securesystemslib imports it for a signer that no device needs: 10 MiB, half a second.
    sys.modules.setdefault("boto3", None)  # type: ignore[arg-type]
    from mobile_centernet.agent.agent import Agent
    from mobile_centernet.agent.polling import follow
    from mobile_centernet.agent.status import served
    from mobile_centernet.agent.upload import FrameSender

    settings = load_config(config)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    agent, uploader = Agent(settings, stop=stop), FrameSender(settings, stop=stop)
    with agent.store.locked(), served(settings.status.port, lambda: replace(agent.status(), upload=uploader.status())):
        sender = threading.Thread(target=uploader.follow, name="upload", daemon=True)
        sender.start()
        follow(agent, stop)
        sender.join(timeout=5)


@main.command()
@click.option("--forget-refusals", is_flag=True, help="Try releases again that this device refused before.")
@click.pass_context
def once(ctx: click.Context, forget_refusals: bool) -> None:
    """Check once, take what is new and good, and end."""
    from mobile_centernet.agent.agent import Agent

    agent = Agent(load_config(ctx.obj))
    with agent.store.locked():
        agent.start()
        if forget_refusals:
            agent.forget_refusals()
        agent.poll()
    click.echo(_summary(json.loads(agent.status().to_json())))
    ctx.exit(NOT_TAKEN if agent.problem else 0)


@main.command()
@click.option("--today", is_flag=True, help="Include today's frames, which more useful ones could still replace.")
@click.pass_obj
def upload(config: Path, today: bool) -> None:
    """Send the frames that were harvested (docs/field.md), once; a running agent does it by itself."""
    from mobile_centernet.agent.upload import FrameSender

    settings = load_config(config)
    if not (settings.upload.url or settings.upload.presign):
        raise ConfigError(f"{config}: upload: expected url or presign, found neither")
    uploader = FrameSender(settings)
    uploader.send(unfinished_days=today)
    click.echo(f"{uploader.sent} frames sent, {uploader.waiting} wait")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print status.json.")
@click.pass_obj
def status(config: Path, as_json: bool) -> None:
    """Show what the agent said last, whether it runs or not."""
    from mobile_centernet.agent.status import STATUS

    path = load_config(config).paths.root / STATUS
    try:
        text = path.read_text(encoding="utf-8")
        document = parse_object(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected the status that an agent wrote, found none ({error})") from error
    click.echo(text if as_json else _summary(document), nl=not as_json)


@main.command()
@click.pass_context
def rollback(ctx: click.Context) -> None:
    """Go back to the release before this one, with its self-test and health window, and refuse the present one.

    A running agent does it within a second; where none runs, this command does.
    """
    from mobile_centernet.agent.agent import Agent

    settings = load_config(ctx.obj)
    agent = Agent(settings)
    try:
        with agent.store.locked():
            agent.start()
            agent.rollback()
    except LockedError:
        request = agent.store.request
        try:
            request.touch()
        except OSError as error:
            raise StorageError(f"{request}: cannot be written ({error.strerror})") from error
        click.echo("asked the running agent to roll back: mobile-centernet-edge status")
        return
    click.echo(_summary(json.loads(agent.status().to_json())))
    ctx.exit(NOT_TAKEN if agent.problem else 0)


def _summary(status: dict[str, Any]) -> str:
    lines = []
    for name in ("release", "previous", "offered"):
        found = status.get(name)
        text = f"version {found['version']} (statement {found['number']}, {found['digest'][:12]})" if found else "none"
        lines.append(f"{name:<9} {text}")
    lines += [f"{name:<9} {status.get(name)}" for name in ("state", "since")]
    return "\n".join([*lines, f"problem   {status.get('problem') or 'none'}"])


if __name__ == "__main__":
    main()
