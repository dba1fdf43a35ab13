"""What dvc.yaml says about the stages, and params of which a stage can read only what is listed there for it."""

from collections.abc import Collection
from pathlib import Path

import yaml

from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params


class ListedParams:
    """Params, of which only the sections that dvc.yaml lists for this stage can be read.

    So a stage cannot read a value without being re-run when that value changes.
    """

    def __init__(self, params: Params, stage: str, listed: Collection[str]) -> None:
        self._params = params
        self._stage = stage
        self._listed = frozenset(listed)

    def __getattr__(self, name: str) -> object:
        section = name.rstrip("_")
        if section not in self._listed:
            raise AttributeError(f"stage {self._stage} reads params section '{section}', which dvc.yaml does not list")
        return getattr(self._params, name)


def listed_params(dvc_file: Path = paths.DVC_FILE) -> dict[str, list[str]]:
    """By stage, in the order of dvc.yaml: the sections of params.yaml that are listed for it."""
    stages = yaml.safe_load(dvc_file.read_text(encoding="utf-8"))["stages"]
    return {name: [str(section) for section in stage.get("params", [])] for name, stage in stages.items()}
