"""The paper's training as the program calls it: with held-out images and a threshold."""

from __future__ import annotations

import numpy as np
import torch

from patchscout.config import Config
from patchscout.data.loader import ImageLoader
from patchscout.monitor import Monitor
from patchscout.paper.train import train_paper
from patchscout.training.calibration import choose_threshold
from patchscout.training.loop import TrainingResult
from patchscout.training.views import ViewSource
from patchscout.types import Sample, Split

HELD_OUT_FRACTION = 0.1
MAX_HELD_OUT = 30

ENOUGH_TO_HOLD_OUT = 5
"""Normal images from which on one at least is held out: those trained on raise no alarm."""


def train(
    config: Config, split: Split, device: torch.device, monitor: Monitor
) -> TrainingResult | None:
    """Train as the paper does, and choose the threshold as the default method does.

    See `training.loop.train`.
    """
    loader = ImageLoader(config.data.working_size, config.data.cache_mib, device)
    normal, calibration_normal = hold_out(split.train_normal, config.seed)
    trained_on = Split(normal, split.labeled, ())
    trained = train_paper(trained_on, config.paper, config.seed, device, loader, monitor)
    if trained is None:
        return None
    views = ViewSource(calibration_normal, split.labeled, loader, config.views, seed=config.seed)
    choice = choose_threshold(trained.segmenter, views, monitor)
    is_complete = trained.is_complete and choice.is_complete
    return TrainingResult(trained.segmenter, choice, trained.num_steps, is_complete)


def hold_out(
    normal: tuple[Sample, ...], seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split normal training images into those to train on and those to choose the threshold on.

    A tenth is held out, at least one and at most 30; of fewer than five images none, and then the
    threshold is chosen on the ones that are trained on.
    """
    if len(normal) < ENOUGH_TO_HOLD_OUT:
        return normal, normal
    count = min(max(int(HELD_OUT_FRACTION * len(normal)), 1), MAX_HELD_OUT)
    held_out = set(np.random.default_rng([seed, 3]).permutation(len(normal))[:count].tolist())
    return (
        tuple(sample for i, sample in enumerate(normal) if i not in held_out),
        tuple(sample for i, sample in enumerate(normal) if i in held_out),
    )
