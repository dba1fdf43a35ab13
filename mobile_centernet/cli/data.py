"""`mobile-centernet data`: is this set fit for training, what does it look like, and hand it to other tools."""

import json
import shlex
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml

from mobile_centernet.cli.outputs import SOME_FAILED, counted, save_image
from mobile_centernet.data.annotations import FrameState, RawSet
from mobile_centernet.data.check.checks import BOX_SIZES, NOTES, PROBLEMS, CheckReport
from mobile_centernet.data.check.checks import check as check_source
from mobile_centernet.data.prepare.subsample import set_aside
from mobile_centernet.data.readers.layouts import Layout, SourceFrame, read_source
from mobile_centernet.data.readers.regroup import regroup
from mobile_centernet.data.similarity.perceptual import NEAR_BITS
from mobile_centernet.data.store.formats import ExportFormat, export_set
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import DataError, UserError, printable
from mobile_centernet.reports.check_page import write_check_page
from mobile_centernet.reports.drawing import BoxedImage, contact_sheet
from mobile_centernet.tables import text_table

PARAMS = Path("params.yaml")
PROBLEMS_FOUND = 1
EXAMPLES = 3
IGNORED = "ignore region"


@click.group()
def data() -> None:
    """Check a data set, look at it, hand it to other tools."""


@data.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--layout", type=click.Choice([*map(str, Layout)]), help="Dataset layout.  [default: detect]")
@click.option("--categories", help="Expected categories, separated by commas.  [default: the layout's own]")
@click.option(
    "--near",
    type=click.IntRange(0, 256),
    default=NEAR_BITS,
    show_default=True,
    help="Hamming distance below which two frames are near-duplicates.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output, every finding included.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Also write a page with images of each kind.")
@click.pass_context
def check(
    ctx: click.Context,
    source: Path,
    layout: str | None,
    categories: str | None,
    near: int,
    as_json: bool,
    page: Path | None,
) -> None:
    """Decode, compare and count everything in SOURCE: a raw set in any layout, or a prepared one.

    Where params.yaml's fetch stages take SOURCE, its class map, videos and splits are those of that pipeline.

    Exit code 0: clean. 1: there are problems. 2: there is nothing that could be checked.
    """
    expected = None if categories is None else [each for each in categories.split(",") if each.strip()]
    if page is not None and not page.resolve().parent.is_dir():
        raise UserError(f"{page}: expected a page in an existing folder, found no {page.parent}")
    found = read_source(source, Layout(layout) if layout else None)
    if section := _section_of(source):
        if found.layout is not Layout.PREPARED:  # a prepared set has its videos and splits already
            raw = RawSet(found.root, tuple(entry.frame for entry in found.entries), found.findings)
            raw = regroup(raw, section.get("video_from"), section.get("split_file"))
            shares = {split: section["split"].get(split, 0.0) for split in ("val", "test")}
            frames = set_aside(raw.frames, shares, section["split"].get("own_val", "val"), section["seed"])
            found = replace(found, entries=tuple(map(SourceFrame, frames)), findings=raw.findings)
        expected = list(section["class_map"]) if expected is None and section.get("class_map") else expected
    report = check_source(found, expected, closer_than=near)
    lines = "\n".join(_summary(report)).split("\n")
    text = json.dumps(report.to_dict(), indent=2) if as_json else "\n".join(map(printable, lines))
    click.echo(text.encode(errors="backslashreplace").decode())  # file names need not be UTF-8
    if page is not None:
        write_check_page(page, report)
    ctx.exit(0 if report.clean else PROBLEMS_FOUND)


