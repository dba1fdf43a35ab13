"""The few bricks models are built from. Names follow the official HRNet, so that its checkpoints load."""

from typing import ClassVar

import torch
from torch import Tensor, nn


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


def conv3x3_bn(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(conv3x3(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


def conv3x3_bn_relu(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return conv3x3_bn(in_channels, out_channels, stride).append(nn.ReLU(inplace=True))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut (ResNet, He et al. 2016): in_channels → planes, 1/stride the size."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(in_channels, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu(self.downsample(x) + y)
        return out


class Bottleneck(nn.Module):
    """1×1 down, 3×3, 1×1 up around a shortcut (He et al. 2016): in_channels → 4 × planes, 1/stride the size."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = planes * self.expansion
        self.conv1 = conv1x1(in_channels, planes)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = conv1x1(planes, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        out: Tensor = self.relu(self.downsample(x) + y)
        return out


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(out_channels))


def initialise_convolutions(backbone: nn.Module) -> None:
    """Kaiming's normal distribution for every nn.Conv2d of a backbone that trains from scratch."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Head(nn.Module):
    """One CenterNet head: 3×3 convolution with bias, ReLU, 1×1 convolution; output initialised to `bias`."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, bias: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(in_channels, hidden_channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.out = nn.Conv2d(hidden_channels, out_channels, 1)
        nn.init.kaiming_normal_(self.hidden.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.out.weight, std=0.001)  # as CenterNet
        self.hidden.bias = nn.Parameter(torch.zeros(hidden_channels))
        self.out.bias = nn.Parameter(torch.full((out_channels,), bias))

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.out(self.relu(self.hidden(features)))
        return out
