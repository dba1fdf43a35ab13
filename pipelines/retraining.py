"""`python -m pipelines retraining`: what cron or a systemd timer calls. Lock, refresh, reproduce, judge, notify.

Killed at any moment, it leaves a lock that the kernel has freed and a note that a version may still have to be judged,
so that the next run goes on even when nothing new has come.
"""

import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
from filelock import FileLock, Timeout

from mobile_centernet.errors import UserError
from pipelines.graph import DVC_FILE, with_followers

logger = logging.getLogger(__name__)

PROMOTED, FAILED, NO_CHANGE, LOCKED, REJECTED = 0, 1, 10, 11, 12
ENDINGS = {PROMOTED: "promoted", FAILED: "failed", NO_CHANGE: "no change", LOCKED: "locked", REJECTED: "rejected"}

LOCK = Path(".work/retraining.lock")
UNJUDGED = Path(".work/retraining.unjudged")
NOTIFY = "MOBILE_CENTERNET_NOTIFY"


class RetrainingFailedError(RuntimeError):
    """A command that retraining needs has failed."""


def retrain(pipeline: Callable[[list[str]], int]) -> int:
    """Exit code: 0 promoted (or the champion already), 1 failed, 10 no change, 11 another one runs, 12 rejected.

    `pipeline` runs these stages, which are stale or come after stale ones, lets the gate judge, and returns its exit
    code; it is handed in so that nothing imports ZenML before something has changed.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        click.echo(f"another retraining is running ({LOCK})", err=True)
        return LOCKED
    code = FAILED
    try:
        _output("-m", "steps.refresh")
        stale = stale_stages()
        if not stale and not UNJUDGED.exists():
            code = NO_CHANGE
        else:
            UNJUDGED.touch()
            code = pipeline(with_followers(stale))
            if code in (PROMOTED, REJECTED):
                UNJUDGED.unlink()
    except (RetrainingFailedError, UserError, OSError) as error:
        click.echo(f"error: retraining: {error}", err=True)
    finally:
        lock.release()
        click.echo(f"retraining: {ENDINGS[code]}")
        if code != NO_CHANGE:
            notify(code)
    return code


def reasons() -> list[str]:
    """What would make a retraining run now, without asking any server: a line per stale stage and reason."""
    lines = [f"{stage}: {json.dumps(why)}" for stage, why in stale_stages().items()]
    if UNJUDGED.exists():
        lines.append("the last retraining ended before its version was judged")
    return lines


def stale_stages() -> dict[str, object]:
    """Stage → why DVC would run it. Those of dvc.yaml only: the ablation is nobody's retraining."""
    document = json.loads(_output("-m", "dvc", "status", "--json", str(DVC_FILE)))
    if not isinstance(document, dict):
        raise RetrainingFailedError(f"expected an object of `dvc status --json`, found {document!r}")
    return document


def notify(code: int) -> None:
    """Hand the outcome as JSON to the command in MOBILE_CENTERNET_NOTIFY, if there is one; it changes no exit code."""
    command = shlex.split(os.environ.get(NOTIFY, ""))
    if not command:
        return
    message = json.dumps({"pipeline": "retraining", "outcome": ENDINGS[code], "code": code, "project": str(Path.cwd())})
    try:
        done = subprocess.run(command, input=message, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("%s: nobody was notified (%s)", NOTIFY, error)
        return
    if done.returncode:
        logger.warning("%s: the command ended with code %d", NOTIFY, done.returncode)


def _output(*arguments: str) -> str:
    """What a command of this interpreter prints on stdout."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or "no output"
        raise RetrainingFailedError(f"`python {' '.join(arguments)}` ended with code {done.returncode}: {said}")
    return done.stdout
