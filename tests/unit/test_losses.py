"""The predictor's losses, worked out by hand."""

import math

import pytest
import torch

from patchscout.losses import dice_loss, hardest_cross_entropy, weighted_cross_entropy


def logits(*probabilities):
    return torch.tensor([[[math.log(p / (1 - p)) for p in probabilities]]])


TARGET = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
PROBABILITIES = (0.8, 0.5, 0.4, 0.1)
ANOMALOUS = -math.log(0.8) - math.log(0.5)
NORMAL = -math.log(0.6) - math.log(0.9)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_normal_pixels_weigh_alpha(alpha):
    loss = weighted_cross_entropy(logits(*PROBABILITIES), TARGET, alpha)
    assert loss.item() == pytest.approx((ANOMALOUS + alpha * NORMAL) / 4, rel=1e-6)


def test_at_alpha_0_normal_pixels_send_no_gradient():
    guess = logits(*PROBABILITIES).requires_grad_()
    weighted_cross_entropy(guess, TARGET, 0.0).backward()
    assert guess.grad is not None
    # d/dlogit of -log(sigmoid) is p - 1; the mean is over all four pixels
    expected = torch.tensor([[[(0.8 - 1) / 4, (0.5 - 1) / 4, 0.0, 0.0]]])
    torch.testing.assert_close(guess.grad, expected)


def test_certainty_does_not_overflow():
    wrong = weighted_cross_entropy(torch.full((1, 1, 4), -200.0), TARGET, 1.0)
    assert wrong.item() == pytest.approx(200 * 2 / 4)


def test_dice_by_hand():
    # overlap 0.8 + 0.5, sums 1.8 and 2, one added above and below
    expected = 1 - (2 * 1.3 + 1) / (1.8 + 2 + 1)
    assert dice_loss(logits(*PROBABILITIES), TARGET).item() == pytest.approx(expected, rel=1e-6)


def test_dice_of_a_perfect_a_wrong_and_an_empty_answer():
    sure = torch.where(TARGET == 1, 50.0, -50.0)
    assert dice_loss(sure, TARGET).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(-sure, TARGET).item() == pytest.approx(1 - 1 / 5)  # 0 of 2 + 2 pixels
    nothing = torch.zeros_like(TARGET)
    assert dice_loss(torch.full_like(TARGET, -50.0), nothing).item() == pytest.approx(0, abs=1e-6)


def test_dice_is_pooled_over_the_batch():
    both = torch.cat([logits(*PROBABILITIES), torch.full((1, 1, 4), -50.0)])
    target = torch.cat([TARGET, torch.zeros_like(TARGET)])
    alone = dice_loss(logits(*PROBABILITIES), TARGET).item()
    assert dice_loss(both, target).item() == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize(
    ("share", "hardest"), [(0.01, [0.5]), (0.5, [0.5, 0.6]), (1.0, [0.5, 0.6, 0.8, 0.9])]
)
def test_the_hardest_pixels_of_each_image_count(share, hardest):
    easy = torch.tensor([[[9.0, 9.0, -9.0, -9.0]]])
    both = torch.cat([logits(*PROBABILITIES), easy])
    found = hardest_cross_entropy(both, TARGET.expand(2, -1, -1), share)
    of_the_easy = math.log(1 + math.exp(-9.0))
    of_the_other = -sum(map(math.log, hardest)) / len(hardest)
    assert found.item() == pytest.approx((of_the_other + of_the_easy) / 2, rel=1e-5)
