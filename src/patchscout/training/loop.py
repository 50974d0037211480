"""The whole training, top to bottom: pick patches, learn from them, pay and train the sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from patchscout.build import build
from patchscout.config import Config
from patchscout.data.loader import ImageLoader
from patchscout.devices import full_precision
from patchscout.interrupts import heed_again
from patchscout.monitor import Monitor
from patchscout.training.calibration import Choice, choose_threshold, keep_back
from patchscout.training.colors import color_statistics
from patchscout.training.environment import Geometry, PatchEnvironment
from patchscout.training.feature_cache import FeatureCache
from patchscout.training.policy_gradient import PolicySettings
from patchscout.training.predictor_trainer import PredictorTrainer
from patchscout.training.profile_buffer import ProfileBuffer
from patchscout.training.profile_trainer import WHOLE, ProfileTrainer
from patchscout.training.reward_meter import RewardMeter
from patchscout.training.rewards import falling, own_rewards, reward_figures, shared_reward
from patchscout.training.samplers import make_sampler
from patchscout.training.views import ViewSource
from patchscout.types import Sample, Split

PROBE_IMAGES = 4
"""Labeled images that R_pred is measured on."""


@dataclass(frozen=True)
class TrainingResult:
    """What training made.

    Attributes:
        segmenter: The trained model, in evaluation mode.
        choice: The decision threshold, and what is known of it.
        num_steps: Sampler steps that were taken.
        is_complete: False if training was interrupted.
    """

    segmenter: torch.nn.Module
    choice: Choice
    num_steps: int
    is_complete: bool


def train(
    config: Config, split: Split, device: torch.device, monitor: Monitor
) -> TrainingResult | None:
    """Train sampler, autoencoder and predictor together.

    Ctrl-C ends training early with the model as it then is.

    Args:
        config: Every setting.
        split: The images; its test part is not touched.
        device: Where to compute.
        monitor: Shows progress and keeps figures.

    Returns:
        The result; None if it was interrupted during the steps before there was anything to keep.
    """
    with full_precision():
        return _train(config, split, device, monitor)


def _train(
    config: Config, split: Split, device: torch.device, monitor: Monitor
) -> TrainingResult | None:
    torch.manual_seed(config.seed)
    loader = ImageLoader(config.data.working_size, config.data.cache_mib, device)
    normal = split.train_normal
    trained_on, kept_back = keep_back(len(normal), config.decision.budget, config.seed)
    views = ViewSource(normal, trained_on, split.labeled, loader, config.views, seed=config.seed)
    segmenter = build(config, pretrained=True).to(device)
    observer = segmenter.observer
    observer.channel_mean, observer.channel_std = color_statistics(normal, loader)
    loader.limit_to(normal[0].region, observer.channel_mean)
    segmenter.region = loader.region

    cache = FeatureCache(normal, loader, observer, config.data.cache_mib)
    autoencoders = ProfileTrainer(cache, segmenter.profile.channels, config.profile.snapshots)
    buffer = ProfileBuffer(
        views,
        observer,
        crop_px=config.predictor.crop_px,
        batch_size=config.predictor.batch_size,
        seed=config.seed,
    )
    predictor = PredictorTrainer(segmenter.predictor, buffer, config.predictor.updates)
    pool = ImagePool(normal, loader, observer.backbone.strides[0], config.seed)
    geometry = Geometry()
    environment = PatchEnvironment(
        pool,
        geometry,
        seed=config.seed,
        error_maps=None if config.sampler.kind == "uniform" else autoencoders.error_maps,
    )
    sampler = make_sampler(
        config.sampler.kind, geometry, PolicySettings(), seed=config.seed, device=device
    )
    # Of the features alone the predictor learns the same, whatever the autoencoder does.
    is_paid = config.sampler.kind == "policy" and {"residual", "errors"} & set(
        config.predictor.sees
    )
    meter = RewardMeter(views.defects(PROBE_IMAGES) if is_paid else [], autoencoders, predictor)

    steps_per_cycle = config.profile.snapshots[-1]
    total = config.profile.num_cycles * steps_per_cycle
    is_complete = False
    num_steps = 0
    try:
        for step in monitor.track(range(total), "sampling patches and learning", total):
            is_last = (step + 1) % steps_per_cycle == 0
            if step % steps_per_cycle == 0:
                autoencoders.start_cycle()
                sampler.start_cycle(environment)

            picked = sampler.pick(environment)
            numbers = picked.numbers[picked.counted]
            patches = autoencoders.gather(numbers, picked.corners[picked.counted])
            credits = meter.credits(patches)
            loss = autoencoders.train(patches, numbers)
            figures = {"autoencoder/loss": loss} if len(numbers) else {}
            autoencoders.take_snapshot_if_due()

            beta = falling(step, steps_per_cycle)
            own = own_rewards(picked, beta, credits)
            shared = shared_reward(meter.reward(), beta)
            learned = sampler.learn(own, shared, environment, is_last=is_last)
            rewards = reward_figures(picked, own, shared)
            figures |= {f"sampler/{name}": value for name, value in (rewards | learned).items()}

            if autoencoders.profiles and predictor.is_due:
                figures["predictor/loss"] = predictor.update(autoencoders.profiles)
            monitor.log(step, figures)
            num_steps = step + 1

        due = range(config.predictor.updates - predictor.num_done)
        for update in monitor.track(due, "finishing the predictor", len(due), "update"):
            monitor.log(total + update, {"predictor/loss": predictor.update(autoencoders.profiles)})
        is_complete = True
    except KeyboardInterrupt:
        heed_again()  # a second one ends the choice of the threshold
        if not predictor.num_done:
            return None

    segmenter.profile = autoencoders.profiles[WHOLE]
    segmenter.predictor = predictor.averaged()
    unseen = [segmenter.eval().through(one) for one in autoencoders.profiles[:WHOLE]]
    others = ViewSource(
        normal, kept_back or trained_on, split.labeled, loader, config.views, seed=config.seed
    )
    choice = choose_threshold(unseen, others, monitor, are_new=bool(kept_back))
    is_complete = is_complete and choice.is_complete
    return TrainingResult(segmenter, choice, num_steps, is_complete)


class ImagePool:
    """The normal images that patches are picked from, as the walkers see them.

    Args:
        samples: The images.
        loader: Reads them.
        cell_px: Side of what a walker's cell covers; they see its mean.
        seed: Seed of the draws.
    """

    def __init__(
        self, samples: Sequence[Sample], loader: ImageLoader, cell_px: int, seed: int
    ) -> None:
        self.samples = samples
        self.loader = loader
        self.cell_px = cell_px
        self._rng = np.random.default_rng([seed, 2])

    def __len__(self) -> int:
        return len(self.samples)

    def draw(
        self, count: int
    ) -> tuple[Int[Tensor, " count"], Float[Tensor, "count 3 rows columns"]]:
        """Return the numbers of `count` random images, and these."""
        numbers = self._rng.integers(len(self), size=count)
        images = self.loader.images([self.samples[number] for number in numbers])
        return torch.from_numpy(numbers).to(images.device), F.avg_pool2d(images, self.cell_px)
