"""`mobile-centernet`: what the commands are called and take. What they do is imported when one runs.

Exit codes: 0 done; 1 `data check` found problems; 2 an error that the user can mend, told in one sentence; 3 done,
except for some bad items.
"""

import re
from importlib.metadata import entry_points
from pathlib import Path

import click

from mobile_centernet import __version__
from mobile_centernet.errors import UserError

USER_ERROR = 2
PLUG_INS = "mobile_centernet.commands"
MODEL_HELP = "A .onnx, .safetensors or .engine file, or models:/NAME@ALIAS."


class InputSize(click.ParamType[tuple[int, int]]):
    """WIDTHxHEIGHT on the command line, (height, width) in Python."""

    name = "WIDTHxHEIGHT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        sides = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", str(value))
        if sides is None:
            self.fail(f"expected WIDTHxHEIGHT such as 576x320, found {value!r}", param, ctx)
        width, height = int(sides[1]), int(sides[2])
        if width % 32 or height % 32:
            self.fail(f"expected sides in multiples of 32, found {value}", param, ctx)
        return height, width


class Commands(click.Group):
    """Every command's UserError becomes one sentence on stderr and exit code 2.

    Packages above this one, which it may not import, add commands of their own by entry points of the group PLUG_INS.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group=PLUG_INS).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is None and (found := entry_points(group=PLUG_INS, name=cmd_name)):
            loaded: click.Command = next(iter(found)).load()
            return loaded
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(USER_ERROR)


@click.group(cls=Commands)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Mobile CenterNet: a small, distilled traffic detector for embedded devices."""


