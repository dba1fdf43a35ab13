"""Initial weights arrive key for key, and the report accounts for every tensor of the file and of the model."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from torch import Tensor

from mobile_centernet.data.annotations import Box, Frame, FrameState, RawSet
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.errors import ModelError
from mobile_centernet.files import file_digest
from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.mlops.params import Params, load_params
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.checkpoint import load_model, save_model
from mobile_centernet.models.hrnet import HRNet, HRNetSpec
from mobile_centernet.models.pretrained import BACKBONE, TORCH_SUFFIXES, WEIGHT_KEYS, WRAPPERS, load_pretrained
from mobile_centernet.models.variants import MODELS, build_model
from mobile_centernet.training.callbacks import AtomicCheckpoints
from mobile_centernet.training.module import DetectorTraining, Schedule
from steps.train import pretrain_teacher, train_teacher

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("vehicle", "pedestrian")
HEADS = 12  # tensors: three heads of two convolutions with bias


def tiny(seed: int, num_classes: int = 2, planes: int = 2) -> CenterNet:
    """A backbone with the official names, small enough for hundreds of files."""
    torch.manual_seed(seed)
    backbone = HRNet(HRNetSpec((2, 3, 4, 5), (1, 1, 1), (1, 1, 1, 1), stage1_blocks=1, stage1_planes=planes))
    return CenterNet(backbone, 2, name="tiny", num_classes=num_classes, head_channels=3)


def body_of(model: CenterNet) -> dict[str, Tensor]:
    """The backbone's tensors under their official names."""
    return {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}


def assert_body(model: CenterNet, expected: Mapping[str, Tensor]) -> None:
    backbone = model.backbone.state_dict()
    for name, tensor in expected.items():
        assert torch.equal(backbone[name], tensor), name


def assert_untouched(model: CenterNet, before: Mapping[str, Tensor]) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


# --- Where the weights may be ----------------------------------------------------------------------------------------


def plain(backbone: dict[str, Tensor]) -> object:
    return backbone


def data_parallel(backbone: dict[str, Tensor]) -> object:
    return {f"module.{name}": tensor for name, tensor in backbone.items()}


def lightning(backbone: dict[str, Tensor]) -> object:
    return {"epoch": 3, "state_dict": {f"model.backbone.{name}": tensor for name, tensor in backbone.items()}}


def official_training(backbone: dict[str, Tensor]) -> object:
    """As the official train.py saves: the model's name under `model`."""
    return {"epoch": 210, "model": "pose_hrnet", "state_dict": data_parallel(backbone), "perf": 0.76, "optimizer": {}}


def under_model(backbone: dict[str, Tensor]) -> object:
    return {"model": {f"backbone.{name}": tensor for name, tensor in backbone.items()}, "optimizer": {"lr": 1e-3}}


