"""The model as one module: what the predictor sees, and how its answer is joined with novelty."""

import math

import pytest
import torch
from torch import nn

from patchscout.backbones.identity import Identity
from patchscout.networks.autoencoder import FeatureAutoencoder
from patchscout.networks.loss_profile import LossProfile, Profile
from patchscout.networks.segmenter import (
    LARGEST_NOVELTY,
    SMALLEST_SPREAD,
    USUAL,
    Observer,
    Segmenter,
    fuse,
    measure_lighting,
    novelty_map,
    relit,
)

IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def segmenter(world):
    """Make a small segmenter with random weights and statistics."""

    def make(**settings):
        made = world()
        predictor = made.predictor()
        for module in predictor.modules():
            if isinstance(module, nn.BatchNorm2d):  # so that depth does not dampen what is seen
                nn.init.constant_(module.get_buffer("running_var"), 0.1)
        snapshots = [FeatureAutoencoder((6, 3)) for _ in range(2)]
        profile = LossProfile(snapshots, (6, 3), [(16, 24), (8, 12)])
        for one in profile.usual_errors:
            one.copy_(3 + torch.rand(one.shape))
        profile.error_spread.fill_(0.5)
        return Segmenter(made.observer, profile, predictor, **settings).eval()

    return make


def test_the_predictor_sees_the_image_twice_standardized():
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 4.0])
    seen = Observer(Identity(), (), mean, std).assemble(IMAGES, [])
    assert seen.sides == []
    torch.testing.assert_close(seen.image[:, 2], (IMAGES[:, 2] - 0.3) / 4)
    for image, own in zip(IMAGES, seen.image[:, 3:], strict=True):
        expected = (image - image.mean(dim=(1, 2), keepdim=True)) / image.std()
        torch.testing.assert_close(own, expected)


def test_side_inputs_are_parts_of_the_profile_by_name(world):
    profiles = [
        Profile(*(torch.rand(2, channels, rows, 9) for channels in (6, 6, 2))) for rows in (8, 4)
    ]
    seen = world(inputs=("errors", "features")).observer.assemble(IMAGES, profiles)
    for level, profile in zip(seen.sides, profiles, strict=True):
        assert torch.equal(level, torch.cat([profile.errors, profile.features], dim=1))


@torch.no_grad()
def test_features_do_not_depend_on_brightness_and_contrast(world):
    observer = world().observer
    for one, other in zip(
        observer.features(IMAGES), observer.features(0.5 * IMAGES + 0.2), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_part_is_standardized_as_the_whole_is(world):
    observer, part = world().observer, (..., slice(16, 48), slice(32, 80))
    whole, lighting = observer.features(IMAGES)[0], measure_lighting(IMAGES)
    found = observer.features(IMAGES[part], lighting)[0]
    torch.testing.assert_close(found, whole[..., 4:12, 8:20])
    assert not torch.allclose(observer.features(IMAGES[part])[0], found, atol=1e-3)
    torch.testing.assert_close(
        observer.assemble(IMAGES[part], [], lighting).image,
        observer.assemble(IMAGES, []).image[part],
    )


def test_a_flat_image_is_not_blown_up():
    flat = 0.4 + 0.001 * torch.rand(1, 3, 16, 16)
    assert relit(flat).abs().max() <= 0.001 / SMALLEST_SPREAD


@torch.no_grad()
def test_through_another_profile_the_model_is_the_same_but_for_it(segmenter):
    model, other = segmenter(novelty_weight=0.5), segmenter(novelty_weight=0.5)
    other.profile.usual_errors[0].fill_(1.0)
    expected = Segmenter(model.observer, other.profile, model.predictor, novelty_weight=0.5)
    found = model.through(other.profile)(IMAGES)
    assert torch.equal(found, expected.eval()(IMAGES))
    assert not torch.equal(found, model(IMAGES))


def test_without_novelty_the_answer_is_the_predictors(segmenter):
    model = segmenter()
    profiles = model.profile(model.profile.standardized(model.observer.features(IMAGES)))
    seen = model.observer.assemble(IMAGES, profiles)
    assert torch.equal(model(IMAGES), model.predictor(*seen).sigmoid())
    weighed = segmenter(novelty_weight=0.5)
    usual = [one.expand(2, -1, -1) for one in weighed.profile.usual_errors]
    novelty = novelty_map(weighed.profile, profiles, usual, IMAGES)
    torch.testing.assert_close(weighed(IMAGES), fuse(model.predictor(*seen), novelty, 0.5))


@torch.no_grad()
def test_with_flip_tta_the_answer_is_the_mean_of_image_and_mirror_image(segmenter):
    plain, flipped = segmenter(novelty_weight=0.5), segmenter(novelty_weight=0.5, flip_tta=True)
    found = flipped(IMAGES)
    first = plain(IMAGES)
    for one in plain.profile.usual_errors:  # a mirrored place has the usual error of the place
        one.copy_(one.flip(-1))
    second = plain(IMAGES.flip(-1)).flip(-1)
    torch.testing.assert_close(found, (first + second) / 2)
    assert not torch.allclose(first, second, atol=1e-3)


def test_novelty_and_log_odds_have_a_weighted_mean():
    logits = torch.tensor([[[0.5, -2.0, 3.0]]])
    novelty = torch.tensor([[[USUAL, 5.0, -4.0]]])
    expected = [
        (logit + 0.25 * (n - USUAL)) / 1.25 for logit, n in ((0.5, USUAL), (-2, 5), (3, -4))
    ]
    found = fuse(logits, novelty, 0.25)
    torch.testing.assert_close(found[0, 0], torch.tensor(expected).sigmoid())


def test_what_is_certain_or_utterly_new_stays_finite_and_counts():
    logits = torch.tensor([[[-200.0, 200.0, -200.0, 200.0]]])
    novelty = torch.tensor([[[1e6, 1e6, -1e6, -1e6]]])
    found = fuse(logits, novelty, 1.0)[0, 0]
    sure = math.log(1e6)
    expected = [
        (a * sure + b * LARGEST_NOVELTY) / 2 for a, b in ((-1, 1), (1, 1), (-1, -1), (1, -1))
    ]
    torch.testing.assert_close(torch.logit(found), torch.tensor(expected), atol=0.05, rtol=0)


def test_a_predictor_that_is_sure_can_be_wrong():
    found = fuse(torch.full((1, 1, 2), -50.0), torch.tensor([[[USUAL, 16.0]]]), 1.0)[0, 0]
    assert found[1] > 100 * found[0]


def test_the_novelty_map_is_the_mean_over_neighbors_and_levels_by_their_channels():
    profile = LossProfile([], (6, 3))
    fine, coarse = torch.zeros(1, 2, 16, 24), torch.full((1, 2, 8, 12), 3.0)
    fine[0, 1, 8, 12] = 9.0
    nothing = torch.zeros(1, 1, 1, 1)
    profiles = [Profile(nothing, nothing, one) for one in (fine, coarse)]
    usual = [one[None] for one in profile.usual_errors]  # errors are taken as they are
    found = novelty_map(profile, profiles, usual, torch.zeros(1, 3, 64, 96))[0]
    assert found.shape == (64, 96)
    assert found[0, 0] == pytest.approx(3 * 3 / 9)
    # In the middle of the cell: a ninth of 9 for each of 3 x 3 cells.
    assert found[33, 49] == pytest.approx(1 * 6 / 9 + 3 * 3 / 9)
    assert found[0, 0] < found[27, 49] < found[33, 49]
    assert found[20, 49] == pytest.approx(found[0, 0])
