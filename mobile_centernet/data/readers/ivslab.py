"""Reads the ivslab data of the embedded detection competition (Pascal VOC XML beside folders of video frames)."""

from collections.abc import Collection
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from xml.etree.ElementTree import ParseError

from defusedxml import ElementTree

from mobile_centernet.data.annotations import Box, Boxes, Finding, Frame, FrameState, RawSet, normalise
from mobile_centernet.data.encodings import decode_text, decode_xml
from mobile_centernet.data.readers.common import IMAGE_SUFFIXES, find_files, number, quarantined, reason, require_folder
from mobile_centernet.errors import DataError

SPLITS = {"ivslab_train": "train", "ivslab_test": "test"}
EXPECTED = "ivslab frames (ivslab_train/JPEGImages/All/<video>.mp4/*.jpg)"


@dataclass(frozen=True, slots=True)
class VocLabels:
    """What one XML file says about its frame."""

    state: FrameState
    boxes: Boxes
    declared_size: tuple[int, int] | None


UNLABELLED = VocLabels(FrameState.UNLABELLED, Boxes(), None)


def read_ivslab(root: Path) -> RawSet:
    """Read `ivslab_train` and `ivslab_test` below `root`, or `root` itself where it is one of them.

    Every image below `JPEGImages` is a frame; what only `ImageSets/All.txt` names is a finding. A video is a
    folder `<video>.mp4`, or the part up to `.mp4` of a flat file name, otherwise the name itself. An image without
    XML is unlabelled (and a finding, where a list names it); an XML without objects is verified empty; an XML that
    does not parse is a finding, and its frame is unlabelled. `difficult`, `truncated` and `pose` are not read.

    Args:
        root: the folder of the data set, or of one of its splits.

    Returns:
        The frames, and a finding for each image or label that is left out.

    Raises:
        DataError: there is neither folder, or no image in them.
    """
    root = Path(root)
    require_folder(root, EXPECTED)
    folders = [root] if (root / "JPEGImages").is_dir() else [root / name for name in SPLITS if (root / name).is_dir()]
    frames: dict[str, Frame] = {}
    findings: list[Finding] = []
    for folder in folders:
        images = _by_key(folder / "JPEGImages", IMAGE_SUFFIXES)
        labels = dict(_by_key(folder / "Annotations", (".xml",)))
        listed: dict[str, None] = {}  # an ordered set
        if (folder / "ImageSets/All.txt").is_file():
            text = decode_text((folder / "ImageSets/All.txt").read_bytes(), {key for key, _ in images})
            listed = dict.fromkeys(line.strip().removesuffix(".jpg") for line in text.splitlines() if line.strip())
        base, present = folder.relative_to(root), {key for key, _ in images}
        for key in dict.fromkeys([*listed, *labels]):
            if key not in present:
                item = (base / "JPEGImages" / f"{key}.jpg").as_posix()
                expected = f"a picture, named by {'its label' if key in labels else 'ImageSets/All.txt'}"
                findings.append(quarantined("missing_image", item, expected, "no such file"))

        split = SPLITS.get(folder.name) or SPLITS.get(folder.resolve().name, "")
        for key, image in images:
            own = UNLABELLED
            if key in labels:
                own = _read_xml(labels[key], root, findings)
            elif key in listed and labels:
                item = (base / "Annotations" / f"{key}.xml").as_posix()
                expected = "a label file, because ImageSets/All.txt names its frame"
                findings.append(quarantined("missing_label", item, expected, "no such file"))
            name = key.removeprefix("All/")
            subfolder, _, file = name.rpartition("/")
            clip, ending, _ = file.partition(".mp4")
            video = subfolder or clip + ending
            frame = Frame(image, name, video, split, own.state, own.boxes, own.declared_size)
            first = frames.setdefault(name, frame)
            if first is not frame:
                item, kept = (each.relative_to(root).as_posix() for each in (image, first.image))
                findings.append(quarantined("duplicate_frame", item, "one picture of that name", f"{kept} too"))
    if not frames:
        raise DataError(f"{root}: expected {EXPECTED}, found no picture")
    return RawSet(root, tuple(frames.values()), tuple(findings))


def _by_key(folder: Path, suffixes: Collection[str]) -> list[tuple[str, Path]]:
    """Files below a folder, each with what `ImageSets/All.txt` calls it: `All/1_40_00.mp4/1_40_00.mp4_00007`."""
    return [(path.relative_to(folder).with_suffix("").as_posix(), path) for path in find_files(folder, suffixes)]


def _read_xml(path: Path, root: Path, findings: list[Finding]) -> VocLabels:
    """What one XML file says; where it cannot be read, that is a finding, and the frame is unlabelled."""
    try:
        annotation = ElementTree.fromstring(decode_xml(path.read_bytes()))
        if annotation is None or annotation.tag != "annotation":
            raise ValueError(f"<{annotation.tag if annotation is not None else ''}>")
    except (OSError, ParseError, ValueError) as error:  # defusedxml's refusals are ValueErrors
        item, expected = path.relative_to(root).as_posix(), "a Pascal VOC <annotation>"
        findings.append(quarantined("unreadable_label", item, expected, reason(path, error)))
        return UNLABELLED
    boxes = []
    for element in annotation.iter("object"):
        x1, y1, x2, y2 = (number(element.findtext(f"bndbox/{tag}")) for tag in ("xmin", "ymin", "xmax", "ymax"))
        spelling = element.findtext("name", "")
        category = normalise(spelling)
        boxes.append(Box(category, (x1, y1, x2, y2), spelling=spelling if spelling != category else ""))
    declared_size = None
    if (size := annotation.find("size")) is not None:
        height, width = (number(size.findtext(tag)) for tag in ("height", "width"))
        # 0 stands for a side that is missing or no number.
        declared_size = int(height) if isfinite(height) else 0, int(width) if isfinite(width) else 0
    return VocLabels(FrameState.LABELLED if boxes else FrameState.EMPTY, Boxes(boxes), declared_size)
