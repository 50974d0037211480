"""The image itself as the only level: the method in pixel space."""

from __future__ import annotations

from torch import Tensor

from patchscout.backbones.base import Backbone


class Identity(Backbone):
    """Gives the standardized image as it is."""

    def __init__(self) -> None:
        super().__init__(channels=(3,), strides=(1,), receptive_px=0)

    def levels(self, images: Tensor) -> list[Tensor]:
        """Return the image."""
        return [images]
