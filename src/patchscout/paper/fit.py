"""The paper's training as the program calls it: with held-out images and a threshold."""

from __future__ import annotations

import torch

from patchscout.config import Config
from patchscout.data.loader import ImageLoader
from patchscout.monitor import Monitor
from patchscout.paper.train import train_paper
from patchscout.training.calibration import choose_threshold, hold_out
from patchscout.training.loop import TrainingResult
from patchscout.training.views import ViewSource
from patchscout.types import Split


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
