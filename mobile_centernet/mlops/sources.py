"""Where the raw data of a set is: in data/raw itself when it was put there, or in a folder of the user's."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mobile_centernet.data.annotations import Action, Finding

SOURCE_FILE = "source.json"
# What numbers measured on data of that source were measured on.
DESCRIPTIONS = {
    "sample": "synthetic clips",
    "folder": "your footage",
    "urls": "fetched archives",
    "videos": "frames of your videos",
}


@dataclass(frozen=True)
class DatasetSource:
    """What a fetch stage leaves in source.json. `root` is relative to the folder of source.json, or absolute.

    `files` are the digests (sha256) of what it was made from: a folder's files, archives by address. `findings` are
    about items that could not be used; readers cannot see those any more.
    """

    source: str
    root: str
    files: dict[str, str]
    findings: tuple[Finding, ...] = ()
    format: str = "auto"

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def read_dataset_source(folder: Path) -> DatasetSource:
    """What the fetch stage wrote into `folder`."""
    document = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
    findings = (Finding(**{**each, "action": Action(each["action"])}) for each in document.pop("findings", ()))
    return DatasetSource(**document, findings=tuple(findings))


def source_root(folder: Path) -> Path:
    """The folder in which a reader finds the images and labels that `folder` stands for."""
    return folder / read_dataset_source(folder).root


def describe_source(folder: Path) -> str:
    """In words, what the raw data in `folder` is."""
    return DESCRIPTIONS[read_dataset_source(folder).source]
