"""`mobile-centernet bench`: how long an image takes, end to end and by part; several models take turns in one run."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from mobile_centernet.cli.options import InputSizeParam, json_option, threads_option
from mobile_centernet.inference.benchmark import PARTS, time_models
from mobile_centernet.tables import text_table


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--size", "sizes", type=InputSizeParam(), multiple=True, help="Input size of checkpoints; repeatable.")
@click.option("--picture", type=click.Path(path_type=Path), help="A JPEG.  [default: one of 1280x720, made here]")
@click.option("--runs", type=click.IntRange(min=1), default=50, show_default=True, help="Measured images per model.")
@click.option("--warm-up", type=click.IntRange(min=0), default=5, show_default=True, help="Images that do not count.")
@threads_option
@json_option
def bench(
    models: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    picture: Path | None,
    runs: int,
    warm_up: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure latency, throughput and memory of each MODEL, end to end and by part; they take turns in one run."""
    document = time_models(models, sizes, picture, runs, warm_up, threads)
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    machine = document["machine"]
    whole: list[tuple[str, ...]] = [("end to end", "runs on", "p50 ms", "p95 ms", "p99 ms", "per second", "peak MiB")]
    parts: list[tuple[str, ...]] = [("by part, p50 ms", *PARTS)]
    for row in document["models"]:
        name = f"{row['model']} {row['input_size']['width']}x{row['input_size']['height']}"
        latency = (f"{row['latency_ms'][key]:.1f}" for key in ("p50", "p95", "p99"))
        memory = f"{row['peak_memory_mib']:.0f}" if row["peak_memory_mib"] else "-"
        whole.append((name, row["runs_on"], *latency, f"{row['throughput_per_s']:.1f}", memory))
        by_part = row["parts_ms"]
        parts.append((name, *(f"{by_part[part]['p50']:.2f}" if part in by_part else "-" for part in PARTS)))
    click.echo(
        f"{document['runs']} images each after {document['warm_up']}, in turns; image: {document['picture']}; "
        f"{machine['cores']} cores ({machine['processor']}), threads {machine['threads'] or 'as they like'}, "
        f"load {machine['load']:.1f}\n\n{text_table(whole, '<<>')}\n\n{text_table(parts, '<>')}"
    )
