"""`mobile-centernet info`: how large and how costly a model is."""

import json

import click

from mobile_centernet.models.complexity import count
from mobile_centernet.models.registry import build_model


def info(model: str, classes: int, input_size: tuple[int, int], as_json: bool) -> None:
    """Print the model's size and cost at `input_size` (height, width). Raises ModelError for an unknown name."""
    complexity = count(build_model(model, classes), input_size)
    height, width = input_size
    facts: dict[str, str | int | float] = {
        "model": model,
        "params": complexity.params,
        "conv_gmacs": round(complexity.conv_macs / 1e9, 3),
        "classes": classes,
        "size": f"{width}x{height}",
    }
    click.echo(json.dumps(facts) if as_json else _table(facts))


def _table(facts: dict[str, str | int | float]) -> str:
    rows = (
        ("model", facts["model"]),
        ("parameters", f"{facts['params']:,}"),
        ("convolutions", f"{facts['conv_gmacs']:.2f} GMACs an image"),
        ("classes", facts["classes"]),
        ("input size", facts["size"]),
    )
    return "\n".join(f"{name:<14}{value}" for name, value in rows)
