"""The predictor in training: schedule, running average, precision, and an obvious mask."""

import copy

import numpy as np
import pytest
import torch

from patchscout import devices
from patchscout.devices import has_fast_bfloat16
from patchscout.networks.loss_profile import LossProfile
from patchscout.networks.segmenter import Observation
from patchscout.training.predictor_trainer import (
    EMA_DECAY,
    LEARNING_RATE,
    PredictorTrainer,
    segmentation_loss,
)
from patchscout.training.profile_buffer import ProfileBuffer

CPU = torch.device("cpu")
PROFILE = LossProfile([], (3,))


class Squares(ProfileBuffer):
    """Batches of noise in which the anomalous square is brighter, and nothing beside the image."""

    def __init__(self):
        self.observer = None
        self.num_refreshed = 0
        self._noise = torch.Generator().manual_seed(0)

    def refresh(self, profiles):
        assert profiles == [PROFILE]
        self.num_refreshed += 1

    def batch(self):
        target = torch.zeros(2, 32, 48)
        target[0, 8:24, 8:32] = 1
        image = torch.randn(2, 6, 32, 48, generator=self._noise) + 2 * target[:, None]
        return Observation(image, []), target


@pytest.fixture
def trainer(world):
    """Make a predictor in training, for so many updates."""

    def make(num_updates=10, base_channels=4):
        predictor = world(inputs=()).predictor(base_channels=base_channels)
        return PredictorTrainer(predictor, Squares(), num_updates)

    return make


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_the_learning_rate_rises_over_a_tenth_and_falls_to_0(trainer):
    made = trainer(40)
    rates = []
    while made.is_due:
        rates.append(made._optimizer.param_groups[0]["lr"])
        made.update([PROFILE])
    assert len(rates) == made.num_done == 40
    assert made.buffer.num_refreshed == 40
    assert rates.index(max(rates)) in (3, 4)
    assert rates[0] == pytest.approx(LEARNING_RATE / 4)
    assert max(rates) == pytest.approx(LEARNING_RATE, rel=0.05)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert made._optimizer.param_groups[0]["lr"] == pytest.approx(0)


def test_what_is_kept_for_scoring_is_the_running_average(trainer):
    made = trainer()
    average = None
    for count in range(4):
        made.update([PROFILE])
        now = weights(made.predictor)
        decay = min(EMA_DECAY, (1 + count) / (10 + count))
        average = now if average is None else decay * average + (1 - decay) * now
    kept = made.averaged()
    torch.testing.assert_close(weights(kept), average)
    assert not kept.training
    assert not any(parameter.requires_grad for parameter in kept.parameters())
    before = weights(kept)
    made.update([PROFILE])
    assert torch.equal(weights(kept), before)  # it is a copy


def test_statistics_of_batch_norm_are_kept_as_they_are_at_last(trainer):
    made = trainer()
    for _ in range(4):
        made.update([PROFILE])
    kept = made.averaged()
    for buffer, running in zip(kept.buffers(), made.predictor.buffers(), strict=True):
        torch.testing.assert_close(buffer, running)


def test_it_learns_an_obvious_mask(trainer):
    made = trainer(300, base_channels=16)
    losses = [made.update([PROFILE]) for _ in range(300)]
    assert np.mean(losses[-5:]) < losses[0] / 10
    seen, target = made.buffer.batch()
    found = made.averaged()(*seen).sigmoid()
    assert found[target > 0].mean() > found[target == 0].mean() + 0.8


def test_the_loss_is_of_three_terms_with_a_gradient_to_what_is_seen(trainer):
    made = trainer()
    made.update([PROFILE])
    seen, target = made.buffer.batch()
    seen = seen._replace(image=seen.image.requires_grad_())
    state = copy.deepcopy(made.predictor.state_dict())
    loss = made.loss(seen, target)
    p = made.predictor(*seen).double().sigmoid()
    each = -(target * p.log() + (1 - target) * (1 - p).log())
    hardest = each.flatten(1).sort(dim=1).values[:, -round(each[0].numel() / 100) :].mean()
    dice = 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)
    assert loss.item() == pytest.approx((each.mean() + 0.5 * dice + 0.2 * hardest).item(), rel=1e-4)
    loss.backward()
    assert seen.image.grad is not None
    assert seen.image.grad.abs().max() > 0
    assert all(torch.equal(made.predictor.state_dict()[name], state[name]) for name in state)


def test_the_loss_of_certainty_is_finite():
    target = torch.tensor([[[1.0, 0.0]]])
    assert segmentation_loss(torch.tensor([[[-300.0, 300.0]]]), target).isfinite()


@pytest.mark.skipif(not has_fast_bfloat16(CPU), reason="no bfloat16 in hardware")
def test_mixed_precision_learns_alike(trainer, monkeypatch):
    losses = []
    for is_fast in (False, True):
        monkeypatch.setattr(devices, "has_fast_bfloat16", lambda _, fast=is_fast: fast)
        made = trainer(25)
        losses.append(np.array([made.update([PROFILE]) for _ in range(25)]))
        assert {parameter.dtype for parameter in made.predictor.parameters()} == {torch.float32}
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.02)
    assert not np.array_equal(*losses)
    assert losses[0][-5:].mean() == pytest.approx(losses[1][-5:].mean(), rel=0.25)


def test_where_bfloat16_is_slow_nothing_changes(monkeypatch):
    layer, image = torch.nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)
    for is_fast, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        monkeypatch.setattr(devices, "has_fast_bfloat16", lambda _, fast=is_fast: fast)
        with devices.mixed_precision(CPU):
            assert layer(image).dtype == dtype
    monkeypatch.undo()
    assert not has_fast_bfloat16(torch.device("mps"))
