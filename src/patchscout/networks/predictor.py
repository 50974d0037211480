"""The predictors that segment anomalies in loss-profile space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise, zip_longest
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from patchscout.networks.backbone import Backbone

NEGATIVE_SLOPE = 0.2


def _normalized(conv: nn.Conv2d) -> nn.Sequential:
    """Convolution, batch norm, leaky ReLU."""
    norm = nn.BatchNorm2d(conv.out_channels)
    return nn.Sequential(conv, norm, nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True))


def _block(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    return _normalized(nn.Conv2d(in_channels, out_channels, 3, 1, dilation, dilation, bias=False))


class PaperPredictor(nn.Module):
    """Four dilated 3x3 convolutions and a 1x1: a receptive field of 31 px.

    References:
        arXiv 2511.20270: channels T-32-16-8-4-1, dilations 1, 2, 4, 8.
    """

    size_multiple = 1
    coarsest_px = 1

    def __init__(self, in_channels: int = 10) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.layers = nn.Sequential(
            _block(in_channels, 32, 1),
            _block(32, 16, 2),
            _block(16, 8, 4),
            _block(8, 4, 8),
            nn.Conv2d(4, 1, 1),
        )

    def coarsest(
        self,
        features: Float[Tensor, "batch channels height width"],
        general: Sequence[Tensor] = (),
    ) -> Float[Tensor, "batch 0 height width"]:
        """Return what is averaged over the whole image: nothing."""
        return features[:, :0]

    def forward(
        self,
        features: Float[Tensor, "batch channels height width"],
        general: Sequence[Tensor] = (),
        scene: Float[Tensor, "batch 0"] | None = None,
    ) -> Float[Tensor, "batch height width"]:
        """Return the logit of being anomalous for each pixel."""
        return self.layers(features).squeeze(1)


class LeanPredictor(nn.Module):
    """A small residual U-Net that works from half resolution down and answers at full resolution.

    Every 2x2 block of pixels becomes one place with more channels first and is unfolded last,
    which keeps the detail of full resolution at a quarter of its cost. At the coarsest level each
    place also learns the mean over the whole image, such as its lighting. On the way up, channels
    are narrowed before they are enlarged, and added to those of the way down (as in LinkNet,
    Chaurasia and Culurciello 2017), which halves the cost of joining both.

    Args:
        in_channels: Channels of the input.
        base_channels: Channels at half resolution; doubled at each of the first three levels below.
        num_levels: How often the resolution is halved again.
        general_channels: Of a backbone's features at a quarter of the resolution and at each level
            below; they are added to what the level itself has found.
    """

    size_multiple = 2

    def __init__(
        self,
        in_channels: int,
        base_channels: int = 16,
        num_levels: int = 4,
        general_channels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        widths = [base_channels * min(2**level, 8) for level in range(num_levels + 1)]
        fold = nn.Conv2d(in_channels, widths[0], 2, 2, bias=False)
        self.stem = nn.Sequential(_normalized(fold), _block(widths[0], widths[0]))
        self.down = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(widths))
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(count), nn.Conv2d(count, width, 1, bias=False))
            for count, width in zip(general_channels, widths[1:], strict=False)
        )
        self.context = nn.Sequential(
            nn.Linear(widths[-1], widths[-1]),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Linear(widths[-1], widths[-1]),
        )
        upward = list(reversed(list(pairwise(widths))))
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1, bias=False) for a, b in upward)
        self.up = nn.ModuleList(_block(a, a) for a, _ in upward)
        self.head = nn.Conv2d(widths[0], 4, 1)

    @property
    def coarsest_px(self) -> int:
        """Side of what one place of the coarsest level covers."""
        return 2 ** (1 + len(self.down))

    def coarsest(
        self,
        features: Float[Tensor, "batch channels height width"],
        general: Sequence[Tensor] = (),
    ) -> Float[Tensor, "batch coarse_channels coarse_rows coarse_columns"]:
        """Return the coarsest level, whose mean over the whole image is its scene."""
        return self._downward(features, general)[-1]

    def forward(
        self,
        features: Float[Tensor, "batch channels height width"],
        general: Sequence[Tensor] = (),
        scene: Float[Tensor, "batch coarse_channels"] | None = None,
    ) -> Float[Tensor, "batch height width"]:
        """Return the logit of being anomalous for each pixel.

        Args:
            features: Those of whole images, or of a part of them.
            general: A backbone's features of the same images, one of each level that takes them.
            scene: The mean of the coarsest level over the whole image, if this is a part.
        """
        *skips, x = self._downward(features, general)
        scene = x.mean(dim=(2, 3)) if scene is None else scene
        x = x + self.context(scene)[:, :, None, None]
        for narrow, up, skip in zip(self.narrow, self.up, reversed(skips), strict=True):
            x = F.interpolate(narrow(x), size=skip.shape[-2:])
            x = up(x + skip)
        return F.pixel_shuffle(self.head(x), 2).squeeze(1)

    def _downward(self, features: Tensor, general: Sequence[Tensor]) -> list[Tensor]:
        """Return every level, from half resolution to the coarsest."""
        added = [lateral(one) for lateral, one in zip(self.lateral, general, strict=True)]
        levels = [self.stem(features)]
        for down, more in zip_longest(self.down, added):
            x = down(F.max_pool2d(levels[-1], 2, ceil_mode=True))
            levels.append(x if more is None else x + more)
        return levels


class PredictorEnsemble(nn.Module):
    """Predictors that differ in random start, batches and inputs, and answer together.

    With few labels two trainings on the same images differ as much as two methods do; their mean
    is better than either.

    Args:
        members: Predictors; each sees as many of the last channels of the features as it takes.
        backbone: Shows the members what it finds in the image, which the last three channels of the
            features must be; None for members that take nothing of it.

    References:
        Deep ensembles (Lakshminarayanan et al., NeurIPS 2017); here logits are averaged.
    """

    def __init__(
        self,
        members: Iterable[nn.Module],
        backbone: Backbone | None = None,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.backbone = backbone

    @property
    def coarsest_px(self) -> int:
        """Side of what one place of the coarsest level covers."""
        return self._member(0).coarsest_px

    def coarsest(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch coarse_channels coarse_rows coarse_columns"]:
        """Return the coarsest levels of all members, see `LeanPredictor.coarsest`."""
        general = self.general(features)
        members = range(len(self.members))
        found = [self._member(n).coarsest(self._seen(n, features), general) for n in members]
        return torch.cat(found, dim=1)

    def forward(
        self,
        features: Float[Tensor, "batch channels height width"],
        scene: Float[Tensor, "batch coarse_channels"] | None = None,
        general: Sequence[Tensor] | None = None,
    ) -> Float[Tensor, "batch height width"]:
        """Return the mean of the members' logits.

        Args:
            features: Those of whole images, or of a part of them.
            scene: The mean of the coarsest levels over the whole image, if this is a part.
            general: What the backbone finds in the images, if that is known.
        """
        count = len(self.members)
        scenes = [None] * count if scene is None else scene.tensor_split(count, dim=1)
        general = self.general(features) if general is None else general
        logits = [
            self._member(n)(self._seen(n, features), general, scenes[n]) for n in range(count)
        ]
        return torch.stack(logits).mean(dim=0)

    def general(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> list[Float[Tensor, "batch found rows columns"]]:
        """Return what the backbone finds in the image; nothing if there is none."""
        return [] if self.backbone is None else self.backbone(features[:, -3:])

    def _member(self, number: int) -> PaperPredictor | LeanPredictor:
        return cast(PaperPredictor | LeanPredictor, self.members[number])

    def _seen(self, number: int, features: Tensor) -> Tensor:
        """Return the channels that a member sees."""
        return features[:, -self._member(number).in_channels :]


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

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Return features of the same size."""
        return F.leaky_relu(self.second(self.first(x)) + self.shortcut(x), NEGATIVE_SLOPE)
