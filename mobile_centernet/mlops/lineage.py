"""What leads from a model back to its origins: commit, params, data, weights."""

import getpass
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mobile_centernet.files import file_digest
from mobile_centernet.mlops import paths

DATA_FILES = ("*.tar", "annotations_*.json")
"""What a prepared set is made of: its images and its annotations, not the report on them."""


def git_commit() -> str:
    """The commit, with `-dirty` behind it when files that git tracks differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    described = subprocess.run(command, capture_output=True, text=True, check=False)
    return described.stdout.strip() if described.returncode == 0 else "unknown: not a git checkout"


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