@pytest.mark.parametrize("layout", [plain, data_parallel, lightning, official_training, under_model])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_layout_of_a_torch_checkpoint(
    layout: Callable[[dict[str, Tensor]], object], zipped: bool, tmp_path: Path
) -> None:
    source, model = body_of(tiny(1)), tiny(2)
    torch.save(layout(source), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    report = load_pretrained(model, tmp_path / "a.pth")
    assert_body(model, source)
    assert report.matched == tuple(BACKBONE + name for name in source)
    assert report.skipped == ()
    assert len(report.new) == HEADS
    assert f"{len(source)} of {len(source)} tensors of the backbone; the heads are new" in report.summary


def test_foreign_safetensors(tmp_path: Path) -> None:
    source, model = body_of(tiny(1)), tiny(2)
    safetensors.torch.save_file(source, tmp_path / "a.safetensors", {"format": "pt"})
    assert len(load_pretrained(model, tmp_path / "a.safetensors").matched) == len(source)
    assert_body(model, source)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    source, model = body_of(tiny(1)), tiny(2)
    torch.save({name: tensor.half() for name, tensor in source.items()}, tmp_path / "a.pt")
    load_pretrained(model, tmp_path / "a.pt")
    assert_body(model, {name: tensor.half().to(tensor.dtype) for name, tensor in source.items()})


SCORES = {
    "float64": np.float64(0.76),
    "float32": np.float32(0.76),
    "int64": np.int64(210),
    "bool": np.bool_(True),
    "in a list": [np.float64(0.1), {"best": np.float16(0.2)}],
}


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_numpy_scalars_beside_the_weights_do_no_harm(score: object, zipped: bool, tmp_path: Path) -> None:
    """As HRNet's own training saves its best score."""
    source, model = body_of(tiny(1)), tiny(2)
    content = {"epoch": 210, "perf": score, "state_dict": data_parallel(source)}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert load_pretrained(model, tmp_path / "a.pth").skipped == ()
    assert_body(model, source)


def test_numpy_1_scalars_do_no_harm(tmp_path: Path) -> None:
    """numpy 1 called the module numpy.core; pickle gives a name a length of its own, so the file is the older kind."""
    source, model = body_of(tiny(1)), tiny(2)
    file = tmp_path / "a.pth"
    torch.save({"perf": np.float64(0.7), "model": source}, file, _use_new_zipfile_serialization=False)
    content = file.read_bytes()
    assert content.count(b"cnumpy._core.multiarray\nscalar\n") == 1
    file.write_bytes(content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert load_pretrained(model, file).skipped == ()
    assert_body(model, source)


def test_no_attribute_of_numpy_is_allowed_but_scalars(tmp_path: Path) -> None:
    torch.save({"perf": np.ones(3), "model": body_of(tiny(1))}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"found 'numpy.*_reconstruct'.*weights_only=False.*torch\.save\(") as raised:
        load_pretrained(tiny(2), tmp_path / "a.pth")
    lines = str(raised.value).partition("weights alone: ")[2].replace("'weights.pth'", repr(str(tmp_path / "b.pth")))
    exec(lines.replace("content.get('state_dict'", "content.get('model'"), {})  # noqa: S102 the sentence's own lines
    source, model = body_of(tiny(1)), tiny(2)
    assert load_pretrained(model, tmp_path / "b.pth").skipped == ()
    assert_body(model, source)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wrappers=st.lists(st.sampled_from(WEIGHT_KEYS), max_size=3),
    prefixes=st.lists(st.sampled_from(WRAPPERS), max_size=3),
    suffix=st.sampled_from(TORCH_SUFFIXES),
    half=st.booleans(),
)
def test_wrappers_and_prefixes_however_nested(
    wrappers: list[str], prefixes: list[str], suffix: str, half: bool, tmp_path: Path
) -> None:
    source, model = {name: each.half() if half else each for name, each in body_of(tiny(1)).items()}, tiny(2)
    content: dict[str, object] = {"".join(prefixes) + name: tensor for name, tensor in source.items()}
    for wrapper in wrappers:
        content = {"epoch": 3, "optimizer": {"state": {0: torch.ones(1)}}, "ema": None, wrapper: content}
    torch.save(content, tmp_path / f"a{suffix}")
    report = load_pretrained(model, tmp_path / f"a{suffix}")
    assert_body(model, {name: tensor.to(torch.float32) if half else tensor for name, tensor in source.items()})
    assert (len(report.matched), report.skipped) == (len(source), ())


def test_a_mapping_that_holds_itself_comes_to_an_end(tmp_path: Path) -> None:
    content: dict[str, object] = {"epoch": 1}
    content["model"] = content
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="none that fits"):
        load_pretrained(tiny(2), tmp_path / "a.pth")


@pytest.mark.parametrize("average", [{"state_dict_ema": 1}, {"ema": {"decay": 0.9, "module": 1}}, {"ema": 1}])
def test_an_average_goes_before_the_weights_of_the_last_step(average: dict[str, Any], tmp_path: Path) -> None:
    mean, last, model = body_of(tiny(1)), body_of(tiny(3)), tiny(2)
    (key, place), *_ = average.items()
    saved = {key: {**place, "module": mean} if isinstance(place, dict) else mean}
    torch.save({"state_dict": last, **saved}, tmp_path / "a.pth")
    load_pretrained(model, tmp_path / "a.pth")
    assert_body(model, mean)


def test_the_settings_of_an_average_are_not_its_weights(tmp_path: Path) -> None:
    source, model = body_of(tiny(1)), tiny(2)
    torch.save({"ema": {"decay": 0.999, "updates": 7}, "model": source}, tmp_path / "a.pth")
    load_pretrained(model, tmp_path / "a.pth")
    assert_body(model, source)


