"""What every reader ends with: what label files say, given to the images they mean; nothing unaccounted for."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mobile_centernet.data.annotations import Boxes, Finding, Frame, FrameState, RawSet
from mobile_centernet.data.readers.common import Listing, quarantined
from mobile_centernet.data.readers.places import CONTAINERS, SPLIT_WORDS, PathIndex, Place, image_stem


@dataclass(frozen=True, slots=True)
class Labels:
    """What one entry of a label file says about the image that it calls `path`.

    Attributes:
        item: the entry, as findings name it.
        path: the image; see `PathIndex.find` for this and for `near`, `split` and `alone`.
        declared_size: (height, width) of the image that the boxes' pixels are of, where the file says it.
        video: the video, where the file says it.
    """

    item: str
    path: str
    state: FrameState
    boxes: Boxes
    near: str = ""
    split: str = ""
    alone: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    declared_size: tuple[int, int] | None = None
    video: str = ""


def assemble(
    listing: Listing,
    places: Sequence[Place],
    labels: Iterable[Labels],
    label_files: Collection[str],
    findings: list[Finding],
    left_out: Mapping[str, int] | None = None,
) -> RawSet:
    """The frames of a set.

    Args:
        listing: all files.
        places: the images that are frames.
        labels: what was read; where two entries say something about one image, the first wins.
        label_files: the files that it was read from.
        findings: so far; grows.
        left_out: how many images of the listing are no frames, by reason.

    Returns:
        Frames in the order of `places`. Labels of no image, or of one that they do not tell from another, are findings.
    """
    index, own = PathIndex(places), dict[int, Labels]()
    for each in labels:
        match = index.find(each.path, near=each.near, split=each.split, alone=each.alone)
        if match.position is None:
            name, several = image_stem(each.path.replace("\\", "/")), ", ".join(match.candidates[:3])
            if len(match.candidates) > 1:
                expected = f"one image that is {name}" + (f" of {each.split}" if each.split else "")
                findings.append(quarantined("ambiguous_label", each.item, expected, several))
            else:
                found = f"only {several}, elsewhere" if several else "no such image"
                findings.append(quarantined("missing_image", each.item, f"{name}.jpg", found))
            continue
        if match.position in own:
            name = places[match.position].name
            findings.append(quarantined("duplicate_frame", each.item, "one entry per image", name))
        if match.position not in own or own[match.position].state is FrameState.UNLABELLED:
            own[match.position] = each

    # The root may be one split of a set: `images/100k/val`.
    root = listing.root.resolve()
    whole = SPLIT_WORDS.get(root.name.lower(), "") if root.parent.name.lower() in CONTAINERS else ""
    nothing, frames = Labels("", "", FrameState.UNLABELLED, Boxes()), []
    # Frames beside those whose file says the video are of that, too.
    called: dict[str, set[str]] = {}
    for position, each in own.items():
        if each.video:
            called.setdefault(places[position].video, set()).add(each.video)
    videos = {video: min(names) for video, names in called.items() if len(names) == 1}
    for position, place in enumerate(places):
        known = own.get(position, nothing)
        frames.append(
            Frame(
                listing.root / place.path,
                place.name,
                known.video or videos.get(place.video, place.video),
                place.split or known.split or whole,
                known.state,
                known.boxes,
                known.declared_size,
                known.attributes,
            )
        )
    unread = Counter(listing.others) + Counter(left_out or {})  # without zeros
    for path in (*listing.labels, *listing.videos):
        if path not in label_files:
            unread[f".{path.rpartition('.')[2].lower()}"] += 1
    return RawSet(listing.root, tuple(frames), (*listing.findings, *findings), unread, len(label_files))
