"""What a step is paid: R = beta (R_clone + R_cover) + (1 - beta) R_pred.

R_clone and R_cover, a walker's own, come with its patch; R_pred is the predictor's success, which
all walkers share, and the credit of a walker's own patch for it.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from patchscout.training.environment import PerWalker, Picked

IDLE_REWARD = -1.0
"""A walker's own reward for a step without a patch: less than for any patch, so that bumping into
the border never pays and leaving an image pays only once it is well visited."""

CREDIT_WEIGHT = 0.1
"""By so much R_pred differs between walkers for each standard deviation of credit."""

FULL_CHANGE = 0.1
"""R_pred is 1 if one step lowers the predictor's loss by this share of itself."""


def falling(step: int, num_steps: int) -> float:
    """Return beta (or alpha): 1 at step 0, falling linearly to 0 at `num_steps`, then 0.

    Example:
        >>> [falling(step, 4) for step in (0, 1, 4, 9)]
        [1.0, 0.75, 0.0, 0.0]
    """
    return 1.0 - min(step / num_steps, 1.0)


def pred_reward(before: float, after: float, *, level: bool = False) -> float:
    """Return R_pred: by how much one step lowered the predictor's loss on held-out images.

    Args:
        before: The loss before the step.
        after: The loss after it.
        level: Return minus the loss after the step instead, as the paper has it. That mostly tells
            how far the training is; the change is what the step did.
    """
    return -after if level else (before - after) / (FULL_CHANGE * max(before, 1e-8))


def own_rewards(
    picked: Picked, beta: float, credits: Float[Tensor, " counted"] | None = None
) -> PerWalker:
    """Return what each walker is paid for its own patch.

    Args:
        picked: The patches.
        beta: From exploration (1) to exploitation (0).
        credits: Credit of each counted patch for R_pred, with spread 1, see `patch_credit`.
    """
    rewards = beta * (picked.clone + picked.cover)
    if credits is not None:
        rewards[picked.counted] += (1 - beta) * CREDIT_WEIGHT * credits
    return rewards.where(picked.counted, IDLE_REWARD)


def shared_reward(reward_pred: float, beta: float) -> float:
    """Return what all walkers are paid alike on top of their own reward."""
    return (1 - beta) * reward_pred


def reward_figures(picked: Picked, own: PerWalker, shared: float) -> dict[str, float]:
    """Return the mean reward and share of counted walkers, and means of the terms over patches."""
    num_patches = picked.counted.sum().clamp_min(1)
    return {
        "reward": own.mean().item() + shared,
        "reward_shared": shared,
        "reward_clone": (picked.clone.sum() / num_patches).item(),
        "reward_cover": (picked.cover.sum() / num_patches).item(),
        "counted": picked.counted.float().mean().item(),
    }
