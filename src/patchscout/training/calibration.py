"""The decision threshold, chosen from training data only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from patchscout.curves import Curve, PixelPool
from patchscout.decision import DEFAULT_BUDGET, ImageScores, image_score, num_needed
from patchscout.monitor import Monitor
from patchscout.networks.tiles import segment
from patchscout.training.views import View, ViewSource
from patchscout.types import AnomalyMap, Mask, check_probabilities

NEARLY_BEST = 0.02
"""By what share of the best F1 a nearly best one is lower."""

FALSE_ALARMS = 0.05
"""Share of normal images that may be called defective for the sake of a lower threshold."""


FEWEST_KEPT_BACK, MOST_KEPT_BACK = 0.1, 0.3
"""Shares of the normal images that are kept back to promise a rate of false alarms."""

TIMES_NEEDED = 3
"""So many times as many as a promise takes are kept back where there are enough: then it allows for
a few odd ones among them, and does not hang on the single largest score."""

ENOUGH_TO_KEEP_BACK = 5
"""Normal images from which on some are kept back."""

MAX_POOLED = 64
"""About so many normal images whose pixels are kept, where there are more."""


class Choice(NamedTuple):
    """A threshold that was chosen.

    Attributes:
        threshold: The pixel threshold.
        scores: The image scores to make a decision on.
        is_complete: False if Ctrl-C left some out.
    """

    threshold: float
    scores: ImageScores
    is_complete: bool


def keep_back(num_normal: int, budget: float | None, seed: int) -> tuple[list[int], list[int]]:
    """Divide the normal images into those that the predictor is trained on and those kept back.

    Three times as many are kept back as it takes to promise a rate of false alarms, but at least a
    tenth and at most three tenths; of fewer than five images none.

    Args:
        num_normal: How many there are.
        budget: The rate; unset: `DEFAULT_BUDGET`.
        seed: Decides which.

    Returns:
        The numbers of both, ascending.
    """
    numbers = np.random.default_rng([seed, 3]).permutation(num_normal).tolist()
    count = 0
    if num_normal >= ENOUGH_TO_KEEP_BACK:
        least, most = (
            math.ceil(share * num_normal) for share in (FEWEST_KEPT_BACK, MOST_KEPT_BACK)
        )
        needed = num_needed(budget or DEFAULT_BUDGET)
        count = min(max(TIMES_NEEDED * needed, least), most)
    return sorted(numbers[count:]), sorted(numbers[:count])


@torch.no_grad()
def choose_threshold(
    scorers: Sequence[nn.Module], views: ViewSource, monitor: Monitor, *, are_new: bool = True
) -> Choice:
    """Choose the threshold over images, see `ScoredPixels`.

    The normal images among them are new to the model. The labeled ones are not (augmented), so the
    F1 is higher than on new images. Without labels, as many simulated defects as there are normal
    images, and 20 at least, take their place.

    Ctrl-C ends the choice with the images scored by then, and a defect if none is among them, so
    that what was trained is not lost.

    Args:
        scorers: For each fold of the normal images the model as it is without having seen them.
        views: Gives the images, on the device where the model is.
        monitor: Shows progress.
        are_new: Whether the normal images are new to the model; otherwise their scores say nothing
            of others, and are not returned.

    Raises:
        InputValueError: If the model gives values that are not finite: its training diverged.
    """
    images = views.unaugmented()
    total = views.num_unaugmented
    scored = ScoredPixels(math.ceil(len(views.numbers) / MAX_POOLED))

    def score(view: View) -> None:
        anomaly_map = segment(scorers[view.fold], view.image[None])[0].cpu().numpy()
        check_probabilities(anomaly_map)
        scored.add(anomaly_map, view.mask.cpu().numpy())

    is_complete = True
    try:
        for view in monitor.track(images, "choosing the threshold", total, "image"):
            score(view)
        threshold = scored.lowest_good_threshold()
    except KeyboardInterrupt:
        if not scored.pixels.num_regions:
            score(View(*views.defects(1)[0], 0))
        monitor.say(
            f"Stopped while the threshold was chosen: it is chosen on {scored.num_images} of"
            f" {total} images."
        )
        threshold = scored.lowest_good_threshold()
        is_complete = False
    kind = "labeled" if views.labeled else "simulated"
    normal = tuple(scored.normal) if are_new else ()
    scores = ImageScores(normal, tuple(scored.defective), kind)
    return Choice(threshold, scores, is_complete)


class ScoredPixels:
    """The pixels of scored images to choose a threshold on.

    Attributes:
        pixels: Those of anomalous images, and of some normal ones.
        normal: The image scores of the normal images.
        defective: Those of the others.

    Args:
        every: The pixels of one in so many normal images are kept.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.pixels = PixelPool()
        self.normal: list[float] = []
        self.defective: list[float] = []

    @property
    def num_images(self) -> int:
        """How many images were added."""
        return len(self.normal) + len(self.defective)

    def add(self, anomaly_map: AnomalyMap, mask: Mask) -> None:
        """Add an image."""
        is_normal = not mask.any()
        if not is_normal or len(self.normal) % self.every == 0:
            self.pixels.add(anomaly_map, mask)
        (self.normal if is_normal else self.defective).append(image_score(anomaly_map))

    def lowest_good_threshold(self) -> float:
        """Return the lowest threshold whose pixel F1 is nearly best.

        The normal images are new to the model. The defects are not: it is surer of them than it
        will be of others. So of thresholds that are nearly as good the lowest is closest to what
        is best for other defects, as long as it is good for the normal images too: no more than
        one in twenty is called defective, or no more than at the best threshold if that calls more
        so.

        It is nan where no pixel is anomalous, or none normal.
        """
        curve, num_normal = Curve.of_pixels([self.pixels]), len(self.normal)
        if not curve.is_defined:
            return math.nan
        f1_values = curve.f1
        normal = np.sort(np.array(self.normal, np.float32))
        num_alarms = num_normal - np.searchsorted(normal, curve.thresholds)
        few = max(num_alarms[f1_values.argmax()], FALSE_ALARMS * num_normal)
        is_good = (f1_values >= (1 - NEARLY_BEST) * f1_values.max()) & (num_alarms <= few)
        lowest = np.flatnonzero(is_good)[-1]
        return float(curve.thresholds[lowest])
