"""The training of the paper, top to bottom: policy, autoencoder and predictor together."""

from __future__ import annotations

import copy
from collections import deque
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from patchscout.checks import InputValueError
from patchscout.config import PaperSettings
from patchscout.data.loader import ImageLoader
from patchscout.devices import full_precision
from patchscout.interrupts import heed_again
from patchscout.losses import weighted_cross_entropy
from patchscout.monitor import Monitor
from patchscout.paper import settings as numbers
from patchscout.paper.images import Pool, ProfileBuffer, defects
from patchscout.paper.networks import (
    BOTTLENECK_CHANNELS,
    Images,
    PaperAutoencoder,
    PaperPolicy,
    PaperPredictor,
)
from patchscout.paper.segmenter import (
    Masks,
    PaperSegmenter,
    absolute_error,
    draw_masks,
    loss_profiles,
)
from patchscout.training.environment import PatchEnvironment
from patchscout.training.rewards import (
    falling,
    own_rewards,
    pred_reward,
    reward_figures,
    shared_reward,
)
from patchscout.training.samplers import PolicySampler
from patchscout.types import Split


class PaperResult(NamedTuple):
    """What training made.

    Attributes:
        segmenter: The trained model, in evaluation mode.
        num_steps: Steps that were taken.
        is_complete: False if training was interrupted.
    """

    segmenter: PaperSegmenter
    num_steps: int
    is_complete: bool


def train_paper(
    split: Split,
    settings: PaperSettings,
    seed: int,
    device: torch.device,
    loader: ImageLoader,
    monitor: Monitor,
) -> PaperResult | None:
    """Train as the paper does; Ctrl-C ends training early with the model as it then is.

    Args:
        split: The images; all its normal and labeled ones are trained on, its test part is not
            touched.
        settings: Number of steps, and what makes profiles diverse.
        seed: Seed of every draw.
        device: Where to compute.
        loader: Reads the images, onto the same device.
        monitor: Shows progress and keeps figures.

    Returns:
        The result; None if it was interrupted before there was anything to keep.

    Raises:
        InputValueError: If nothing is labeled.
    """
    if not split.labeled:
        raise InputValueError(
            "`labeled_per_type` must be at least 1: the paper's method learns from labeled defects"
            " alone. Label some, or use another preset."
        )
    with full_precision():
        return _train(split, settings, seed, device, loader, monitor)


def _train(
    split: Split,
    settings: PaperSettings,
    seed: int,
    device: torch.device,
    loader: ImageLoader,
    monitor: Monitor,
) -> PaperResult | None:
    torch.manual_seed(seed)
    masks = draw_masks(seed).to(device) if settings.diversity == "dropout" else None
    states = AutoencoderStates(masks, device)
    predictor = PaperPredictor().to(device)
    optimizer = torch.optim.Adam(predictor.parameters(), numbers.LEARNING_RATE)
    policy = PaperPolicy(numbers.GEOMETRY.window).to(device)
    sampler = PolicySampler(policy, numbers.POLICY, seed=seed)
    environment = PatchEnvironment(
        Pool(split, loader, seed),
        numbers.GEOMETRY,
        seed=seed,
        error_maps=lambda _, images: states.errors(images),
    )
    buffer = ProfileBuffer(split, loader, seed)
    reward_images, reward_target = defects(split.labeled, loader)

    total, num_done, predictor_loss = settings.num_steps, 0, None
    try:
        for step in monitor.track(range(total), "learning as in the paper", total):
            alpha = falling(step, total)
            beta = falling(step, round(numbers.BETA_SHARE * total))
            is_last = (step + 1) % numbers.CYCLE_STEPS == 0 or step == total - 1
            if step % numbers.CYCLE_STEPS == 0:
                states.start_cycle()
                sampler.start_cycle(environment)

            picked = sampler.pick(environment)
            patches = picked.images[picked.counted]
            figures = {"autoencoder/loss": states.update(patches)} if len(patches) else {}
            states.keep()

            reward_pred = 0.0
            if predictor_loss is not None:
                with torch.no_grad():
                    logits = predictor.eval()(states.profiles(reward_images, newest=True))
                loss = weighted_cross_entropy(logits, reward_target, alpha).item()
                reward_pred = pred_reward(loss, loss, level=True)
            own, shared = own_rewards(picked, beta), shared_reward(reward_pred, beta)
            paid = reward_figures(picked, own, shared)
            learned = sampler.learn(own, shared, environment, is_last=is_last)
            figures |= {f"sampler/{name}": value for name, value in (paid | learned).items()}

            if states.has_profiles:
                buffer.renew(states.profiles)
                for _ in range(numbers.UPDATES_PER_STEP):
                    profiles, target = buffer.batch()
                    loss = weighted_cross_entropy(predictor.train()(profiles), target, alpha)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    predictor_loss = loss.item()
                    figures["predictor/loss"] = predictor_loss
            num_done = step + 1
            monitor.log(step, figures)
    except KeyboardInterrupt:
        heed_again()
        if predictor_loss is None:
            return None
    segmenter = PaperSegmenter(states.complete, masks, copy.deepcopy(predictor))
    return PaperResult(segmenter, num_done, num_done == total)


class AutoencoderStates:
    """The autoencoder in training, and its states that make the loss profiles.

    With dropout one state, the newest, is used with T masks, and there is one autoencoder for the
    whole training. With resets each cycle has a new one, and its T latest states are used.

    Args:
        masks: T masks for dropout; None for resets.
        device: Where to compute.
    """

    def __init__(self, masks: Masks | None, device: torch.device) -> None:
        self.masks = masks
        self.device = device
        self.complete: list[PaperAutoencoder] = []
        self._length = numbers.PROFILE_LENGTH if masks is None else 1
        self._begin()

    def start_cycle(self) -> None:
        """With resets, begin with a new autoencoder."""
        if self.masks is None:
            self._begin()

    def update(self, patches: Images) -> float:
        """Take a step on a minibatch; return the mean squared error."""
        mask = None
        if self.masks is not None:
            kept = torch.full((len(patches), BOTTLENECK_CHANNELS), 1 - numbers.DROPOUT_RATE)
            mask = torch.bernoulli(kept.to(self.device)) / (1 - numbers.DROPOUT_RATE)
        loss = F.mse_loss(self._autoencoder.train()(patches, mask), patches)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.item()

    def keep(self) -> None:
        """Keep the state as it is among the latest."""
        self._latest.append(self._autoencoder.folded())
        if len(self._latest) == self._length:
            self.complete = list(self._latest)

    @property
    def has_profiles(self) -> bool:
        """Whether there have ever been as many states as a profile needs."""
        return bool(self.complete)

    @torch.no_grad()
    def profiles(
        self, images: Images, *, newest: bool = False
    ) -> Float[Tensor, "batch length height width"]:
        """Return the loss profiles of images.

        Args:
            images: In [0, 1].
            newest: While a cycle has not made T states, those there are take the first places of
                the profile, and states of the last cycle the others.
        """
        states = self.complete
        if newest:
            states = [*self._latest, *self.complete[len(self._latest) :]]
        return loss_profiles(images, states, self.masks)

    @torch.no_grad()
    def errors(self, images: Images) -> Float[Tensor, "batch height width"]:
        """Return the current reconstruction errors of images."""
        return absolute_error(self._autoencoder.eval()(images), images)

    def _begin(self) -> None:
        self._autoencoder = PaperAutoencoder().to(self.device)
        self._optimizer = torch.optim.Adam(self._autoencoder.parameters(), numbers.LEARNING_RATE)
        self._latest: deque[PaperAutoencoder] = deque(maxlen=self._length)
