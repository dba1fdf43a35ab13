"""What the other stages left for the report: counts, findings, histories, parity, latency."""

import json
from collections import Counter
from collections.abc import Sequence
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

PRECISIONS = ("fp32", "fp16", "int8", "int8_cpu")
NO_CURVES = ("seconds", "cpu_seconds", "learning_rate")


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
        for name in paths.DATA_SETS
        for split, counts in _prepare_report(name)["splits"].items()
    )


def class_rows(classes: Sequence[str]) -> tuple[ClassRow, ...]:
    """Boxes and weights of ivslab's training frames."""
    weighed = read_json(paths.CLASS_WEIGHTS / "ivslab.json")
    return tuple(ClassRow(name, weighed["counts"][name], weighed["weights"][name]) for name in classes)


def checked_sets() -> tuple[CheckedSet, ...]:
    """The quarantine reports of both prepare stages."""
    checked = []
    for name in paths.DATA_SETS:
        report = _prepare_report(name)
        dropped: Counter[str] = Counter()
        for counts in report["splits"].values():
            dropped.update(counts["dropped"])
        leaked = {kind: report["alike"][f"leaked_{kind}"] for kind in ("frames", "videos")}
        checked.append(
            CheckedSet(
                name,
                group_findings(report["findings"]),
                dict(dropped.most_common()),
                leaked_frames=sum(leaked["frames"].values()),
                leaked_videos=len(leaked["videos"]),
            )
        )
    return tuple(checked)


def _prepare_report(name: str) -> Any:
    return read_json(paths.PREPARED / name / "report.json")


def history(training: str) -> list[dict[str, float]]:
    """Epoch by epoch of one of the trainings: `epoch`, every loss term and mAP@0.5."""
    lines = (paths.MODELS / training / paths.HISTORY_FILE).read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in NO_CURVES} for line in lines]


def parity_rows() -> tuple[ParityRow, ...]:
    """One row per precision that was exported or withdrawn, and per engine that was built."""
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
            differences={
                each["tensor"] if each["unit"] == "1" else f"{each['tensor']} ({each['unit']})": each["max_abs"]
                for each in row["tensors"]
            },
            status=row["status"],
        )
        for name, row in rows.items()
    )


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
        f"{document['runs']} images ({document['picture']}) after {document['warm_up']} to warm up, on "
        f"{machine['cores']} cores ({machine['processor']}) at a load of {machine['load']:.1f}"
    )
    return Latency(rows, measured_on)
