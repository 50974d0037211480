"""The samplers behind one interface: the learned policy and what it is compared with."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from patchscout.config import SamplerSettings
from patchscout.networks.sampler import LeanPolicy, PaperPolicy, PolicyNetwork
from patchscout.training.environment import Channel, PatchEnvironment
from patchscout.training.policy_gradient import PolicyGradient

RENEWAL_PROBABILITY = 1 / 9
"""How often a placing sampler leaves an image: as often as a policy of nine equal actions."""

GRID_PX = 8
"""Distance between the places that a placing sampler chooses among."""


@runtime_checkable
class Sampler(Protocol):
    """Chooses the patches of one step and, if it can, learns from what they were paid."""

    def start_cycle(self, environment: PatchEnvironment) -> None:
        """Begin an autoencoder cycle."""
        ...

    def step(self, environment: PatchEnvironment, *, is_last: bool) -> dict[str, Any]:
        """Take one step and return the figures to log; `is_last` ends the cycle."""
        ...


class PolicySampler:
    """The neural batch sampler: a policy that walks, trained by policy gradient."""

    def __init__(
        self, policy: PolicyNetwork, settings: SamplerSettings, *, seed: int, learns: bool = True
    ) -> None:
        self.settings = settings
        self.learner = PolicyGradient(policy, settings, seed=seed, learns=learns)

    def start_cycle(self, environment: PatchEnvironment) -> None:
        """Send the walkers to new images."""
        self._observation, _ = environment.reset()
        self._step = 0

    def step(self, environment: PatchEnvironment, *, is_last: bool) -> dict[str, Any]:
        """Walk one step; update the policy when its rollout is long enough."""
        actions = self.learner.act(self._observation)
        self._observation, rewards, _, _, info = environment.step(actions)
        shared = info["reward_shared"]
        self.learner.note_reward(rewards - shared, shared)
        self._step += 1
        figures = {"reward": rewards.mean().item(), **_means(info)}
        if is_last or len(self.learner.rollout) >= self.settings.update_every:
            too_early = self.settings.update_after - (self._step - len(self.learner.rollout))
            following = None if is_last else self._observation
            figures |= self.learner.update(following, skip=max(0, too_early))
        return figures


class PlacingSampler:
    """Draws each patch's place from a probability over the whole image, without learning.

    Args:
        kind: `uniform`; `structure`, by the patch's Sobel energy; or `error`, by its current
            reconstruction error.
        seed: Seed of the places drawn.
    """

    def __init__(self, kind: str, settings: SamplerSettings, *, seed: int) -> None:
        self.kind = kind
        self.settings = settings
        self._rng = torch.Generator().manual_seed(seed)

    def start_cycle(self, environment: PatchEnvironment) -> None:
        """Begin with new images."""
        environment.reset()

    def step(self, environment: PatchEnvironment, *, is_last: bool) -> dict[str, Any]:
        """Place every patch anew, on a new image now and then."""
        leaves = torch.rand(environment.num_envs, generator=self._rng) < RENEWAL_PROBABILITY
        environment.renew(leaves.to(environment.corners.device))
        _, rewards, _, _, info = environment.place(self._draw(self._weights(environment)))
        return {"reward": rewards.mean().item(), **_means(info)}

    def _weights(self, environment: PatchEnvironment) -> Tensor:
        """Return the weight of each place, (walkers, rows, columns)."""
        energy = environment.sobel_maps.square()
        if self.kind == "uniform":
            energy = torch.ones_like(energy)
        elif self.kind == "error":
            energy = environment.channel_maps(Channel.ERROR)
        return F.avg_pool2d(energy, self.settings.patch_px, GRID_PX) + 1e-8

    def _draw(self, weights: Tensor) -> Tensor:
        """Draw a corner for each walker."""
        columns = weights.shape[-1]
        cells = torch.multinomial(weights.flatten(1).cpu(), 1, generator=self._rng).squeeze(1)
        corners = torch.stack([cells // columns, cells % columns], dim=1) * GRID_PX
        return corners.to(weights.device)


def make_sampler(settings: SamplerSettings, *, seed: int, device: torch.device) -> Sampler:
    """Return the sampler that the settings ask for, freshly initialized."""
    if settings.kind != "policy":
        return PlacingSampler(settings.kind, settings, seed=seed)
    window, patch, stride = settings.window_px, settings.patch_px, settings.stride_px
    is_paper = settings.architecture == "paper"
    policy = PaperPolicy(window) if is_paper else LeanPolicy(window, patch, stride)
    return PolicySampler(policy.to(device), settings, seed=seed)


def _means(info: dict[str, Any]) -> dict[str, float]:
    """Return the mean of each figure; of the terms of a walker's reward, over patches only."""
    counted = info["counted"]
    figures = {"counted": counted.float().mean().item()}
    for name, value in info.items():
        if name in ("reward_clone", "reward_cover"):
            figures[name] = (value.sum() / counted.sum().clamp_min(1)).item()
        elif name not in ("counted", "credit"):  # the mean of all credits is 0
            figures[name] = float(value)
    return figures
