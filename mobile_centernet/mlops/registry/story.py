"""What MLflow shows of a version: numbers on the run behind it, and a card, both made from the version's files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mobile_centernet.mlops import paths
from mobile_centernet.mlops.lineage import flatten
from mobile_centernet.mlops.params import Bundle
from mobile_centernet.tables import as_markdown, markdown_table


@dataclass(frozen=True)
class VersionStory:
    """Params by dotted name, numbers by name, and the card in Markdown."""

    params: Mapping[str, str]
    metrics: Mapping[str, float]
    card: str


def version_story(folder: Path, name: str, tags: Mapping[str, str]) -> VersionStory:
    """Tell of the version whose files are in `folder`.

    Args:
        folder: what `version_files.pack` filled.
        name: of the registered model.
        tags: of the version, its lineage.

    Returns:
        AP@0.5 of both networks and every class, and for each exported precision its mAP@0.5, MiB and, where
        data/reports/latency.json is of these very files, the median of milliseconds per image here. The card also says
        what devices are told beside the files.
    """
    params, scores, parity, manifest = (
        yaml.safe_load((folder / file).read_text(encoding="utf-8"))  # JSON is YAML
        for file in (paths.PARAMS.name, paths.METRICS.name, paths.PARITY.name, "manifest.json")
    )
    metrics: dict[str, float] = {}
    for role in paths.ROLES:
        metrics[f"{role}.map50"] = scores[role]["map50"]
        known = {label: value for label, value in scores[role]["ap50"].items() if value is not None}
        metrics |= {f"{role}.ap50.{label}": value for label, value in known.items()}
    timed: dict[str, Any] = {}
    if paths.LATENCY.is_file():
        measured = json.loads(paths.LATENCY.read_text(encoding="utf-8"))["models"]
        timed = {Path(row["model"]).name: row["latency_ms"]["p50"] for row in measured}
    files = []
    for file, facts in manifest["files"].items():
        if file.endswith(".onnx"):
            precision = file.split(".")[1]
            metrics[f"{precision}.mib"] = facts["bytes"] / 2**20
            if (own := parity.get(precision, {}).get("map50")) is not None:
                metrics[f"{precision}.map50"] = own
            if file in timed:
                metrics[f"{precision}.latency_ms"] = timed[file]
            numbers = [metrics.get(f"{precision}.{what}") for what in ("map50", "mib", "latency_ms")]
            files.append((file, *("-" if value is None else f"{value:.3f}" for value in numbers)))

    both = ("student", "teacher")
    rows = [("all", *(f"{metrics[f'{role}.map50']:.3f}" for role in both))]
    for label in manifest["classes"]:
        found = [metrics.get(f"{role}.ap50.{label}") for role in both]
        rows.append((label, *("-" if value is None else f"{value:.3f}" for value in found)))
    size = "{width}x{height}".format(**manifest["input_size"])
    told = Bundle.model_validate(params["register"].get("bundle", {}))
    least, most = (
        ", ".join(f"{value:g}{unit} ({as_markdown(key)})" for key, value in each.items())
        for each, unit in ((told.thresholds, ""), (told.latency_ms, " ms"))
    )
    sections = [
        f"{manifest['model']}, {size}: finds {as_markdown(', '.join(manifest['classes']))}.",
        f"AP@0.5, measured on {as_markdown(tags.get('measured_on', 'unknown frames'))}:",
        markdown_table(("class", *both), rows),
        "Files, with latency per image on the machine that trained:",
        markdown_table(("file", "mAP@0.5", "MiB", "median ms"), files),
        f"Devices show boxes that score at least {least}, and may take {most} for an image. They run what "
        "`mobile-centernet promote` made the champion; MLflow's own button, Promote model, only copies a version.",
        f"Made by commit {tags.get('git_commit', 'unknown')}. To try it, with its number for VERSION: "
        f"`mobile-centernet predict SOURCE --model models:/{name}/VERSION --out OUT`.",
    ]
    return VersionStory({key: str(value) for key, value in flatten(params)}, metrics, "\n\n".join(sections))
