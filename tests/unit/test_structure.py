"""Structure maps against scipy and Pillow, and their fusion worked out by hand."""

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from scipy import ndimage

from patchscout.training.structure import (
    fused_structure_map,
    gaussian_blur,
    grey,
    local_variance,
    sobel_magnitude,
)

SHAPES = [(1, 7, 7), (2, 16, 40), (3, 33, 5)]


def random_maps(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def assert_each_is(actual, expected, atol=1e-5):
    """Compare each map with what a function of scipy makes of it in double precision."""
    maps, function = expected
    for found, one in zip(actual, maps, strict=True):
        np.testing.assert_allclose(found.numpy(), function(one.double().numpy()), atol=atol)


@pytest.mark.parametrize("shape", SHAPES)
def test_sobel_magnitude_is_that_of_scipy(shape):
    maps = random_maps(shape)

    def expected(one):
        down, across = (ndimage.sobel(one, axis=axis, mode="nearest") for axis in (0, 1))
        return np.hypot(down, across)

    assert_each_is(sobel_magnitude(maps), (maps, expected))


def test_a_step_edge_of_height_one_answers_with_four_on_both_sides():
    edge = torch.zeros(1, 6, 6)
    edge[:, :, 3:] = 1
    expected = torch.tensor([0.0, 0.0, 4.0, 4.0, 0.0, 0.0]).expand(1, 6, 6)
    assert torch.equal(sobel_magnitude(edge), expected)
    assert torch.equal(sobel_magnitude(edge.mT), expected.mT)


@pytest.mark.parametrize("shape", SHAPES)
def test_local_variance_is_that_of_each_neighborhood(shape):
    maps = random_maps(shape)

    def expected(one):
        return ndimage.generic_filter(one, np.var, size=3, mode="nearest")

    assert_each_is(local_variance(maps), (maps, expected))


def test_local_variance_is_never_negative():
    maps = 0.7 + 1e-4 * random_maps((4, 32, 32))
    assert (local_variance(maps) >= 0).all()


@pytest.mark.parametrize("sigma_px", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_blur_is_that_of_scipy(shape, sigma_px):
    maps = random_maps(shape)

    def expected(one):
        return ndimage.gaussian_filter(one, sigma_px, mode="nearest", truncate=3.0)

    assert_each_is(gaussian_blur(maps, sigma_px), (maps, expected))


def test_blur_without_a_width_given_is_of_one_pixel():
    maps = random_maps((1, 20, 20))
    assert torch.equal(gaussian_blur(maps), gaussian_blur(maps, 1.0))
    assert not torch.allclose(gaussian_blur(maps), gaussian_blur(maps, 1.5))


def test_grey_is_that_of_pillow():
    levels = torch.randint(256, (8, 8, 3), generator=torch.Generator().manual_seed(0)).byte()
    expected = np.asarray(PillowImage.fromarray(levels.numpy()).convert("L"), np.float32)
    found = grey(levels.permute(2, 0, 1)[None].float())[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=0.51)


def test_fused_map_by_hand():
    # The z-scores (up to a factor that min-max takes away again) are all -1 or 1:
    #   error -1 1 -1 1, variance -1 -1 1 1, Sobel 1 -1 -1 1, hence
    #   F = 0.7 error + 0.1 variance + 0.2 Sobel = -0.6 0.4 -0.8 1.0, from -0.8 to 1.0.
    error = torch.tensor([[[1.0, 3.0], [1.0, 3.0]]])
    variance = torch.tensor([[[0.0, 0.0], [4.0, 4.0]]])
    sobel = torch.tensor([[[5.0, 0.0], [0.0, 5.0]]])
    expected = torch.tensor([[[0.2 / 1.8, 1.2 / 1.8], [0.0, 1.0]]])
    torch.testing.assert_close(fused_structure_map(error, variance, sobel), expected)


def test_each_image_is_fused_by_itself_and_scale_does_not_matter():
    error, variance, sobel = (random_maps((2, 12, 10), seed) for seed in range(3))
    # The second image's maps are far larger, which must change neither result.
    factor = torch.tensor([1.0, 100.0])[:, None, None]
    fused = fused_structure_map(error * factor, variance * factor + 7, sobel * factor)
    for index in range(2):
        alone = fused_structure_map(*(maps[[index]] for maps in (error, variance, sobel)))
        torch.testing.assert_close(fused[[index]], alone)
        assert fused[index].min() == 0
        assert fused[index].max() == 1


@pytest.mark.parametrize("value", [0.0, 0.1, 0.7, 1.0])
def test_a_constant_image_has_no_structure(value):
    maps = torch.full((1, 24, 40), value)
    assert not sobel_magnitude(maps).any()
    assert local_variance(maps).max() < 1e-6
    torch.testing.assert_close(gaussian_blur(maps), maps)
    flat = fused_structure_map(maps, local_variance(maps), sobel_magnitude(maps))
    assert not flat.any()


@pytest.mark.parametrize("varying", range(3))
def test_a_constant_map_adds_nothing(varying):
    maps = [torch.full((1, 8, 8), 0.3) for _ in range(3)]
    one = random_maps((1, 8, 8))
    maps[varying] = one
    scaled = (one - one.min()) / (one.max() - one.min())
    torch.testing.assert_close(fused_structure_map(*maps), scaled)
