"""A model file gives back what was saved, or one clear error."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from mobile_centernet.errors import ModelError
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.checkpoint import load_model, save_model
from mobile_centernet.models.variants import build_model

CLASSES = ("vehicle", "pedestrian")


@pytest.fixture(scope="module")
def model() -> CenterNet:
    torch.manual_seed(0)
    model = build_model("hrnet_w16", 2)
    model(torch.rand(2, 3, 32, 32) * 255)  # moves the running statistics, which must be saved too
    nn.utils.convert_conv2d_weight_memory_format(model, torch.channels_last)
    return model


@pytest.fixture
def saved(model: CenterNet, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(model, path, classes=CLASSES, input_size=(320, 576), extra={"note": "Fußgänger"})
    return path


def with_header(saved: Path, **changes: str | None) -> Path:
    """The same weights under a header with some entries changed, or without them where None."""
    with safetensors.safe_open(saved, "pt") as file:
        header = {**file.metadata(), **changes}
    kept = {key: value for key, value in header.items() if value is not None}
    safetensors.torch.save_file(safetensors.torch.load_file(saved), saved, kept)
    return saved


def test_round_trip(model: CenterNet, saved: Path) -> None:
    loaded = load_model(saved)
    image = torch.rand(1, 3, 32, 64) * 255
    torch.testing.assert_close(loaded.model(image), model.eval()(image), rtol=1e-4, atol=1e-4)
    assert not loaded.model.training
    assert loaded.model.name == "hrnet_w16"
    assert loaded.classes == CLASSES
    assert loaded.input_size == (320, 576)
    assert loaded.metadata["note"] == "Fußgänger"
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], tensor, rtol=0, atol=0)


def test_nothing_but_the_file_is_left(saved: Path) -> None:
    assert [path.name for path in saved.parent.iterdir()] == ["model.safetensors"]


def test_failed_save_keeps_the_old_file(model: CenterNet, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full_disk(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_model(model, saved, classes=CLASSES, input_size=(64, 64))
    assert saved.read_bytes() == before
    assert len(list(saved.parent.iterdir())) == 1


def test_header_cannot_be_overruled(model: CenterNet, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(model, path, classes=CLASSES, input_size=(64, 64), extra={"name": "hrnet_w32"})
    assert load_model(path).model.name == "hrnet_w16"


def test_wrong_number_of_class_names(model: CenterNet, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected 2 class names, found 1"):
        save_model(model, tmp_path / "model.safetensors", classes=["vehicle"], input_size=(64, 64))


@pytest.mark.parametrize("size", [0, 5, 1000, -1])
def test_truncated_file(saved: Path, size: int) -> None:
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"model\.safetensors: expected a complete safetensors file"):
        load_model(saved)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="absent"):
        load_model(tmp_path / "absent.safetensors")


def test_pickle_is_not_unpickled(model: CenterNet, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(model.state_dict(), path)
    with pytest.raises(ModelError, match="expected a complete safetensors file"):
        load_model(path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"project": "another"}, "found project 'another'"),
        ({"project": None}, "found project None"),
        ({"format": "2"}, "format '2'"),
        ({"name": "yolo"}, "unknown model 'yolo'"),
        ({"classes": None}, "classes"),
        ({"classes": "not json"}, "in the header"),
        ({"classes": "[]"}, "at least one class"),
        ({"input_size": "[320]"}, "in the header"),
        ({"classes": json.dumps(["a", "b", "c"])}, "do not fit hrnet_w16 with 3 classes"),
        ({"name": "hrnet_w32"}, "do not fit hrnet_w32"),
    ],
)
def test_foreign_or_mismatched_file(saved: Path, changes: dict[str, str | None], complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint) as raised:
        load_model(with_header(saved, **changes))
    assert "model.safetensors" in str(raised.value)


def test_the_same_model_is_the_same_file_every_time(tmp_path: Path) -> None:
    """safetensors itself shuffles the header, and whatever depends on the file's digest would be made anew."""
    model = build_model("hrnet_w16_lite", 2)
    extra = {name: name.upper() for name in ("fingerprint", "data_set", "val_map50", "größe")}
    contents = set()
    for number in range(8):
        path = tmp_path / f"{number}.safetensors"
        save_model(model, path, classes=("a", "b"), input_size=(64, 96), extra=extra)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    loaded = load_model(tmp_path / "0.safetensors")
    assert loaded.metadata.items() >= extra.items()
    assert all(torch.equal(value, loaded.model.state_dict()[name]) for name, value in model.state_dict().items())
