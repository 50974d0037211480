"""Loss profiles: one error map per snapshot or per mask, in order, linear or logarithmic."""

import math

import pytest
import torch

from patchscout.networks import Autoencoder, LeanAutoencoder, PredictorEnsemble
from patchscout.networks.loss_profile import (
    LOG_CENTER,
    LOG_FLOOR,
    LOG_SPREAD,
    ProfileExtractor,
    absolute_error,
    error_channels,
    scale_errors,
    shrink,
)
from patchscout.networks.segmenter import (
    SMALLEST_SPREAD,
    Context,
    FeatureExtractor,
    Segmenter,
    measure_lighting,
    num_features,
)


class Shift(Autoencoder):
    """Reconstructs every image too bright by `amount`, times the mean of the mask."""

    min_size_px = 8

    def __init__(self, amount: float) -> None:
        super().__init__(bottleneck_channels=4)
        self.amount = amount

    def encode(self, images):
        return torch.full((len(images), 4, 1, 1), self.amount), images

    def decode(self, code, skip):
        assert skip is not None
        return skip + code.mean(dim=1, keepdim=True)


IMAGES = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
LARGER = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def test_the_error_is_the_mean_absolute_difference_over_rgb():
    class Off(Shift):
        def decode(self, code, skip):
            assert skip is not None
            return skip + torch.tensor([0.3, -0.6, 0.0])[:, None, None]

    errors = absolute_error(Off(0.0)(IMAGES), IMAGES)
    assert errors.shape == (2, 16, 24)
    torch.testing.assert_close(errors, torch.full_like(errors, (0.3 + 0.6 + 0.0) / 3))


def test_signed_errors_keep_the_color_and_the_direction():
    difference = torch.tensor([0.3, -0.6, 0.0])[None, :, None, None].expand_as(IMAGES)
    linear = error_channels(IMAGES + difference, IMAGES, "signed", "linear")
    torch.testing.assert_close(linear, difference)
    logarithmic = error_channels(IMAGES + difference, IMAGES, "signed", "log")
    expected = torch.tensor([math.log(31) / 2, -math.log(61) / 2, 0.0])[:, None, None]
    torch.testing.assert_close(logarithmic, expected.expand_as(IMAGES), atol=1e-4, rtol=1e-4)


def test_a_signed_profile_has_three_channels_a_snapshot():
    extractor = ProfileExtractor([Shift(0.4), Shift(-0.2)], None, "linear", error="signed")
    expected = torch.tensor([0.4, 0.4, 0.4, -0.2, -0.2, -0.2])[:, None, None]
    torch.testing.assert_close(extractor(IMAGES), expected.expand(2, 6, 16, 24))
    assert num_features(2, "both", "signed") == 6 + 6


def test_one_map_per_snapshot_in_order():
    extractor = ProfileExtractor([Shift(0.4), Shift(0.2), Shift(0.1)], None, "linear")
    profiles = extractor(IMAGES)
    assert extractor.length == 3
    assert profiles.shape == (2, 3, 16, 24)
    expected = torch.tensor([0.4, 0.2, 0.1])[None, :, None, None].expand_as(profiles)
    torch.testing.assert_close(profiles, expected)


def test_one_map_per_mask_in_order():
    masks = torch.tensor([[1.0, 1, 1, 1], [2, 2, 0, 0], [2, 0, 0, 0]])
    extractor = ProfileExtractor([Shift(0.4)], masks, "linear")
    profiles = extractor(IMAGES)
    assert extractor.length == 3
    expected = torch.tensor([0.4, 0.4, 0.2])[None, :, None, None].expand_as(profiles)
    torch.testing.assert_close(profiles, expected)
    assert [autoencoder is extractor.autoencoders[0] for autoencoder, _ in extractor.sources] == [
        True
    ] * 3


def test_a_logarithmic_profile_is_standardized():
    extractor = ProfileExtractor([Shift(0.4), Shift(0.0)], None, "log")
    by_hand = [(math.log(0.4 + LOG_FLOOR) - LOG_CENTER) / LOG_SPREAD]
    by_hand.append((math.log(LOG_FLOOR) - LOG_CENTER) / LOG_SPREAD)
    maps = extractor(IMAGES)[0].mean(dim=(1, 2))
    torch.testing.assert_close(maps, torch.tensor(by_hand), rtol=1e-3, atol=1e-3)


