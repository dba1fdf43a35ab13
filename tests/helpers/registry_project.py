"""A project small enough to register and promote in a second: real prepared sets, real ONNX files, a real registry.

Every frame shows one vehicle and one pedestrian, always in the same places. An exported "model" is a graph that always
finds the boxes it was made with, so its mAP@0.5 is known.
"""

import json
import multiprocessing
import os
import signal
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from mobile_centernet.data.store.shards import ShardWriter
from mobile_centernet.files import write_json
from mobile_centernet.images.opencv import encode_jpeg
from mobile_centernet.inference.graph import INPUT, GraphMetadata
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params, load_params
from mobile_centernet.mlops.promotion.promote import AUDIT

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("vehicle", "pedestrian")
SIDE = 64
FRAMES = 12

VEHICLE, PEDESTRIAN = (4.0, 20.0, 24.0, 40.0), (40.0, 4.0, 60.0, 24.0)
GHOST = (40.0, 40.0, 60.0, 60.0)  # a pedestrian who is not there
LABELS: Mapping[tuple[float, ...], int] = {VEHICLE: 0, PEDESTRIAN: 1, GHOST: 1}

# mAP@0.5: 0, 0.5, 0.75 (a pedestrian's AP is about 0.5), 1
BLIND, HALF, SLOPPY, GOOD = (GHOST,), (VEHICLE,), (VEHICLE, PEDESTRIAN, GHOST), (VEHICLE, PEDESTRIAN)


def make_project(folder: Path) -> None:
    """Prepared sets and params; `export_model` adds what the stages before `register` leave."""
    for data_set in ("bdd100k", "ivslab"):
        for split in ("train", "val", "test"):
            write_set(folder / paths.PREPARED / data_set, split)
    for role in (paths.TEACHER, paths.STUDENT):
        (folder / role).mkdir(parents=True)
        (folder / role / paths.MODEL_FILE).write_bytes(role.name.encode())


def write_set(root: Path, split: str, *, seed: int | None = None, videos: Sequence[str] | None = None) -> None:
    """One split; frame i belongs to video `<split>-<i>.mp4` unless `videos` says otherwise."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(f"{root.name} {split}".encode()) if seed is None else seed)
    shard_folder = root / f"shards-{split}"
    shard_folder.mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with ShardWriter(shard_folder) as shards:
        for index in range(FRAMES):
            jpeg = encode_jpeg(rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8), 80)
            video = videos[index] if videos else f"{split}-{index}.mp4"
            place = shards.add(f"{index}.jpg", jpeg)._asdict()
            place["shard"] = f"{shard_folder.name}/{place['shard']}"
            size = {"width": SIDE, "height": SIDE}
            images.append(
                {"id": index + 1, "file_name": f"{video}_{index}.jpg", "video": video, "state": "labelled"}
                | {"attributes": {}, **place, **size}
            )
            for x1, y1, x2, y2 in (VEHICLE, PEDESTRIAN):
                label = LABELS[x1, y1, x2, y2]
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": index + 1, "category_id": label + 1, "iscrowd": 0}
                    | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
                )
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
    document = {"categories": categories, "annotations": annotations, "images": images}
    write_json(root / f"annotations_{split}.json", document)


def write_params(name: str, trust: Mapping[str, Any] = {}, bundle: Mapping[str, Any] = {}, **promotion: Any) -> Params:
    """params.yaml as shipped, for another registered model and two classes, with changes in these sections."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["classes"] = list(CLASSES)
    tree["register"]["name"] = name
    tree["promotion"] |= {"resamples": 60, "max_latency_ms": 2000, **promotion}
    tree["trust"] |= trust
    tree["register"]["bundle"] |= bundle
    paths.PARAMS.write_text(yaml.safe_dump(tree))
    return load_params(paths.PARAMS)


def export_model(
    boxes: Sequence[tuple[float, ...]],
    salt: str,
    *,
    classes: Sequence[str] = CLASSES,
    parity: Mapping[str, Any] = {},
    others: Mapping[str, Sequence[tuple[float, ...]]] = {},
    weights: str | None = None,
) -> Path:
    """What `export`, `evaluate`, `report` leave of a student that finds `boxes`; `salt` makes the file another one.

    `others`: what its files of other precisions find. `weights`: which trained network it is; by default another one
    for each `salt`.
    """
    for folder in (paths.EXPORT, paths.REPORTS, paths.STUDENT):
        folder.mkdir(parents=True, exist_ok=True)
    for old in paths.EXPORT.glob("model.*.onnx"):
        old.unlink()
    (paths.STUDENT / paths.MODEL_FILE).write_text(weights or salt)
    write_model(paths.ONNX_FP32, boxes, salt, classes)
    for precision, found in others.items():
        write_model(paths.EXPORT / f"model.{precision}.onnx", found, f"{salt} {precision}", classes)
        parity = {precision: {"passed": True, "status": "exported"}, **parity}
    scores = {"map50": 0.5, "ap50": dict.fromkeys(classes, 0.5)}
    measured = {"set": "ivslab test", "source": "noise", "frames": FRAMES}
    write_json(paths.METRICS, {"teacher": scores, "student": scores, "measured_on": measured})
    fp32 = {"passed": True, "status": "exported"}
    write_json(paths.PARITY, {"torch": {}, "fp32": fp32, "engine": {"status": "engine not built"}, **parity})
    paths.REPORT.write_text("<p>report")
    return paths.ONNX_FP32


