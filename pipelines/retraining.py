"""`python -m pipelines retraining`: what cron or a systemd timer calls. Lock, refresh, reproduce, judge, notify.

Killed at any moment, it leaves a lock that the kernel has freed and a note that a version may still have to be judged,
so that the next run resumes even when nothing new has come.
"""

import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import click
from filelock import FileLock, Timeout

from mobile_centernet.errors import UserError
from mobile_centernet.mlops import lineage, paths
from mobile_centernet.mlops.params import Params, load_params
from mobile_centernet.mlops.promotion.promote import DECISION
from mobile_centernet.mlops.promotion.release_checks import CANARIES_CHECK
from mobile_centernet.mlops.registration import registered
from mobile_centernet.mlops.stages import stale_stages
from pipelines.graph import with_followers

logger = logging.getLogger(__name__)

PROMOTED, FAILED, NO_CHANGE, LOCKED, REJECTED = 0, 1, 10, 11, 12
ENDINGS = {PROMOTED: "promoted", FAILED: "failed", NO_CHANGE: "no change", LOCKED: "locked", REJECTED: "rejected"}

LOCK = Path(".work/retraining.lock")
UNJUDGED, UNPUBLISHED = Path(".work/retraining.unjudged"), Path(".work/retraining.unpublished")
NOTIFY = "MOBILE_CENTERNET_NOTIFY"


def retrain(pipeline: Callable[[list[str]], int]) -> int:
    """Exit code: 0 promoted (or the champion already), 1 failed, 10 no change, 11 another one runs, 12 rejected.

    `pipeline` runs these stages, which are stale or come after stale ones, lets the gate judge, and returns its exit
    code; it is handed in so that nothing imports ZenML before something has changed.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    code, unpublished, lock = FAILED, "", FileLock(LOCK, timeout=0)
    try:
        params = load_params(paths.PARAMS)
        refresh_trust(params)  # also beside a training that takes longer than what is signed lives
        lock.acquire()
        done = subprocess.run([sys.executable, "-m", "steps.refresh"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"`python -m steps.refresh` ended with code {done.returncode}: {done.stderr.strip()}")
        stale = stale_stages()
        if not stale and registered(params) and not UNJUDGED.exists():
            code = NO_CHANGE
        else:
            UNJUDGED.touch()
            if params.retraining.publish:
                UNPUBLISHED.touch()
            code = pipeline(with_followers(stale))
            # One that canaries have yet to report on is judged again the next night.
            decided = json.loads(DECISION.read_text(encoding="utf-8")) if DECISION.is_file() else {}
            waits = code == REJECTED and decided.get("failed") == [CANARIES_CHECK]
            if code in (PROMOTED, REJECTED) and not waits:
                UNJUDGED.unlink()
        if UNPUBLISHED.exists():
            unpublished = publish()
    except Timeout:
        click.echo(f"another retraining is running ({LOCK})", err=True)
        code = LOCKED
    except (UserError, OSError) as error:
        click.echo(f"error: retraining: {error}", err=True)
    finally:
        lock.release()
        click.echo(f"retraining: {ENDINGS[code]}")
        if code not in (NO_CHANGE, LOCKED) or unpublished:
            notify(code, unpublished)
    return code


def publish() -> str:
    """Push data and weights, then commit what a run changes of what git tracks, and push that where git has a remote.

    Returns why that failed; empty where it did not. Nothing is lost then: the next run tries again.
    """
    kept = [str(path) for path in (paths.DVC_LOCK, paths.UPSTREAM) if path.exists()]
    changed, remotes = (
        subprocess.run(["git", *what], capture_output=True, text=True, check=False).stdout
        for what in (["status", "--porcelain", "--", *kept], ["remote"])
    )
    # Data first: a commit that names data that nobody has helps nobody.
    commands = [["git", "rev-parse", "HEAD"], [sys.executable, "-m", "dvc", "push"]]
    if changed:
        message = f"Retrained on {date.today()}: which data, weights and files belong together"
        commands += [["git", "add", "--", *kept], ["git", "commit", "--quiet", "--message", message, "--", *kept]]
    if remotes:
        commands.append(["git", "push", "--quiet", remotes.split()[0], "HEAD"])
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            named = " ".join(command).removeprefix(f"{sys.executable} -m ")
            why = f"`{named}` ended with code {done.returncode}: {said}"
            click.echo(f"error: not published, the next run tries again: {why}", err=True)
            return why
    UNPUBLISHED.unlink(missing_ok=True)
    if lineage.git_commit().endswith("-dirty"):
        click.echo("published, but other files that git tracks are changed here: a clone finds what reads them stale")
    return ""


def reasons() -> list[str]:
    """What would make a retraining run now, without asking any server: a line per stale stage and reason."""
    lines = [f"{stage}: {json.dumps(why)}" for stage, why in stale_stages().items()]
    if not registered(load_params(paths.PARAMS)):
        lines.append("the exported files, with what register.bundle says to devices, are not registered")
    if UNJUDGED.exists():
        lines.append("the last retraining ended before its version was judged")
    if UNPUBLISHED.exists():
        lines.append("what the last retraining made is not published")
    return lines


def refresh_trust(params: Params) -> None:
    """`mobile-centernet trust refresh` where there is a repository: daily, or devices take nothing new any more.

    A failure is told, by the program itself, and stops nothing else.
    """
    if params.trust.repository:
        command = [sys.executable, "-m", "mobile_centernet.cli.main", "trust", "refresh"]
        if code := subprocess.run(command, check=False).returncode:
            click.echo(f"trust refresh ended with code {code}", err=True)


def notify(code: int, unpublished: str = "") -> None:
    """Hand the outcome as JSON to the command in MOBILE_CENTERNET_NOTIFY, if there is one; it changes no exit code.

    `unpublished` says why what was made is on this machine alone.
    """
    command = shlex.split(os.environ.get(NOTIFY, ""))
    if not command:
        return
    facts = {"pipeline": "retraining", "outcome": ENDINGS[code], "code": code, "project": str(Path.cwd())}
    message = json.dumps(facts | ({"unpublished": unpublished} if unpublished else {}))
    try:
        done = subprocess.run(command, input=message, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("%s: nobody was notified (%s)", NOTIFY, error)
        return
    if done.returncode:
        logger.warning("%s: the command ended with code %d", NOTIFY, done.returncode)
