"""params.yaml as it is shipped, with overlays laid over it."""

from contextlib import chdir
from pathlib import Path

from mobile_centernet.mlops.overlays import with_overlays
from mobile_centernet.mlops.params import Params, parse_params

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "params.yaml"
CHOICES = ((), ("paper",), ("street",), ("quick",), ("students",), ("street", "students_street"))
"""The overlays that are shipped, as they are laid over params.yaml."""


def shipped_text(*overlays: str) -> str:
    with chdir(ROOT):
        return with_overlays(BASE.read_text(), overlays)


def shipped_params(*overlays: str) -> Params:
    return parse_params(shipped_text(*overlays), BASE)
