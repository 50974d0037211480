"""The three networks of the paper.

References:
    arXiv 2511.20270 and its authors' implementation. The sources give the autoencoder's channels
    and its number of parameters; the decoder's layout is the mirrored one that has that number.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from patchscout.networks.policy import NUM_ACTIONS, PolicyNetwork
from patchscout.paper.settings import GEOMETRY, PROFILE_LENGTH

NEGATIVE_SLOPE = 0.2
BOTTLENECK_CHANNELS = 200
SIZE_MULTIPLE, MIN_SIZE_PX = 8, 64

Images = Float[Tensor, "batch 3 height width"]


class PaperAutoencoder(nn.Module):
    """5.95 M parameters: convolutions 4x4 of stride 2 and 3x3, batch norm, leaky ReLU.

    Encoder 3-64-64-128-128-256-128-64; an 8x8 convolution to the bottleneck of 200 channels;
    decoder mirrored, with a skip connection from the 256-channel layer at 1/8 resolution.
    """

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(
            _block(nn.Conv2d(3, 64, 4, 2, 1), 64),
            _block(nn.Conv2d(64, 64, 3, 1, 1), 64),
            _block(nn.Conv2d(64, 128, 4, 2, 1), 128),
            _block(nn.Conv2d(128, 128, 3, 1, 1), 128),
            _block(nn.Conv2d(128, 256, 4, 2, 1), 256),
        )
        self.narrow = nn.Sequential(
            _block(nn.Conv2d(256, 128, 3, 1, 1), 128),
            _block(nn.Conv2d(128, 64, 3, 1, 1), 64),
            nn.Conv2d(64, BOTTLENECK_CHANNELS, 8),
        )
        self.widen = nn.Sequential(
            _block(nn.ConvTranspose2d(BOTTLENECK_CHANNELS, 64, 8), 64),
            _block(nn.Conv2d(64, 128, 3, 1, 1), 128),
            _block(nn.Conv2d(128, 256, 3, 1, 1), 256),
        )
        self.up = nn.Sequential(
            _block(nn.ConvTranspose2d(512, 256, 4, 2, 1), 256),
            _block(nn.Conv2d(256, 128, 3, 1, 1), 128),
            _block(nn.ConvTranspose2d(128, 128, 4, 2, 1), 128),
            _block(nn.Conv2d(128, 64, 3, 1, 1), 64),
            nn.ConvTranspose2d(64, 3, 4, 2, 1),
        )

    def forward(self, images: Images, mask: Float[Tensor, "rows 200"] | None = None) -> Images:
        """Return reconstructions of images in [0, 1], unbounded.

        Args:
            images: RGB images or patches.
            mask: One row for all images or one row an image, 0 where a bottleneck channel is
                deleted; None keeps every channel.

        Raises:
            ValueError: If height or width is below 64 or no multiple of 8.
        """
        code, skip = self.encode(images)
        return self.decode(code if mask is None else code * mask[:, :, None, None], skip)

    def encode(self, images: Images) -> tuple[Tensor, Tensor]:
        """Return the bottleneck and what the skip connection carries past it."""
        _check_size(images)
        skip = self.down(images)
        return self.narrow(skip), skip

    def decode(self, code: Tensor, skip: Tensor) -> Images:
        """Return the reconstruction of a bottleneck."""
        return self.up(torch.cat([self.widen(code), skip], dim=1))

    def folded(self) -> PaperAutoencoder:
        """Return a copy for evaluation only, batch norm folded into the convolutions.

        It reconstructs as this one does in evaluation mode, up to rounding, in less time.
        """
        copied = copy.deepcopy(self).eval()
        for module in list(copied.modules()):
            if isinstance(module, nn.Sequential) and isinstance(module[1], nn.BatchNorm2d):
                conv, norm = module[0], module[1]
                transposed = isinstance(conv, nn.ConvTranspose2d)
                module[0] = fuse_conv_bn_eval(conv, norm, transpose=transposed)  # pyright: ignore
                module[1] = nn.Identity()
        return copied.to(memory_format=torch.channels_last).requires_grad_(False)  # pyright: ignore


class PaperPredictor(nn.Module):
    """Dilated 3x3 convolutions T-32-16-8-4 and a 1x1 to 1: a receptive field of 31 px."""

    def __init__(self, in_channels: int = PROFILE_LENGTH) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = (in_channels, 32, 16, 8, 4)
        for (width_in, width_out), dilation in zip(pairwise(channels), (1, 2, 4, 8), strict=True):
            layers += [
                nn.Conv2d(width_in, width_out, 3, 1, dilation, dilation, bias=False),
                nn.BatchNorm2d(width_out),
                nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, 1))

    def forward(
        self, profiles: Float[Tensor, "batch length height width"]
    ) -> Float[Tensor, "batch height width"]:
        """Return the logit of being anomalous for each pixel."""
        return self.layers(profiles).squeeze(1)


class PaperPolicy(PolicyNetwork):
    """Five 3x3 convolutions of stride 2 and two linear layers.

    Channels 6-16-32-32-64-64, batch norm, ReLU, then 1024-256-9 for a window of 128 px. Softmax is
    left to the loss. The value head is this project's addition: the source has no baseline.

    Args:
        window: Side of the window in pixels, a multiple of 32.
    """

    relative = False

    def __init__(self, window: int = GEOMETRY.window) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise((6, 16, 32, 32, 64, 64)):
            layers += [
                nn.Conv2d(width_in, width_out, 3, 2, 1),
                nn.BatchNorm2d(width_out),
                nn.ReLU(inplace=True),
            ]
        flat = 64 * (window // 32) ** 2
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 256), nn.ReLU())
        self.action_head = nn.Linear(256, NUM_ACTIONS)
        self.value_head = nn.Linear(256, 1)


def _block(conv: nn.Module, channels: int) -> nn.Sequential:
    """Convolution, batch norm without affine parameters, leaky ReLU."""
    norm = nn.BatchNorm2d(channels, affine=False)
    return nn.Sequential(conv, norm, nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True))


def _check_size(images: Images) -> None:
    height, width = images.shape[-2:]
    if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE or min(height, width) < MIN_SIZE_PX:
        near = [
            max(MIN_SIZE_PX, round(side / SIZE_MULTIPLE) * SIZE_MULTIPLE)
            for side in (height, width)
        ]
        raise ValueError(
            f"`images` must have sides that are multiples of {SIZE_MULTIPLE} px, at least"
            f" {MIN_SIZE_PX}; got {height} x {width}. Resize to {near[0]} x {near[1]}."
        )
