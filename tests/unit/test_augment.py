"""Images and maps move together; flips are exact; geometry goes the way it says."""

import numpy as np
import torch

from patchscout.data.augment import (
    Augmentation,
    change_lighting,
    draw_augmentation,
)

IMAGE = torch.rand(3, 24, 36, generator=torch.Generator().manual_seed(0))
MOVE = Augmentation(
    flip_horizontal=True,
    rotation_deg=20.0,
    translation_fraction=(0.1, -0.05),
    shear_deg=10.0,
)


def dot(row, column, height=41, width=61):
    image = torch.zeros(1, height, width)
    image[0, row, column] = 1
    return image


def where(image):
    return divmod(int(image[0].argmax()), image.shape[-1])


def test_flips_are_exact():
    assert torch.equal(Augmentation(flip_horizontal=True).apply(IMAGE), IMAGE.flip(-1))
    assert torch.equal(Augmentation(flip_vertical=True).apply(IMAGE), IMAGE.flip(-2))
    both = Augmentation(flip_horizontal=True, flip_vertical=True)
    assert torch.equal(both.apply(IMAGE), IMAGE.flip(-1, -2))


def test_identity_changes_nothing_but_copies():
    moved = Augmentation.identity().apply(IMAGE)
    assert torch.equal(moved, IMAGE)
    assert moved.data_ptr() != IMAGE.data_ptr()


def test_maps_move_with_their_image():
    # A map that is linear in the pixel's own channels can be computed before the move or after.
    weights = torch.tensor([0.2, 0.3, 0.5])[:, None, None]
    stack = torch.cat([IMAGE, (IMAGE * weights).sum(dim=0, keepdim=True)])
    moved = MOVE.apply(stack)
    recomputed = (moved[:3] * weights).sum(dim=0)
    torch.testing.assert_close(moved[3], recomputed, rtol=0, atol=1e-6)
    assert (moved[3] - stack[3]).abs().mean() > 0.05


def test_translation_goes_right_and_down():
    moved = Augmentation(translation_fraction=(6 / 61, 4 / 41)).apply(dot(20, 30))
    assert where(moved) == (24, 36)
    assert moved.max() > 0.999


def test_rotation_is_counterclockwise_in_pixels_whatever_the_aspect():
    assert where(Augmentation(rotation_deg=90.0).apply(dot(20, 42))) == (8, 30)
    assert where(Augmentation(rotation_deg=-90.0).apply(dot(20, 42))) == (32, 30)


def test_shear_leans_vertical_lines_to_the_right():
    shear = Augmentation(shear_deg=45.0)
    assert where(shear.apply(dot(10, 30))) == (10, 40)
    assert where(shear.apply(dot(30, 30))) == (30, 20)
    assert where(shear.apply(dot(20, 35))) == (20, 35)


def test_flip_comes_before_the_rest():
    both = Augmentation(flip_horizontal=True, rotation_deg=90.0)
    assert where(both.apply(dot(20, 42))) == where(
        Augmentation(rotation_deg=90.0).apply(dot(20, 18))
    )


def test_outside_is_the_mirror_image():
    column = torch.arange(10.0).expand(1, 10, 10)
    moved = Augmentation(translation_fraction=(0.3, 0.0)).apply(column)
    torch.testing.assert_close(moved[0, 0], torch.tensor([2.0, 1, 0, 0, 1, 2, 3, 4, 5, 6]))


def test_leading_dimensions_are_kept():
    stack = IMAGE.expand(2, 5, 3, 24, 36)
    moved = MOVE.apply(stack)
    assert moved.shape == stack.shape
    torch.testing.assert_close(moved[1, 4], MOVE.apply(IMAGE))


def test_drawn_values_fill_their_ranges():
    rng = np.random.default_rng(0)
    drawn = [draw_augmentation(rng) for _ in range(400)]
    for values, limit in (
        ([a.rotation_deg for a in drawn], 30),
        ([a.shear_deg for a in drawn], 20),
        ([a.translation_fraction[0] for a in drawn], 0.1),
        ([a.translation_fraction[1] for a in drawn], 0.1),
    ):
        assert -limit <= min(values) < -0.95 * limit
        assert 0.95 * limit < max(values) <= limit
    for flipped in ([a.flip_horizontal for a in drawn], [a.flip_vertical for a in drawn]):
        assert 0.4 < np.mean(flipped) < 0.6
    straight = draw_augmentation(np.random.default_rng(2), flips_horizontally=False)
    assert draw_augmentation(np.random.default_rng(2)).flip_horizontal
    assert not straight.flip_horizontal
    upright = [draw_augmentation(rng, flips_vertically=False) for _ in range(20)]
    assert not any(a.flip_vertical for a in upright)
    assert any(a.flip_horizontal for a in upright)
    again = np.random.default_rng(0)
    assert drawn[:3] == [draw_augmentation(again) for _ in range(3)]


def test_lighting_changes_contrast_brightness_and_gamma_within_bounds():
    image = 0.35 + 0.3 * torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    rng, means, spreads = np.random.default_rng(0), [], []
    for _ in range(200):
        lit = change_lighting(image, rng, 0.2)
        assert 0 <= lit.min() <= lit.max() <= 1
        order = image[0].flatten().argsort()
        assert (lit[0].flatten()[order].diff() >= 0).all()  # what was brighter is not darker now
        means.append(lit.mean().item() / image.mean().item())
        spreads.append(lit.std().item() / image.std().item())
    assert 0.75 < min(means) < 0.9
    assert 1.1 < max(means) < 1.3
    assert min(spreads) < 0.85
    assert max(spreads) > 1.15


def test_no_change_of_lighting_is_none_and_takes_no_random_number():
    image, rng = torch.rand(3, 8, 8), np.random.default_rng(0)
    assert change_lighting(image, rng, 0.0) is image
    assert rng.random() == np.random.default_rng(0).random()


def test_the_generator_decides_the_lighting():
    image = torch.rand(3, 8, 8)
    same = [change_lighting(image, np.random.default_rng(3), 0.3) for _ in range(2)]
    assert torch.equal(*same)
    assert not torch.equal(same[0], change_lighting(image, np.random.default_rng(4), 0.3))


def test_of_an_augmentation_without_resampling_the_flips_are_left():
    for seed in range(8):
        whole = draw_augmentation(np.random.default_rng(seed))
        flips = whole.without_resampling()
        assert whole.resamples
        assert not flips.resamples
        assert (flips.flip_horizontal, flips.flip_vertical) == (
            whole.flip_horizontal,
            whole.flip_vertical,
        )