# --- Files of ours ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(tiny(1), path, classes=CLASSES, input_size=(64, 64))
    return path


@pytest.mark.parametrize("classes", [CLASSES, None])
def test_our_own_file_for_the_same_classes_is_taken_whole(ours: Path, classes: tuple[str, ...] | None) -> None:
    source, model = tiny(1), tiny(2)
    report = load_pretrained(model, ours, classes)
    assert_untouched(model, source.state_dict())
    assert (report.skipped, report.new) == ((), ())
    assert f"{HEADS} of {HEADS} tensors of the heads" in report.summary


@pytest.mark.parametrize(
    ("num_classes", "classes"),
    [(3, None), (3, ("a", "b", "c")), (2, ("bicycle", "scooter")), (2, CLASSES[::-1])],
    ids=["more", "more by name", "as many others", "another order"],
)
def test_other_classes_bring_their_body_and_the_heads_are_new(
    ours: Path, num_classes: int, classes: tuple[str, ...] | None
) -> None:
    source, model = tiny(1), tiny(2, num_classes)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = load_pretrained(model, ours, classes)
    assert_body(model, body_of(source))
    heads = tuple(name for name in before if not name.startswith(BACKBONE))
    assert report.new == heads
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in heads)
    assert {reason for _, reason in report.skipped} == {"a head for other classes (vehicle, pedestrian)"}
    assert "the heads are new" in report.summary


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_checkpoint_of_an_unfinished_training_of_ours(ema_decay: float, tmp_path: Path) -> None:
    """As it lies in .work: Lightning's, with the student, its moving average, and the states of all else."""
    source, model = tiny(1), tiny(2)
    module = DetectorTraining(source, Criterion(), Schedule(1e-3), fingerprint="f", ema_decay=ema_decay)
    if module.average is not None:
        module.average.load_state_dict(tiny(3).state_dict())
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", plugins=[AtomicCheckpoints()])
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    report = load_pretrained(model, tmp_path / "last.ckpt", CLASSES)
    assert_untouched(model, tiny(3 if ema_decay else 1).state_dict())
    assert f"{HEADS} of {HEADS} tensors of the heads" in report.summary
    assert len(report.new) == 0
    assert len(str(report).splitlines()) <= 3, str(report)


# --- What is skipped, and why ----------------------------------------------------------------------------------------


def test_every_skipped_entry_has_its_reason(tmp_path: Path) -> None:
    source, model = body_of(tiny(1)), tiny(2)
    before = body_of(model)
    wrong: dict[str, tuple[object, str]] = {
        "conv1.weight": (torch.zeros(64, 1, 3, 3), "shape (64, 1, 3, 3) where (64, 3, 3, 3) is expected"),
        "bn1.weight": (torch.zeros(64, dtype=torch.complex64), "not a dense tensor of real numbers"),
        "bn2.bias": (torch.ones(64).to_sparse(), "not a dense tensor of real numbers"),
        "bn2.weight": ([1.0] * 64, "a list, not a tensor"),
        "module.conv2.weight": (source["conv2.weight"] + 1, "a second tensor for backbone.conv2.weight"),
        "classifier.weight": (torch.zeros(5, 5), "no such tensor in tiny"),
    }
    torch.save(source | {name: value for name, (value, _) in wrong.items()}, tmp_path / "a.pth")
    report = load_pretrained(model, tmp_path / "a.pth")
    assert dict(report.skipped) == {name: reason for name, (_, reason) in wrong.items()}
    kept = {"conv1.weight", "bn1.weight", "bn2.bias", "bn2.weight"}
    assert_body(model, {name: (before if name in kept else source)[name] for name in source})
    assert {BACKBONE + name for name in kept} <= set(report.new)


def test_every_tensor_is_accounted_for_once(tmp_path: Path) -> None:
    source, model = body_of(tiny(1, planes=4)), tiny(2)
    torch.save(source | {"extra.weight": torch.ones(1)}, tmp_path / "a.pth")
    report = load_pretrained(model, tmp_path / "a.pth")
    assert len(report.matched) + len(report.skipped) == len(source) + 1
    assert sorted(report.matched + report.new) == sorted(model.state_dict())


