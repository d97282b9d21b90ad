"""The nets of models/ as a good engineer writes them in plain PyTorch: the peers of `training.py`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

CLASSES = 102


def _conv(inner: int, outer: int, kernel: int, stride: int = 1, pad: int = 0, groups: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inner, outer, kernel, stride, pad, groups=groups), nn.ReLU(inplace=True)]


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def _dense(inner: int) -> list[nn.Module]:
    hidden = [nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, CLASSES)]
    return [nn.Flatten(), nn.Linear(inner, 4096), nn.ReLU(inplace=True), nn.Dropout(), *hidden]


def caffenet() -> nn.Module:
    """CaffeNet: AlexNet with pooling before normalization."""
    lrn = (nn.LocalResponseNorm(5, 1e-4, 0.75) for _ in range(2))
    first = [*_conv(3, 96, 11, 4), _pool(), next(lrn), *_conv(96, 256, 5, 1, 2, 2), _pool(), next(lrn)]
    second = [*_conv(256, 384, 3, 1, 1), *_conv(384, 384, 3, 1, 1, 2), *_conv(384, 256, 3, 1, 1, 2), _pool()]
    return nn.Sequential(*first, *second, *_dense(256 * 6 * 6))


def vgg16() -> nn.Module:
    """VGG-16."""
    layers: list[nn.Module] = []
    inner = 3
    for outer, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += _conv(inner, outer, 3, 1, 1)
            inner = outer
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers, *_dense(512 * 7 * 7))


class _Fire(nn.Module):
    def __init__(self, inner: int, squeezed: int, outer: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(*_conv(inner, squeezed, 1))
        self.small = nn.Sequential(*_conv(squeezed, outer, 1))
        self.large = nn.Sequential(*_conv(squeezed, outer, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze(x)
        return torch.cat([self.small(x), self.large(x)], 1)


def squeezenet() -> nn.Module:
    """SqueezeNet 1.0, whose last convolution has a padding of 1."""
    first = [*_conv(3, 96, 7, 2), _pool(), _Fire(96, 16, 64), _Fire(128, 16, 64), _Fire(128, 32, 128), _pool()]
    second = [_Fire(256, 32, 128), _Fire(256, 48, 192), _Fire(384, 48, 192), _Fire(384, 64, 256), _pool()]
    last = [_Fire(512, 64, 256), nn.Dropout(), *_conv(512, CLASSES, 1, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*first, *second, *last)


def _normed(inner: int, outer: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outer)]


class _Bottleneck(nn.Module):
    def __init__(self, inner: int, width: int, stride: int) -> None:
        super().__init__()
        outer = 4 * width
        first = [*_normed(inner, width, 1, stride), nn.ReLU(inplace=True)]
        self.branch = nn.Sequential(*first, *_normed(width, width, 3), nn.ReLU(inplace=True), *_normed(width, outer, 1))
        self.short = nn.Sequential(*_normed(inner, outer, 1, stride)) if inner != outer else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.branch(x) + self.short(x))


def resnet50() -> nn.Module:
    """ResNet-50, its strides in the first convolution of a block."""
    layers: list[nn.Module] = [*_normed(3, 64, 7, 2), nn.ReLU(inplace=True), _pool()]
    inner = 64
    for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(depth):
            layers.append(_Bottleneck(inner, width, stride if i == 0 else 1))
            inner = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inner, CLASSES))


NETS: dict[str, Callable[[], nn.Module]] = {
    "CaffeNet": caffenet,
    "VGG16": vgg16,
    "ResNet50": resnet50,
    "SqueezeNet": squeezenet,
}


def training_step(
    model: str, pictures: torch.Tensor, labels: torch.Tensor, half: torch.dtype | None = None, compiled: bool = False
) -> Callable[[], object]:
    """What does one iteration where the pictures are: channels_last, SGD with momentum and weight decay.

    In float32 or mixed with ``half``; eager or compiled.
    """
    device = pictures.device
    net = NETS[model]().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = torch.compile(net) if compiled else net
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 1e-6, momentum=0.9, weight_decay=0.0005)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, half, enabled=half is not None):
            scores = run(pictures)
        nn.functional.cross_entropy(scores.float(), labels).backward()
        optimizer.step()

    return step
