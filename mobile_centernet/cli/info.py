"""`mobile-centernet info`: how large and how costly models are, next to what the paper says."""

import json
from dataclasses import asdict, dataclass

import click
import torch

from mobile_centernet.cli.options import InputSizeParam, json_option
from mobile_centernet.models.complexity import count
from mobile_centernet.models.variants import MODELS, build_model
from mobile_centernet.tables import text_table

NOTE = """\
params, conv GMACs: every weight, and every multiply-accumulate of the convolutions, of the model with its heads.
thop-2020 G: what the tool thop counted in 2020, which the paper quotes as GFLOPs.
paper: Table 2 of "Mobile CenterNet for Embedded Deep Learning Object Detection", at 10 classes and 576x320."""


@dataclass(frozen=True)
class ModelCost:
    """One model as counted here, and the paper's figures for it (10 classes, 576×320), None where it is not there."""

    model: str
    params: int
    conv_gmacs: float
    thop_2020_g: float
    paper_params_m: float | None
    paper_gflops: float | None
    classes: int
    size: str


@click.command()
@click.argument("model", required=False)
@click.option("--all", "all_models", is_flag=True, help="Every model of the table, side by side.")
@click.option("--classes", type=click.IntRange(min=1), default=10, show_default=True, help="Classes to detect.")
@click.option("--size", type=InputSizeParam(), default="576x320", show_default=True, help="Input size.")
@json_option
def info(model: str | None, all_models: bool, classes: int, size: tuple[int, int], as_json: bool) -> None:
    """Print parameters and cost of MODEL, such as hrnet_w16, or of all models, beside the paper's figures."""
    if (model is None) != all_models:
        raise click.UsageError("expected either a MODEL or --all")
    costs = []
    for name in [model] if model else MODELS:
        with torch.device("meta"):  # shapes alone: nothing is allocated or initialised
            network = build_model(name, classes)
        complexity, published = count(network, size), MODELS[name].paper
        costs.append(
            ModelCost(
                model=name,
                params=complexity.params,
                conv_gmacs=complexity.conv_macs / 1e9,
                thop_2020_g=complexity.thop_2020 / 1e9,
                paper_params_m=published.params_m if published else None,
                paper_gflops=published.gflops if published else None,
                classes=classes,
                size=f"{size[1]}x{size[0]}",
            )
        )
    if as_json:
        # ResNet-50's 18.8745 would become 18.88 if it were rounded to three digits first and to two by the reader.
        rows = [
            asdict(cost) | {"conv_gmacs": round(cost.conv_gmacs, 3), "thop_2020_g": round(cost.thop_2020_g, 4)}
            for cost in costs
        ]
        click.echo(json.dumps(rows[0]) if model else json.dumps(rows, indent=2))
        return

    if model:
        cost, paper = costs[0], "-"
        if cost.paper_params_m is not None:
            paper = f"{cost.paper_params_m:g} M parameters, {cost.paper_gflops:g} GFLOPs (10 classes, 576x320)"
        card = (
            ("model", cost.model),
            ("parameters", f"{cost.params:,}"),
            ("convolutions", f"{cost.conv_gmacs:.2f} GMACs per image"),
            ("thop-2020", f"{cost.thop_2020_g:.2f} G"),
            ("paper", paper),
            ("classes", str(cost.classes)),
            ("input size", cost.size),
        )
        click.echo(text_table(card, "<"))
        return

    table: list[tuple[str, ...]] = [("model", "params", "conv GMACs", "thop-2020 G", "paper params M", "paper GFLOPs")]
    for cost in costs:
        counted = (cost.model, f"{cost.params:,}", f"{cost.conv_gmacs:.2f}", f"{cost.thop_2020_g:.2f}")
        figures = ["-" if figure is None else f"{figure:g}" for figure in (cost.paper_params_m, cost.paper_gflops)]
        table.append((*counted, *figures))
    click.echo(f"{costs[0].classes} classes, {costs[0].size}\n\n{text_table(table, '<>')}\n\n{NOTE}")
