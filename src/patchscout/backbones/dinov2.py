"""DINOv2 ViT-S/14: a vision transformer that learned from 142 million photographs without labels.

Its patches of 14 px become cells of 8 px: the image is resized by 14/8. Two levels come out: that
of block 6 at stride 8, and that of block 8 at stride 16, averaged over 2 x 2 cells. The middle
blocks are where defects stand out: the last ones know what a thing is, and not how it differs from
others of its kind. Both pass the last layer norm, as in the authors' `get_intermediate_layers`,
which tames the few channels of huge values. The blocks after the eighth are kept, as the published
file has them, and not run. An image of 256 px costs 42 GFLOP, EfficientNet-Lite0 costs 0.6.

Departs from the authors' code in one thing: the grid of position embeddings is resized to the
size itself, and not by a factor that is rounded up by 0.1 cells.

References:
    Oquab et al., DINOv2: Learning robust visual features without supervision, TMLR 2024.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from patchscout.backbones.base import Backbone
from patchscout.backbones.weights import check_weights, download, read_weights

URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth"
URL_SHA256 = "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"

UNUSED = r"mask_token$"
"""Stands for hidden patches while DINOv2 learns."""

PATCH_PX = 14
CELL_PX = 8
CHANNELS = 384
NUM_BLOCKS = 12
NUM_HEADS = 6
SEEN_BLOCKS = (5, 7)
"""Numbers of the blocks whose outputs are the levels."""

LEARNED_GRID = 37
"""Rows and columns of the position embeddings: those of an image of 518 px."""


class DinoV2Small(Backbone):
    """Levels at strides 8 and 16, without weights yet; tensors have their published names."""

    def __init__(self) -> None:
        super().__init__(channels=(CHANNELS, CHANNELS), strides=(8, 16), receptive_px=None)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, CHANNELS))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + LEARNED_GRID**2, CHANNELS))
        self.patch_embed = _PatchEmbed()
        self.blocks = nn.ModuleList(_Block() for _ in range(NUM_BLOCKS))
        self.norm = _layer_norm()

    def levels(self, images: Tensor) -> list[Tensor]:
        """Return one block's features, and a later one's at half the resolution."""
        rows, columns = (-(-side // CELL_PX) for side in images.shape[-2:])
        size = (rows * PATCH_PX, columns * PATCH_PX)
        images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        fine, coarse = self.grids(images, SEEN_BLOCKS)
        return [fine, F.avg_pool2d(coarse, 2, ceil_mode=True)]

    def grids(self, images: Tensor, seen: tuple[int, ...]) -> list[Tensor]:
        """Return some blocks' features of each patch of 14 px.

        Args:
            images: Sides are multiples of 14.
            seen: Numbers of the blocks, ascending.
        """
        x = self.patch_embed.proj(images)
        grid = x.shape[-2:]
        x = torch.cat(
            [self.cls_token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], dim=1
        )
        x = x + self._positions(grid)
        found = []
        for number in range(seen[-1] + 1):
            x = self.blocks[number](x)
            if number in seen:
                found.append(self.norm(x)[:, 1:].transpose(1, 2).unflatten(2, grid))
        return found

    def _positions(self, grid: torch.Size) -> Tensor:
        """Return the position embeddings of the class token and of a grid of patches."""
        learned = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (LEARNED_GRID, LEARNED_GRID))
        resized = F.interpolate(learned, tuple(grid), mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


class _PatchEmbed(nn.Module):
    """One token for each patch."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, CHANNELS, PATCH_PX, stride=PATCH_PX)


class _Block(nn.Module):
    """Attention, then a network of each token; both are added in small parts."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = _layer_norm()
        self.attn = _Attention()
        self.ls1 = _LayerScale()
        self.norm2 = _layer_norm()
        self.mlp = _Mlp()
        self.ls2 = _LayerScale()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(CHANNELS, 3 * CHANNELS)
        self.proj = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).unflatten(2, (3, NUM_HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        return self.proj(mixed.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(CHANNELS, 4 * CHANNELS)
        self.fc2 = nn.Linear(4 * CHANNELS, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def _layer_norm() -> nn.LayerNorm:
    return nn.LayerNorm(CHANNELS, eps=1e-6)


def load_dinov2_small(weights: Path | None, *, pretrained: bool, may_download: bool) -> DinoV2Small:
    """Return the network, with the weights of a file, or of the published one.

    Args:
        weights: Holds the published names, which are timm's too.
        pretrained: Whether to read any.
        may_download: Whether the published file may be fetched if it is not here yet.

    Raises:
        InputNotFoundError: If there is no file of weights.
        InputValueError: If they are not those of this network.
    """
    backbone = DinoV2Small()
    if pretrained:
        if weights is None:
            weights = download(URL, URL_SHA256, "dinov2_small", may_download=may_download)
        state = read_weights(weights)
        shapes = {name: one.shape for name, one in backbone.state_dict().items()}
        check_weights(state, shapes, UNUSED, weights, "dinov2_small")
        backbone.load_state_dict({name: state[name] for name in shapes})
    return backbone
