"""`mobile-centernet`: what the commands are called and take. What they do is imported when one runs.

Exit codes: 0 done; 2 an error that the user can mend, told in one sentence; 3 done, except for some bad items.
"""

import re
from pathlib import Path

import click

from mobile_centernet import __version__
from mobile_centernet.errors import UserError

USER_ERROR = 2


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
    """Every command's UserError becomes one sentence on stderr and exit code 2."""

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
@click.argument("model")
@click.option("--classes", type=click.IntRange(min=1), default=10, show_default=True, help="Classes to detect.")
@click.option("--size", type=InputSize(), default="576x320", show_default=True, help="Input size.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def info(model: str, classes: int, size: tuple[int, int], as_json: bool) -> None:
    """Print parameters and cost of MODEL, such as hrnet_w16."""
    from mobile_centernet.commands.info import info

    info(model, classes, size, as_json)


@main.command()
@click.argument("source", metavar="IMAGE_OR_DIR", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), required=True, help="An exported .onnx file.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="Least score.")
@click.pass_context
def predict(ctx: click.Context, source: Path, model: Path, out: Path, threshold: float) -> None:
    """Draw detections on one picture, or on all below a folder, and list them in OUT/detections.json.

    Exit code 3: some pictures could not be read; they are listed under "errors".
    """
    from mobile_centernet.commands.predict import predict

    ctx.exit(predict(source, model, out, threshold))