def test_the_logarithm_keeps_the_order_of_errors():
    errors = torch.tensor([0.0, 1e-4, 1e-2, 0.5, 2.0])
    assert (scale_errors(errors, "log").diff() > 0).all()
    assert torch.equal(scale_errors(errors, "linear"), errors)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_shrunk_image_is_the_mean_of_blocks(layout):
    images = IMAGES.contiguous(memory_format=layout)
    small = shrink(images, 2)
    assert small.shape == (2, 3, 8, 12)
    torch.testing.assert_close(
        small, images.unflatten(3, (12, 2)).unflatten(2, (8, 2)).mean((3, 5))
    )
    assert small[1, 2, 3, 4].item() == pytest.approx(IMAGES[1, 2, 6:8, 8:10].mean().item())
    assert torch.equal(shrink(images, 1), images)


def enlarged(maps):
    """Maps (batch, height, width) at twice the size: between the middles of pixels in a line."""
    for dim in (1, 2):
        count = maps.shape[dim]
        before = maps.index_select(dim, torch.arange(-1, count - 1).clamp_min(0))
        after = maps.index_select(dim, torch.arange(1, count + 1).clamp_max(count - 1))
        halves = [0.75 * maps + 0.25 * before, 0.75 * maps + 0.25 * after]
        maps = torch.stack(halves, dim=dim + 1).flatten(dim, dim + 1)
    return maps


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("with_masks", [False, True])
def test_a_profile_at_half_size_is_that_of_the_shrunk_image_enlarged(scale, with_masks):
    torch.manual_seed(0)
    networks = [LeanAutoencoder(4, 6).folded() for _ in range(1 if with_masks else 3)]
    masks = (torch.rand(3, 6) > 0.5).float() if with_masks else None
    extractor = ProfileExtractor(networks, masks, scale, downscale=2)
    profiles = extractor(LARGER)
    assert profiles.shape == (2, 3, *LARGER.shape[-2:])
    small = (LARGER[..., ::2, :] + LARGER[..., 1::2, :]) / 2
    small = (small[..., ::2] + small[..., 1::2]) / 2
    for index, (network, mask) in enumerate(extractor.sources):
        expected = enlarged(scale_errors(absolute_error(network(small, mask), small), scale))
        torch.testing.assert_close(profiles[:, index], expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(profiles[:, 0], profiles[:, 1])
    whole = ProfileExtractor(networks, masks, scale)(LARGER)
    assert not torch.allclose(profiles, whole, atol=0.01)


@pytest.mark.parametrize("downscale", [1, 2])
def test_the_map_of_an_autoencoder_is_its_channel_with_a_gradient(downscale):
    torch.manual_seed(0)
    networks = [LeanAutoencoder(4, 6).folded() for _ in range(3)]
    extractor = ProfileExtractor(networks, None, "log", downscale)
    profiles = extractor(LARGER)
    assert not profiles.requires_grad
    for index, network in enumerate(networks):
        found = extractor.maps_of(network, LARGER)
        torch.testing.assert_close(found, profiles[:, index : index + 1])
    newest = LeanAutoencoder(4, 6).eval()  # need not be one of the snapshots
    extractor.maps_of(newest, LARGER).mean().backward()
    for name, weight in newest.named_parameters():
        assert weight.grad is not None, name
    assert any(weight.grad.any() for weight in newest.parameters() if weight.grad is not None)


def test_masks_are_saved_with_the_model():
    masks = torch.rand(3, 6)
    state = ProfileExtractor([LeanAutoencoder(4, 6)], masks, "log").state_dict()
    assert torch.equal(state["masks"], masks)
    assert "masks" not in ProfileExtractor([LeanAutoencoder(4, 6)], None, "log").state_dict()


@pytest.mark.parametrize(("inputs", "channels"), [("profile", 2), ("image", 6), ("both", 8)])
def test_features_are_the_profile_the_standardized_image_or_both(inputs, channels):
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 4.0])
    profiles = ProfileExtractor([Shift(0.4), Shift(0.2)], None, "linear")
    features = FeatureExtractor(profiles, inputs, mean, std)(IMAGES)
    assert features.shape == (2, channels, 16, 24)
    assert num_features(2, inputs) == channels
    if inputs != "image":
        torch.testing.assert_close(features[:, :2], profiles(IMAGES))
    if inputs != "profile":
        torch.testing.assert_close(features[:, -4], (IMAGES[:, 2] - 0.3) / 4)
        for image, own in zip(IMAGES, features[:, -3:], strict=True):
            torch.testing.assert_close(
                own, (image - image.mean(dim=(1, 2), keepdim=True)) / image.std()
            )


