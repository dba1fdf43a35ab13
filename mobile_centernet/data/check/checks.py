"""All checks of one set, and their result."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from mobile_centernet.data.annotations import FINDING_KINDS, Action, Finding, Frame, FrameState, normalise
from mobile_centernet.data.check.inspect import FrameInspection, inspect_all
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.readers.layouts import LabelledSource
from mobile_centernet.data.similarity import duplicates
from mobile_centernet.data.similarity.duplicates import Duplicate
from mobile_centernet.data.similarity.perceptual import NEAR_BITS
from mobile_centernet.errors import DataError

PROBLEMS: Mapping[str, str] = {
    **FINDING_KINDS,
    "unknown_category": "the category is none of the expected ones",
    "duplicate_image": "the same bytes as another picture of its split",
    "near_duplicate": "nearly the same view as a frame of another video of its split",
    "leaked_frame": "the same or nearly the same view as a frame of another split",
    "leaked_video": "frames of one video are in two splits",
    "same_video_name": "two videos in different folders have one name",
}
"""What makes a check fail, each kind with its meaning."""
NOTES: Mapping[str, str] = {
    "near_copy": "nearly the same view as an earlier frame of its video (subsampling removes most)",
    "category_spelling": "a category in other case or with other spaces, read as if it had not",
    "rotated_image": "the picture asks to be turned (EXIF); boxes are taken in its stored pixels",
    "converted_image": "the picture is not 8-bit RGB and is converted when it is read",
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
        """Whether nothing has to be mended."""
        return not self.problems

    def splits(self) -> dict[str, dict[str, int]]:
        """Frames, videos and states of each split."""
        members = {split: [frame for frame in self.frames if frame.split == split] for split in self._split_names()}
        return {
            split: {
                "frames": len(frames),
                "videos": len({frame.video for frame in frames}),
                **{str(state): sum(frame.state is state for frame in frames) for state in FrameState},
            }
            for split, frames in members.items()
        }

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
            "categories": self.categories(),
            "problems": count_kinds(self.problems),
            "notes": count_kinds(self.notes),
            "problem_list": [asdict(problem.finding) for problem in self.problems],
            "note_list": [asdict(note.finding) for note in self.notes],
        }

    def _split_names(self) -> list[str]:
        return duplicates.ordered_splits(frame.split for frame in self.frames)


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

    `categories` are those that the set should have (default: those of its layout). Pictures closer than
    `closer_than` bits of the perceptual hash are the same view. `workers` processes share the work (default: one per
    core). Raises DataError where `categories` is empty.
    """
    known = source.categories if categories is None else frozenset(map(normalise, categories))
    if not known:
        raise DataError(f"{source.root}: expected at least one category to compare with, found none")
    source = LabelledSource(source.root, source.layout, source.entries, source.findings, known)
    frames = [entry.frame for entry in source.entries]
    every = sorted(known | {box.category for frame in frames for box in frame.boxes})
    class_map = ClassMap(tuple(every), {category: category for category in every})
    seen = inspect_all(source.entries, class_map, workers=workers, progress=progress)

    problems = [Problem(finding) for finding in source.findings]
    notes: list[Problem] = []
    for number, each in enumerate(seen):
        problems += [_problem(finding, number) for finding in each.findings]
        notes += [_problem(note, number) for note in each.notes]
    problems += _unknown_categories(frames, known)
    problems += _copied(frames, seen, closer_than)
    problems += _confused_videos(frames)
    notes += _near_copies(frames, seen, closer_than) + _spellings(frames)
    sizes: Counter[tuple[str, str]] = Counter()
    for each in seen:
        sizes.update(each.sizes)
    return CheckReport(source, tuple(frames), sizes, tuple(problems), tuple(notes))


def _problem(finding: Finding, frame: int) -> Problem:
    """A finding of `inspect`: its item is the frame's name, with `#n` behind it for a box."""
    _, _, box = finding.item.rpartition("#")
    return Problem(finding, (frame,), int(box) if finding.kind.endswith("_box") else None)


def _unknown_categories(frames: Sequence[Frame], known: frozenset[str]) -> list[Problem]:
    similar = {
        box.category: "" for frame in frames for box in frame.boxes if not box.ignore and box.category not in known
    }
    for category in similar:
        close = get_close_matches(category, known, 1, 0.75)
        similar[category] = f"{category} (did you mean {close[0]}?)" if close else category
    return [
        Problem(
            Finding("unknown_category", Action.IGNORED, f"{frame.name}#{n}", "a known category", similar[box.category]),
            (number,),
            n,
        )
        for number, frame in enumerate(frames)
        for n, box in enumerate(frame.boxes)
        if not box.ignore and box.category in similar
    ]


def _copied(frames: Sequence[Frame], seen: Sequence[FrameInspection], closer_than: int) -> list[Problem]:
    hashes, digests = [each.hash for each in seen], [each.digest for each in seen]
    exact = duplicates.exact_duplicates(frames, digests)
    counted = {copy.frame for copy in exact}
    near = duplicates.near_duplicates_of_other_videos(frames, hashes, closer_than)
    leaked = duplicates.leakage(frames, hashes, digests, closer_than)
    return [
        *(_copy("duplicate_image", "bytes of its own", copy, frames) for copy in exact),
        *(_copy("near_duplicate", "a view of its own", copy, frames) for copy in near if copy.frame not in counted),
        *(_copy("leaked_frame", "a view that no other split has", copy, frames) for copy in leaked),
    ]


def _near_copies(frames: Sequence[Frame], seen: Sequence[FrameInspection], closer_than: int) -> list[Problem]:
    """Near-copies within one video, without exact ones, which are problems."""
    videos = duplicates.by_key((frame.split, frame.video) for frame in frames).values()
    exact = {copy.frame for copy in duplicates.exact_duplicates(frames, [each.digest for each in seen])}
    copies = duplicates.near_duplicates(videos, [each.hash for each in seen], closer_than)
    return [_copy("near_copy", "a new view", copy, frames) for copy in copies if copy.frame not in exact]


def _copy(kind: str, expected: str, copy: Duplicate, frames: Sequence[Frame]) -> Problem:
    own, other = frames[copy.frame], frames[copy.of]
    where = other.name if own.split == other.split else f"{other.split}: {other.name}"
    found = f"same bytes as {where}" if copy.distance is None else f"{copy.distance} bits from {where}"
    return Problem(Finding(kind, Action.IGNORED, own.name, expected, found), (copy.frame, copy.of))


def _confused_videos(frames: Sequence[Frame]) -> list[Problem]:
    leaked = [
        Problem(
            Finding(
                "leaked_video", Action.IGNORED, name, "one split", ", ".join(frames[each].split for each in several)
            ),
            tuple(several),
        )
        for name, several in duplicates.videos_in_two_splits(frames)
    ]
    return leaked + [
        Problem(
            Finding(
                "same_video_name", Action.IGNORED, name, "one video", ", ".join(frames[each].video for each in several)
            ),
            tuple(several),
        )
        for name, several in duplicates.videos_of_one_name(frames)
    ]


def _spellings(frames: Sequence[Frame]) -> list[Problem]:
    """One note for each unusual spelling, with how often it is used."""
    used = Counter((box.spelling, box.category) for frame in frames for box in frame.boxes if box.spelling)
    return [
        Problem(Finding("category_spelling", Action.REPAIRED, repr(spelling), category, f"{count} boxes"))
        for (spelling, category), count in sorted(used.items())
    ]
