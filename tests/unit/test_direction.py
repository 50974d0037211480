"""Whether a surface has a direction: stripes have, noise has not, brightness does not matter."""

import math

import pytest
import torch

from patchscout.training.direction import DIRECTED, anisotropy

SIZE = 96
ROWS, COLUMNS = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")


def stripes(angle_deg):
    angle = math.radians(angle_deg)
    phase = (COLUMNS * math.cos(angle) + ROWS * math.sin(angle)) / 2
    return (0.5 + 0.3 * phase.sin()).expand(3, SIZE, SIZE)


def noise(seed=0):
    return torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def checks():
    return (0.5 + 0.2 * (COLUMNS / 2).sin() + 0.2 * (ROWS / 2).sin()).expand(3, SIZE, SIZE)


@pytest.mark.parametrize("angle_deg", [0, 30, 90, 135])
def test_stripes_have_a_direction_at_any_angle(angle_deg):
    assert anisotropy([stripes(angle_deg)]) > 0.95


def test_noise_checks_and_flat_images_have_none():
    assert anisotropy([noise()]) < 0.1
    assert anisotropy([checks()]) < 0.1
    assert anisotropy([torch.full((3, SIZE, SIZE), 0.5)]) < 1e-3
    assert anisotropy([]) == 0


def test_stripes_that_lie_differently_in_each_image_are_no_direction_of_the_surface():
    assert anisotropy([stripes(0), stripes(90)]) < 0.05
    assert anisotropy([stripes(20), stripes(20), stripes(20)]) > 0.95


def test_each_image_weighs_alike_whatever_its_contrast():
    faint = 0.5 + 0.1 * (stripes(0) - 0.5)
    assert anisotropy([faint, stripes(90)]) < 0.05
    assert anisotropy([faint, faint, noise()]) > DIRECTED
