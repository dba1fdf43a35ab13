"""All checks of one set, and their result."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from tqdm import tqdm

from mobile_centernet.data.annotations import FINDING_KINDS, Action, Finding, Frame, FrameState, normalise
from mobile_centernet.data.check.inspect import FrameInspection, inspect
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.parallel import in_order
from mobile_centernet.data.readers.layouts import LabelledSource
from mobile_centernet.data.similarity import duplicates
from mobile_centernet.data.similarity.duplicates import Duplicate
from mobile_centernet.data.similarity.perceptual import NEAR_BITS
from mobile_centernet.errors import DataError

PROBLEMS: Mapping[str, str] = {
    **{kind: meaning for kind, meaning in FINDING_KINDS.items() if kind not in ("no_split", "numbered_frames")},
    "no_labels": "none of the images has labels",
    "unknown_category": "the category is none of the expected ones",
    "duplicate_image": "the same bytes as another image of its split",
    "near_duplicate": "nearly the same view as a frame of another video of its split",
    "leaked_frame": "the same or nearly the same view as a frame of another split",
    "leaked_video": "frames of one video are in two splits",
    "same_video_name": "two videos in different folders have one name",
}
"""What makes a check fail, each kind with its meaning."""
NOTES: Mapping[str, str] = {
    **{kind: FINDING_KINDS[kind] for kind in ("no_split", "numbered_frames")},
    "near_copy": "nearly the same view as an earlier frame of its video (subsampling removes most)",
    "category_spelling": "a category in other case or with other spaces, read as if it had not",
    "rotated_image": "the image asks to be turned (EXIF); boxes are taken in its stored pixels",
    "converted_image": "the image is not 8-bit RGB and is converted when it is read",
}
"""What is worth knowing, but harmless."""
BOX_SIZES = ("small", "medium", "large")


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding and what shows it: the numbers of the frames, and which box of the first."""

    finding: Finding
    frames: tuple[int, ...] = ()
    box: int | None = None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result. `problems` decide the verdict, `notes` do not."""

    source: LabelledSource
    frames: tuple[Frame, ...]
    sizes: Mapping[tuple[str, str], int]
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing has to be fixed."""
        return not self.problems

    def splits(self) -> dict[str, dict[str, int]]:
        """Frames, videos and states of each split."""
        splits = duplicates.ordered_splits(frame.split for frame in self.frames)
        members = {split: [frame for frame in self.frames if frame.split == split] for split in splits}
        return {
            split: {
                "frames": len(frames),
                "videos": len({frame.video for frame in frames}),
                **{str(state): sum(frame.state is state for frame in frames) for state in FrameState},
            }
            for split, frames in members.items()
        }

    def details(self) -> dict[str, dict[str, Any]]:
        """Of each split: boxes by category, and how many frames show what its own or an earlier split has too."""
        return {
            split: {
                "near_duplicates": self._count("near_duplicate", split),
                "duplicate_images": self._count("duplicate_image", split),
                "leaked_frames": self._count("leaked_frame", split),
                "boxes": dict(
                    Counter(box.category for frame in self.frames if frame.split == split for box in frame.boxes)
                ),
            }
            for split in self.splits()
        }

    def _count(self, kind: str, split: str) -> int:
        return sum(each.finding.kind == kind and self.frames[each.frames[0]].split == split for each in self.problems)

    def categories(self) -> dict[str, dict[str, Any]]:
        """Of each category: all boxes, those that can be used by size, and those its source says to ignore."""
        boxes = Counter(box.category for frame in self.frames for box in frame.boxes)
        ignored = Counter(box.category for frame in self.frames for box in frame.boxes if box.ignore)
        return {
            category: {
                "boxes": count,
                **{size: self.sizes.get((category, size), 0) for size in BOX_SIZES},
                "ignored": ignored[category],
                "known": category in self.source.categories,
            }
            for category, count in sorted(boxes.items(), key=lambda item: (-item[1], item[0]))
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON."""
        return {
            "source": str(self.source.root),
            "layout": str(self.source.layout),
            "clean": self.clean,
            "frames": len(self.frames),
            "splits": self.splits(),
            "split_details": self.details(),
            "unread": dict(self.source.unread),
            "categories": self.categories(),
            "problems": count_kinds(self.problems),
            "notes": count_kinds(self.notes),
            "problem_list": [asdict(problem.finding) for problem in self.problems],
            "note_list": [asdict(note.finding) for note in self.notes],
        }


def count_kinds(problems: Iterable[Problem]) -> dict[str, int]:
    """How many there are of each kind, most frequent first."""
    return dict(Counter(problem.finding.kind for problem in problems).most_common())


def check(
    source: LabelledSource,
    categories: Iterable[str] | None = None,
    *,
    closer_than: int = NEAR_BITS,
    workers: int | None = None,
    progress: bool = True,
) -> CheckReport:
    """Check every frame of `source`.

    Args:
        source: the set.
        categories: those that it should have; None: those of its layout.
        closer_than: images closer than so many bits of the perceptual hash (0 to 256) show the same view.
        workers: processes that share the work; None: one per core.
        progress: show a progress bar on a terminal.

    Raises:
        DataError: `categories` is empty.
    """
    known = source.categories if categories is None else frozenset(map(normalise, categories))
    if not known:
        raise DataError(f"{source.root}: expected at least one category to compare with, found none")
    source = replace(source, categories=known)
    frames = [entry.frame for entry in source.entries]
    every = sorted(known | {box.category for frame in frames for box in frame.boxes})
    work = partial(inspect, class_map=ClassMap(tuple(every), {category: category for category in every}))
    results = in_order(work, source.entries, workers)
    inspections = list(tqdm(results, "check", len(frames), disable=None if progress else True))

    of_set = (*source.findings, *source.no_labels())
    problems = [Problem(finding) for finding in of_set if finding.kind not in NOTES]
    notes = [Problem(finding) for finding in of_set if finding.kind in NOTES]
    sizes: Counter[tuple[str, str]] = Counter()
    for number, each in enumerate(inspections):
        problems += [_problem(finding, number) for finding in each.findings]
        notes += [_problem(note, number) for note in each.notes]
        sizes.update(each.sizes)

    similar: dict[str, str] = {}
    for number, frame in enumerate(frames):
        for n, box in enumerate(frame.boxes):
            if box.ignore or box.category in known:
                continue
            if box.category not in similar:
                close = get_close_matches(box.category, known, 1, 0.75)
                similar[box.category] = f"{box.category} (did you mean {close[0]}?)" if close else box.category
            item, found = f"{frame.name}#{n}", similar[box.category]
            finding = Finding("unknown_category", Action.IGNORED, item, "a known category", found)
            problems.append(Problem(finding, (number,), n))

    copies, near_copies = _repeated_views(frames, inspections, closer_than)
    problems += copies
    for name, several in duplicates.videos_in_two_splits(frames):
        found = ", ".join(frames[each].split for each in several)
        problems.append(Problem(Finding("leaked_video", Action.IGNORED, name, "one split", found), tuple(several)))
    of_one_name = duplicates.frames_in_several(
        frames,
        lambda frame: frame.video if frame.video == frame.name else PurePosixPath(frame.video).name,  # alone
        lambda frame: frame.video,
    )
    for name, several in of_one_name:
        found = ", ".join(frames[each].video for each in several)
        problems.append(Problem(Finding("same_video_name", Action.IGNORED, name, "one video", found), tuple(several)))
    notes += near_copies
    used = Counter((box.spelling, box.category) for frame in frames for box in frame.boxes if box.spelling)
    for (spelling, category), count in sorted(used.items()):
        finding = Finding("category_spelling", Action.REPAIRED, repr(spelling), category, f"{count} boxes")
        notes.append(Problem(finding))
    return CheckReport(source, tuple(frames), sizes, tuple(problems), tuple(notes))


def _problem(finding: Finding, frame: int) -> Problem:
    """A finding of `inspect`: its item is the frame's name, with `#n` after it for a box."""
    _, _, box = finding.item.rpartition("#")
    return Problem(finding, (frame,), int(box) if finding.kind.endswith("_box") else None)


def _repeated_views(
    frames: Sequence[Frame], inspections: Sequence[FrameInspection], closer_than: int
) -> tuple[list[Problem], list[Problem]]:
    """Duplicates, near-duplicates and leakage; and, harmless, near-duplicates within one video."""
    hashes, digests = [each.hash for each in inspections], [each.digest for each in inspections]
    same = duplicates.by_key((frame.split, digest) for frame, digest in zip(frames, digests, strict=True))
    groups = (group for (_, digest), group in same.items() if digest is not None)
    exact = [Duplicate(each, group[0], None) for group in groups for each in group[1:]]
    counted = {copy.frame for copy in exact}
    near = duplicates.near_duplicates(frames, hashes, closer_than, of_other_videos=True)
    leaked = duplicates.leakage(frames, hashes, digests, closer_than)
    of_own_video = duplicates.near_duplicates(frames, hashes, closer_than)
    return [
        *(_copy("duplicate_image", "bytes of its own", copy, frames) for copy in exact),
        *(_copy("near_duplicate", "a view of its own", copy, frames) for copy in near if copy.frame not in counted),
        *(_copy("leaked_frame", "a view that no other split has", copy, frames) for copy in leaked),
    ], [_copy("near_copy", "a new view", copy, frames) for copy in of_own_video if copy.frame not in counted]


def _copy(kind: str, expected: str, copy: Duplicate, frames: Sequence[Frame]) -> Problem:
    own, other = frames[copy.frame], frames[copy.of]
    where = other.name if own.split == other.split else f"{other.split}: {other.name}"
    found = f"same bytes as {where}" if copy.distance is None else f"{copy.distance} bits from {where}"
    return Problem(Finding(kind, Action.IGNORED, own.name, expected, found), (copy.frame, copy.of))
