"""The predictor: a small U-Net that segments anomalies from an image and its loss profile."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

NEGATIVE_SLOPE = 0.2
NUM_LEVELS = 4

RARE = -4.0
"""Log-odds that the network starts from: few pixels are anomalous."""

Maps = Float[Tensor, "batch channels rows columns"]

Level = Float[Tensor, "batch _channels _rows _columns"]
"""Maps of one level among several, whose sizes differ."""


class UNet(nn.Module):
    """A residual U-Net that works from half resolution down and answers at full resolution.

    Every 2x2 block of pixels becomes one place with more channels first and is unfolded last.
    Side inputs, such as loss profiles, are added at the level whose resolution is theirs. On the
    way up, channels are narrowed before they are enlarged, and added to those of the way down (as
    in LinkNet, Chaurasia and Culurciello 2017).

    Args:
        in_channels: Channels of the image.
        side_channels: Channels of the side input of each stride in pixels (1, 2, 4, 8, 16, 32);
            one at full resolution is folded as the image is.
        base_channels: Channels at half resolution; doubled at each of the first three levels below.
    """

    def __init__(
        self, in_channels: int, side_channels: Mapping[int, int], base_channels: int = 16
    ) -> None:
        super().__init__()
        widths = [base_channels * min(2**level, 8) for level in range(NUM_LEVELS + 1)]
        fold = nn.Conv2d(in_channels, widths[0], 2, 2, bias=False)
        self.stem = nn.Sequential(_normalized(fold), _block(widths[0], widths[0]))
        self.down = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(widths))
        self.strides = tuple(sorted(side_channels))
        self.side = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(side_channels[stride]),
                nn.Conv2d(side_channels[stride], widths[_level(stride)], fold, fold, bias=False),
            )
            for stride, fold in ((stride, 2 if stride == 1 else 1) for stride in self.strides)
        )
        upward = list(reversed(list(pairwise(widths))))
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1, bias=False) for a, b in upward)
        self.up = nn.ModuleList(_block(a, a) for a, _ in upward)
        self.head = nn.Conv2d(widths[0], 4, 1)
        nn.init.constant_(cast(Tensor, self.head.bias), RARE)

    def forward(self, images: Maps, sides: list[Level]) -> Float[Tensor, "batch height width"]:
        """Return the logit of being anomalous for each pixel.

        Args:
            images: Whose sides are multiples of 16.
            sides: The side inputs, by ascending stride.
        """
        added: dict[int, Maps] = {}
        for stride, side, one in zip(self.strides, self.side, sides, strict=True):
            level = _level(stride)
            added[level] = added[level] + side(one) if level in added else side(one)
        x = self.stem(images)
        levels = [x + added[0] if 0 in added else x]
        for level, down in enumerate(self.down, start=1):
            x = down(F.max_pool2d(levels[-1], 2, ceil_mode=True))
            levels.append(x + added[level] if level in added else x)
        *skips, x = levels
        for narrow, up, skip in zip(self.narrow, self.up, reversed(skips), strict=True):
            x = up(F.interpolate(narrow(x), size=skip.shape[-2:]) + skip)
        return F.pixel_shuffle(self.head(x), 2).squeeze(1)


def _level(stride: int) -> int:
    """Return how many times the half resolution is halved to that of a stride in pixels."""
    return max(stride.bit_length() - 2, 0)


class ResidualBlock(nn.Module):
    """Two convolutions around which the input is passed on."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = _block(in_channels, out_channels)
        self.second = nn.Sequential(
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False), nn.BatchNorm2d(out_channels)
        )
        self.shortcut = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Maps) -> Float[Tensor, "batch out_channels rows columns"]:
        """Return features of the same size."""
        return F.leaky_relu(self.second(self.first(x)) + self.shortcut(x), NEGATIVE_SLOPE)


def _normalized(conv: nn.Conv2d) -> nn.Sequential:
    """Convolution, batch norm, leaky ReLU."""
    norm = nn.BatchNorm2d(conv.out_channels)
    return nn.Sequential(conv, norm, nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True))


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    return _normalized(nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=False))
