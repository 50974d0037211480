"""The samplers behind one interface: the learned policy and what it is compared with."""

from __future__ import annotations

from typing import Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from patchscout.config import SamplerKind
from patchscout.networks.policy import STOP, Policy, PolicyNetwork
from patchscout.training.environment import (
    Channel,
    Corners,
    Geometry,
    Maps,
    PatchEnvironment,
    PerWalker,
    Picked,
)
from patchscout.training.policy_gradient import PolicyGradient, PolicySettings

RENEWAL_PROBABILITY = 1 / 9
"""How often a placing sampler leaves an image: as often as a policy of nine equal actions."""

EXPLORATION = 1.0
"""c, the weight of doubt beside errors that are scaled to [0, 1], in the `ucb` rule."""

TIE = 1e-6
"""Scores that differ by less are equal."""


@runtime_checkable
class Sampler(Protocol):
    """Chooses the patches of one step and, if it can, learns from what they were paid."""

    def start_cycle(self, environment: PatchEnvironment) -> None:
        """Begin an autoencoder cycle."""
        ...

    def pick(self, environment: PatchEnvironment) -> Picked:
        """Choose the patches of a step."""
        ...

    def learn(
        self,
        own_rewards: PerWalker,
        shared_reward: float,
        environment: PatchEnvironment,
        *,
        is_last: bool,
    ) -> dict[str, float]:
        """Take what the step was paid, after training on its patches; return figures to log.

        Args:
            own_rewards: What each walker was paid for its own patch.
            shared_reward: What all were paid alike on top of that.
            environment: Where the patches were picked; it is made ready for the next step.
            is_last: Whether the step ends the cycle.
        """
        ...


class PolicySampler:
    """The neural batch sampler: a policy that walks, trained by policy gradient.

    Args:
        policy: The network; trained in place.
        settings: How it learns.
        seed: Seed of the actions drawn.
        learns: Switched off, the policy acts but is never updated.
    """

    def __init__(
        self, policy: PolicyNetwork, settings: PolicySettings, *, seed: int, learns: bool = True
    ) -> None:
        self.settings = settings
        self.learner = PolicyGradient(policy, settings, seed=seed, learns=learns)
        self._step = 0

    def start_cycle(self, environment: PatchEnvironment) -> None:
        """Send the walkers to new images."""
        environment.reset()
        self._observation = self._observe(environment)
        self._step = 0

    def pick(self, environment: PatchEnvironment) -> Picked:
        """Walk one step."""
        self._actions = self.learner.act(self._observation)
        return environment.move(self._actions)

    def learn(
        self,
        own_rewards: PerWalker,
        shared_reward: float,
        environment: PatchEnvironment,
        *,
        is_last: bool,
    ) -> dict[str, float]:
        """Update the policy when its rollout is long enough."""
        environment.renew(self._actions == STOP)
        environment.refresh_errors()
        self._observation = self._observe(environment)
        self.learner.note_reward(own_rewards, shared_reward)
        self._step += 1
        num_steps = len(self.learner.rollout)
        if not is_last and num_steps < self.settings.update_every:
            return {}
        too_early = self.settings.update_after - (self._step - num_steps)
        following = None if is_last else self._observation
        return self.learner.update(following, skip=max(0, too_early))

    def _observe(self, environment: PatchEnvironment) -> Tensor:
        return environment.observe(relative=self.learner.policy.relative)


