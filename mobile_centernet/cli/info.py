"""`mobile-centernet info`: how large and how costly models are, beside what the paper says."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import click
import torch

from mobile_centernet.models.complexity import count
from mobile_centernet.models.variants import MODELS, build_model

NOTE = """\
params, conv GMACs: every weight, and every multiply-accumulate of the convolutions, of the model with its heads.
thop-2020 G: what the tool thop counted in 2020, which the paper quotes as GFLOPs.
paper: Table 2 of "Mobile CenterNet for Embedded Deep Learning Object Detection", at 10 classes and 576x320."""


@dataclass(frozen=True)
class Facts:
    """One model as counted here, and the paper's figures for it (10 classes, 576×320), None where it is not there."""

    model: str
    params: int
    conv_gmacs: float
    thop_2020_g: float
    paper_params_m: float | None
    paper_gflops: float | None
    classes: int
    size: str


def info(model: str, classes: int, input_size: tuple[int, int], as_json: bool) -> None:
    """Print one model's size and cost at `input_size` (height, width). Raises ModelError for an unknown name."""
    facts = _facts(model, classes, input_size)
    click.echo(json.dumps(_rounded(facts)) if as_json else _card(facts))


def info_all(classes: int, input_size: tuple[int, int], as_json: bool) -> None:
    """Print every model of the table at `input_size` (height, width), as a table or as a JSON list."""
    rows = [_facts(model, classes, input_size) for model in MODELS]
    click.echo(json.dumps([_rounded(row) for row in rows], indent=2) if as_json else _table(rows))


def _facts(model: str, classes: int, input_size: tuple[int, int]) -> Facts:
    with torch.device("meta"):  # shapes alone: nothing is allocated or initialised
        network = build_model(model, classes)
    complexity = count(network, input_size)
    paper = MODELS[model].paper
    height, width = input_size
    return Facts(
        model=model,
        params=complexity.params,
        conv_gmacs=complexity.conv_macs / 1e9,
        thop_2020_g=complexity.thop_2020 / 1e9,
        paper_params_m=paper.params_m if paper else None,
        paper_gflops=paper.gflops if paper else None,
        classes=classes,
        size=f"{width}x{height}",
    )


def _rounded(facts: Facts) -> dict[str, str | int | float | None]:
    # ResNet-50's 18.8745 would become 18.88 if it were rounded to three digits first and to two by the reader.
    return asdict(facts) | {"conv_gmacs": round(facts.conv_gmacs, 3), "thop_2020_g": round(facts.thop_2020_g, 4)}


def _card(facts: Facts) -> str:
    rows = (
        ("model", facts.model),
        ("parameters", f"{facts.params:,}"),
        ("convolutions", f"{facts.conv_gmacs:.2f} GMACs an image"),
        ("thop-2020", f"{facts.thop_2020_g:.2f} G"),
        ("paper", _paper(facts)),
        ("classes", facts.classes),
        ("input size", facts.size),
    )
    return "\n".join(f"{name:<14}{value}" for name, value in rows)


def _paper(facts: Facts) -> str:
    if facts.paper_params_m is None:
        return "-"
    return f"{facts.paper_params_m:g} M parameters, {facts.paper_gflops:g} GFLOPs (10 classes, 576x320)"


def _table(rows: Sequence[Facts]) -> str:
    title = f"{rows[0].classes} classes, {rows[0].size}"
    head = f"{'model':<16}{'params':>12}{'conv GMACs':>12}{'thop-2020 G':>13}{'paper params M':>16}{'paper GFLOPs':>14}"
    return "\n".join((title, "", head, *(_line(row) for row in rows), "", NOTE))


def _line(row: Facts) -> str:
    counted = f"{row.model:<16}{row.params:>12,}{row.conv_gmacs:>12.2f}{row.thop_2020_g:>13.2f}"
    return f"{counted}{_or_dash(row.paper_params_m):>16}{_or_dash(row.paper_gflops):>14}"


def _or_dash(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:g}"
