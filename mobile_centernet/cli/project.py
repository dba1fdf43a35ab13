"""The project's own commands by one name, from anywhere inside it: each runs `python -m ...` in the project's root.

`steps`, `pipelines` and dvc.yaml belong to a checkout, not to the installed package; outside of one these commands say
so. Options are passed on as they are, `--help` too, and the exit code is the command's own.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import click

from mobile_centernet.errors import UserError
from mobile_centernet.files import folder_above

EXECUTION = "MOBILE_CENTERNET_EXECUTION"  # see mlops/lineage.py, which the wheel's own commands do without
PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def start(module: str, arguments: Sequence[str], *, anywhere: bool = False) -> subprocess.CompletedProcess[bytes]:
    """`python -m MODULE ARGUMENTS` in the root of the project around the current directory, by its own interpreter.

    Raises UserError where there is no project, unless the module runs `anywhere`.
    """
    root = folder_above("dvc.yaml")
    if root is None and not anywhere:
        expected = "expected a checkout of the project, with dvc.yaml here or above"
        raise UserError(f"{Path.cwd()}: {expected}, found none (python -m {module} runs there)")
    own = [root / ".venv/bin/python"] if root else []
    python = next((str(path) for path in own if path.exists()), sys.executable)
    # A stage's command in dvc.yaml says `python`: it shall be the same one.
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", "")])}
    return subprocess.run([python, "-m", module, *arguments], cwd=root, env=environment, check=False)


@click.command(context_settings=PASSED_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def repro(ctx: click.Context, arguments: Sequence[str]) -> None:
    """`dvc repro`, `python -m steps register`, and what they left in a few lines; with arguments `dvc repro` alone."""
    # As `make repro` does: all of it is below one run in MLflow.
    now = datetime.now(timezone.utc)
    os.environ.setdefault(EXECUTION, f"mobile-centernet repro, {now:%Y-%m-%d %H:%M:%S} UTC, {platform.node()}")
    steps = [("dvc", ["repro", *arguments]), ("steps", ["register"]), ("steps.summary", [])]
    for module, with_arguments in steps[:1] if arguments else steps:
        if code := start(module, with_arguments).returncode:
            ctx.exit(code)


@click.command(context_settings=PASSED_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def train(ctx: click.Context, arguments: Sequence[str]) -> None:
    """`dvc repro distill_student`: footage, both networks, nothing behind them."""
    ctx.exit(start("dvc", ["repro", *arguments, "distill_student"]).returncode)


@click.command(context_settings=PASSED_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def promote(ctx: click.Context, arguments: Sequence[str]) -> None:
    """`python -m steps.promote`."""
    ctx.exit(start("steps.promote", arguments).returncode)


@click.command(context_settings=PASSED_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def audit(ctx: click.Context, arguments: Sequence[str]) -> None:
    """`python -m steps.audit`."""
    ctx.exit(start("steps.audit", arguments).returncode)


@click.command(context_settings=PASSED_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def refresh(ctx: click.Context, arguments: Sequence[str]) -> None:
    """`python -m steps.refresh`."""
    ctx.exit(start("steps.refresh", arguments).returncode)


@click.command(context_settings=PASSED_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def retrain(ctx: click.Context, arguments: Sequence[str]) -> None:
    """`python -m pipelines retraining`."""
    ctx.exit(start("pipelines", ["retraining", *arguments]).returncode)


@click.command(context_settings=PASSED_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def params(ctx: click.Context, arguments: Sequence[str]) -> None:
    """`python -m mobile_centernet.mlops.overlays`."""
    ctx.exit(start("mobile_centernet.mlops.overlays", arguments).returncode)


@click.command(context_settings=PASSED_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def doctor(ctx: click.Context, arguments: Sequence[str]) -> None:
    """`python -m mobile_centernet.mlops.doctor`, which also runs outside of a project."""
    ctx.exit(start("mobile_centernet.mlops.doctor", arguments, anywhere=True).returncode)
