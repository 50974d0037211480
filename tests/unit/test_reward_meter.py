"""R_pred and credits: what a step of the autoencoder does for the predictor."""

import pytest
import torch

from patchscout.training.predictor_trainer import PredictorTrainer
from patchscout.training.profile_buffer import ProfileBuffer
from patchscout.training.profile_trainer import PATCH, WHOLE
from patchscout.training.reward_meter import MEASURE_EVERY, PROBE_PX, RewardMeter
from patchscout.training.rewards import FULL_CHANGE

NUMBERS = torch.arange(6)


@pytest.fixture
def parts(world):
    """Make a meter, and the autoencoders and predictor that it measures, after a first cycle."""

    def make(size=(64, 96), num_defects=2, num_updates=5, inputs=("residual", "errors")):
        made = world(size, inputs=inputs)
        autoencoders = made.autoencoders(steps=(1, 3))
        for step in range(3):
            autoencoders.train(patches(autoencoders, step), NUMBERS)
            autoencoders.take_snapshot_if_due()
        views = made.views()
        buffer = ProfileBuffer(views, made.observer, crop_px=64, batch_size=2, seed=0)
        predictor = PredictorTrainer(made.predictor(), buffer, 10)
        meter = RewardMeter(
            views.defects(num_defects) if num_defects else [], autoencoders, predictor
        )
        for _ in range(num_updates):
            predictor.update(autoencoders.profiles)
        return meter, autoencoders, predictor

    return make


def patches(autoencoders, step=0):
    corners = torch.tensor([[step % 8, (step * 3) % 16]]).repeat(6, 1)
    return autoencoders.gather(NUMBERS, corners)


def loss_of(meter, autoencoders, predictor):
    """The predictor's loss on the labeled images as a whole, worked out anew."""
    observer, views = predictor.buffer.observer, predictor.buffer.views
    images, masks = (torch.stack(parts) for parts in zip(*views.defects(2), strict=True))
    profile = autoencoders.in_progress()
    profiles = profile(profile.standardized(observer.features(images)))
    with torch.no_grad():
        return predictor.loss(observer.assemble(images, profiles), masks.float()).item()


def test_r_pred_is_the_share_by_which_every_other_step_lowers_the_loss(parts):
    meter, autoencoders, predictor = parts((64, 64))  # no more than a square: nothing is cut off
    autoencoders.start_cycle()
    for step in range(3):
        given = patches(autoencoders, step)
        before = loss_of(meter, autoencoders, predictor)
        credits = meter.credits(given)
        autoencoders.train(given, NUMBERS)
        autoencoders.take_snapshot_if_due()
        after = loss_of(meter, autoencoders, predictor)
        expected = (before - after) / (FULL_CHANGE * before)
        assert expected != 0
        if step % MEASURE_EVERY:
            assert credits is None
            assert meter.reward() == 0.0
        else:
            assert meter.reward() == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_r_pred_is_positive_when_a_step_lowers_the_loss(parts):
    meter, autoencoders, _ = parts()
    autoencoders.start_cycle()
    meter.credits(patches(autoencoders))
    better = autoencoders.autoencoders[WHOLE]
    loss = meter._loss()
    slopes = torch.autograd.grad(loss, list(better.parameters()))
    length = sum(slope.square().sum() for slope in slopes)
    with torch.no_grad():
        for parameter, slope in zip(better.parameters(), slopes, strict=True):
            parameter -= 1e-3 * loss.detach() / length * slope
        assert meter.reward() > 0
    meter.credits(patches(autoencoders))
    with torch.no_grad():
        for parameter, slope in zip(better.parameters(), slopes, strict=True):
            parameter += 2e-3 * loss.detach() / length * slope
        assert meter.reward() < 0


def test_credits_have_mean_0_and_spread_1_and_change_nothing(parts):
    meter, autoencoders, _ = parts()
    autoencoders.start_cycle()
    before = [p.clone() for p in autoencoders.autoencoders[WHOLE].parameters()]
    credits = meter.credits(patches(autoencoders))
    assert credits.shape == (6,)
    assert credits.mean() == pytest.approx(0, abs=1e-5)
    assert credits.std(correction=0) == pytest.approx(1, rel=1e-3)
    for parameter, was in zip(autoencoders.autoencoders[WHOLE].parameters(), before, strict=True):
        assert torch.equal(parameter, was)
        assert parameter.grad is None
    same = [level[:1].expand(6, -1, -1, -1) for level in patches(autoencoders)]
    assert not meter.credits(same).any()  # patches that are alike deserve alike


def test_nothing_is_measured_before_the_predictor_has_begun_or_without_defects(parts):
    for meter, autoencoders, _ in (parts(num_updates=0), parts(num_defects=0)):
        autoencoders.start_cycle()
        assert meter.credits(patches(autoencoders)) is None
        assert meter.reward() == 0.0


@pytest.mark.parametrize("inputs", [(), ("features",), ("residual",)])
def test_patches_earn_nothing_where_the_predictor_does_not_look_at_their_snapshot(parts, inputs):
    meter, autoencoders, _ = parts(inputs=inputs)
    autoencoders.start_cycle()  # on the way to the first snapshot; the residual is of the last
    given = patches(autoencoders)
    assert torch.equal(meter.credits(given), torch.zeros(6))
    autoencoders.train(given, NUMBERS)
    assert meter.reward() == pytest.approx(0, abs=1e-6)


def test_a_step_without_patches_is_paid_nothing(parts):
    meter, autoencoders, _ = parts()
    autoencoders.start_cycle()
    nothing = [torch.zeros(0, channels, PATCH, PATCH) for channels in (6, 3)]
    assert meter.credits(nothing).shape == (0,)
    assert meter.reward() == pytest.approx(0, abs=1e-5)


def test_squares_about_the_defects_are_looked_at(parts):
    meter, _, predictor = parts((256, 192))  # the defect: rows 12 to 32, columns 16 to 40
    views = predictor.buffer.views
    for index, sample in enumerate(views.labeled):
        window = (..., slice(0, PROBE_PX), slice(0, PROBE_PX))  # it does not reach over the border
        assert torch.equal(meter._images[index], views.loader.image(sample)[window])
        assert torch.equal(meter._masks[index], views.loader.mask(sample)[window].float())
