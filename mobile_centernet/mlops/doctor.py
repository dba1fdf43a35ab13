"""`mobile-centernet doctor`: what this machine and this project lack, and what to do about each, in a line.

Also for a device, where neither torch nor MLflow is installed: everything is imported by the check that needs it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from configparser import ConfigParser, Error
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click

from mobile_centernet.errors import UserError
from mobile_centernet.mlops import paths

LEAST_FREE = 5e9  # bytes: a default run and its cache take 1 GB, a retraining 0.3 GB
PIPELINE_PYTHON = (3, 11)
WANTED = ("torch", "lightning", "mlflow", "dvc", "zenml", "onnx", "onnxruntime")
OK, NOTE, WRONG = "ok", "note", "wrong"


@dataclass(frozen=True)
class Checkup:
    """What was looked at, how it is, what was found, and what to do (empty where nothing has to be done)."""

    what: str
    state: str
    found: str
    remedy: str = ""


def machine() -> Iterator[Checkup]:
    """Python, packages, disk, threads, GPU, TensorRT."""
    python = f"{sys.version_info.major}.{sys.version_info.minor} ({sys.executable})"
    fits = sys.version_info[:2] == PIPELINE_PYTHON
    yield Checkup("Python", OK if fits else NOTE, python, "" if fits else "the pipeline needs 3.11, a device 3.10")

    missing = [name for name in WANTED if find_spec(name) is None]
    remedy = "`make install` in a checkout, or pip install 'mobile-centernet[train]'; a device needs [edge] alone"
    yield Checkup(
        "packages",
        NOTE if missing else OK,
        f"without {', '.join(missing)}" if missing else "all there",
        remedy * bool(missing),
    )

    free = shutil.disk_usage(Path.cwd()).free
    remedy = "`dvc gc --workspace` and docs/team.md, Disk"
    yield Checkup(
        "disk", OK if free > LEAST_FREE else WRONG, f"{free / 1e9:.1f} GB free", remedy * (free <= LEAST_FREE)
    )

    cores, all_cores = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    load = os.getloadavg()[0]
    busy = load > cores
    found = f"{cores} of {all_cores} cores, OMP_NUM_THREADS {threads or 'not set'}, load {load:.1f}"
    yield Checkup("threads", NOTE if busy else OK, found, "other programs take the cores: trainings take longer" * busy)

    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        said = subprocess.run(query, capture_output=True, text=True, check=False)
        seen = said.stdout.strip().replace("\n", "; ") if said.returncode == 0 else ""
    else:
        seen = ""
    usable = False
    if find_spec("torch"):
        import torch

        usable = torch.cuda.is_available()
    if seen and not usable:
        yield Checkup(
            "GPU", WRONG, f"{seen}, but not for torch", "install the torch build for this driver's CUDA (pytorch.org)"
        )
    else:
        yield Checkup("GPU", OK, seen or "none: trainings run on the processor, with a budget for it")

    tensorrt = "its Python bindings" if find_spec("tensorrt") else shutil.which("trtexec") or ""
    lacking = bool(seen) and not tensorrt
    remedy = "install TensorRT, or leave export.tensorrt at auto: engines are then built on the device"
    yield Checkup(
        "TensorRT", NOTE if lacking else OK, tensorrt or "none: engines are built on the device", remedy * lacking
    )


def project() -> Iterator[Checkup]:
    """params.yaml, git, DVC's remote, MLflow, keys: of the project in the current directory."""
    from mobile_centernet.mlops import mlflow_server
    from mobile_centernet.mlops.params import load_params

    try:
        params = load_params(paths.PARAMS)
        yield Checkup("params.yaml", OK, "readable")
    except UserError as error:
        params = None
        yield Checkup("params.yaml", WRONG, str(error), "correct that key")

    tracked = subprocess.run(
        ["git", "ls-files", "--error-unmatch", str(paths.DVC_LOCK)], capture_output=True, check=False
    )
    changed = subprocess.run(
        ["git", "diff", "--quiet", "HEAD", "--", str(paths.DVC_LOCK)], capture_output=True, check=False
    )
    if not paths.DVC_LOCK.is_file():
        yield Checkup("dvc.lock", NOTE, "none: nothing was run yet", "`mobile-centernet repro`")
    elif tracked.returncode or changed.returncode:
        yield Checkup("dvc.lock", NOTE, "not committed", "git add dvc.lock && git commit, then `dvc push`")
    else:
        yield Checkup("dvc.lock", OK, "committed")

    config = ConfigParser()
    try:
        config.read([".dvc/config", ".dvc/config.local"], encoding="utf-8")
        remote = config.get("core", "remote", fallback="").strip("\"'")
    except Error as error:
        yield Checkup("DVC remote", WRONG, str(error).splitlines()[0], "correct .dvc/config")
    else:
        remedy = "dvc remote add --default NAME URL: without one a lost disk loses the data of every version"
        yield Checkup("DVC remote", OK if remote else NOTE, remote or "none", remedy * (not remote))

    try:
        address = mlflow_server.tracking_uri()
        if address or paths.MLFLOW_DB.exists():  # looking makes no database
            mlflow_server.connect()
    except mlflow_server.failures() as error:
        remedy = "correct MLFLOW_TRACKING_URI, or start that server; runs are kept and sent by `tracking sync`"
        yield Checkup("MLflow", WRONG, mlflow_server.first_line(error), remedy)
    else:
        remedy = "one person's: several need a server (docs/mlflow.md)"
        yield Checkup(
            "MLflow", OK if address else NOTE, address or "the project's own mlflow.db", remedy * (not address)
        )

    if params is not None:
        section = params.trust
        if section.repository is None:
            yield Checkup("trust", NOTE, "none", "without trust.repository no version gets a release for devices")
        elif not section.root.is_file():
            yield Checkup(
                "trust", WRONG, f"{section.root}: no such file", "mobile-centernet trust init, or get it from git"
            )
        else:
            files = [path for places in section.keys.values() for path in map(Path, places) if path.is_file()]
            readable = [str(path) for path in files if path.stat().st_mode & 0o077]
            yield Checkup(
                "trust",
                WRONG if readable else OK,
                f"{', '.join(readable)}: readable for others" if readable else f"{len(files)} keys here",
                f"chmod 600 {' '.join(readable)}" * bool(readable),
            )


def print_checkups(found: Iterable[Checkup]) -> bool:
    """Print them, each with what to do about it, and return whether something is wrong."""
    wrong = False
    for each in found:
        click.echo(f"{each.state:<6} {each.what:<13} {each.found}")
        if each.remedy:
            click.echo(f"{'':<20} → {each.remedy}")
        wrong |= each.state == WRONG
    return wrong


@click.command()
def main() -> None:
    """Look at this machine, and at the project where there is one. Exit code 1: something is wrong."""
    found = list(machine())
    if paths.DVC_FILE.is_file():
        found += project()
    else:
        found.append(Checkup("project", NOTE, f"{Path.cwd()}: no dvc.yaml here or above", "run it in a checkout"))
    raise SystemExit(print_checkups(found))


if __name__ == "__main__":
    main()
