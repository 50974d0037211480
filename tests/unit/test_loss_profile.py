"""Loss profiles: errors of known autoencoders by hand, level by level and snapshot by snapshot."""

import math

import pytest
import torch
from torch import nn

from patchscout.networks.autoencoder import FeatureAutoencoder, LevelAutoencoder
from patchscout.networks.loss_profile import ERROR_FLOOR, LARGEST, LossProfile, log_error


class Turn(LevelAutoencoder):
    """Reconstructs features of two channels turned by an angle."""

    def __init__(self, degrees):
        super().__init__(2)
        angle = math.radians(degrees)
        turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        self.register_buffer("turn", torch.tensor(turn))

    def forward(self, features):
        return torch.einsum("ij,bjrc->birc", self.turn, features)


def turning(*degrees):
    """An autoencoder whose level n turns its features by the n-th angle."""
    autoencoder = FeatureAutoencoder([2] * len(degrees))
    autoencoder.levels = nn.ModuleList(map(Turn, degrees))
    return autoencoder


SNAPSHOTS = [turning(90, 180), turning(60, 120), turning(30, 0)]
FEATURES = [
    torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(0))
    for size in ((4, 6), (2, 3))
]


def test_errors_are_those_of_each_snapshot_in_order():
    fine, coarse = LossProfile(SNAPSHOTS, [2, 2])(FEATURES)
    for one, size, angles in ((fine, (4, 6), (90, 60, 30)), (coarse, (2, 3), (180, 120, 0))):
        assert one.errors.shape == (2, 3, *size)
        for channel, degrees in enumerate(angles):
            error = 1 - math.cos(math.radians(degrees))
            expected = torch.full((2, *size), math.log(1 + error / ERROR_FLOOR))
            torch.testing.assert_close(one.errors[:, channel], expected, atol=1e-4, rtol=1e-4)


def test_the_residual_is_that_of_the_last_snapshot_over_its_spread():
    profile = LossProfile(SNAPSHOTS, [2, 2])
    profile.get_buffer("residual_spread_0").copy_(torch.tensor([2.0, 0.5]))
    fine, coarse = profile(FEATURES)
    left = FEATURES[0] - Turn(30)(FEATURES[0])
    torch.testing.assert_close(fine.residual, left / torch.tensor([2.0, 0.5])[:, None, None])
    torch.testing.assert_close(coarse.residual, torch.zeros_like(FEATURES[1]))
    for one, seen in zip((fine, coarse), FEATURES, strict=True):
        assert torch.equal(one.features, seen)


def test_features_are_standardized_by_channel():
    profile = LossProfile([], [2, 2])
    profile.get_buffer("mean_1").copy_(torch.tensor([1.0, -2.0]))
    profile.get_buffer("spread_1").copy_(torch.tensor([4.0, 0.5]))
    fine, coarse = profile.standardized(FEATURES)
    assert torch.equal(fine, FEATURES[0])
    torch.testing.assert_close(coarse[:, 0], (FEATURES[1][:, 0] - 1) / 4)
    torch.testing.assert_close(coarse[:, 1], (FEATURES[1][:, 1] + 2) * 2)


def test_a_channel_that_hardly_varies_is_cut_off():
    profile = LossProfile(SNAPSHOTS, [2, 2])
    for name in ("spread_0", "residual_spread_0"):
        profile.get_buffer(name).fill_(1e-3)
    features = profile.standardized([1e3 * FEATURES[0], FEATURES[1]])
    (fine, coarse) = profile(features)
    assert fine.features.abs().max() == fine.residual.abs().max() == LARGEST
    torch.testing.assert_close(coarse.features, FEATURES[1])


def test_novelty_is_in_standard_deviations_of_the_last_error():
    profile = LossProfile(SNAPSHOTS, [2, 2], [(4, 6), (2, 3)])
    usual = torch.arange(24.0).view(4, 6)
    profile.usual_errors[0].copy_(usual)
    profile.usual_errors[1].fill_(2)
    profile.error_spread.copy_(torch.tensor([0.5, 4.0]))
    profiles = profile(FEATURES)
    fine, coarse = profile.novelty(profiles, [one[None] for one in profile.usual_errors])
    last = math.log(1 + (1 - math.cos(math.pi / 6)) / ERROR_FLOOR)
    expected = ((last - usual) / 0.5).expand(2, 1, -1, -1)
    torch.testing.assert_close(fine, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(coarse, torch.full((2, 1, 2, 3), (0 - 2) / 4), atol=1e-3, rtol=0)


def test_the_logarithm_keeps_the_order_of_errors_and_is_0_at_0():
    found = log_error(torch.tensor([0.0, 1e-4, ERROR_FLOOR, 0.5, 2.0]))
    assert found[0] == 0
    assert found[2] == pytest.approx(math.log(2))
    assert (found.diff() > 0).all()


def test_all_that_was_measured_is_saved_and_loaded():
    torch.manual_seed(0)
    saved = LossProfile([FeatureAutoencoder([2, 2]) for _ in range(2)], [2, 2]).eval()
    for buffer in saved.buffers():
        nn.init.uniform_(buffer, 0.5, 2)
    loaded = LossProfile([FeatureAutoencoder([2, 2]) for _ in range(2)], [2, 2]).eval()
    loaded.load_state_dict(saved.state_dict())
    with torch.no_grad():
        answers = [one(one.standardized(FEATURES)) for one in (saved, loaded)]
    for one, other in zip(*answers, strict=True):
        assert all(map(torch.equal, one, other))
    assert torch.equal(loaded.error_spread, saved.error_spread)
    assert all(map(torch.equal, loaded.usual_errors, saved.usual_errors))
