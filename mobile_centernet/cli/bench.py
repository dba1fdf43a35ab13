"""`mobile-centernet bench`: how long an image takes, end to end and by part; several models take turns in one run."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from mobile_centernet.cli.options import InputSizeParam, device_option, json_option, threads_option
from mobile_centernet.inference.benchmark import PARTS, Pace, time_models
from mobile_centernet.tables import text_table

NOTE = """\
CPU ms: processor time of all threads, mean; of a whole image until the next one is due, where they have a pace.
By part: p50 ms on the clock / CPU ms."""


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--compare",
    type=click.Path(path_type=Path),
    multiple=True,
    help="ONNX file of any project, timed as a bare network in the same run; repeatable.",
)
@click.option("--size", "sizes", type=InputSizeParam(), multiple=True, help="Input size of checkpoints; repeatable.")
@click.option(
    "--picture", type=click.Path(path_type=Path), help="JPEG to detect on.  [default: a generated one, 1280x720]"
)
@click.option("--runs", type=click.IntRange(min=1), default=50, show_default=True, help="Measured images per model.")
@click.option(
    "--warm-up", type=click.IntRange(min=0), default=5, show_default=True, help="Warm-up images (not measured)."
)
@click.option(
    "--fps",
    type=click.FloatRange(min=0, min_open=True),
    help="Pace in images per second, like a camera.  [default: no pause]",
)
@click.option("--spinning", is_flag=True, help="Let idle threads of ONNX Runtime spin instead of sleep.")
@threads_option
@device_option
@json_option
def bench(
    models: Sequence[str],
    compare: Sequence[Path],
    sizes: Sequence[tuple[int, int]],
    picture: Path | None,
    runs: int,
    warm_up: int,
    fps: float | None,
    spinning: bool,
    threads: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Measure latency, processor time and memory of each MODEL, end to end and by part; they take turns in one run."""
    document = time_models(models, sizes, picture, runs, warm_up, Pace(threads, spinning, fps, device), compare)
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    machine = document["machine"]
    whole: list[tuple[str, ...]] = [
        ("end to end", "runs on", "p50 ms", "p95 ms", "p99 ms", "CPU ms", "per second", "peak MiB")
    ]
    parts: list[tuple[str, ...]] = [("by part, ms / CPU ms", *PARTS, "network, times the first's")]
    first = document["models"][0]["parts_ms"]["network"]["p50"]
    for row in document["models"]:
        name, by_part, cpu = row["model"], row["parts_ms"], row["parts_cpu_ms"]
        if row["input_size"]:
            name += f" {row['input_size']['width']}x{row['input_size']['height']}"
        figures = ["-"] * 5
        if row["latency_ms"]:
            figures = [f"{row['latency_ms'][key]:.1f}" for key in ("p50", "p95", "p99")]
            figures += [f"{row['cpu_ms']:.1f}", f"{row['throughput_per_s']:.1f}"]
        memory = f"{row['peak_memory_mib']:.0f}" if row["peak_memory_mib"] else "-"
        whole.append((name, row["runs_on"], *figures, memory))
        cells = (f"{by_part[part]['p50']:.2f} / {cpu[part]:.2f}" if part in by_part else "-" for part in PARTS)
        parts.append((name, *cells, f"{by_part['network']['p50'] / first:.2f}"))
    pace = f", {document['fps']:g} images a second" if document["fps"] else ""
    click.echo(
        f"{document['runs']} images each after {document['warm_up']}, in turns{pace}; image: {document['picture']}; "
        f"{machine['cores']} cores ({machine['processor']}), threads {machine['threads'] or 'as they like'}, "
        f"idle ones {'spin' if document['spinning'] else 'sleep'}, load {machine['load']:.1f}\n\n"
        f"{text_table(whole, '<<>')}\n\n{text_table(parts, '<>')}\n\n{NOTE}"
    )
