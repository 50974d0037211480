"""The whole path of an image as one module: pixels of a camera in, defects at its own size out."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, UInt
from torch import Tensor, nn

from patchscout.networks.segmenter import Segmenter

Pixels = UInt[Tensor, "batch height width 3"]


class DeployableModel(nn.Module):
    """Resizing, normalization, loss profile, predictor and threshold in one.

    Resizing is multiplication by matrices that are made from the size of the image, so that one
    graph without branches serves every size, and comes to what `data.images.resize` does.

    Args:
        segmenter: The trained model.
        image_size: Height and width in pixels that it works at.
        threshold: The decision threshold, in [0, 1].
        largest_value: What white is in the images to come: 255 or 65535.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        image_size: tuple[int, int],
        threshold: float,
        largest_value: int = 255,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.image_size = image_size
        self.threshold = threshold
        self.largest_value = largest_value

    def forward(
        self, images: Pixels
    ) -> tuple[
        Float[Tensor, "batch height width"],
        Bool[Tensor, "batch height width"],
        Float[Tensor, " batch"],
    ]:
        """Return the anomaly map, the mask and the score of each image.

        Args:
            images: RGB images of one size, channels last, from 0 to `largest_value`.
        """
        own_size = [positions(side, images) for side in images.shape[1:3]]
        working_size = [positions(side, images) for side in self.image_size]
        pixels = images.permute(0, 3, 1, 2).float() / self.largest_value
        working_map = self.segmenter(resized(pixels, own_size, working_size))
        anomaly_map = resized(working_map, working_size, own_size).clamp(0, 1)
        return anomaly_map, anomaly_map >= self.threshold, anomaly_map.amax(dim=(1, 2))


def positions(side_px: int, like: Tensor) -> Int[Tensor, " side"]:
    """Return 0, 1, 2 and so on: the places along a side, which also tell how long it is."""
    return torch.arange(side_px, device=like.device)


def resized(
    maps: Float[Tensor, "*stack old_height old_width"],
    old_size: list[Int[Tensor, " side"]],
    new_size: list[Int[Tensor, " side"]],
) -> Float[Tensor, "*stack new_height new_width"]:
    """Resize maps from the positions of one size (rows, columns) to those of another."""
    rows, columns = map(resampling, old_size, new_size)
    return rows @ maps @ columns.T


def resampling(
    old: Int[Tensor, " old_side"], new: Int[Tensor, " new_side"]
) -> Float[Tensor, "new_side old_side"]:
    """Return the matrix that averages over areas along a side that shrinks, else interpolates.

    Weights are counted in whole numbers up to the last division, so that they are exact for sides
    of any length.
    """
    old_px, new_px = old[-1] + 1, new[-1] + 1
    row, column = new[:, None], old[None]
    # In units of 1 / new_px old pixels, a new pixel covers old_px of them and an old one new_px.
    begin = torch.maximum(row * old_px, column * new_px)
    end = torch.minimum((row + 1) * old_px, (column + 1) * new_px)
    areas = (end - begin).clamp_min(0) / old_px
    # In half such units, from the center of the first old pixel to that of a new one.
    center = ((2 * row + 1) * old_px - new_px).clamp_min(0)
    center = torch.minimum(center, 2 * new_px * (old_px - 1))
    nearness = (1 - (center - 2 * new_px * column).abs() / (2 * new_px)).clamp_min(0)
    return torch.where(old_px > new_px, areas, nearness).float()