def test_brightness_and_contrast_do_not_matter_to_the_second_standardization():
    features = FeatureExtractor(None, "image", torch.zeros(3), torch.ones(3))
    plain, other = features(IMAGES), features(0.5 * IMAGES + 0.2)
    torch.testing.assert_close(other[:, 3:], plain[:, 3:], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(other[:, :3], plain[:, :3], atol=0.05)


def test_a_part_is_standardized_as_the_whole_is():
    features = FeatureExtractor(None, "image", torch.zeros(3), torch.ones(3))
    part = (..., slice(2, 10), slice(5, 20))
    context = Context(measure_lighting(IMAGES), IMAGES[part][:, :0])
    found = features(IMAGES[part], context)
    torch.testing.assert_close(found, features(IMAGES)[part])
    assert not torch.allclose(features(IMAGES[part]), found)


def test_a_flat_image_is_not_blown_up():
    features = FeatureExtractor(None, "image", torch.zeros(3), torch.ones(3))
    flat = 0.4 + 0.001 * torch.rand(1, 3, 16, 16)
    assert features(flat)[:, 3:].abs().max() <= 0.001 / SMALLEST_SPREAD


def test_the_image_alone_needs_no_profiles():
    features = FeatureExtractor(None, "image", torch.zeros(3), torch.ones(3))
    torch.testing.assert_close(features(IMAGES)[:, :3], IMAGES)
    assert set(features.state_dict()) == {"channel_mean", "channel_std"}


def test_a_segmenter_gives_the_predictors_probability():
    class First(PredictorEnsemble):
        def forward(self, features, scene=None, general=None):
            return features[:, 0]

    profiles = ProfileExtractor([Shift(0.4)], None, "linear")
    segmenter = Segmenter(
        FeatureExtractor(profiles, "profile", torch.zeros(3), torch.ones(3)), First([])
    )
    expected = 1 / (1 + math.exp(-0.4))
    torch.testing.assert_close(segmenter(IMAGES), torch.full((2, 16, 24), expected))


def test_a_mirrored_segmenter_averages_over_image_and_mirror_image():
    class Column(PredictorEnsemble):
        """The share of the width that lies to the left, whatever is seen there."""

        def forward(self, features, scene=None, general=None):
            return torch.linspace(-3, 3, features.shape[-1]).expand_as(features[:, 0])

    features = FeatureExtractor(None, "image", torch.zeros(3), torch.ones(3))
    plain = Segmenter(features, Column([]))(IMAGES)
    mirrored = Segmenter(features, Column([]), mirrored=True)(IMAGES)
    torch.testing.assert_close(mirrored, (plain + plain.flip(-1)) / 2)
    torch.testing.assert_close(mirrored, torch.full_like(mirrored, 0.5))


class Shown(PredictorEnsemble):
    """Takes the red of the image for its log-odds."""

    def forward(self, features, scene=None, general=None):
        return features[:, 0]


def test_an_image_without_a_sure_defect_is_scored_lower_everywhere():
    features = FeatureExtractor(None, "image", torch.zeros(3), torch.ones(3))
    log_odds = torch.linspace(-4, 1, 64).reshape(1, 1, 8, 8).expand(1, 3, 8, 8)
    images = torch.cat([log_odds, log_odds + 1, log_odds + 3])
    found = Segmenter(features, Shown([]), image_evidence=0.5)(images)
    # The largest are 1, 2 and 4: the first falls short of 2 by 1.
    expected = images[:, 0] - torch.tensor([0.5, 0, 0])[:, None, None]
    torch.testing.assert_close(torch.logit(found), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        Segmenter(features, Shown([]))(images), images[:, 0].sigmoid(), atol=0, rtol=0
    )


def test_image_evidence_is_finite_at_certainty():
    features = FeatureExtractor(None, "image", torch.zeros(3), torch.ones(3))
    images = torch.full((2, 3, 4, 4), -200.0)
    images[1, :, 0, 0] = 200.0
    found = Segmenter(features, Shown([]), image_evidence=0.5)(images)
    assert found.isfinite().all()
    assert found[0].max() == 0
    assert found[1, 0, 0] == 1
