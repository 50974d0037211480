"""The predictors that segment anomalies in loss-profile space."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def _block(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, 1, dilation, dilation, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.2, inplace=True),
    )


class PaperPredictor(nn.Module):
    """Four dilated 3x3 convolutions and a 1x1: a receptive field of 31 px.

    References:
        arXiv 2511.20270: channels T-32-16-8-4-1, dilations 1, 2, 4, 8.
    """

    size_multiple = 1

    def __init__(self, in_channels: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _block(in_channels, 32, 1),
            _block(32, 16, 2),
            _block(16, 8, 4),
            _block(8, 4, 8),
            nn.Conv2d(4, 1, 1),
        )

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch height width"]:
        """Return the logit of being anomalous for each pixel."""
        return self.layers(features).squeeze(1)


class LeanPredictor(nn.Module):
    """A small U-Net that works from half resolution down and answers at full resolution.

    Every 2x2 block of pixels is folded into channels first and unfolded last, which keeps the
    detail of full resolution at a quarter of its cost.

    Args:
        in_channels: Channels of the input.
        base_channels: Channels at half resolution; doubled at each of the levels below.
        num_levels: How often the resolution is halved again.
    """

    def __init__(self, in_channels: int, base_channels: int = 16, num_levels: int = 3) -> None:
        super().__init__()
        self.size_multiple = 2 ** (num_levels + 1)
        widths = [base_channels * 2**level for level in range(num_levels + 1)]
        self.stem = _block(4 * in_channels, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(_block(a, b), _block(b, b)) for a, b in pairwise(widths)
        )
        self.up = nn.ModuleList(_block(a + b, a) for a, b in reversed(list(pairwise(widths))))
        self.head = nn.Conv2d(widths[0], 4, 1)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch height width"]:
        """Return the logit of being anomalous for each pixel."""
        x = self.stem(F.pixel_unshuffle(features, 2))
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(F.max_pool2d(x, 2))
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = up(torch.cat([x, skip], dim=1))
        return F.pixel_shuffle(self.head(x), 2).squeeze(1)
