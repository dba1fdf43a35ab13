"""Raw footage in any layout, by one call."""

from enum import StrEnum
from pathlib import Path

from mobile_centernet.data.annotations import RawSet
from mobile_centernet.data.encodings import decode_text
from mobile_centernet.data.readers.bdd100k import read_bdd100k
from mobile_centernet.data.readers.coco import json_kind, read_coco
from mobile_centernet.data.readers.common import Listing, walk
from mobile_centernet.data.readers.ivslab import read_ivslab
from mobile_centernet.data.readers.places import FRAMES_FOLDER
from mobile_centernet.data.readers.yolo import OF_NAMES, OF_YOLO, read_yolo
from mobile_centernet.errors import DataError

SNIFFED = 200
"""Label files that are looked into, at most, to know a layout."""


class Layout(StrEnum):
    """How a set lies on disk."""

    BDD100K = "bdd100k"
    IVSLAB = "ivslab"
    COCO = "coco"
    YOLO = "yolo"
    PREPARED = "prepared"


READERS = {Layout.BDD100K: read_bdd100k, Layout.COCO: read_coco, Layout.YOLO: read_yolo}


def read_raw(root: Path, layout: Layout | None = None, *, labels: bool = True) -> tuple[Layout, RawSet]:
    """Read the raw set in `root`; None as `layout`: its files tell it.

    `labels` False spares ivslab's XML files; all its frames are then unlabelled.
    Raises DataError where there is no image or, with a given layout, none of its label files.
    """
    listing = walk(Path(root))
    if not listing.images and listing.videos:
        raise DataError(f"{root}: expected images, found videos: cut them into frames (fetch_ivslab, source: videos)")
    layout = layout or detect(listing)
    if layout is Layout.IVSLAB:
        return layout, read_ivslab(root, listing, labels=labels)
    return layout, READERS[layout](root, listing)


def detect(listing: Listing) -> Layout:
    """The layout that the files show; BDD100K's where they show none."""
    of_frames = any(FRAMES_FOLDER in path.lower().split("/") for path in listing.images)
    has_xml = any(path.lower().endswith(".xml") for path in listing.labels)
    if of_frames and has_xml:
        return Layout.IVSLAB
    files = [path for path in listing.labels if path.lower().endswith(".json")]
    kinds = {
        json_kind(listing.root / path) for path in files[:SNIFFED]
    }  # other files are lists of classes and the like
    if "bdd100k" not in kinds and ("coco" in kinds or has_xml):
        return Layout.COCO if "coco" in kinds else Layout.IVSLAB
    of_names = [path for path in listing.labels if OF_NAMES.search(path)]
    if "bdd100k" not in kinds and of_names and looks_like_yolo(listing):
        return Layout.YOLO
    stems = {path.rpartition("/")[2].rpartition(".")[0].lower() for path in listing.images}
    texts = (path.rpartition("/")[2].lower() for path in listing.labels)
    if not files and any(text.endswith(".txt") and text[:-4] in stems for text in texts) and any(
        not path.lower().endswith((".yaml", ".yml")) or "names:" in decode_text((listing.root / path).read_bytes())
        for path in of_names
    ):  # fmt: skip
        return Layout.YOLO  # whatever is in them
    return Layout.IVSLAB if of_frames else Layout.BDD100K


def looks_like_yolo(listing: Listing) -> int:
    """How many text files there are, if those looked into are YOLO's."""
    texts = [path for path in listing.labels if path.lower().endswith(".txt")]
    for path in texts[:SNIFFED]:
        try:
            with (listing.root / path).open("rb") as file:
                text = decode_text(file.read(1 << 12)).removeprefix("\ufeff")
        except OSError:  # whoever reads the labels tells it
            continue
        whole = text if len(text) < 1 << 12 else text.rpartition("\n")[0]
        if whole.strip() and OF_YOLO.fullmatch(whole):
            return len(texts)
    return 0
