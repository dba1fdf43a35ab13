"""What dvc.yaml says about the stages, and params of which a stage can read only what is listed there for it."""

import json
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from mobile_centernet.errors import UserError
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params

RESULTLESS = ("hardware.workers", "hardware.checkpoint_every")
"""Settings on which no result depends: every stage may read them, and a change of theirs re-runs none."""


class ListedParams:
    """Params, of which only the keys that dvc.yaml lists for this stage can be read, and RESULTLESS.

    So a stage cannot read a value without being re-run when that value changes.
    """

    def __init__(self, params: BaseModel, stage: str, listed: Collection[str], prefix: str = "") -> None:
        self._params = params
        self._stage = stage
        self._listed = frozenset((*listed, *RESULTLESS))
        self._prefix = prefix

    def __getattr__(self, name: str) -> object:
        key, value = f"{self._prefix}{name.rstrip('_')}", getattr(self._params, name)
        if key in self._listed:
            return value
        if any(each.startswith(f"{key}.") for each in self._listed):
            return ListedParams(value, self._stage, self._listed, f"{key}.")
        raise AttributeError(f"stage {self._stage} reads the param '{key}', which dvc.yaml does not list")


def listed_params(dvc_file: Path = paths.DVC_FILE) -> dict[str, list[str]]:
    """By stage, in the order of dvc.yaml: the keys of params.yaml, dotted, that are listed for it."""
    stages = yaml.safe_load(dvc_file.read_text(encoding="utf-8"))["stages"]
    return {name: [str(key) for key in stage.get("params", [])] for name, stage in stages.items()}


def stale_stages() -> dict[str, list[Any]]:
    """Stage → why DVC would run it. Those of dvc.yaml only: the ablation is a DVC project of its own.

    Raises UserError where DVC cannot say.
    """
    command = [sys.executable, "-m", "dvc", "status", "--json", str(paths.DVC_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or "no output"
        raise UserError(f"`dvc status {paths.DVC_FILE}` ended with code {done.returncode}: {said}")
    found: dict[str, list[Any]] = json.loads(done.stdout)
    return found


def settings(params: Params, keys: Sequence[str]) -> dict[str, Any]:
    """The values of these dotted keys, as JSON has them."""
    found: dict[str, Any] = {}
    for key in keys:
        value: object = params
        for part in key.split("."):
            value = getattr(value, part)
        found[key] = to_jsonable_python(value)
    return found
