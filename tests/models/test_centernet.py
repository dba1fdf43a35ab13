"""The detector around its backbone: normalisation, heads, and what distillation reads."""

import math

import pytest
import torch
from torch import Tensor, nn

from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.variants import build_model


class Recorder(nn.Module):
    """A backbone that keeps what it was given and says zero everywhere."""

    def forward(self, image: Tensor) -> Tensor:
        self.image = image
        return torch.zeros(len(image), 8, image.shape[2] // 4, image.shape[3] // 4)


@pytest.fixture(scope="module")
def model() -> CenterNet:
    torch.manual_seed(0)
    return build_model("hrnet_w16", 4).eval()


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_shapes(model: CenterNet, image: Tensor) -> None:
    output = model(image)
    shapes = {name: tuple(tensor.shape) for name, tensor in output._asdict().items()}
    grid = (16, 24)
    assert shapes == {
        "heatmap_logits": (2, 4, *grid),
        "size": (2, 2, *grid),
        "offset": (2, 2, *grid),
        "features": (2, 16, *grid),
    }


def test_normalisation_by_hand() -> None:
    backbone = Recorder()
    model = CenterNet(backbone, 8, name="recorder", num_classes=1, head_channels=4)
    model(torch.tensor([0, 255, 127], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 32, 32))
    expected = [(0 - 0.485) / 0.229, (1 - 0.456) / 0.224, (127 / 255 - 0.406) / 0.225]
    torch.testing.assert_close(backbone.image[0, :, 0, 0], torch.tensor(expected))


def test_scaled_input_by_hand() -> None:
    backbone = Recorder()
    model = CenterNet(backbone, 8, name="recorder", num_classes=1, head_channels=4, scaled_input=True)
    model(torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 32, 32))
    torch.testing.assert_close(backbone.image[0, :, 0, 0], torch.tensor([0.0, 1.0, 0.2]))


def test_uint8_and_float_are_the_same(model: CenterNet, image: Tensor) -> None:
    torch.testing.assert_close(model(image), model(image.float()), rtol=0, atol=0)


def test_normalisation_is_no_part_of_the_weights(model: CenterNet) -> None:
    assert not [name for name in model.state_dict() if "pixel" in name]


@pytest.mark.parametrize("shared", [False, True])
def test_every_cell_starts_at_ten_percent(shared: bool) -> None:
    model = CenterNet(Recorder(), 8, name="recorder", num_classes=3, head_channels=4, shared_head=shared)
    output = model(torch.zeros(1, 3, 32, 32))
    torch.testing.assert_close(output.heatmap_logits, torch.full((1, 3, 8, 8), -math.log(9)))
    assert not output.size.any()
    assert not output.offset.any()


def test_a_shared_head_says_heatmap_size_and_offset_in_this_order() -> None:
    model = CenterNet(Recorder(), 8, name="recorder", num_classes=3, head_channels=4, shared_head=True)
    model.head.out.bias.data = torch.arange(7.0)
    found = model(torch.zeros(1, 3, 32, 32))
    assert [part[0, :, 0, 0].tolist() for part in found[:3]] == [[0, 1, 2], [3, 4], [5, 6]]


def test_heads_leave_the_features_alone(model: CenterNet, image: Tensor) -> None:
    seen: list[Tensor] = []
    hook = model.backbone.register_forward_hook(lambda _module, _inputs, features: seen.append(features.clone()))
    output = model(image)
    hook.remove()
    torch.testing.assert_close(output.features, seen[0], rtol=0, atol=0)
    assert (output.features >= 0).all()


@pytest.mark.parametrize("name", ["hrnet_w16", "resnet18", "dla34"])
def test_channels_last_gives_the_same(name: str, image: Tensor) -> None:
    torch.manual_seed(0)
    model = build_model(name, 2).train()  # train mode: fresh running statistics would inflate the values
    expected = model(image).features
    nn.utils.convert_conv2d_weight_memory_format(model, torch.channels_last)
    actual = model(image.to(memory_format=torch.channels_last)).features
    # What a deformable convolution gives is strided as it comes.
    assert actual.is_contiguous(memory_format=torch.channels_last) or name == "dla34"
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["hrnet_w16", "resnet18"])
def test_runs_in_half_precision_as_a_whole(name: str, image: Tensor) -> None:
    assert build_model(name, 2).bfloat16().eval()(image).size.dtype == torch.bfloat16


@pytest.mark.parametrize("size", [(64, 100), (50, 64)])
def test_sides_that_do_not_halve_evenly_are_refused(model: CenterNet, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        model(torch.zeros(1, 3, *size))