def _section_of(source: Path) -> dict[str, Any]:
    """What params.yaml, where there is one, says about the set that a fetch stage takes from `source` or has put there.

    Empty where no stage does. Raises UserError where params.yaml is none of a pipeline's.
    """
    if not PARAMS.is_file():
        return {}
    try:
        params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
        for name in ("bdd100k", "ivslab"):
            own = (Path(params[f"fetch_{name}"]["path"]), Path("data/raw") / name, Path("data/raw") / name / "footage")
            if source.resolve() in [path.resolve() for path in own]:
                section: dict[str, Any] = params[f"prepare_{name}"] | {"seed": params["seed"]}
                click.echo(f"as prepare_{name} in {PARAMS} says", err=True)
                return section
    except (KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{PARAMS}: expected the pipeline's settings, found {error}") from error
    return {}


def _summary(report: CheckReport) -> list[str]:
    kinds = len({problem.finding.kind for problem in report.problems})
    verdict = "clean" if report.clean else f"{len(report.problems):,} problems of {counted(kinds, 'kind')}"
    frames = f"{counted(len(report.frames), 'frame')}, layout {report.source.layout}"
    rows = [f"{report.source.root}: {verdict} ({frames})", ""]
    for title, columns, counts in (
        ("split", ("frames", "videos", *map(str, FrameState)), report.splits()),
        ("category", ("boxes", *BOX_SIZES, "ignored"), report.categories()),
    ):
        names = [name or "(none)" if row.get("known", True) else f"{name} (unknown)" for name, row in counts.items()]
        cells = [(name, *(str(row[key]) for key in columns)) for name, row in zip(names, counts.values(), strict=True)]
        rows += [text_table([(title, *columns), *cells], "<>"), ""]
    most = list(report.categories())[:8]
    cells = []
    for name, row in report.details().items():
        numbers = [row["near_duplicates"], row["leaked_frames"], *(row["boxes"].get(each, 0) for each in most)]
        cells.append((name or "(none)", *map(str, numbers)))
    rows += [text_table([("split", "near-duplicates", "leaked", *most), *cells], "<>"), ""]
    rows[-1] = "small < 32² ≤ medium < 96² ≤ large, in the image's own pixels"
    for title, problems, meanings in (("problem", report.problems, PROBLEMS), ("note", report.notes, NOTES)):
        if not problems:
            continue
        # Each kind with its number, what it means, and its first examples.
        by_kind = defaultdict(list)
        for problem in problems:
            by_kind[problem.finding.kind].append(problem.finding)
        ordered = sorted(by_kind.items(), key=lambda item: -len(item[1]))
        table = [(title, "items", ""), *((kind, str(len(found)), meanings[kind]) for kind, found in ordered)]
        head, *lines = text_table(table, "<><").splitlines()
        rows += ["", head]
        for line, (_, found) in zip(lines, ordered, strict=True):
            examples = [f"    {each.item}: expected {each.expected}, found {each.found}" for each in found[:EXAMPLES]]
            rows += [line, *examples]
            if len(found) > EXAMPLES:
                rows.append(f"    … {len(found) - EXAMPLES:,} more: --json or --html")
    if report.source.unread:
        unread = ", ".join(f"{count:,} {kind}" for kind, count in report.source.unread.items())
        rows += ["", f"files that are not read: {unread}"]
    if unknown := [name for name, row in report.categories().items() if name and not row["known"]]:
        named = shlex.quote(",".join(["...", *unknown[:5]]))  # they come from files, and this is for a shell
        rows += ["", f"If these categories are right, name all that are: --categories {named}"]
    return rows


@data.command()
@click.argument("root", metavar="SET", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="PNG to write.")
@click.option("--split", help="Split to draw.  [default: train, else the first]")
@click.option("--n", "count", type=click.IntRange(min=1), default=12, show_default=True, help="Number of frames.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed for choosing frames.")
@click.pass_context
def show(ctx: click.Context, root: Path, out: Path, split: str | None, count: int, seed: int) -> None:
    """Draw a contact sheet of the prepared SET, boxes included. Exit code 3: some images could not be read."""
    if out.suffix.lower() != ".png":
        raise UserError(f"{out}: expected a file name that ends in .png")
    if split is None:
        found = sorted(path.stem.removeprefix("annotations_") for path in root.glob("annotations_*.json"))
        if not found:
            raise UserError(f"{root}: expected a prepared set (annotations_<split>.json), found none")
        split = "train" if "train" in found else found[0]
    prepared = PreparedSet(root, split)

    # Those whose content is known, where there are any; ignore regions are drawn as one more class.
    order = np.random.default_rng(seed).permutation(len(prepared)).tolist()
    known = [number for number in order if prepared.frame(number).state is not FrameState.UNLABELLED]
    frames: list[BoxedImage] = []
    failures: list[str] = []
    for number in sorted((known or order)[:count]):
        frame = prepared.frame(number)
        boxes = np.concatenate([frame.boxes, frame.ignore_boxes])
        ignored = np.full(len(frame.ignore_boxes), len(prepared.classes), np.int64)
        try:
            frames.append(BoxedImage(prepared.image(number), boxes, np.concatenate([frame.labels, ignored])))
        except DataError as error:
            failures.append(str(error))
    if not frames:
        raise UserError(f"{root}: expected frames to show in split {split}, found none ({'; '.join(failures[:1])})")
    has_regions = any(len(prepared.classes) in frame.labels for frame in frames)
    save_image(out, contact_sheet(frames, (*prepared.classes, IGNORED) if has_regions else prepared.classes))
    click.echo(f"{counted(len(frames), 'frame')} of {len(prepared):,} in split {split} → {out}")
    for failure in failures:
        click.echo(printable(f"not shown: {failure}"), err=True)
    ctx.exit(SOME_FAILED if failures else 0)


@data.command()
@click.argument("root", metavar="SET", type=click.Path(path_type=Path))
@click.option("--format", "format_", type=click.Choice([*map(str, ExportFormat)]), required=True, help="Target format.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New or empty folder to write.")
@click.pass_context
def export(ctx: click.Context, root: Path, format_: str, out: Path) -> None:
    """Write the prepared SET as plain images and annotations for FiftyOne, CVAT, Ultralytics, pycocotools.

    Exit code 3: some images could not be read and were left out.
    """
    result = export_set(root, ExportFormat(format_), out)
    for split, counts in result.splits.items():
        click.echo(f"{split}: {counted(counts.frames, 'frame')}, {counted(counts.boxes, 'box', 'boxes')}")
    if unlabelled := sum(counts.unlabelled for counts in result.splits.values()):
        click.echo(f"left out: {unlabelled:,} unlabelled frames, which would train as background")
    if result.format is ExportFormat.YOLO:
        if regions := sum(counts.ignore_regions for counts in result.splits.values()):
            click.echo(f"left out: {regions:,} ignore regions, which YOLO cannot express")
        filled = {split for split, counts in result.splits.items() if counts.frames}
        if empty := [split for split in result.splits if split not in filled]:
            click.echo(f"left out of data.yaml: {', '.join(empty)}, of which no frame is labelled")
        if not {"train", "val"} <= filled:
            click.echo("Ultralytics trains only with both a train and a val split in data.yaml")
    click.echo(f"→ {out}")
    for item in result.damaged:
        click.echo(printable(f"left out, because its image is damaged: {item}"), err=True)
    ctx.exit(SOME_FAILED if result.damaged else 0)
