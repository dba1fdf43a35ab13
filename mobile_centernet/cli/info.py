"""`mobile-centernet info`: how large, how costly and how slow models are, next to what the paper says."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import click
import torch

from mobile_centernet.cli.options import InputSizeParam, json_option
from mobile_centernet.inference.benchmark import BareNetwork, Pace, take_turns
from mobile_centernet.models.complexity import count
from mobile_centernet.models.variants import MODELS, build_model
from mobile_centernet.processes import processor_name
from mobile_centernet.tables import text_table

NOTE = """\
params, conv GMACs: every weight, and every multiply-accumulate of the convolutions, of the model with its heads.
thop-2020 G: what the tool thop counted in 2020, which the paper quotes as GFLOPs.
paper: Table 2 of "Mobile CenterNet for Embedded Deep Learning Object Detection", at 10 classes and 576x320."""
RUNS, WARM_UP = 15, 2
LATENCY_NOTE = f"""\
CPU ms: one image through the exported network, untrained, on one thread, in turns, median of {RUNS}; -: deformable
convolutions cannot be exported. Measured on"""


@dataclass(frozen=True)
class ModelCost:
    """One model as counted and measured here, beside the paper's figures (10 classes, 576×320); None: there is none."""

    model: str
    params: int
    conv_gmacs: float
    thop_2020_g: float
    paper_params_m: float | None
    paper_gflops: float | None
    cpu_ms: float | None
    classes: int
    size: str


@click.command()
@click.argument("model", required=False)
@click.option("--all", "all_models", is_flag=True, help="Compare all models.")
@click.option("--classes", type=click.IntRange(min=1), default=10, show_default=True, help="Number of classes.")
@click.option("--size", type=InputSizeParam(), default="576x320", show_default=True, help="Input size.")
@click.option("--latency", is_flag=True, help="Also measure latency on this machine (minutes with --all).")
@json_option
def info(
    model: str | None, all_models: bool, classes: int, size: tuple[int, int], latency: bool, as_json: bool
) -> None:
    """Print parameters and cost of MODEL, such as hrnet_w16, or of all models, beside the paper's figures."""
    if (model is None) != all_models:
        raise click.UsageError("expected either a MODEL or --all")
    costs: list[ModelCost] = []
    names = [model] if model else list(MODELS)
    taken = _measure(names, classes, size) if latency else {}
    for name in names:
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
                cpu_ms=taken.get(name),
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
            *([("CPU ms", f"{cost.cpu_ms:.1f}" if cost.cpu_ms else "- (cannot be exported)")] if latency else []),
            ("classes", str(cost.classes)),
            ("input size", cost.size),
        )
        click.echo(text_table(card, "<"))
        return

    table: list[tuple[str, ...]] = [("model", "params", "conv GMACs", "thop-2020 G", "paper params M", "paper GFLOPs")]
    if latency:
        table[0] += ("CPU ms", "of hrnet_w16's")
    for cost in costs:
        counted = (cost.model, f"{cost.params:,}", f"{cost.conv_gmacs:.2f}", f"{cost.thop_2020_g:.2f}")
        figures = ["-" if figure is None else f"{figure:g}" for figure in (cost.paper_params_m, cost.paper_gflops)]
        if latency:
            of = cost.cpu_ms and taken["hrnet_w16"] and cost.cpu_ms / taken["hrnet_w16"]
            figures += [f"{cost.cpu_ms:.1f}" if cost.cpu_ms else "-", f"{of:.2f}" if of else "-"]
        table.append((*counted, *figures))
    note = f"{NOTE}\n{LATENCY_NOTE} {processor_name()}." if latency else NOTE
    click.echo(f"{costs[0].classes} classes, {costs[0].size}\n\n{text_table(table, '<>')}\n\n{note}")


def _measure(names: Sequence[str], classes: int, size: tuple[int, int]) -> dict[str, float]:
    """CPU milliseconds of each network that can be exported, (height, width) in, taking turns."""
    from mobile_centernet.export.onnx import export_onnx  # here, since it takes a second

    networks: dict[str, BareNetwork] = {}
    for name in names:
        if getattr(MODELS[name].backbone, "deformable", False):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{name}.onnx")
            labels = [str(number) for number in range(classes)]
            export_onnx(
                build_model(name, classes).eval(),
                path,
                classes=labels,
                input_size=size,
                k=min(100, size[0] * size[1] // 16),
            )
            networks[name] = BareNetwork.open(path, size, Pace(threads=1))
    if networks:
        take_turns(list(networks.values()), b"", RUNS, WARM_UP)
    return {name: median(moment.cpu for moment in network.taken) for name, network in networks.items()}
