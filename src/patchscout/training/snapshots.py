"""Which states of the autoencoder are kept for the loss profile."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from patchscout.config import ProfileSettings
from patchscout.networks.autoencoder import Autoencoder
from patchscout.networks.loss_profile import ProfileExtractor


def snapshot_steps(settings: ProfileSettings, num_steps: int) -> list[int]:
    """Return the steps, counted from 1, after which a snapshot is taken.

    `geometric`: T distinct steps from `first_step` to `num_steps`, their ratios as equal as whole
    numbers allow. `last`: every step, since any T consecutive ones may turn out to be the last.
    """
    if settings.spacing == "last":
        return list(range(1, num_steps + 1))
    if settings.length == 1:
        return [num_steps]
    steps = np.geomspace(settings.first_step, num_steps, settings.length).round().astype(int)
    for index in range(1, len(steps)):  # early steps of a short cycle may round to the same
        steps[index] = max(steps[index], steps[index - 1] + 1)
    return np.minimum(steps, num_steps - np.arange(len(steps))[::-1]).tolist()


class SnapshotRecorder:
    """Keeps the autoencoder states that make the profile, as training goes on.

    With structured dropout one state, the newest, is kept and used with T fixed masks.

    Args:
        settings: Length, spacing and diversity of profiles.
        num_steps: Steps over which snapshots are spaced.
        masks: (T, bottleneck channels) for structured dropout, else None.
        downscale: By how much images are shrunk for the autoencoder.
    """

    def __init__(
        self,
        settings: ProfileSettings,
        num_steps: int,
        masks: Tensor | None = None,
        downscale: int = 1,
    ) -> None:
        self.settings = settings
        self.downscale = downscale
        self.masks = masks
        self._steps = set(snapshot_steps(settings, num_steps))
        self._capacity = settings.length if masks is None else 1
        self._states: list[Autoencoder] = []

    def start_over(self) -> None:
        """Forget all states: a new autoencoder begins."""
        self._states = []

    def offer(self, step: int, autoencoder: Autoencoder) -> bool:
        """Keep the state after `step`, counted from 1, if it is due; return whether it was."""
        if step not in self._steps:
            return False
        self._states = [*self._states, autoencoder.folded()][-self._capacity :]
        return True

    @property
    def num_states(self) -> int:
        """How many states there are."""
        return len(self._states)

    @property
    def is_complete(self) -> bool:
        """Whether there are as many states as a profile needs."""
        return len(self._states) == self._capacity

    def extractor(self, padding: ProfileExtractor | None = None) -> ProfileExtractor:
        """Return the extractor of the current states.

        Args:
            padding: While states are missing, those of this older extractor stand in for the
                late ones that are still to come.
        """
        states = list(self._states)
        if padding is not None and self.masks is None:
            states += [autoencoder for autoencoder, _ in padding.sources[len(states) :]]
        settings = self.settings
        return ProfileExtractor(
            states, self.masks, settings.error_scale, self.downscale, settings.error
        )


def draw_dropout_masks(num_masks: int, num_channels: int, rate: float, seed: int) -> Tensor:
    """Return (num_masks, num_channels) masks: 0 for a deleted channel, else 1 / (1 - rate).

    The scaling keeps the expected sum over channels as it is without deletion. Each mask deletes
    the same number of channels, at least one kept.
    """
    generator = torch.Generator().manual_seed(seed)
    num_deleted = min(round(rate * num_channels), num_channels - 1)
    order = torch.rand(num_masks, num_channels, generator=generator).argsort(dim=1)
    return (order >= num_deleted).float() * num_channels / (num_channels - num_deleted)
