"""ResNet (He et al., CVPR 2016) as CenterNet's backbone: stages down to a 32nd, then three levels back up to a quarter.

Layers, names and shapes are those of CenterNet's `resnet_dcn.py` (and, up to layer4, of torchvision's ResNets).
"""

from dataclasses import dataclass

from torch import Tensor, nn

from mobile_centernet.models.blocks import BasicBlock, Bottleneck, initialise_convolutions
from mobile_centernet.models.deform import conv_bn_relu

STEM_CHANNELS = 64
PLANES = (64, 128, 256, 512)
UP_CHANNELS = (256, 128, 64)


@dataclass(frozen=True)
class ResNetSpec:
    """One row of the table of ResNets: the kind of block, how many each stage has, and whether the way up deforms."""

    block: type[BasicBlock] | type[Bottleneck]
    blocks: tuple[int, int, int, int]
    deformable: bool = True


class ResNet(nn.Module):
    """An image to features at a quarter of its resolution.

    Takes [B, 3, H, W], normalised, H and W multiples of 32; gives [B, 64, H/4, W/4] after a ReLU.
    """

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.out_channels = UP_CHANNELS[-1]
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = [STEM_CHANNELS, *(planes * spec.block.expansion for planes in PLANES)]
        self.layer1 = _layer(spec, inputs[0], 0)
        self.layer2 = _layer(spec, inputs[1], 1)
        self.layer3 = _layer(spec, inputs[2], 2)
        self.layer4 = _layer(spec, inputs[3], 3)
        initialise_convolutions(self)
        ups: list[nn.Module] = []
        for in_channels, up in zip([inputs[4], *UP_CHANNELS], UP_CHANNELS, strict=False):
            # One level up: a 3×3 convolution, then a 4×4 deconvolution that doubles the resolution.
            deconv = nn.ConvTranspose2d(up, up, 4, stride=2, padding=1, bias=False)
            # Each output sees a quarter of the kernel's taps.
            nn.init.normal_(deconv.weight, std=(2 / (up * 4)) ** 0.5)
            ups += conv_bn_relu(in_channels, up, spec.deformable)
            ups += (deconv, nn.BatchNorm2d(up), nn.ReLU(inplace=True))
        self.deconv_layers = nn.Sequential(*ups)

    def forward(self, image: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))  # [B, 64, H/4, W/4]
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # [B, 512 or 2048, H/32, W/32]
        features: Tensor = self.deconv_layers(x)
        return features


def _layer(spec: ResNetSpec, in_channels: int, index: int) -> nn.Sequential:
    planes, stride = PLANES[index], 1 if index == 0 else 2
    first = spec.block(in_channels, planes, stride)
    rest = (spec.block(planes * spec.block.expansion, planes) for _ in range(spec.blocks[index] - 1))
    return nn.Sequential(first, *rest)