def test_the_report_reads_well_and_is_json(tmp_path: Path) -> None:
    torch.save(body_of(tiny(1, planes=4)) | {"final_layer.bias": torch.ones(17)}, tmp_path / "a.pth")
    report = load_pretrained(tiny(2), tmp_path / "a.pth")
    lines = str(report).splitlines()
    assert lines[0] == report.summary
    shapes = "shape (4, 64, 1, 1) where (2, 64, 1, 1) is expected"
    assert f"(layer1 20, transition1 2): another shape, as layer1.0.conv1.weight: {shapes}" in lines[1]
    assert lines[2].endswith("skipped 1 (final_layer 1): no such tensor in tiny")
    assert "heatmap_head 4, size_head 4, offset_head 4" in lines[3]
    document = json.loads(json.dumps(report.to_dict()))
    assert {"name": "final_layer.bias", "reason": "no such tensor in tiny"} in document["skipped"]
    assert document["matched"] == list(report.matched)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("bn1.weight", torch.nan, "NaN or infinity"),
        ("conv2.weight", torch.inf, "NaN or infinity"),
        ("layer1.0.bn1.running_mean", -torch.inf, "NaN or infinity"),
        ("bn2.running_var", -0.25, "the variance -0.25"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_a_training_that_diverged_are_refused(
    name: str, value: float, found: str, suffix: str, tmp_path: Path
) -> None:
    model, content, path = tiny(2), body_of(tiny(1)), tmp_path / f"a{suffix}"
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    content[name].flatten()[-1:] = value
    safetensors.torch.save_file(content, path) if suffix == ".safetensors" else torch.save({"model": content}, path)
    with pytest.raises(ModelError, match=rf"{path.name}: expected finite .* found {found} in {name}: .* earlier"):
        load_pretrained(model, path)
    assert_untouched(model, before)


# --- Files that are refused ------------------------------------------------------------------------------------------


class Malice:
    """Unpickled, it would leave a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_code_in_a_checkpoint_is_refused_and_never_run(zipped: bool, tmp_path: Path) -> None:
    content = body_of(tiny(1)) | {"payload": Malice(tmp_path / "marker")}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"a\.pth: expected .* plain values, found '(posix|nt)\.mkdir', which could"):
        load_pretrained(tiny(2), tmp_path / "a.pth")
    assert not (tmp_path / "marker").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", ["zip.pth", "legacy.pth", "safetensors"])
def test_a_damaged_file_is_one_sentence_and_leaves_the_model_alone(suffix: str, tmp_path: Path) -> None:
    """Cut anywhere, or with bytes flipped where names and shapes are."""
    path, model, scratch = tmp_path / f"a.{suffix}", tiny(2), tiny(2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if suffix == "safetensors":
        save_model(tiny(1), path, classes=CLASSES, input_size=(64, 64))
    else:
        torch.save(body_of(tiny(1)), path, _use_new_zipfile_serialization=suffix == "zip.pth")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    cuts = [whole[:size] for size in rng.integers(0, len(whole) - 1, 40)]
    flips = []
    for _ in range(80):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(0, min(len(whole), 20_000), 30)] ^= rng.integers(1, 256, 30).astype(np.uint8)
        flips.append(damaged.tobytes())
    refused = 0
    for content in cuts + flips:
        path.write_bytes(content)
        try:
            load_pretrained(scratch, path)  # some flips hit a value alone, which a format without checksum cannot tell
        except ModelError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
            with pytest.raises(ModelError):
                load_pretrained(model, path)
    assert refused >= len(cuts)
    assert_untouched(model, before)


def test_one_flipped_bit_of_a_weight_is_found_by_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(body_of(tiny(1)), path)
    content = bytearray(path.read_bytes())
    weight = body_of(tiny(1))["conv2.weight"].numpy().tobytes()
    content[content.index(weight) + 5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"found a damaged one: .*/data/\d+ does not match its checksum"):
        load_pretrained(tiny(2), path)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.pth", [torch.ones(1)], "expected tensors by name, found a list"),
        ("a.pth", {}, r"found 0 entries and none that fits; `model` must be the network that the file is of"),
        (
            "a.pth",
            {"conv1.weight": torch.ones(1).expand(10**6, 10**6)},  # one number in the file, 4 TB where it is expanded
            "found 1 entries and none that fits, the first, conv1.weight: ",
        ),
        ("a.onnx", {}, r"expected a file of weights \(\.safetensors, \.pth, .*\.bin, \.tar\), found '\.onnx'"),
        (
            "a.pth",
            {"encoder.weight": torch.ones(5, 5), "bn1.weight": torch.ones(64)},  # fits, but is nothing without kernels
            r"expected convolution kernels of tiny's backbone, such as conv1.weight \(64, 3, 3, 3\); "
            r"found 2 entries and none that fits, the first, encoder.weight: no such tensor in tiny",
        ),
    ],
)
def test_a_file_without_anything_of_the_body(name: str, content: object, complaint: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / name)
    model = tiny(2)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ModelError, match=complaint) as raised:
        load_pretrained(model, tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)
    assert_untouched(model, before)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.pth: expected a file of initial weights, found no such file"):
        load_pretrained(tiny(1), tmp_path / "absent.pth")


# --- The official checkpoints, by their published names and shapes ---------------------------------------------------


def official(name: str, oracles: Path) -> dict[str, Tensor]:
    """Random values under the official names and shapes."""
    shapes = json.loads((oracles / "hrnet_state_dicts.json").read_text())[name]
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.tensor(7) if key.endswith("num_batches_tracked") else torch.rand(shape, generator=generator)
        for key, shape in shapes.items()
    }


@pytest.mark.parametrize(
    ("row", "checkpoint", "backbone", "skipped_modules"),
    [
        ("hrnet_w16", "pose_hrnet_w16_student", 402, {"final_layer"}),
        ("hrnet_w32", "pose_hrnet_w32_teacher", 1752, {"final_layer"}),
        ("hrnet_w32", "imagenet_hrnet_w32", 1752, {"incre_modules", "downsamp_modules", "final_layer", "classifier"}),
        ("hrnet_w16_lite", "imagenet_hrnet_w18_small_v1", None, {"incre_modules", "downsamp_modules", "final_layer"}),
    ],
)
def test_official_checkpoints_fill_the_whole_body(
    row: str, checkpoint: str, backbone: int | None, skipped_modules: set[str], oracles: Path, tmp_path: Path
) -> None:
    if row not in MODELS:
        pytest.skip(f"the table of models has no {row}")
    source = official(checkpoint, oracles)
    if checkpoint.startswith("pose"):  # what the published pose files hold beside the backbone
        source |= {"final_layer.weight": torch.rand(17, 32, 1, 1), "final_layer.bias": torch.rand(17)}
    torch.save(source, tmp_path / "official.pth", _use_new_zipfile_serialization=False)
    model = build_model(row, 4)
    report = load_pretrained(model, tmp_path / "official.pth")
    ours = model.backbone.state_dict()
    assert backbone in (None, len(ours))
    assert report.matched == tuple(BACKBONE + name for name in source if name in ours)
    assert len(report.matched) == len(ours)
    assert_body(model, {name: source[name] for name in ours})
    assert {reason for _, reason in report.skipped} == {f"no such tensor in {row}"}
    assert skipped_modules <= {name.split(".")[0] for name, _ in report.skipped}
    assert len(report.new) == HEADS


def test_small_imagenet_weights_in_the_student_leave_stage_1_new(oracles: Path, tmp_path: Path) -> None:
    """W18-small-v1 has the student's branches, and one narrower bottleneck where the student has four."""
    torch.save(official("imagenet_hrnet_w18_small_v1", oracles), tmp_path / "official.pth")
    report = load_pretrained(build_model("hrnet_w16", 4), tmp_path / "official.pth")
    new = {name.split(".")[1] for name in report.new if name.startswith(BACKBONE)}
    assert new == {"layer1", "transition1"}
    reasons = dict(report.skipped)
    assert reasons["layer1.0.conv1.weight"] == "shape (32, 64, 1, 1) where (64, 64, 1, 1) is expected"


# --- As params.yaml's `init`, through the stage ----------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with two small prepared sets, without a tracking server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name in ("bdd100k", "ivslab"):
        prepare_frames(tmp_path / "raw" / name, Path("data/prepared") / name)
        weights = Path("data/class_weights", f"{name}.json")
        weights.parent.mkdir(exist_ok=True)
        weights.write_text(json.dumps({"weights": dict.fromkeys(CLASSES, 1.0)}))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    return tmp_path


def prepare_frames(raw: Path, out: Path) -> None:
    raw.mkdir(parents=True)
    frames = []
    for i, split in enumerate(["train", "train", "val"]):
        image = np.full((64, 64, 3), 60, np.uint8)
        cv2.rectangle(image, (8, 8), (40, 40), (230, 230, 230), -1)
        cv2.imwrite(str(raw / f"{i}.jpg"), image)
        box = Box("vehicle", (8.0, 8.0, 41.0, 41.0))
        frames.append(Frame(raw / f"{i}.jpg", str(i), str(i), split, FrameState.LABELLED, (box,)))
    out.parent.mkdir(parents=True, exist_ok=True)
    to_classes = ClassMap(CLASSES, {name: name for name in CLASSES})
    prepare(RawSet(raw, tuple(frames), ()), frames, to_classes, out, max_size=(64, 64), workers=1, progress=False)


def with_init(init: Path | None) -> Params:
    """One epoch a training with a learning rate that moves no weight: what comes out is what went in."""
    params = load_params(ROOT / "params.yaml")
    still: dict[str, Any] = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-30, "milestones": (), "ema_decay": 0.0}
    section = params.train_teacher
    phases = {name: getattr(section, name).model_copy(update=still) for name in ("pretrain", "finetune")}
    return params.model_copy(
        update={
            "train_teacher": section.model_copy(update={"model": "hrnet_w16", "init": init, **phases}),
            "input_size": params.input_size.model_copy(update={"width": 64, "height": 64}),
            "hardware": params.hardware.model_copy(update={"precision": "fp32", "workers": 0}),
        }
    )


