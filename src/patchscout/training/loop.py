"""The whole training, top to bottom: draw patches, learn from them, pay and train the sampler."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from patchscout.config import Config
from patchscout.data.augment import Augmentation, draw_augmentation
from patchscout.data.loader import ImageLoader
from patchscout.devices import full_precision
from patchscout.interrupts import heed_again
from patchscout.monitor import Monitor
from patchscout.networks.loss_profile import shrink
from patchscout.networks.segmenter import Segmenter
from patchscout.training.calibration import Choice, choose_threshold, hold_out
from patchscout.training.environment import PatchEnvironment
from patchscout.training.learner import ProfileLearner
from patchscout.training.normality import fit_normality
from patchscout.training.novelty import fit_novelty
from patchscout.training.samplers import make_sampler
from patchscout.training.subsets import evenly_chosen
from patchscout.training.views import ViewSource
from patchscout.types import Sample, Split

STATISTICS_IMAGES = 64
"""At most so many normal images that mean and standard deviation of each color are taken from."""

DARK = 0.1
"""Three standard deviations above the mean, values of 10 or 12 bits in files of 16 are below it."""

LABELED_COPIES = 6
"""Augmented copies of each labeled image in the sampler's pool."""


@dataclass(frozen=True)
class TrainingResult:
    """What training made.

    Attributes:
        segmenter: The trained model, in evaluation mode.
        choice: The decision threshold, and what is known of it.
        num_steps: Sampler steps that were taken.
        is_complete: False if training was interrupted.
    """

    segmenter: Segmenter
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
    normal, calibration_normal = hold_out(split.train_normal, config.seed)
    pool = ImagePool(config, normal, split.labeled, loader)
    normality = fit_normality(normal, loader, config.normality, monitor)
    views = ViewSource(
        normal, split.labeled, loader, config.views, seed=config.seed, normality=normality
    )
    statistics = color_statistics(normal, loader)
    tell_if_dark(statistics, monitor)
    learner = ProfileLearner(config, views, statistics)
    novelty = None
    if config.measures_novelty and learner.predictor.backbone is not None:
        novelty = fit_novelty(
            normal,
            loader,
            learner.predictor.backbone,
            config.novelty,
            monitor,
            has_labels=bool(split.labeled),
        )
    environment = PatchEnvironment(
        pool,
        learner,
        config.sampler,
        config.reward,
        seed=config.seed,
        uses_error=config.sampler.kind in ("policy", "error"),
    )
    sampler = make_sampler(config.sampler, seed=config.seed, device=device)

    is_complete = False
    try:
        steps_per_cycle = config.training.steps_per_cycle
        total = config.training.num_cycles * steps_per_cycle
        if config.predictor.inputs == "image":  # no profiles, so nothing to sample patches for
            total = 0
        for step in monitor.track(range(total), "sampling patches and learning", total):
            step_of_cycle = step % steps_per_cycle
            if step_of_cycle == 0:
                learner.start_cycle()
                sampler.start_cycle(environment)
            figures = sampler.step(environment, is_last=step_of_cycle == steps_per_cycle - 1)
            sampler_figures = {f"sampler/{name}": value for name, value in figures.items()}
            monitor.log(step, sampler_figures | learner.figures)

        due = range(config.training.predictor_updates - learner.num_predictor_updates)
        for update in monitor.track(due, "finishing the predictor", len(due), "update"):
            learner.update_predictor()
            monitor.log(total + update, {"predictor/loss": learner.figures["predictor/loss"]})
        is_complete = True
    except KeyboardInterrupt:
        heed_again()  # a second one ends the choice of the threshold
        if not learner.num_predictor_updates:
            return None

    segmenter = learner.segmenter(novelty)
    calibration = ViewSource(
        calibration_normal, split.labeled, loader, config.views, seed=config.seed
    )
    choice = choose_threshold(segmenter, calibration, monitor)
    is_complete = is_complete and choice.is_complete
    return TrainingResult(segmenter, choice, learner.num_steps, is_complete)


class ImagePool:
    """The images that patches are picked from.

    These are the normal ones and, if the settings say so, augmented copies of the labeled ones,
    each copy with one augmentation of its own for the whole training.
    """

    def __init__(
        self,
        config: Config,
        normal: tuple[Sample, ...],
        labeled: tuple[Sample, ...],
        loader: ImageLoader,
    ) -> None:
        self.loader = loader
        self.downscale = config.autoencoder.downscale
        self._rng = np.random.default_rng([config.seed, 2])
        self._items = [(sample, Augmentation.identity()) for sample in normal]
        if config.sampler.labeled_in_pool:
            copies = [sample for sample in labeled for _ in range(LABELED_COPIES)]
            self._items += [(sample, draw_augmentation(self._rng)) for sample in copies]

    def __len__(self) -> int:
        return len(self._items)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the numbers of `count` random images, and these as the autoencoder sees them."""
        numbers = self._rng.integers(len(self), size=count)
        images = [
            augmentation.apply(self.loader.image(sample))
            for sample, augmentation in (self._items[number] for number in numbers)
        ]
        small = shrink(torch.stack(images), self.downscale)
        return torch.from_numpy(numbers).to(small.device), small.contiguous()


def color_statistics(samples: tuple[Sample, ...], loader: ImageLoader) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each color over evenly chosen images."""
    pixels = torch.stack(
        [
            torch.stack([image.mean(dim=(1, 2)), image.square().mean(dim=(1, 2))])
            for image in map(loader.image, evenly_chosen(samples, STATISTICS_IMAGES))
        ]
    ).mean(dim=0)
    mean, mean_of_squares = pixels
    return mean, (mean_of_squares - mean.square()).clamp_min(1e-4).sqrt()


def tell_if_dark(statistics: tuple[Tensor, Tensor], monitor: Monitor) -> None:
    """Say so if the normal images hardly use the range of values that they could."""
    mean, std = statistics
    brightest = float((mean + 3 * std).max())
    if brightest < DARK:
        monitor.say(
            f"The images are dark: hardly a value is above {brightest:.3f} of the largest possible"
            " one. If they hold 10 or 12 bits in files of 16, scale them to all 16, or defects"
            " will be missed."
        )
