"""What the other stages left for the report: counts, findings, histories, parity, latency."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobile_centernet.mlops import paths
from mobile_centernet.reports.run_page import (
    CheckedSet,
    ClassRow,
    Latency,
    LatencyRow,
    ParityRow,
    SplitRow,
    group_findings,
)

DATA_SETS = ("bdd100k", "ivslab")
MODELS = ("teacher", "student")
PHASES = {"pretrain": "bdd100k", "finetune": "ivslab"}
PRECISIONS = ("fp32", "fp16", "int8", "int8_cpu")
NO_CURVES = ("phase", "seconds", "learning_rate")


def read_json(path: Path) -> Any:
    """A JSON file of another stage."""
    return json.loads(path.read_text(encoding="utf-8"))


def split_rows() -> tuple[SplitRow, ...]:
    """Every split of both prepared sets."""
    return tuple(
        SplitRow(
            dataset=name,
            split=split,
            labelled=counts["states"]["labelled"],
            empty=counts["states"]["empty"],
            unlabelled=counts["states"]["unlabelled"],
            boxes=sum(counts["boxes"].values()),
            ignored=counts["ignore_boxes"],
        )
        for name in DATA_SETS
        for split, counts in _prepare_report(name)["splits"].items()
    )


def class_rows(classes: Sequence[str]) -> tuple[ClassRow, ...]:
    """Boxes and weights of ivslab's training frames."""
    weighed = read_json(paths.CLASS_WEIGHTS)["ivslab"]
    return tuple(ClassRow(name, weighed["counts"][name], weighed["weights"][name]) for name in classes)


def checked_sets() -> tuple[CheckedSet, ...]:
    """The quarantine reports of both prepare stages."""
    return tuple(_checked_set(name, _prepare_report(name)) for name in DATA_SETS)


def _checked_set(name: str, report: Mapping[str, Any]) -> CheckedSet:
    dropped: Counter[str] = Counter()
    for counts in report["splits"].values():
        dropped.update(counts["dropped"])
    return CheckedSet(
        name,
        group_findings(report["findings"]),
        dict(dropped.most_common()),
        leaked_frames=sum(report["alike"]["leaked_frames"].values()),
        leaked_videos=len(report["alike"]["leaked_videos"]),
    )


def _prepare_report(name: str) -> Any:
    return read_json(paths.PREPARED / name / "report.json")


def history(model: str, phase: str) -> list[dict[str, float]]:
    """Epoch by epoch: `epoch`, every loss term and mAP@0.5."""
    lines = (paths.MODELS / model / paths.HISTORY_FILE).read_text(encoding="utf-8").splitlines()
    records = [record for record in map(json.loads, lines) if record["phase"] == phase]
    return [{key: value for key, value in record.items() if key not in NO_CURVES} for record in records]


def parity_rows() -> tuple[ParityRow, ...]:
    """One row a precision that was exported or withdrawn, one an engine that was built."""
    report = read_json(paths.PARITY)
    rows = {name: report[name] for name in PRECISIONS if name in report}
    rows |= {f"engine, {name}": row for name, row in report["engine"]["measured"].items()}
    return tuple(
        ParityRow(
            precision=name,
            file=row["file"],
            bytes=row["bytes"],
            map50=row["map50"],
            map50_drop=row["map50_drop"],
            limit=row["limits"]["map50_drop"],
            passed=row["passed"],
            differences={_with_unit(tensor): tensor["max_abs"] for tensor in row["tensors"]},
            status=row["status"],
        )
        for name, row in rows.items()
    )


def _with_unit(tensor: Mapping[str, Any]) -> str:
    name, unit = tensor["tensor"], tensor["unit"]
    return str(name) if unit == "1" else f"{name} ({unit})"


def latency() -> Latency:
    """What the bench stage measured."""
    document = read_json(paths.LATENCY)
    machine = document["machine"]
    rows = tuple(
        LatencyRow(
            model=row["model"].removeprefix("model.").removesuffix(".onnx"),
            runs_on=row["runs_on"],
            **row["latency_ms"],
            per_second=row["throughput_per_s"],
            peak_mib=row["peak_memory_mib"],
            parts={part: values["p50"] for part, values in row["parts_ms"].items()},
        )
        for row in document["models"]
    )
    measured_on = (
        f"{document['runs']} pictures ({document['picture']}) after {document['warm_up']} to warm up, on "
        f"{machine['cores']} cores ({machine['processor']}) at a load of {machine['load']:.1f}"
    )
    return Latency(rows, measured_on)
