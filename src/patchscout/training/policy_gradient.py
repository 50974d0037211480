"""The sampler's learning: rollout, discounted returns, baseline, entropy bonus, update.

Departures from the authors' implementation of arXiv 2511.20270:
1. There is a policy gradient at all: the loss holds the log-probability of each action. Theirs
   holds none, so no gradient reaches their policy.
2. The baseline of a walker's own rewards is a value head, which reads the policy's features and
   sends no gradient into them, and the mean over walkers of each step. That of the shared reward
   R_pred is its mean over the rollout.
3. Batch norm, where a policy has it, runs on its running statistics both when acting and when
   the gradient is taken, so that the gradient belongs to the policy that acted; the statistics
   follow after each update.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Categorical

from patchscout.networks.policy import PolicyNetwork

Observation = Float[Tensor, "walkers channels window window"]

MAX_GRADIENT_NORM = 1.0

CLIP_RANGE = 0.2
"""How far the probability of an action may move in one update before its gradient stops."""

SMALLEST_SPREAD = 1e-5
"""Advantages whose standard deviation is no larger differ by rounding only."""


@dataclass(frozen=True)
class PolicySettings:
    """How the policy learns.

    Attributes:
        learning_rate: Adam's step size.
        gamma: Discount of later rewards within a cycle, in [0, 1).
        entropy_weight: Weight of the entropy bonus.
        update_every: Steps between updates; at the end of a cycle there is always one.
        update_epochs: Gradient steps of an update: 1 is REINFORCE, more are PPO's clipped ones.
        update_after: Steps at the start of each cycle that nothing is learned from.
    """

    learning_rate: float = 2e-3
    gamma: float = 0.9
    entropy_weight: float = 0.03
    update_every: int = 8
    update_epochs: int = 4
    update_after: int = 0


def discounted_returns(
    rewards: Float[Tensor, "steps walkers"], gamma: float, last_value: Float[Tensor, " walkers"]
) -> Float[Tensor, "steps walkers"]:
    """Return G_t = r_t + gamma G_{t+1} for each step, with G after the last step given.

    Args:
        rewards: Rewards of consecutive steps.
        gamma: Discount in [0, 1].
        last_value: Expected return after the last step; zeros at the end of a cycle.

    Example:
        >>> discounted_returns(torch.tensor([[1.0], [2.0]]), 0.5, torch.tensor([4.0]))
        tensor([[3.],
                [4.]])
    """
    returns = torch.empty_like(rewards)
    following = last_value
    for step in reversed(range(len(rewards))):
        following = rewards[step] + gamma * following
        returns[step] = following
    return returns


@dataclass
class Rollout:
    """What was seen, done and paid since the last update, one entry a step."""

    observations: list[Tensor] = field(default_factory=list)
    actions: list[Int[Tensor, " walkers"]] = field(default_factory=list)
    own_rewards: list[Float[Tensor, " walkers"]] = field(default_factory=list)
    shared_rewards: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.own_rewards)


class PolicyGradient:
    """REINFORCE with a learned baseline; with several passes a rollout, PPO.

    Args:
        policy: The network; trained in place.
        settings: How it learns.
        seed: Seed of the actions drawn.
        learns: Switched off, the policy acts but is never updated (for tests and ablations).
    """

    def __init__(
        self,
        policy: PolicyNetwork,
        settings: PolicySettings,
        *,
        seed: int = 0,
        learns: bool = True,
    ) -> None:
        self.policy = policy.eval()
        self.settings = settings
        self.learns = learns
        self.optimizer = torch.optim.Adam(policy.parameters(), settings.learning_rate, fused=True)
        self.rollout = Rollout()
        device = next(policy.parameters()).device
        self._rng = torch.Generator(device).manual_seed(seed)

    @torch.no_grad()
    def act(self, observation: Observation) -> Int[Tensor, " walkers"]:
        """Draw an action for each walker and note what it was drawn for."""
        encoded = self.policy.encode(observation)
        logits, _ = self.policy(encoded)
        actions = torch.multinomial(logits.softmax(dim=1), 1, generator=self._rng).squeeze(1)
        self.rollout.observations.append(encoded)
        self.rollout.actions.append(actions)
        return actions

    def note_reward(self, rewards: Float[Tensor, " walkers"], shared: float = 0.0) -> None:
        """Note what the last actions were paid.

        Args:
            rewards: What each walker was paid for its own patch.
            shared: What all walkers were paid alike on top of that.
        """
        self.rollout.own_rewards.append(rewards)
        self.rollout.shared_rewards.append(shared)

    def update(
        self,
        next_observation: Observation | None,
        skip: int = 0,
    ) -> dict[str, float]:
        """Take `update_epochs` gradient steps on the rollout and start a new one.

        Args:
            next_observation: What follows the rollout within the same cycle; None at its end.
            skip: Leave out this many first steps (their rewards are too early to mean anything).

        Returns:
            `policy_loss`, `value_loss`, `entropy` in nats and `mean_return`; empty if nothing
            was learned from.
        """
        rollout, self.rollout = self.rollout, Rollout()
        if not self.learns or len(rollout) <= skip:
            return {}
        observations = torch.stack(rollout.observations[skip:]).flatten(0, 1)
        actions = torch.stack(rollout.actions[skip:]).flatten()
        gamma = self.settings.gamma
        own_rewards = torch.stack(rollout.own_rewards[skip:])
        last_value = torch.zeros_like(own_rewards[0])
        if next_observation is not None:
            last_value = self._value(next_observation)
        own_returns = discounted_returns(own_rewards, gamma, last_value)
        shared = last_value.new_tensor(rollout.shared_rewards[skip:])[:, None]
        shared_returns = discounted_returns(shared, gamma, shared.mean(dim=0) / (1 - gamma))
        returns = own_returns.flatten()

        with torch.no_grad():
            logits, values = self.policy(observations)
            old_log_prob = Categorical(logits=logits).log_prob(actions)
            advantages = joint_advantages(
                own_returns - values.view_as(own_returns), shared_returns
            ).flatten()
        figures: dict[str, float] = {}
        for _ in range(self.settings.update_epochs):
            logits, values = self.policy(observations)
            distribution = Categorical(logits=logits)
            ratio = (distribution.log_prob(actions) - old_log_prob).exp()
            policy_loss = clipped_policy_loss(ratio, advantages)
            value_loss = (values - returns).square().mean()
            entropy = distribution.entropy().mean()
            loss = policy_loss + 0.5 * value_loss - self.settings.entropy_weight * entropy
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), MAX_GRADIENT_NORM)
            self.optimizer.step()
            figures = {
                "policy_loss": policy_loss.item(),
                "value_loss": value_loss.item(),
                "entropy": entropy.item(),
            }
        self._follow_statistics(observations)
        return {**figures, "mean_return": returns.mean().item()}

    @torch.no_grad()
    def _value(self, observation: Observation) -> Float[Tensor, " walkers"]:
        """Return the expected return from `observation` on."""
        return self.policy(self.policy.encode(observation))[1]

    @torch.no_grad()
    def _follow_statistics(self, observations: Tensor) -> None:
        """Let the running statistics of batch norm follow what was observed."""
        if any(isinstance(part, torch.nn.BatchNorm2d) for part in self.policy.modules()):
            self.policy.train()
            self.policy(observations)
            self.policy.eval()


def clipped_policy_loss(
    ratio: Float[Tensor, " samples"], advantages: Float[Tensor, " samples"]
) -> Tensor:
    """Return minus the clipped surrogate objective, mean of min(r A, clip(r) A).

    At the first pass over a rollout every ratio is 1 and the gradient is that of REINFORCE,
    minus the mean of A times the gradient of log pi.

    Args:
        ratio: Probability of each action under the policy now, over that when it was taken.
        advantages: Normalized advantages.

    References:
        Schulman et al., Proximal Policy Optimization Algorithms, arXiv 1707.06347, equation 7.
    """
    clipped = ratio.clamp(1 - CLIP_RANGE, 1 + CLIP_RANGE)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean()


def joint_advantages(
    own: Float[Tensor, "steps walkers"], shared_returns: Float[Tensor, "steps 1"]
) -> Float[Tensor, "steps walkers"]:
    """Return each action's advantage, with mean 0 and standard deviation 1 (0 if all are equal).

    What a walker is paid for its own patch is compared with what the others got in the same
    step, so that the drift of rewards within a cycle (visits only grow) teaches nothing. What all
    are paid alike can only be compared over time, within the rollout, and so can all that a walker
    alone is paid.

    Args:
        own: Discounted returns of the walkers' own rewards, less their expected value.
        shared_returns: Discounted returns of the shared reward.
    """
    own = own - (own.mean(dim=1, keepdim=True) if own.shape[1] > 1 else own.mean())
    shared = shared_returns - shared_returns.mean()
    advantages = own + shared
    spread = advantages.std(correction=0)
    return (advantages / spread).where(spread > SMALLEST_SPREAD, 0.0)
