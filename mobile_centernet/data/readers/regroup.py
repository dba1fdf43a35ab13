"""Videos and splits as the user says, where paths do not say them."""

import csv
import re
from dataclasses import replace

from mobile_centernet.data.annotations import RawSet
from mobile_centernet.data.encodings import decode_text
from mobile_centernet.data.readers.common import path_parts, quarantined
from mobile_centernet.data.readers.places import PathIndex, Place, split_of
from mobile_centernet.errors import DataError


def regroup(raw: RawSet, video_from: str | None, split_file: str | None) -> RawSet:
    """The set with other videos and splits.

    Args:
        raw: what a reader found.
        video_from: a regular expression with one group, the video; searched in each image's path below the root.
        split_file: below the root, a CSV of `name,split` (a first line of just that is a heading); names are matched as
            those of labels are, images that are not in it keep their splits.

    Raises:
        DataError: an image's path does not match, the file is not there, or a line has no known split.
    """
    frames = list(raw.frames)
    paths = [frame.image.relative_to(raw.root).as_posix() for frame in frames]
    findings = []
    if video_from is not None:
        try:
            pattern = re.compile(video_from)
        except re.error as error:
            raise DataError(f"video_from: expected a regular expression, found {video_from!r} ({error})") from error
        if pattern.groups != 1:
            raise DataError(f"video_from: expected one group (...), found {pattern.groups} in {video_from!r}")
        found = [pattern.search(path) for path in paths]
        if missing := [path for path, match in zip(paths, found, strict=True) if not (match and match[1])]:
            found_there = f"{len(missing)} without, first {missing[0]}"
            raise DataError(f"{raw.root}: expected video_from {video_from!r} in every path, found {found_there}")
        frames = [replace(frame, video=match[1]) for frame, match in zip(frames, found, strict=True) if match]
    if split_file is not None:
        path = raw.root / split_file
        try:
            text = decode_text(path.read_bytes())
            separator = max(",;\t", key=text.partition("\n")[0].count)  # as spreadsheets write it
            rows = list(csv.reader(text.splitlines(), delimiter=separator))
        except (OSError, csv.Error) as error:
            raise DataError(f"{path}: expected lines of name,split ({error})") from error
        places = [
            Place(item, tuple(folders), frame.name, frame.video, frame.split, file.rpartition(".")[0])
            for item, frame in zip(paths, frames, strict=True)
            for *folders, file in [path_parts(item)]
        ]
        index = PathIndex(places)
        for number, row in enumerate(rows, start=1):
            if not row or (number == 1 and [cell.strip().lower() for cell in row] == ["name", "split"]):
                continue
            split = split_of(row[1].strip()) if len(row) == 2 else ""
            if not split:
                raise DataError(
                    f"{path}: expected name,split with train, val or test in line {number}, found {','.join(row)!r}"
                )
            match = index.find(row[0].strip())
            if match.position is None:
                found_there = ", ".join(match.candidates[:3]) or "no such image"
                kind = "ambiguous_label" if len(match.candidates) > 1 else "missing_image"
                findings.append(quarantined(kind, f"{split_file}#{number}", row[0], found_there))
            else:
                frames[match.position] = replace(frames[match.position], split=split)
    return replace(raw, frames=tuple(frames), findings=(*raw.findings, *findings))
