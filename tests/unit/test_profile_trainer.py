"""Autoencoders in training: folds, snapshots, statistics, and the profile as it is becoming."""

from types import SimpleNamespace

import pytest
import torch

from patchscout.networks.autoencoder import FeatureAutoencoder, cosine_error
from patchscout.networks.loss_profile import LossProfile
from patchscout.training.environment import Geometry
from patchscout.training.profile_trainer import (
    LEARNING_RATE,
    PATCH,
    SMALLEST_SPREAD,
    WHOLE,
)
from patchscout.training.views import fold_of

STEPS = (2, 5)


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def patches(count=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(count, channels, PATCH, PATCH, generator=rng) for channels in (6, 3)]


NUMBERS = torch.tensor([0, 1, 2, 3])  # folds 0, 1, 0, 1


def train(trainer, num_steps):
    """Take steps; returns the weights of the autoencoder of all images after each."""
    after = []
    for step in range(num_steps):
        trainer.train(patches(seed=step), NUMBERS)
        trainer.take_snapshot_if_due()
        after.append(weights(trainer.autoencoders[WHOLE]))
    return after


def test_patches_are_standardized_windows_whose_corner_is_that_of_the_finest_level(world):
    made = world()
    trainer = made.autoencoders()
    numbers, corners = torch.tensor([3, 5]), torch.tensor([[2, 7], [8, 16]])
    fine, coarse = trainer.gather(numbers, corners)
    whole = trainer.blank.standardized(trainer.cache.features(numbers))
    assert fine.shape == (2, 6, PATCH, PATCH)
    for index, (top, left) in enumerate(corners.tolist()):
        expected = whole[0][index, :, top : top + PATCH, left : left + PATCH]
        torch.testing.assert_close(fine[index], expected)
    # Of the coarser level, 8 x 12 cells, all rows fit; the middle column 11 is there column 5.
    torch.testing.assert_close(coarse[0], whole[1][0, :, :, 1:9])


def test_features_of_normal_images_have_mean_0_and_spread_1(world):
    trainer = world().autoencoders()
    for one in trainer.blank.standardized(trainer.cache.features(range(6))):
        torch.testing.assert_close(
            one.mean(dim=(0, 2, 3)), torch.zeros(one.shape[1]), atol=1e-4, rtol=0
        )
        torch.testing.assert_close(
            one.std(dim=(0, 2, 3), correction=0), torch.ones(one.shape[1]), atol=1e-3, rtol=0
        )


@pytest.mark.parametrize("fold", [0, 1])
def test_the_autoencoder_of_a_fold_never_sees_it(world, fold):
    trained = []
    for change in (0.0, 1.0):
        trainer = world().autoencoders()
        for step in range(3):
            given = patches(seed=step)
            for level in given:
                level[fold_of(NUMBERS) == fold] += change * torch.randn(level[:2].shape)
            torch.manual_seed(step)  # the same channels are deleted
            trainer.train(given, NUMBERS)
        trained.append([weights(one) for one in trainer.autoencoders])
    same = [torch.equal(one, other) for one, other in zip(*trained, strict=True)]
    assert same == [number == fold for number in range(3)]


def test_patches_of_one_fold_alone_leave_its_autoencoder_as_it_was(world):
    trainer = world().autoencoders()
    before = [weights(one) for one in trainer.autoencoders]
    trainer.train(patches(2), torch.tensor([0, 4]))
    after = [weights(one) for one in trainer.autoencoders]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, False, False]


def test_a_single_image_is_seen_by_all(world):
    trainer = world(num_normal=1).autoencoders()
    before = [weights(one) for one in trainer.autoencoders]
    trainer.train(patches(2), torch.tensor([0, 0]))
    for autoencoder, was in zip(trainer.autoencoders, before, strict=True):
        assert not torch.equal(weights(autoencoder), was)


def test_a_step_without_patches_teaches_nothing_and_counts(world):
    trainer = world().autoencoders()
    before = weights(trainer.autoencoders[WHOLE])
    trainer.train(patches(0), NUMBERS[:0])
    trainer.take_snapshot_if_due()
    assert torch.equal(weights(trainer.autoencoders[WHOLE]), before)
    assert trainer.step == 1


def test_snapshots_are_taken_at_their_steps_and_stay(world):
    trainer = world().autoencoders(STEPS)
    after = train(trainer, 4)
    assert trainer.profiles == []
    after += train(trainer, 1)
    assert len(trainer.profiles) == 3
    kept = list(trainer.profiles[WHOLE].snapshots)
    assert [weights(one).tolist() for one in kept] == [after[step - 1].tolist() for step in STEPS]
    assert not any(one.training or p.requires_grad for one in kept for p in one.parameters())
    complete = trainer.profiles
    trainer.start_cycle()
    train(trainer, 4)
    assert trainer.profiles is complete
    assert torch.equal(weights(complete[WHOLE].snapshots[1]), after[-1])
    train(trainer, 1)
    assert trainer.profiles is not complete


def test_a_cycle_begins_with_new_autoencoders_that_are_all_alike(world):
    trainer = world().autoencoders(STEPS)
    first = weights(trainer.autoencoders[WHOLE])
    train(trainer, 5)
    trainer.start_cycle()
    fresh = [weights(one) for one in trainer.autoencoders]
    assert torch.equal(fresh[0], fresh[1])
    assert torch.equal(fresh[0], fresh[WHOLE])
    assert not torch.equal(fresh[0], first)


