"""What leads from a model back to its origins: commit, params, data, weights."""

import getpass
import os
import subprocess

from steps import workspace
from steps.digests import file_digest, folder_digest


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
    return file_digest(workspace.PARAMS)


def data_digests() -> dict[str, str]:
    """Prepared sets, by name."""
    return {name: folder_digest(workspace.PREPARED / name) for name in ("bdd100k", "ivslab")}


def model_digests() -> dict[str, str]:
    """Weights and exported files, by what they are."""
    return {
        "teacher": file_digest(workspace.TEACHER / workspace.MODEL_FILE),
        "student": file_digest(workspace.STUDENT / workspace.MODEL_FILE),
        "onnx": file_digest(workspace.ONNX_FP32),
    }
