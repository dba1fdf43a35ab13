"""`mobile-centernet bench`: how long a picture takes, end to end and by part; several models take turns in one run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mobile_centernet.inference.benchmark import PARTS, time_models


def bench(
    models: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    picture: Path | None,
    runs: int,
    warm_up: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Print two tables, or the same as JSON. Raises UserError where a model or the picture cannot be used."""
    document = time_models(models, sizes, picture, runs, warm_up, threads)
    click.echo(json.dumps(document, indent=2, ensure_ascii=False) if as_json else _tables(document))


def _tables(document: Mapping[str, Any]) -> str:
    rows = document["models"]
    names = [f"{row['model']} {row['input_size']['width']}x{row['input_size']['height']}" for row in rows]
    machine = document["machine"]
    return "\n".join([
        f"{document['runs']} pictures each after {document['warm_up']}, in turns; picture: {document['picture']}; "
        f"{machine['cores']} cores ({machine['processor']}), threads {machine['threads'] or 'as they like'}, "
        f"load {machine['load']:.1f}",
        "",
        *_table(
            ["end to end", "runs on", "p50 ms", "p95 ms", "p99 ms", "per second", "peak MiB"],
            [
                [
                    name,
                    row["runs_on"],
                    *(f"{value:.1f}" for value in row["latency_ms"].values()),
                    f"{row['throughput_per_s']:.1f}",
                    f"{row['peak_memory_mib']:.0f}" if row["peak_memory_mib"] else "-",
                ]
                for name, row in zip(names, rows, strict=True)
            ],
        ),
        "",
        *_table(
            ["by part, p50 ms", *PARTS],
            [
                [name, *(f"{row['parts_ms'][part]['p50']:.2f}" if part in row["parts_ms"] else "-" for part in PARTS)]
                for name, row in zip(names, rows, strict=True)
            ],
        ),
    ])  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in (head, *rows)
    ]
