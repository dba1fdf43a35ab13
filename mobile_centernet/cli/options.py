"""Options that several commands take."""

import re
from collections.abc import Callable
from typing import Any

import click

MODEL_HELP = "A .onnx, .safetensors or .engine file, or models:/NAME@ALIAS."

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
threads_option: Decorator = click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")


class DeviceParam(click.ParamType[str]):
    """What a model runs on, as PyTorch names it."""

    name = "DEVICE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", str(value)):
            self.fail(f"expected cpu, cuda or cuda:N, found {value!r}", param, ctx)
        return str(value)


device_option: Decorator = click.option(
    "--device", type=DeviceParam(), help="cpu, cuda or cuda:N.  [default: the fastest that is here]"
)


class InputSizeParam(click.ParamType[tuple[int, int]]):
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
