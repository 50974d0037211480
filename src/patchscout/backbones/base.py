"""What every backbone is: images in, feature maps of a few levels out, never trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """A frozen network that gives feature maps.

    Args:
        channels: Of each level.
        strides: Side of a cell of each level, in pixels, ascending.
        receptive_px: How far outside its cell a feature sees at most; None if that is the whole
            image, or not known.
        input_scale: Standard deviation of the colors of a usual photograph, as the network is used
            to seeing it.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        strides: tuple[int, ...],
        receptive_px: int | None,
        input_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.strides = strides
        self.receptive_px = receptive_px
        self.input_scale = input_scale

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch channels rows columns"]]:
        """Return the features of each level; a level's last row and column may be partly filled.

        Args:
            images: Standardized: each has mean 0 and standard deviation 1 over its own values.
        """
        return self.levels(self.input_scale * images.detach())

    @abstractmethod
    def levels(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch channels rows columns"]]:
        """Return the features of each level, of images scaled as the network is used to."""

    def train(self, mode: bool = True) -> Any:
        """Stay in evaluation mode: what training sees is what use sees."""
        del mode
        return super().train(False)