class PlacingSampler:
    """Puts patches anywhere, without walking or learning; one in nine goes to a new image.

    Args:
        kind: `uniform`; `error`, drawn in proportion to the patch's current error; or `ucb`.
        seed: Seed of the places drawn.
    """

    def __init__(self, kind: str, *, seed: int) -> None:
        self.kind = kind
        self._rng = torch.Generator().manual_seed(seed)

    def start_cycle(self, environment: PatchEnvironment) -> None:
        """Begin with new images."""
        environment.reset()

    def pick(self, environment: PatchEnvironment) -> Picked:
        """Place every patch anew, on a new image now and then."""
        leaves = torch.rand(len(environment.corners), generator=self._rng) < RENEWAL_PROBABILITY
        environment.renew(leaves.to(environment.corners.device))
        patch = environment.geometry.patch
        grid = max(1, patch // 4)
        errors = F.avg_pool2d(environment.channel_maps(Channel.ERROR), patch, grid)
        if self.kind == "uniform":
            places = self._drawn(torch.ones_like(errors))
        elif self.kind == "error":
            places = self._drawn(errors)
        else:
            visits = F.avg_pool2d(environment.channel_maps(Channel.VISITS), patch, grid)
            num_patches = environment.visits.sum(dim=(1, 2))[environment.numbers] / patch**2
            noise = TIE * torch.rand(errors.shape, generator=self._rng).to(errors.device)
            places = ucb_places(
                errors, visits, num_patches, environment.numbers, noise, reach=patch / grid
            )
        return environment.place(grid * places)

    def learn(
        self,
        own_rewards: PerWalker,
        shared_reward: float,
        environment: PatchEnvironment,
        *,
        is_last: bool,
    ) -> dict[str, float]:
        """Learn nothing."""
        environment.refresh_errors()
        return {}

    def _drawn(self, weights: Maps) -> Corners:
        """Draw a place for each walker."""
        columns = weights.shape[-1]
        flat = (weights + 1e-8).flatten(1).cpu()
        places = torch.multinomial(flat, 1, generator=self._rng).squeeze(1)
        return torch.stack([places // columns, places % columns], dim=1).to(weights.device)


def ucb_places(
    errors: Maps,
    visits: Maps,
    num_patches: Float[Tensor, " batch"],
    numbers: Int[Tensor, " batch"],
    noise: Maps,
    *,
    reach: float,
) -> Int[Tensor, "batch 2"]:
    """Return the place of the largest upper confidence bound for each walker.

    The bound is e + c sqrt(log(1 + N) / (1 + n)): the error of the place, scaled to [0, 1] over the
    image, n its visits, and N the patches picked on the image. Walkers choose one after another, so
    that those on the same image do not all choose the same place.

    Args:
        errors: Mean error of the patch at each place.
        visits: Mean visits of the patch at each place.
        num_patches: N of each walker's image.
        numbers: The image of each walker.
        noise: Breaks ties.
        reach: Side of a patch, in places.

    References:
        Auer et al., Finite-time Analysis of the Multiarmed Bandit Problem, 2002: UCB1.
    """
    low, high = errors.amin(dim=(1, 2), keepdim=True), errors.amax(dim=(1, 2), keepdim=True)
    values = (errors - low) / (high - low).clamp_min(1e-12) + noise
    visits, num_patches = visits.clone(), num_patches.clone()
    rows, columns = (torch.arange(side, device=errors.device) for side in errors.shape[1:])
    chosen = []
    for walker, number in enumerate(numbers):
        doubt = (num_patches[walker].log1p() / (1 + visits[walker])).sqrt()
        place = (values[walker] + EXPLORATION * doubt).argmax()
        row, column = place // len(columns), place % len(columns)
        chosen.append(torch.stack([row, column]))
        shared_rows = (1 - (rows - row).abs() / reach).clamp_min(0)
        shared_columns = (1 - (columns - column).abs() / reach).clamp_min(0)
        is_here = numbers == number
        visits[is_here] += shared_rows[:, None] * shared_columns
        num_patches[is_here] += 1
    return torch.stack(chosen)


def make_sampler(
    kind: SamplerKind,
    geometry: Geometry,
    settings: PolicySettings,
    *,
    seed: int,
    device: torch.device,
) -> Sampler:
    """Return a sampler, freshly initialized."""
    if kind != "policy":
        assert kind in get_args(SamplerKind)
        return PlacingSampler(kind, seed=seed)
    policy = Policy(geometry.window, geometry.patch, geometry.stride)
    return PolicySampler(policy.to(device), settings, seed=seed)
