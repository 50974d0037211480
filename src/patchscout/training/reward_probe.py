"""What R_pred is measured on: the surroundings of some defects."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from patchscout.networks.autoencoder import Autoencoder
from patchscout.networks.loss_profile import ProfileExtractor
from patchscout.networks.predictor import PredictorEnsemble
from patchscout.networks.segmenter import Context, measure_lighting
from patchscout.training.views import View

PROBE_PX = 128
"""Side of the square about each defect that is looked at; at most the image."""


class RewardProbe:
    """Squares about defects, and what is known of them: error maps that are still valid, features.

    Args:
        views: Images with masks and deviations.
    """

    def __init__(self, views: Iterable[View]) -> None:
        whole = list(views)
        squares = [_about_defect(view) for view in whole]
        images, masks, deviations = (torch.stack(parts) for parts in zip(*squares, strict=True))
        lighting = torch.cat([measure_lighting(view.image[None]) for view in whole])
        self.images, self.masks = images, masks.float()
        self.context = Context(lighting, deviations)
        self._known: dict[Autoencoder, Tensor] = {}
        self._general: list[Tensor] | None = None

    def profiles(
        self, extractor: ProfileExtractor, newest: tuple[int, Autoencoder] | None = None
    ) -> Float[Tensor, "count channels height width"]:
        """Return the loss profiles of the squares; only autoencoders not seen before are run.

        The profiles have a gradient with respect to the weights of the newest autoencoder.

        Args:
            extractor: Makes the profiles.
            newest: An autoencoder in training, in evaluation mode, and the number of the one whose
                place its errors take.
        """
        if extractor.masks is not None:  # one autoencoder, new each time
            return extractor(self.images)
        with torch.no_grad():
            self._known = {
                key: self._known[key] if key in self._known else extractor.maps_of(key, self.images)
                for key, _ in extractor.sources
            }
        channels = list(self._known.values())
        if newest is not None:
            index, autoencoder = newest
            channels[index] = extractor.maps_of(autoencoder, self.images)
        return torch.cat(channels, dim=1)

    def general(
        self, predictor: PredictorEnsemble, features: Float[Tensor, "count channels height width"]
    ) -> list[Tensor]:
        """Return what the backbone, which does not learn, finds in the squares; it looks once."""
        if self._general is None:
            self._general = [one.detach() for one in predictor.general(features)]
        return self._general


def _about_defect(view: View) -> View:
    """Cut a square about the middle of the mask's pixels from a view."""
    rows_and_columns = view.mask.nonzero().float()
    middle = rows_and_columns.mean(dim=0) if len(rows_and_columns) else torch.zeros(2)
    window: list[slice] = []
    for center, side in zip(middle.tolist(), view.mask.shape, strict=True):
        size = min(PROBE_PX, side)
        start = min(max(round(center) - size // 2, 0), side - size)
        window.append(slice(start, start + size))
    return view.part(window[0], window[1])