@main.command()
@click.argument("model", required=False)
@click.option("--all", "all_models", is_flag=True, help="Every model of the table, side by side.")
@click.option("--classes", type=click.IntRange(min=1), default=10, show_default=True, help="Classes to detect.")
@click.option("--size", type=InputSize(), default="576x320", show_default=True, help="Input size.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def info(model: str | None, all_models: bool, classes: int, size: tuple[int, int], as_json: bool) -> None:
    """Print parameters and cost of MODEL, such as hrnet_w16, or of all models, beside the paper's figures."""
    if (model is None) != all_models:
        raise click.UsageError("expected either a MODEL or --all")
    from mobile_centernet.cli.info import info, info_all

    if model is None:
        info_all(classes, size, as_json)
    else:
        info(model, classes, size, as_json)


@main.command()
@click.argument("source", metavar="SOURCE")
@click.option("--model", metavar="MODEL", required=True, help=MODEL_HELP)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option(
    "--threshold", "thresholds", multiple=True, default=("0.3",), show_default=True, help="SCORE, or CLASS=SCORE."
)
@click.option("--no-drawing", is_flag=True, help="Only the lists.")
@click.option("--frames", type=click.IntRange(min=1), help="Stop a video or camera after so many frames.")
@click.pass_context
def predict(
    ctx: click.Context,
    source: str,
    model: str,
    out: Path,
    thresholds: tuple[str, ...],
    no_drawing: bool,
    frames: int | None,
) -> None:
    """Draw detections on SOURCE: a picture, all below a folder, a video file, or a camera's number (until Ctrl-C).

    OUT/detections.json lists all, results.json is for pycocotools, detections.csv is as the competition wants it.
    Exit code 3: some pictures or frames could not be read; they are listed under "errors".
    """
    from mobile_centernet.cli.predict import predict

    ctx.exit(predict(source, model, out, thresholds, not no_drawing, frames))


@main.command()
@click.argument("model", metavar="MODEL")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--split", help="Which split.  [default: test, else val, of a prepared set; all of a raw one]")
@click.option("--images", type=click.Path(path_type=Path), help="Where the pictures of a COCO file lie.")
@click.option("--map", "mappings", multiple=True, metavar="CATEGORY=CLASS", help="CATEGORY= drops one.")
@click.option(
    "--unmapped",
    type=click.Choice(["refuse", "drop", "ignore"]),
    default="refuse",
    show_default=True,
    help="Categories without a class.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.pass_context
def evaluate(
    ctx: click.Context,
    model: str,
    data: Path,
    split: str | None,
    images: Path | None,
    mappings: tuple[str, ...],
    unmapped: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Print mAP@0.5 and AP by class of MODEL on DATA: a prepared set, raw BDD100K or ivslab, a COCO folder or file.

    MODEL is a .onnx, .safetensors or .engine file or models:/NAME@ALIAS. Exit code 3: some frames could not be read.
    """
    from mobile_centernet.cli.evaluate import evaluate

    ctx.exit(evaluate(model, data, split, images, mappings, unmapped, threads, as_json))


@main.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--size", "sizes", type=InputSize(), multiple=True, help="Input size of checkpoints; may be repeated.")
@click.option("--picture", type=click.Path(path_type=Path), help="A JPEG.  [default: one of 1280x720, made here]")
@click.option("--runs", type=click.IntRange(min=1), default=50, show_default=True, help="Measured pictures a model.")
@click.option("--warm-up", type=click.IntRange(min=0), default=5, show_default=True, help="Pictures before these.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def bench(
    models: tuple[str, ...],
    sizes: tuple[tuple[int, int], ...],
    picture: Path | None,
    runs: int,
    warm_up: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure latency, throughput and memory of each MODEL, end to end and by part; they take turns in one run."""
    from mobile_centernet.cli.bench import bench

    bench(models, sizes, picture, runs, warm_up, threads, as_json)


@main.group()
def data() -> None:
    """Check a data set, look at it, hand it to other tools."""


@data.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--layout", type=click.Choice(["bdd100k", "ivslab", "prepared"]), help="How SOURCE lies on disk.  [default: detect]"
)
@click.option("--categories", help="Expected categories, separated by commas.  [default: the layout's own]")
@click.option(
    "--near", type=click.IntRange(0, 256), default=40, show_default=True, help="Closer views are copies; bits of 256."
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output, every finding included.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Also write a page with pictures of each kind.")
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
    """Decode, compare and count everything in SOURCE: raw BDD100K, raw ivslab, or a prepared set.

    Exit code 0: clean. 1: there are problems. 2: there is nothing that could be checked.
    """
    from mobile_centernet.cli.data import check

    ctx.exit(check(source, layout, categories, near, as_json, page))


@data.command()
@click.argument("root", metavar="SET", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="PNG to write.")
@click.option("--split", help="Which split.  [default: train, else the first]")
@click.option("--n", "count", type=click.IntRange(min=1), default=12, show_default=True, help="Frames to draw.")
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses the frames.")
@click.pass_context
def show(ctx: click.Context, root: Path, out: Path, split: str | None, count: int, seed: int) -> None:
    """Draw a contact sheet of the prepared SET, boxes included. Exit code 3: some pictures could not be read."""
    from mobile_centernet.cli.data import show

    ctx.exit(show(root, out, split, count, seed))


@data.command()
@click.argument("root", metavar="SET", type=click.Path(path_type=Path))
@click.option("--format", "format_", type=click.Choice(["coco", "yolo"]), required=True, help="Whose files.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New or empty folder to write.")
@click.pass_context
def export(ctx: click.Context, root: Path, format_: str, out: Path) -> None:
    """Write the prepared SET as plain pictures and annotations for FiftyOne, CVAT, Ultralytics, pycocotools.

    Exit code 3: some pictures could not be read and were left out.
    """
    from mobile_centernet.cli.data import export

    ctx.exit(export(root, format_, out))


@main.group()
def bundle() -> None:
    """Releases for devices: build, sign, verify and inspect the one file that holds a release (docs/edge.md)."""


@bundle.command("build")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", "models", type=click.Path(path_type=Path), multiple=True, required=True, help="An .onnx file.")
@click.option(
    "--picture", "pictures", type=click.Path(path_type=Path), multiple=True, required=True, help="A golden picture."
)
@click.option("--name", default="mobile-centernet", show_default=True, help="Name of the model.")
@click.option("--version", required=True, help="Version of the model, such as the registry's.")
@click.option("--release", type=click.IntRange(min=1), required=True, help="Grows by every release.")
@click.option("--threshold", multiple=True, default=("0.3",), show_default=True, help="SCORE or CLASS=SCORE.")
@click.option("--latency", multiple=True, required=True, help="Budget a picture: MS or DEVICE_PROFILE=MS.")
@click.option("--lineage", multiple=True, metavar="NAME=VALUE", help="Where it comes from, such as git_commit=...")
@click.option("--card", type=click.Path(path_type=Path), help="Model card in markdown; one is written otherwise.")
def bundle_build(
    out: Path,
    models: tuple[Path, ...],
    pictures: tuple[Path, ...],
    name: str,
    version: str,
    release: int,
    threshold: tuple[str, ...],
    latency: tuple[str, ...],
    lineage: tuple[str, ...],
    card: Path | None,
) -> None:
    """Write the unsigned bundle OUT: a --model of each precision, a --picture or more for devices' self-test."""
    from mobile_centernet.cli.bundle import build

    build(out, models, pictures, (name, version, release), threshold, latency, lineage, card)


@bundle.command("sign")
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), required=True, help="A private key made by keygen.")
def bundle_sign(path: Path, key: Path) -> None:
    """Add a signature to BUNDLE. Several keys may sign, so that keys can be changed."""
    from mobile_centernet.cli.bundle import sign

    sign(path, key)


@bundle.command("verify")
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--trust", type=click.Path(path_type=Path), multiple=True, required=True, help="A .pub, or a folder.")
@click.option("--revoked", type=click.Path(path_type=Path), help="List of key ids that are trusted no longer.")
def bundle_verify(path: Path, trust: tuple[Path, ...], revoked: Path | None) -> None:
    """Check every byte of BUNDLE against a trusted signature. Exit code 2 when anything is wrong."""
    from mobile_centernet.cli.bundle import verify

    verify(path, trust, revoked)


@bundle.command("inspect")
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The manifest as it is.")
def bundle_inspect(path: Path, as_json: bool) -> None:
    """Show what is in BUNDLE, whoever signed it."""
    from mobile_centernet.cli.bundle import inspect

    inspect(path, as_json)


@bundle.command("keygen")
@click.argument("path", metavar="KEY", type=click.Path(path_type=Path))
def bundle_keygen(path: Path) -> None:
    """Make a signing key: KEY (private, mode 0600) and KEY.pub. Existing files are never overwritten."""
    from mobile_centernet.cli.bundle import keygen

    keygen(path)
