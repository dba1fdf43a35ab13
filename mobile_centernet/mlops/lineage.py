"""What leads from a model back to its origins: commit, params, data, weights."""

import getpass
import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from mobile_centernet.files import file_digest
from mobile_centernet.mlops import paths

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
DATA_FILES = ("*.tar", "annotations_*.json")
"""What a prepared set is made of: its images and its annotations, not the report on them."""


EXECUTION = "MOBILE_CENTERNET_EXECUTION"
"""A variable: the pipeline run to which a stage belongs, where DVC alone cannot tell, because each step has its own."""


def git_commit() -> str:
    """The commit, with `-dirty` behind it when files that git tracks differ from it.

    dvc.lock and what servers said of their files do not count: a run writes them, and dvc.lock has both.
    """
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if found.returncode:
        return "unknown: not a git checkout, or one without a commit"
    written = [f":(exclude){path}" for path in (paths.DVC_LOCK, paths.UPSTREAM)]
    command = ["git", "diff", "--quiet", "HEAD", "--", ":/", *written]
    changed = subprocess.run(command, capture_output=True, check=False).returncode
    return f"{found.stdout.strip()}-dirty" if changed else found.stdout.strip()


def execution() -> str | None:
    """The pipeline run to which this stage belongs: the same text in all its stages; None for a stage run by hand."""
    if known := os.environ.get(EXECUTION):
        return known
    parent = Path(f"/proc/{os.getppid()}/stat")
    if "DVC_STAGE" not in os.environ or not parent.is_file():
        return None
    # DVC's shell execs the stage, so the parent is the `dvc repro`. Its start makes the number unique on this machine.
    ticks = int(parent.read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    started = datetime.now(UTC) - timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / CLOCK_TICKS)
    what = f"experiment {os.environ['DVC_EXP_NAME']}" if os.environ.get("DVC_EXP_NAME") else "dvc repro"
    return f"{what}, {started:%Y-%m-%d %H:%M:%S} UTC, {platform.node()} {os.getppid()}"


def dvc_datasets(stage: str | None) -> dict[str, str]:
    """Digests in dvc.lock, by path, of the raw and prepared sets that `stage` of dvc.yaml reads; None: of all."""
    if not paths.DVC_FILE.is_file() or not paths.DVC_LOCK.is_file():
        return {}
    locked = yaml.safe_load(paths.DVC_LOCK.read_text(encoding="utf-8")).get("stages", {}).values()
    made = {out["path"]: str(out.get("md5", "")) for entry in locked for out in entry.get("outs", [])}
    stages = yaml.safe_load(paths.DVC_FILE.read_text(encoding="utf-8"))["stages"]
    listed = made if stage is None else stages.get(stage, {}).get("deps", [])
    return {path: made[path] for path in listed if path in made and Path(path).parent in (paths.RAW, paths.PREPARED)}


def user() -> str:
    """Who runs this: a name, or the number of a user without one, as pods have it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def params_digest() -> str:
    return file_digest(paths.PARAMS)


def data_digests() -> dict[str, str]:
    """Prepared sets, by name."""
    return {name: folder_digest(paths.PREPARED / name, *DATA_FILES) for name in paths.DATA_SETS}


def model_digests() -> dict[str, str]:
    """Weights and exported files, by what they are."""
    return {
        "teacher": file_digest(paths.TEACHER / paths.MODEL_FILE),
        "student": file_digest(paths.STUDENT / paths.MODEL_FILE),
        "onnx": file_digest(paths.ONNX_FP32),
    }


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings by their dotted names; a list is one leaf."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def folder_digest(folder: Path, *patterns: str) -> str:
    """sha256 of a folder: of every file's relative path and digest; with `patterns` of files of such names alone."""
    files = {path for pattern in patterns or ("*",) for path in folder.rglob(pattern) if path.is_file()}
    return fingerprint({path.relative_to(folder).as_posix(): file_digest(path) for path in files})


def fingerprint(facts: object) -> str:
    """sha256 of a JSON-able value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