def write_model(path: Path, boxes: Sequence[tuple[float, ...]], salt: str, classes: Sequence[str] = CLASSES) -> None:
    found = {
        "boxes": np.array([boxes], np.float32),
        "scores": np.full((1, len(boxes)), 0.9, np.float32),
        "labels": np.array([[LABELS[box] for box in boxes]], np.int64),
    }
    nodes = [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(found[name])) for name in found]
    types = {"boxes": TensorProto.FLOAT, "scores": TensorProto.FLOAT, "labels": TensorProto.INT64}
    outputs = [helper.make_tensor_value_info(name, types[name], value.shape) for name, value in found.items()]
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    graph = helper.make_graph(nodes, salt, [image], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    metadata = GraphMetadata("constant", tuple(classes), (SIDE, SIDE), "fp32")
    helper.set_model_props(model, metadata.to_props())
    onnx.save(model, path)


def audit_events() -> list[str]:
    return [json.loads(line)["event"] for line in AUDIT.read_text().splitlines()] if AUDIT.exists() else []


# --- real processes, forked from one that has imported everything already -----------------------------------------

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["mlflow", "mobile_centernet.mlops.promotion.decide", "mobile_centernet.mlops.promotion.promote", "steps.register"]
)


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """`work(*arguments)` in a process of its own, in this folder; its exit code is `work`'s SystemExit."""
    process = _CONTEXT.Process(target=_in_folder, args=(str(Path.cwd()), work, arguments))
    process.start()
    return process


def ended(process: BaseProcess) -> int:
    process.join(120)
    assert process.exitcode is not None, "still running after two minutes"
    return process.exitcode


def _in_folder(folder: str, work: Callable[..., None], arguments: Sequence[Any]) -> None:
    os.chdir(folder)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    sys.stdout = sys.stderr = Path(folder, f"worker-{os.getpid()}.log").open("w")  # noqa: SIM115 ends with the process
    work(*arguments)


def promote_and_die(kill_at: int) -> None:
    """Promote; this very process is killed after its `kill_at`-th effect on the registry or the audit (0: before)."""
    from mobile_centernet.mlops.promotion import promote
    from mobile_centernet.mlops.registry.registry import Registry

    dying = _Dying(kill_at)
    for name in ("attach", "set_alias", "tag", "untag"):
        setattr(Registry, name, dying.after(getattr(Registry, name)))
    promote._audit = dying.after(promote._audit)
    sys.exit(promote.promote(load_params(paths.PARAMS)).code)


def rollback_and_die(kill_at: int) -> None:
    from mobile_centernet.mlops.promotion import promote
    from mobile_centernet.mlops.registry.registry import Registry

    dying = _Dying(kill_at)
    for name in ("set_alias", "tag", "untag"):
        setattr(Registry, name, dying.after(getattr(Registry, name)))
    promote._audit = dying.after(promote._audit)
    sys.exit(promote.rollback(load_params(paths.PARAMS), "Ann").code)


def register_and_die(kill_at: int) -> None:
    """Register; killed after the `kill_at`-th call that changes something in MLflow (0: before the first)."""
    import mlflow

    from steps.register import register

    dying = _Dying(kill_at)
    for name in REGISTRATION_EFFECTS:
        setattr(mlflow.MlflowClient, name, dying.after(getattr(mlflow.MlflowClient, name)))
    register(load_params(paths.PARAMS))


REGISTRATION_EFFECTS = (
    "create_run",
    "log_model_artifacts",
    "create_registered_model",
    "create_model_version",
    "set_registered_model_alias",
)


def promote_once() -> None:
    from mobile_centernet.mlops.promotion import promote

    sys.exit(promote.promote(load_params(paths.PARAMS)).code)


@contextmanager
def while_judged(act: Callable[[], object]) -> Iterator[None]:
    """A promotion in this block waits for `act` when it comes to reading the test set, which is a pipe meanwhile."""
    path = paths.PREPARED / "ivslab/annotations_test.json"
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)

    def feed() -> None:
        with path.open("wb") as pipe:  # waits for the reader
            act()
            path.unlink()
            path.write_bytes(content)  # for whoever reads it once more
            pipe.write(content)

    feeder = Thread(target=feed, daemon=True)
    feeder.start()
    try:
        yield
    finally:
        feeder.join(60)
        if path.is_fifo():  # nobody came to read it
            path.unlink()
            path.write_bytes(content)


def register_once() -> None:
    from steps.register import register

    register(load_params(paths.PARAMS))


def register_slowly() -> None:
    """Register, but wait before the version is made until the file `go` is there; `held` says that it waits."""
    import time

    from mobile_centernet.mlops.registry.registry import Registry

    create = Registry.create

    def wait(*arguments: Any, **named: Any) -> Any:
        Path("held").touch()
        while not Path("go").exists():
            time.sleep(0.02)
        return create(*arguments, **named)

    Registry.create = wait  # type: ignore[method-assign]
    register_once()


class _Dying:
    """Counts effects and kills this process, as the kernel's out-of-memory killer would, after one of them."""

    def __init__(self, kill_at: int) -> None:
        self.left = kill_at
        self._die_if_due()

    def after(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            result = effect(*arguments, **named)
            self.left -= 1
            self._die_if_due()
            return result

        return counted

    def _die_if_due(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