def test_the_learning_rate_falls_to_a_tenth_over_a_cycle(world):
    trainer = world().autoencoders((6,))
    rates = []
    for step in range(6):
        rates.append(trainer._optimizers[WHOLE].param_groups[0]["lr"])
        trainer.train(patches(seed=step), NUMBERS)
    assert rates[0] == LEARNING_RATE
    assert rates == sorted(rates, reverse=True)
    assert trainer._optimizers[WHOLE].param_groups[0]["lr"] == pytest.approx(LEARNING_RATE / 10)


def test_the_profile_in_progress_has_the_training_autoencoder_in_place(world):
    trainer = world().autoencoders(STEPS)
    train(trainer, 5)
    complete = trainer.profiles[WHOLE]
    assert trainer.in_progress() is complete
    trainer.start_cycle()
    now = trainer.autoencoders[WHOLE]
    train(trainer, 1)
    assert list(trainer.in_progress().snapshots) == [now, complete.snapshots[1]]
    train(trainer, 1)
    first, second = trainer.in_progress().snapshots
    assert second is now
    assert first is not complete.snapshots[0]
    assert torch.equal(weights(first), weights(now))
    train(trainer, 1)
    first, second = trainer.in_progress().snapshots
    assert second is now
    assert not torch.equal(weights(first), weights(now))
    for name, buffer in complete.named_buffers():
        assert torch.equal(trainer.in_progress().get_buffer(name), buffer), name


@pytest.mark.parametrize("num_normal", [1, 2, 9])
@torch.no_grad()
def test_what_is_usual_is_measured_on_images_that_were_not_seen(world, num_normal):
    trainer = world(num_normal=num_normal).autoencoders(STEPS)
    with torch.enable_grad():
        for step in range(5):
            trainer.train(patches(seed=step), NUMBERS % num_normal)
            trainer.take_snapshot_if_due()
    for number, profile in enumerate(trainer.profiles):
        squares, errors = [], []
        for image in range(num_normal):
            unseen = trainer.profiles[fold_of(image)]
            features = unseen.standardized(trainer.cache.features([image]))
            made = unseen.snapshots[-1](features)
            squares.append(
                [(a - b).square().mean((0, 2, 3)) for a, b in zip(features, made, strict=True)]
            )
            errors.append([cosine_error(a, b)[0] for a, b in zip(features, made, strict=True)])
        for level in range(2):
            expected = torch.stack([each[level] for each in squares]).mean(dim=0).sqrt()
            found = profile.get_buffer(f"residual_spread_{level}")
            torch.testing.assert_close(found, expected.clamp_min(SMALLEST_SPREAD))
            logs = (1 + torch.stack([each[level] for each in errors]) / 0.01).log()
            usual = logs.mean().expand(logs.shape[1:])
            if num_normal == 9:  # of few images a place's mean would be that of one error
                usual = (usual + logs.mean(dim=0)) / 2
                assert usual.std() > 0.01
            found = profile.usual_errors[level]
            torch.testing.assert_close(found, usual, rtol=1e-4, atol=1e-5)
            spread = (logs - usual).std()
            torch.testing.assert_close(profile.error_spread[level], spread, rtol=1e-4, atol=1e-5)
        assert number == WHOLE or len(profile.snapshots) == 2


@torch.no_grad()
def test_a_normal_image_has_novelty_about_0_and_residuals_of_spread_1(world, monkeypatch):
    monkeypatch.setattr("patchscout.networks.autoencoder.DROPOUT", 0.0)
    trainer = world(num_normal=8).autoencoders((40,))
    with torch.enable_grad():
        for step in range(40):
            numbers = torch.arange(8)
            corners = torch.tensor([[step % 9, step % 17]]).repeat(8, 1)
            trainer.train(trainer.gather(numbers, corners), numbers)
            trainer.take_snapshot_if_due()
    made = world(num_normal=40)
    profile = trainer.profiles[WHOLE]
    images = made.loader.images(made.normal[20:])  # new ones
    profiles = profile(profile.standardized(made.observer.features(images)))
    usual = [one[None] for one in profile.usual_errors]
    for one, novelty in zip(profiles, profile.novelty(profiles, usual), strict=True):
        # Trained on all images, the autoencoder is a little better than those of the folds.
        assert -0.6 < novelty.mean() < 0.2
        assert novelty.std() == pytest.approx(1, abs=0.2)
        assert one.residual.square().mean().sqrt() == pytest.approx(1, abs=0.1)


@torch.no_grad()
@pytest.mark.parametrize("channels", [(6,), (6, 3), (6, 3, 5)])
def test_error_maps_are_the_mean_of_the_coarser_levels_at_the_finest(world, channels):
    trainer = world().autoencoders()
    rng = torch.Generator().manual_seed(0)
    features = [
        torch.randn(2, count, 16 >> level, 24 >> level, generator=rng)
        for level, count in enumerate(channels)
    ]
    autoencoder = FeatureAutoencoder(channels).eval()
    trainer.cache = SimpleNamespace(features=lambda numbers: features)
    trainer.blank = LossProfile([], channels)
    trainer.autoencoders[WHOLE] = autoencoder
    found = trainer.error_maps(torch.tensor([2, 0]), torch.zeros(2, 3, 16, 24))
    enlarged = [
        error.repeat_interleave(2**level, dim=1).repeat_interleave(2**level, dim=2)
        for level, error in enumerate(autoencoder.errors(features))
    ]
    looked_at = enlarged[1:] or enlarged
    torch.testing.assert_close(found, sum(looked_at) / len(looked_at))


def test_a_patch_is_as_large_as_the_walkers_take_it_to_be():
    assert Geometry().patch == PATCH
