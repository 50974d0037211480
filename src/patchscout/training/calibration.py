"""The decision threshold, chosen from training data only."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from patchscout.curves import Curve, check_scores
from patchscout.monitor import Monitor
from patchscout.networks.segmenter import Segmenter
from patchscout.networks.tiles import segment
from patchscout.training.views import ViewSource
from patchscout.types import AnomalyMap, Mask, Sample

HELD_OUT_FRACTION = 0.1
MAX_HELD_OUT = 30

NEARLY_BEST = 0.02
"""By what share of the best F1 a nearly best one is lower."""

FALSE_ALARMS = 0.05
"""Share of normal images that may be called defective for the sake of a lower threshold."""


class Choice(NamedTuple):
    """A threshold that was chosen.

    Attributes:
        threshold: The decision threshold.
        f1: Its pixel F1 on the images that it was chosen on.
        num_normal: How many of them are normal.
        num_false_alarms: How many of these it calls defective.
        is_complete: False if Ctrl-C left some out.
    """

    threshold: float
    f1: float
    num_normal: int
    num_false_alarms: int
    is_complete: bool = True


def hold_out(
    normal: tuple[Sample, ...], seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split normal training images into those to train on and those to choose the threshold on.

    A tenth is held out, at most 30; of fewer than ten images none, and then the threshold is
    chosen on the ones that are trained on.
    """
    count = num_held_out(len(normal))
    if not count:
        return normal, normal
    held_out = set(np.random.default_rng([seed, 3]).permutation(len(normal))[:count].tolist())
    return (
        tuple(sample for i, sample in enumerate(normal) if i not in held_out),
        tuple(sample for i, sample in enumerate(normal) if i in held_out),
    )


def num_held_out(num_normal: int) -> int:
    """Return how many of a number of normal images are held out."""
    return min(int(HELD_OUT_FRACTION * num_normal), MAX_HELD_OUT)


@torch.no_grad()
def choose_threshold(
    segmenter: Segmenter, views: ViewSource, device: torch.device, monitor: Monitor
) -> Choice:
    """Choose the threshold over images, see `lowest_good_threshold`.

    These are the labeled training images and the held-out normal ones; without labels, as many
    simulated defects as there are held-out images take their place. The predictor has seen the
    former (augmented), so the F1 is higher than on new images.

    Ctrl-C ends the choice with the images scored by then, and a defect if none is among them, so
    that what was trained is not lost.

    Args:
        segmenter: The trained model.
        views: Gives the images.
        device: Where the model is.
        monitor: Shows progress.
    """
    images = views.unaugmented()
    total = len(views.normal) + (len(views.labeled) or len(views.normal))
    scored: list[tuple[AnomalyMap, Mask]] = []

    def score(image: Tensor, mask: Tensor) -> None:
        scored.append((segment(segmenter, image[None].to(device))[0].cpu().numpy(), mask.numpy()))

    try:
        for image, mask in monitor.track(images, "choosing the threshold", total, "image"):
            score(image, mask)
        return lowest_good_threshold(scored)
    except KeyboardInterrupt:
        if not any(mask.any() for _, mask in scored):
            defect = views.defects(1)[0]
            score(defect.image, defect.mask)
        monitor.say(
            f"Stopped while the threshold was chosen: it is chosen on {len(scored)} of {total}"
            " images."
        )
        return lowest_good_threshold(scored)._replace(is_complete=False)


def lowest_good_threshold(scored: Iterable[tuple[AnomalyMap, Mask]]) -> Choice:
    """Return the lowest threshold whose pixel F1 over maps and masks is nearly best.

    The normal images are new to the model. The defects are not: it is surer of them than it will be
    of others. So of thresholds that are nearly as good the lowest is closest to what is best for
    other defects, as long as it is good for the normal images too: no more than one in twenty is
    called defective, or no more than at the best threshold if that calls more so.

    It is nan where no pixel is anomalous, or none normal.
    """
    preds, target = [], []
    peaks = []  # the largest score of each normal image
    for anomaly_map, mask in scored:
        preds.append(anomaly_map.ravel())
        target.append(mask.ravel())
        if not mask.any():
            peaks.append(anomaly_map.max())
    scores, is_anomalous = np.concatenate(preds), np.concatenate(target)
    check_scores(scores, is_anomalous)
    curve = Curve.of_scores(scores[is_anomalous], scores[~is_anomalous])
    if not curve.is_defined:
        return Choice(math.nan, math.nan, len(peaks), 0)
    f1_values = curve.f1
    num_alarms = len(peaks) - np.searchsorted(np.sort(peaks), curve.thresholds)
    few = max(num_alarms[f1_values.argmax()], FALSE_ALARMS * len(peaks))
    is_good = (f1_values >= (1 - NEARLY_BEST) * f1_values.max()) & (num_alarms <= few)
    lowest = np.flatnonzero(is_good)[-1]
    return Choice(
        float(curve.thresholds[lowest]),
        float(f1_values[lowest]),
        len(peaks),
        int(num_alarms[lowest]),
    )
