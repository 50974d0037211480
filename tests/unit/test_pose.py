"""Changes that normal images do not show: worked out on shapes whose symmetries are known."""

import math

import pytest
import torch

from patchscout.training.pose import unlike_changes

SIDE = 96
ROWS, COLUMNS = torch.meshgrid(
    torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij"
)
LARGEST = 30.0, 0.1, 20.0


def images_of(draw, count=12, noise=0.02, shift=0.0):
    """Images of one shape, with grain and each moved by up to a share of the side."""
    rng = torch.Generator().manual_seed(0)
    images = []
    for _ in range(count):
        x, y = ((torch.rand(2, generator=rng) - 0.5) * 4 * shift).tolist()
        shape = draw(ROWS - y, COLUMNS - x).float()
        grain = noise * torch.randn(SIDE, SIDE, generator=rng)
        images.append((0.3 + 0.4 * shape + grain).clamp(0, 1).expand(3, -1, -1))
    return images


def ring(rows, columns):
    return ((rows.square() + columns.square()).sqrt() - 0.5).abs() < 0.15


def arrow(rows, columns):
    """Points up: left and right are alike, top and bottom are not."""
    return (rows > -0.5) & (rows < 0.5) & (columns.abs() < (rows + 0.5) / 2)


def part(rows, columns):
    """Has no symmetry."""
    return arrow(rows, columns) & (columns > -0.1)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (ring, {"translation", "shear"}),
        (arrow, {"vertical_flip", "rotation", "translation", "shear"}),
        (part, {"horizontal_flip", "vertical_flip", "rotation", "translation", "shear"}),
    ],
)
def test_what_a_shape_is_not_alike_after(draw, expected):
    assert set(unlike_changes(images_of(draw), *LARGEST)) == expected
    dark = [0.3 * image for image in images_of(draw)]
    assert set(unlike_changes(dark, *LARGEST)) == expected


def test_a_change_that_normal_images_show_themselves_is_none():
    unlike = unlike_changes(images_of(ring, count=60, shift=0.2), *LARGEST)
    assert "translation" not in unlike


def test_texture_and_flat_images_have_no_pose():
    assert unlike_changes(images_of(lambda rows, _: 0 * rows, noise=0.1), *LARGEST) == ()
    assert unlike_changes([torch.full((3, SIDE, SIDE), 0.5)] * 6, *LARGEST) == ()
    stripes = [
        (0.5 + 0.3 * (40 * COLUMNS + phase * math.tau / 12).sin()).expand(3, -1, -1)
        for phase in range(12)
    ]
    assert "translation" not in unlike_changes(stripes, *LARGEST)


def test_of_few_images_nothing_is_said():
    assert unlike_changes(images_of(part, count=4), *LARGEST) == ()
