"""The decision threshold, chosen from training data only."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from patchscout.metrics import binary_metrics
from patchscout.monitor import Monitor
from patchscout.networks.segmenter import Segmenter
from patchscout.training.views import ViewSource
from patchscout.types import AnomalyMap, Mask, Sample

HELD_OUT_FRACTION = 0.1
MAX_HELD_OUT = 30


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
) -> tuple[float, float]:
    """Return the threshold with the best pixel F1 over images, and that F1.

    These are the labeled training images and the held-out normal ones; without labels, as many
    simulated defects as there are held-out images take their place. The predictor has seen the
    former (augmented), so the F1 is higher than on new images; the threshold is usable all the
    same, because F1 is flat around its maximum.

    Args:
        segmenter: The trained model.
        views: Gives the images.
        device: Where the model is.
        monitor: Shows progress.
    """
    images = views.unaugmented()
    total = len(views.normal) + (len(views.labeled) or len(views.normal))
    return best_threshold(
        (segmenter(image[None].to(device))[0].cpu().numpy(), mask.numpy())
        for image, mask in monitor.track(images, "choosing the threshold", total, "image")
    )


def best_threshold(scored: Iterable[tuple[AnomalyMap, Mask]]) -> tuple[float, float]:
    """Return the threshold with the best pixel F1 over anomaly maps and their masks, and that F1.

    Both are nan where no pixel is anomalous, or none normal.
    """
    preds, target = [], []
    for anomaly_map, mask in scored:
        preds.append(anomaly_map.ravel())
        target.append(mask.ravel())
    metrics = binary_metrics(np.concatenate(preds), np.concatenate(target))
    return metrics.threshold, metrics.f1_max
