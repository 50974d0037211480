"""What R_pred is measured on: the surroundings of some defects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patchscout.networks.loss_profile import LossProfile
from patchscout.networks.segmenter import Observation, Observer, measure_lighting

PROBE_PX = 128
"""Side of the square about each defect that is looked at; at most the image."""


class RewardProbe:
    """Squares about defects, with the backbone's features of them, which do not change.

    Args:
        defects: Images with masks.
        observer: What the predictor sees.
    """

    @torch.no_grad()
    def __init__(
        self,
        defects: Sequence[
            tuple[Float[Tensor, "3 height width"], Bool[Tensor, "height width"]]
        ],
        observer: Observer,
    ) -> None:
        self.observer = observer
        squares = [_about_defect(mask) for _, mask in defects]
        self.images = torch.stack(
            [image[:, *square] for (image, _), square in zip(defects, squares, strict=True)]
        )
        self.masks = torch.stack(
            [mask[square] for (_, mask), square in zip(defects, squares, strict=True)]
        ).float()
        self.lighting = torch.cat([measure_lighting(image[None]) for image, _ in defects])
        self.features = observer.features(self.images, self.lighting)

    def observe(self, profile: LossProfile) -> Observation:
        """Return what the predictor sees of the squares, with a gradient to the autoencoder."""
        profiles = profile(profile.standardized(self.features))
        return self.observer.assemble(self.images, profiles, self.lighting)


def _about_defect(mask: Bool[Tensor, "height width"]) -> tuple[slice, slice]:
    """Return the square about the middle of a mask's pixels."""
    rows_and_columns = mask.nonzero().float()
    middle = rows_and_columns.mean(dim=0) if len(rows_and_columns) else torch.zeros(2)
    window: list[slice] = []
    for center, side in zip(middle.tolist(), mask.shape, strict=True):
        size = min(PROBE_PX, side)
        start = min(max(round(center) - size // 2, 0), side - size)
        window.append(slice(start, start + size))
    return window[0], window[1]