def kernels(model: CenterNet) -> dict[str, Tensor]:
    """What an optimizer alone changes; batch norm's statistics follow the frames."""
    return {name: tensor for name, tensor in model.backbone.named_parameters() if tensor.ndim > 1}


def test_the_stage_starts_from_the_file_and_says_so(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(11)
    source = build_model("hrnet_w16", 1)
    save_model(source, project / "other.safetensors", classes=["tram"], input_size=(64, 64))
    pretrain_teacher(with_init(Path("other.safetensors")))
    train_teacher(with_init(Path("other.safetensors")))
    pretrained, trained = (
        load_model(project / "data/models" / name / "model.safetensors").model
        for name in ("teacher_pretrained", "teacher")
    )
    for name, tensor in kernels(source).items():
        assert torch.equal(kernels(pretrained)[name], tensor), name
        assert torch.equal(kernels(trained)[name], tensor), name
    said = caplog.text
    assert "other.safetensors into hrnet_w16: 402 of 402 tensors of the backbone; the heads are new" in said
    assert "a head for other classes (tram)" in said
    report = json.loads((project / "data/models/teacher_pretrained/init.json").read_text())
    digest = file_digest(project / "other.safetensors")
    assert (report["file"], report["sha256"]) == ("other.safetensors", digest)
    assert (len(report["matched"]), len(report["skipped"]), len(report["new"])) == (402, HEADS, HEADS)
    first = records(project)
    assert first["teacher_pretrained"]["init"] == {"file": "other.safetensors", "sha256": digest}
    file = Path("data/models/teacher_pretrained/model.safetensors")
    assert first["teacher"]["init"] == {"file": str(file), "sha256": file_digest(project / file)}

    pretrain_teacher(with_init(None))
    train_teacher(with_init(None))
    second = records(project)
    assert second["teacher_pretrained"]["init"] is None
    assert not (project / "data/models/teacher_pretrained/init.json").exists()
    assert all(first[name]["fingerprint"] != second[name]["fingerprint"] for name in first)


def records(project: Path) -> dict[str, Any]:
    """Both trainings' training.json."""
    folders = ("teacher_pretrained", "teacher")
    return {name: json.loads((project / "data/models" / name / "training.json").read_text()) for name in folders}


def test_the_stage_names_a_missing_file_before_it_trains(project: Path) -> None:
    with pytest.raises(ModelError, match=r"^absent\.pth: expected a file of initial weights, found no such file$"):
        pretrain_teacher(with_init(Path("absent.pth")))
    assert not (project / ".work").exists()
