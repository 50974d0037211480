"""What a step is paid, worked out by hand."""

import pytest
import torch

from patchscout.training.environment import Picked
from patchscout.training.rewards import (
    FULL_CHANGE,
    falling,
    own_rewards,
    pred_reward,
    reward_figures,
    shared_reward,
)

WORST = -1 / (1 + torch.tensor(-50.0).exp())


def picked(clone, cover, counted):
    counted = torch.tensor(counted)
    count = len(counted)
    return Picked(
        numbers=torch.arange(count),
        corners=torch.zeros(count, 2, dtype=torch.long),
        counted=counted,
        clone=torch.tensor(clone).where(counted, 0.0),
        cover=torch.tensor(cover).where(counted, 0.0),
        images=torch.zeros(count, 3, 8, 8),
    )


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_a_walker_is_paid_for_structure_novelty_and_the_credit_of_its_own_patch(beta):
    patches = picked([0.6, 0.7, 0.8], [-0.5, -0.9, -0.6], [True, False, True])
    plain = [beta * 0.1, -1.0, beta * 0.2]  # one walker has no patch
    assert own_rewards(patches, beta).tolist() == pytest.approx(plain)
    paid = own_rewards(patches, beta, torch.tensor([1.5, -0.5])).tolist()
    bonus = [(1 - beta) * 0.1 * 1.5, 0.0, (1 - beta) * 0.1 * -0.5]
    assert paid == pytest.approx([a + b for a, b in zip(plain, bonus, strict=True)])
    assert patches.clone.tolist() == pytest.approx([0.6, 0.0, 0.8])  # as it was


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_a_step_without_a_patch_is_paid_less_than_any_patch(beta):
    # The worst patch: flat, visited over and over, and three deviations below the others.
    patches = picked([0.5, 0.5], [float(WORST), 0.0], [True, False])
    worst, idle = own_rewards(patches, beta, torch.tensor([-3.0])).tolist()
    assert idle < worst


def test_reward_pred_is_the_change_of_the_loss_or_its_level():
    assert pred_reward(0.5, 0.45) == pytest.approx(0.1 / FULL_CHANGE)
    assert pred_reward(0.5, 0.55) == pytest.approx(-0.1 / FULL_CHANGE)
    assert pred_reward(5.0, 4.5) == pytest.approx(pred_reward(0.5, 0.45))
    assert pred_reward(0.0, 0.0) == 0
    assert pred_reward(0.5, 0.45, level=True) == -0.45


def test_what_all_are_paid_alike_grows_as_beta_falls():
    assert [shared_reward(-0.4, beta) for beta in (1.0, 0.25, 0.0)] == pytest.approx(
        [0, -0.3, -0.4]
    )


def test_beta_falls_and_then_stays():
    assert [falling(step, 4) for step in range(6)] == [1, 0.75, 0.5, 0.25, 0, 0]


def test_figures_are_means_over_patches():
    patches = picked([0.6, 0.7, 0.8], [-0.5, -0.9, -0.6], [True, False, True])
    figures = reward_figures(patches, torch.tensor([1.0, 2.0, 6.0]), -0.5)
    expected = {
        "reward": 2.5,
        "reward_shared": -0.5,
        "reward_clone": 0.7,
        "reward_cover": -0.55,
        "counted": 2 / 3,
    }
    assert figures == pytest.approx(expected)
