"""The whole path of an image as one module: pixels of a camera in, defects at its own size out."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt
from torch import Tensor, nn

from patchscout.networks.resampling import nearest, positions, resized

Pixels = UInt[Tensor, "batch height width 3"]


class DeployableModel(nn.Module):
    """Resizing, normalization, loss profile, predictor and pixel threshold in one.

    Resizing is multiplication by matrices that are made from the size of the image, so that one
    graph without branches serves every size, and comes to what `data.images.resize` does.

    Args:
        segmenter: The trained model.
        image_size: Height and width in pixels that it works at.
        threshold: The pixel threshold, in [0, 1].
        largest_value: What white is in the images to come: 255 or 65535.
    """

    def __init__(
        self,
        segmenter: nn.Module,
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
        """Return the anomaly map, the mask and the score of each image, see `image_scores`.

        Args:
            images: RGB images of one size, channels last, from 0 to `largest_value`.
        """
        own_size = [positions(side, images.device) for side in images.shape[1:3]]
        working_size = [positions(side, images.device) for side in self.image_size]
        pixels = images.permute(0, 3, 1, 2).float() / self.largest_value
        working_map = self.segmenter(resized(pixels, own_size, working_size))
        found = resized(working_map, working_size, own_size)
        # Runtimes clamp what is not a number to 0, as if the image were flawless.
        anomaly_map = torch.where(found.isnan(), found, found.clamp(0, 1))
        region = getattr(self.segmenter, "region", None)
        if region is not None:  # as `inference.resize_map` does
            rows, columns = map(nearest, working_size, own_size)
            anomaly_map = torch.where(region[rows][:, columns], anomaly_map, 0.0)
        return anomaly_map, anomaly_map >= self.threshold, image_scores(working_map)


def image_scores(
    working_maps: Float[Tensor, "batch height width"],
) -> Float[Tensor, " batch"]:
    """Return the score of each image, as `decision.image_score` does."""
    scores = working_maps.amax(dim=(1, 2))
    return torch.where(scores.isnan(), scores, scores.clamp(0, 1))
