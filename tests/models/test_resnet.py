"""ResNet as CenterNet's backbone: names, shapes, the way up with and without deformable convolutions."""

import pytest
import torch
from torch import nn

from mobile_centernet.models.blocks import BasicBlock, Bottleneck
from mobile_centernet.models.deform import DeformConv2d
from mobile_centernet.models.resnet import ResNet, ResNetSpec

SPECS = {"18": ResNetSpec(BasicBlock, (2, 2, 2, 2)), "50": ResNetSpec(Bottleneck, (3, 4, 6, 3))}
SMALL = ResNetSpec(BasicBlock, (1, 1, 1, 1))


def shapes(spec: ResNetSpec) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):  # nothing to allocate for a look at shapes
        return {name: tuple(tensor.shape) for name, tensor in ResNet(spec).state_dict().items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "18",
            {
                "conv1.weight": (64, 3, 7, 7),
                "layer1.0.conv1.weight": (64, 64, 3, 3),
                "layer2.0.conv1.weight": (128, 64, 3, 3),
                "layer2.0.downsample.0.weight": (128, 64, 1, 1),
                "layer4.1.bn2.running_var": (512,),
                "deconv_layers.0.weight": (256, 512, 3, 3),
                "deconv_layers.0.conv_offset_mask.weight": (27, 512, 3, 3),
                "deconv_layers.3.weight": (256, 256, 4, 4),
                "deconv_layers.4.running_mean": (256,),
                "deconv_layers.6.bias": (128,),
                "deconv_layers.15.weight": (64, 64, 4, 4),
            },
        ),
        (
            "50",
            {
                "layer1.0.downsample.0.weight": (256, 64, 1, 1),
                "layer1.2.conv1.weight": (64, 256, 1, 1),
                "layer3.5.conv3.weight": (1024, 256, 1, 1),
                "layer4.0.downsample.1.bias": (2048,),
                "deconv_layers.0.weight": (256, 2048, 3, 3),
            },
        ),
    ],
)
def test_names_and_shapes_of_the_reference_implementation(name: str, expected: dict[str, tuple[int, ...]]) -> None:
    found = shapes(SPECS[name])
    assert {key: found.get(key) for key in expected} == expected


def test_number_of_tensors() -> None:
    """torchvision's ResNets have 122 and 320 without or with fc's two; a level up has 2 + 2 + 5 + 1 + 5 tensors."""
    assert {name: len(shapes(spec)) for name, spec in SPECS.items()} == {"18": 122 - 2 + 45, "50": 320 - 2 + 45}


def test_no_shortcut_where_the_shape_is_kept() -> None:
    assert not [name for name in shapes(SPECS["18"]) if name.startswith("layer1") and "downsample" in name]


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_shape(block: type[BasicBlock] | type[Bottleneck]) -> None:
    features = ResNet(ResNetSpec(block, (1, 1, 1, 1))).eval()(torch.randn(1, 3, 64, 96))
    assert features.shape == (1, 64, 16, 24)
    assert (features >= 0).all() and features.any()


@pytest.mark.parametrize("deformable", [True, False])
def test_every_parameter_learns(deformable: bool) -> None:
    torch.manual_seed(0)
    backbone = ResNet(ResNetSpec(Bottleneck, (1, 1, 1, 1), deformable)).train()
    backbone(torch.randn(2, 3, 64, 64)).square().sum().backward()
    still = [
        key for key, parameter in backbone.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert not still


def test_bottleneck_strides_in_its_3x3_convolution() -> None:
    block = Bottleneck(16, 4, stride=2)
    assert (block.conv1.stride, block.conv2.stride, block.conv3.stride) == ((1, 1), (2, 2), (1, 1))


def test_undeformed_it_computes_what_the_plain_variant_computes() -> None:
    torch.manual_seed(0)
    deformable, plain = ResNet(SMALL).eval(), ResNet(ResNetSpec(BasicBlock, (1, 1, 1, 1), deformable=False)).eval()
    weights = deformable.state_dict()
    plain.load_state_dict({name: tensor for name, tensor in weights.items() if "offset" not in name})
    for module in deformable.modules():
        if isinstance(module, DeformConv2d):
            assert module.conv_offset_mask.bias is not None
            nn.init.constant_(module.conv_offset_mask.bias[18:], 100)  # masks of 1
    image = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(deformable(image), plain(image), rtol=1e-4, atol=1e-5)
