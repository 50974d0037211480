"""The autoencoders whose reconstruction errors over training make the loss profile."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

NEGATIVE_SLOPE = 0.2


def _block(conv: nn.Module, channels: int) -> nn.Sequential:
    """Convolution, batch norm without affine parameters, leaky ReLU."""
    return nn.Sequential(
        conv, nn.BatchNorm2d(channels, affine=False), nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)
    )


class Autoencoder(nn.Module):
    """What the two autoencoders share: sizes they accept and the bottleneck mask.

    Attributes:
        size_multiple: Height and width of an image must be multiples of this.
        min_size_px: The smallest height and width.
        bottleneck_channels: How many channels structured dropout chooses among.
    """

    size_multiple = 8
    min_size_px = 64

    def __init__(self, bottleneck_channels: int) -> None:
        super().__init__()
        self.bottleneck_channels = bottleneck_channels

    def forward(
        self,
        images: Float[Tensor, "batch 3 height width"],
        bottleneck_mask: Float[Tensor, "rows channels"] | None = None,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Reconstruct `images`.

        Args:
            images: RGB images or patches in [0, 1].
            bottleneck_mask: One row for all images or one row an image, 0 where a bottleneck
                channel is deleted (structured dropout); None keeps every channel.

        Returns:
            Reconstructions, unbounded.

        Raises:
            ValueError: If height or width is too small or no multiple of `size_multiple`.
        """
        self._check_size(images)
        code, skip = self.encode(images)
        if bottleneck_mask is not None:
            code = code * bottleneck_mask[:, :, None, None]
        return self.decode(code, skip)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the bottleneck and what a skip connection carries past it."""
        raise NotImplementedError

    def decode(self, code: Tensor, skip: Tensor | None) -> Tensor:
        """Return the reconstruction of a bottleneck."""
        raise NotImplementedError

    def folded(self) -> Autoencoder:
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

    def _check_size(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        multiple, smallest = self.size_multiple, self.min_size_px
        if height % multiple or width % multiple or min(height, width) < smallest:
            near = [max(smallest, round(s / multiple) * multiple) for s in (height, width)]
            raise ValueError(
                f"`images` must have sides that are multiples of {multiple} px, at least"
                f" {smallest}; got {height} x {width}. Resize to {near[0]} x {near[1]}."
            )


class PaperAutoencoder(Autoencoder):
    """The 5.95 M-parameter autoencoder of the paper.

    Encoder 3-64-64-128-128-256-128-64, convolutions 4x4 stride 2 and 3x3 stride 1; an 8x8
    convolution to the bottleneck of 200 channels; decoder mirrored, with a skip connection from
    the 256-channel layer at 1/8 resolution.

    References:
        arXiv 2511.20270 and its authors' implementation. The sources give channels and the
        parameter count; the decoder's layout is the mirrored one that has that count.
    """

    def __init__(self) -> None:
        super().__init__(bottleneck_channels=200)
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
            nn.Conv2d(64, 200, 8),
        )
        self.widen = nn.Sequential(
            _block(nn.ConvTranspose2d(200, 64, 8), 64),
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

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `Autoencoder.encode`."""
        skip = self.down(images)
        return self.narrow(skip), skip

    def decode(self, code: Tensor, skip: Tensor | None) -> Tensor:
        """See `Autoencoder.decode`."""
        assert skip is not None
        return self.up(torch.cat([self.widen(code), skip], dim=1))


class LeanAutoencoder(Autoencoder):
    """A small autoencoder for two CPU cores: three halvings, no skip connection.

    Args:
        base_channels: Channels at half resolution; 2 and 4 times as many at 1/4 and 1/8.
        bottleneck_channels: Channels of the bottleneck at 1/8 resolution.
    """

    min_size_px = 16

    def __init__(self, base_channels: int = 16, bottleneck_channels: int = 32) -> None:
        super().__init__(bottleneck_channels)
        c1, c2, c4 = base_channels, 2 * base_channels, 4 * base_channels
        self.encoder = nn.Sequential(
            _block(nn.Conv2d(3, c1, 4, 2, 1), c1),
            _block(nn.Conv2d(c1, c2, 4, 2, 1), c2),
            _block(nn.Conv2d(c2, c4, 4, 2, 1), c4),
            nn.Conv2d(c4, bottleneck_channels, 3, 1, 1),
        )
        self.decoder = nn.Sequential(
            _block(nn.Conv2d(bottleneck_channels, c4, 3, 1, 1), c4),
            _block(nn.ConvTranspose2d(c4, c2, 4, 2, 1), c2),
            _block(nn.ConvTranspose2d(c2, c1, 4, 2, 1), c1),
            nn.ConvTranspose2d(c1, 3, 4, 2, 1),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, None]:
        """See `Autoencoder.encode`."""
        return self.encoder(images), None

    def decode(self, code: Tensor, skip: Tensor | None) -> Tensor:
        """See `Autoencoder.decode`."""
        return self.decoder(code)
