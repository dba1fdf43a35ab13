"""The vocabulary every reader, check and writer of data shares: frames, boxes, findings."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path
from typing import overload

Xyxy = tuple[float, float, float, float]
"""A box as (x1, y1, x2, y2) in absolute pixels of the frame it belongs to; x right, y down, origin top left."""


@cache
def normalise(category: str) -> str:
    """A category as it is compared everywhere: lower case, single spaces, none around."""
    return " ".join(category.lower().split())


class FrameState(str, Enum):
    """What is known about a frame. An unlabelled frame must never train as background."""

    __str__ = str.__str__  # as StrEnum, which Python 3.10 has not

    LABELLED = "labelled"
    EMPTY = "empty"
    UNLABELLED = "unlabelled"


@dataclass(frozen=True, slots=True)
class Box:
    """One object of a raw label file, under its source's own category name (lower case, single spaces).

    `spelling` is the name as the file has it, where that differs.
    """

    category: str
    xyxy: Xyxy
    ignore: bool = False
    spelling: str = field(default="", compare=False)


BoxKind = tuple[str, bool, str]  # category, ignore, spelling
_BOX_KINDS: dict[BoxKind, BoxKind] = {}  # one object for all boxes of a kind


@cache
def _kind_bytes(kind: BoxKind) -> bytes:
    return repr(kind).encode(errors="surrogateescape")


class Boxes(Sequence[Box]):
    """The boxes of one frame in a fifth of a tuple's memory: 100,000 frames have two million of them.

    Each access makes a new `Box`. Equal to another such sequence, or a tuple, of equal boxes.
    """

    __slots__ = ("_corners", "_kinds")

    def __init__(self, boxes: Iterable[Box] = ()) -> None:
        boxes = tuple(boxes)
        self._corners = array("d", (value for box in boxes for value in box.xyxy))
        kinds = ((box.category, box.ignore, box.spelling) for box in boxes)
        self._kinds = tuple(_BOX_KINDS.setdefault(kind, kind) for kind in kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    @overload
    def __getitem__(self, index: int) -> Box: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Box]: ...
    def __getitem__(self, index: int | slice) -> Box | Sequence[Box]:
        return tuple(self)[index]

    def __iter__(self) -> Iterator[Box]:
        corners = iter(self._corners)
        for xyxy, (category, ignore, spelling) in zip(zip(*[corners] * 4, strict=True), self._kinds, strict=True):
            yield Box(category, xyxy, ignore, spelling)

    def packed(self) -> bytes:
        """All that they hold, to be hashed: as many texts as boxes, then four floats of each."""
        return b"".join([*map(_kind_bytes, self._kinds), self._corners.tobytes()])

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, (Boxes, tuple)) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


@dataclass(frozen=True, slots=True)
class Frame:
    """One image with what its source says about it.

    `name` is unique within the source (`1_40_00.mp4/1_40_00.mp4_00007`), `video` names the clip it comes from
    (frames of one video never straddle two splits), `split` is the source's own split, if it has one.
    `declared_size` is the (height, width) that the label file claims, checked against the image later.
    """

    image: Path
    name: str
    video: str
    split: str
    state: FrameState
    boxes: Sequence[Box] = ()
    declared_size: tuple[int, int] | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


class Action(str, Enum):
    """What was done about a finding."""

    __str__ = str.__str__  # as StrEnum, which Python 3.10 has not

    QUARANTINED = "quarantined"
    REPAIRED = "repaired"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Finding:
    """One dirty item: nothing is dropped or changed without one.

    `kind` is one of the words in `FINDING_KINDS`; `item` is a path relative to the source's root, or, for a box, the
    frame's name with `#3` behind it for its fourth box.
    """

    kind: str
    action: Action
    item: str
    expected: str
    found: str


FINDING_KINDS: Mapping[str, str] = {
    "unreadable_label": "the label file is empty, truncated or not of a known layout",
    "ambiguous_label": "the label may be of several images, so none of them gets it",
    "no_objects": "the label file has no box of any object: nobody has looked for some",
    "unknown_split": "a folder beside those of train, val or test is none of them",
    "no_split": "the folder is called after no split",
    "numbered_frames": "names that differ in a number alone, which grows by one step, are taken for a video's frames",
    "broken_link": "the link leads nowhere",
    "no_file": "a pipe, a socket or a device, which is never read",
    "unreadable_folder": "the folder cannot be read",
    "missing_image": "a label or list names an image that is not there",
    "unreadable_image": "the image does not decode completely",
    "damaged_image": "the image decodes, but the decoder complains: parts may be grey or out of place",
    "missing_label": "a listed frame has no label file",
    "duplicate_frame": "two label entries claim the same frame",
    "size_mismatch": "the label file claims another image size",
    "unknown_category": "the category is not in the class map",
    "nan_box": "a coordinate is missing or not a finite number",
    "inverted_box": "x2 < x1 or y2 < y1",
    "outside_box": "the box reaches outside the image",
    "tiny_box": "less than one pixel is left of the box",
    "unreadable_video": "the video cannot be opened",
    "truncated_video": "the video ends before its own index or header says",
    "duplicate_video": "two videos have one name; one is named after its path",
}


@dataclass(frozen=True, slots=True)
class RawSet:
    """What a reader returns: every frame, and findings.

    `unread` counts all other files below the root but the `label_files` that were read: by suffix, or by why.
    `categories` are those that its files declare, where they do.
    """

    root: Path
    frames: tuple[Frame, ...]
    findings: tuple[Finding, ...]
    unread: Mapping[str, int] = field(default_factory=dict)
    label_files: int = 0
    categories: frozenset[str] = frozenset()
