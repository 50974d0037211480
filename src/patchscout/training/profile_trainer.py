"""Trains the autoencoders whose errors make the loss profiles, and takes their snapshots.

One autoencoder is trained on all normal images and goes into the model. For each of two folds
another is trained on the other fold only: what the predictor sees of a normal image in training
comes from one that has not seen it, as in use (cross-fitting).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from patchscout.data.split import evenly_chosen
from patchscout.networks.autoencoder import (
    FeatureAutoencoder,
    Level,
    level_errors,
    patch_losses,
)
from patchscout.networks.loss_profile import LossProfile
from patchscout.training.feature_cache import FeatureCache
from patchscout.training.views import NUM_FOLDS, fold_of

LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4

PATCH = 8
"""Side of a patch, in cells of each level."""

STATISTICS_IMAGES = 64
"""At most so many normal images that means and spreads are measured on."""

SMALLEST_SPREAD = 1e-3

PLACE_SHARE = 0.5
"""Weight of the place's own mean in the error that is usual there."""

FEWEST_FOR_PLACES = 8
"""Normal images from which on places have their own mean: of fewer it would be their own error."""

WHOLE = NUM_FOLDS
"""Number of the autoencoder that is trained on all images, after those of the folds."""


class ProfileTrainer:
    """Autoencoders in training, and the latest complete loss profiles.

    Args:
        cache: Features of the normal images.
        channels: Of the backbone's levels.
        snapshot_steps: Steps of a cycle, counted from 1, after which a snapshot is taken; the last
            one ends the cycle.
    """

    def __init__(
        self, cache: FeatureCache, channels: Sequence[int], snapshot_steps: Sequence[int]
    ) -> None:
        self.cache = cache
        self.channels = channels
        self.snapshot_steps = snapshot_steps
        self.device = cache.loader.device
        self.blank = LossProfile([], channels, cache.sizes).to(self.device)
        self._standardize()
        self.profiles: list[LossProfile] = []
        self.start_cycle()

    def start_cycle(self) -> None:
        """Begin with new autoencoders."""
        self.step = 0
        first = FeatureAutoencoder(self.channels).to(self.device).eval()
        self.autoencoders = [copy.deepcopy(first) for _ in range(NUM_FOLDS + 1)]
        steps = self.snapshot_steps[-1]
        self._optimizers = [
            torch.optim.AdamW(
                one.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
            )
            for one in self.autoencoders
        ]
        self._schedules = [
            torch.optim.lr_scheduler.CosineAnnealingLR(one, steps, LEARNING_RATE / 10)
            for one in self._optimizers
        ]
        self._snapshots: list[list[FeatureAutoencoder]] = [[] for _ in self.autoencoders]
        self._in_progress: LossProfile | None = None

    def train(self, patches: Sequence[Level], numbers: Int[Tensor, " batch"]) -> float:
        """Train each autoencoder on the patches that are meant for it.

        Args:
            patches: Standardized features of each level.
            numbers: Of the images that they are from.

        Returns:
            The loss of the one that is trained on all.
        """
        folds = fold_of(numbers)
        loss = math.nan
        for number, autoencoder in enumerate(self.autoencoders):
            sees_all = number == WHOLE or len(self.cache) < NUM_FOLDS
            chosen = torch.ones_like(folds, dtype=torch.bool) if sees_all else folds != number
            if not chosen.any():
                continue
            autoencoder.train()
            errors = autoencoder.errors([one[chosen] for one in patches])
            mean = patch_losses(errors).mean()
            self._optimizers[number].zero_grad()
            mean.backward()
            self._optimizers[number].step()
            self._schedules[number].step()
            autoencoder.eval()
            loss = mean.item()
        return loss

    def take_snapshot_if_due(self) -> None:
        """Count a step, and keep the autoencoders if the step is one of the snapshots'."""
        self.step += 1
        if self.step not in self.snapshot_steps:
            return
        for kept, autoencoder in zip(self._snapshots, self.autoencoders, strict=True):
            kept.append(copy.deepcopy(autoencoder).requires_grad_(False).eval())
        self._in_progress = None
        if self.step == self.snapshot_steps[-1]:
            self.profiles = self._measured(
                [self._profile_of(kept, self.blank) for kept in self._snapshots]
            )

    def in_progress(self) -> LossProfile:
        """Return the profile of all images as it is becoming.

        The autoencoder in training takes the place of the snapshot that it is on the way to; for
        later ones those of the cycle before stand in.
        """
        if self._in_progress is None:
            complete, kept = self.profiles[WHOLE], self._snapshots[WHOLE]
            to_come = complete.states[len(kept) + 1 :]
            snapshots = [*kept, self.autoencoders[WHOLE], *to_come]
            is_over = len(kept) == len(self.snapshot_steps)
            self._in_progress = complete if is_over else self._profile_of(snapshots, complete)
        return self._in_progress

    def gather(
        self, numbers: Int[Tensor, " batch"], corners: Int[Tensor, "batch 2"]
    ) -> list[Level]:
        """Return standardized features of patches: `PATCH` cells a side at each level.

        Args:
            numbers: Of the images.
            corners: Top and left cell of each patch at the finest level; at the others the patch
                has the same middle.
        """
        patches = self.cache.windows(numbers, corners + PATCH // 2, PATCH)
        return self.blank.standardized(patches)

    def _profile_of(
        self, snapshots: Sequence[FeatureAutoencoder], like: LossProfile
    ) -> LossProfile:
        """Return the loss profile of snapshots, with the statistics of another one."""
        profile = LossProfile(snapshots, self.channels, self.cache.sizes).to(self.device).eval()
        profile.load_state_dict(dict(like.named_buffers()), strict=False)
        return profile

    @torch.no_grad()
    def error_maps(
        self, numbers: Int[Tensor, " batch"], images: Tensor
    ) -> Float[Tensor, "batch rows columns"]:
        """Return the current error of each cell of the finest level, mean over the coarser levels.

        The finest takes longer than the others together, and a patch is many of its cells.
        """
        del images  # their features are known
        features = self.blank.standardized(self.cache.features(numbers))
        size = features[0].shape[-2:]
        coarser = features[1:] or features
        networks = self.autoencoders[WHOLE].levels[-len(coarser) :]
        found = [network(one) for network, one in zip(networks, coarser, strict=True)]
        errors = level_errors(coarser, found)
        grown = [F.interpolate(one[:, None], size=size)[:, 0] for one in errors]
        return torch.stack(grown).mean(dim=0)

    @torch.no_grad()
    def _standardize(self) -> None:
        """Measure mean and spread of each channel of the features."""
        chosen = evenly_chosen(range(len(self.cache)), STATISTICS_IMAGES)
        moments = [
            torch.stack([one.mean(dim=(0, 2, 3)), one.square().mean(dim=(0, 2, 3))])
            for one in self.cache.features(chosen)
        ]
        for level, (mean, square) in enumerate(moments):
            spread = (square - mean.square()).clamp_min(0).sqrt().clamp_min(SMALLEST_SPREAD)
            getattr(self.blank, f"mean_{level}").copy_(mean)
            getattr(self.blank, f"spread_{level}").copy_(spread)

    def _inside(self, shape: torch.Size) -> Bool[Tensor, "rows columns"]:
        """Return which cells of a level have a part in the region that is looked at."""
        region = self.cache.loader.region
        if region is None:
            return torch.ones(shape, dtype=torch.bool, device=self.device)
        return F.adaptive_max_pool2d(region[None].float(), tuple(shape))[0] > 0

    @torch.no_grad()
    def _measured(self, profiles: list[LossProfile]) -> list[LossProfile]:
        """Set what is usual on normal images that an autoencoder has not seen."""
        chosen = evenly_chosen(range(len(self.cache)), STATISTICS_IMAGES)
        squares: list[list[Tensor]] = [[] for _ in self.channels]
        errors: list[list[Tensor]] = [[] for _ in self.channels]
        for number in chosen:
            profile = profiles[fold_of(number)]
            features = profile.standardized(self.cache.features([number]))
            for level, one in enumerate(profile(features)):
                squares[level].append(one.residual.square().mean(dim=(0, 2, 3)))
                errors[level].append(one.errors[:, -1])
        for level, (square, error) in enumerate(zip(squares, errors, strict=True)):
            residual_spread = torch.stack(square).mean(dim=0).sqrt().clamp_min(SMALLEST_SPREAD)
            stacked = torch.cat(error)
            inside = self._inside(stacked.shape[-2:])
            usual = usual_error(stacked, inside)
            error_spread = (stacked - usual)[:, inside].std().clamp_min(SMALLEST_SPREAD)
            for profile in profiles:
                getattr(profile, f"residual_spread_{level}").copy_(residual_spread)
                profile.usual_errors[level].copy_(usual)
                profile.error_spread[level] = error_spread
        return profiles


def usual_error(
    errors: Float[Tensor, "images rows columns"], inside: Bool[Tensor, "rows columns"]
) -> Float[Tensor, "rows columns"]:
    """Return what is usual at each cell: half the mean there, half the mean of all cells.

    Edges, and the border, where the backbone sees zeros, are hard to reconstruct in every image.

    Args:
        errors: Of normal images.
        inside: Which cells are looked at.
    """
    everywhere = errors[:, inside].mean()
    if len(errors) < FEWEST_FOR_PLACES:
        return everywhere.expand(errors.shape[1:])
    return everywhere + PLACE_SHARE * (errors.mean(dim=0) - everywhere)
