"""The paper's training as the program calls it: with held-out images and a threshold."""

from __future__ import annotations

import torch

from patchscout.config import Config
from patchscout.data.loader import ImageLoader
from patchscout.monitor import Monitor
from patchscout.paper.train import train_paper
from patchscout.training.calibration import choose_threshold, keep_back
from patchscout.training.loop import TrainingResult
from patchscout.training.views import NUM_FOLDS, ViewSource
from patchscout.types import Split


def train(
    config: Config, split: Split, device: torch.device, monitor: Monitor
) -> TrainingResult | None:
    """Train as the paper does, and choose the threshold as the default method does.

    See `training.loop.train`.
    """
    loader = ImageLoader(config.data.working_size, config.data.cache_mib, device)
    normal = split.train_normal
    learned, kept_back = keep_back(len(normal), config.decision.budget, config.seed)
    trained_on = Split(tuple(normal[number] for number in learned), split.labeled, ())
    trained = train_paper(trained_on, config.paper, config.seed, device, loader, monitor)
    if trained is None:
        return None
    views = ViewSource(
        normal, kept_back or learned, split.labeled, loader, config.views, seed=config.seed
    )
    scorers = [trained.segmenter] * NUM_FOLDS
    choice = choose_threshold(scorers, views, monitor, are_new=bool(kept_back))
    is_complete = trained.is_complete and choice.is_complete
    return TrainingResult(trained.segmenter, choice, trained.num_steps, is_complete)
