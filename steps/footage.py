"""Where raw footage lies: in data/raw itself when it was rendered there, or in a folder of the user's."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

SOURCE_FILE = "source.json"


@dataclass(frozen=True)
class Footage:
    """What a fetch stage leaves behind. `root` is relative to the folder of source.json, or absolute."""

    source: str
    root: str
    files: dict[str, str]

    def document(self) -> dict[str, object]:
        return asdict(self)


def read_footage(folder: Path) -> Footage:
    """What the fetch stage wrote into `folder`."""
    return Footage(**json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8")))


def footage_root(folder: Path) -> Path:
    """The folder in which a reader finds the pictures and labels that `folder` stands for."""
    return folder / read_footage(folder).root
