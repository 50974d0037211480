"""Simulated defects: the mask is what was visibly changed, all kinds are reached, any size fits."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate, max_pool2d

from patchscout.data import simulated as module
from patchscout.data.simulated import FILLINGS, SHAPES, VISIBLE, simulate_defect

HEIGHT, WIDTH = 96, 128
ROUNDING = 1e-6


def texture(seed, height=HEIGHT, width=WIDTH, *, channels=3):
    """A smooth image that uses the whole range, with parts of pure black and white."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 8, 8, generator=rng)
    smooth = interpolate(coarse, size=(height, width), mode="bilinear")[0]
    return ((smooth - 0.5) * 2 + 0.5).clamp(0, 1).expand(3, height, width)


def simulate(seed, image=None, other=None):
    image = texture(1) if image is None else image
    return simulate_defect(
        image, texture(2) if other is None else other, np.random.default_rng(seed)
    )


def change(image, defective):
    return (defective - image).abs().amax(dim=0)


@pytest.fixture
def only(monkeypatch):
    """Make one shape or filling the only one."""

    def choose(kind, name):
        function = next(f for _, f in getattr(module, kind) if f.__name__ == name)
        monkeypatch.setattr(module, kind, [(1.0, function)])

    return choose


IMAGES = {
    "colored": texture(1),
    "grey": texture(1, channels=1),
    "white": torch.ones(3, HEIGHT, WIDTH),
    "black": torch.zeros(3, HEIGHT, WIDTH),
}


@pytest.mark.parametrize("name", IMAGES)
def test_the_mask_is_exactly_what_was_visibly_changed(name):
    image = IMAGES[name]
    num_hard = num_soft = 0
    for seed in range(60):
        defective, mask = simulate(seed, image)
        changed = change(image, defective)
        assert defective.min() >= 0
        assert defective.max() <= 1
        is_soft = bool((changed[~mask] > ROUNDING).any())
        if is_soft:  # blended into one pixel around, at most
            grown = max_pool2d(mask[None].float(), 3, 1, 1)[0] > 0
            assert changed[~grown].max() <= ROUNDING
            inside = -max_pool2d(-mask[None].float(), 3, 1, 1)[0] > 0
            assert (changed[inside] > VISIBLE - ROUNDING).all()
            assert (changed[mask] > VISIBLE / 9 - ROUNDING).all()  # all of a lone pixel's share
        else:
            assert torch.equal(changed > VISIBLE - ROUNDING, mask)
        num_soft += is_soft
        num_hard += not is_soft and bool(mask.any())
    assert num_soft > 10
    assert num_hard > 5


def test_the_edge_is_soft_most_of_the_time():
    blob = [simulate(seed, IMAGES["black"], IMAGES["white"]) for seed in range(200)]
    soft = [bool((change(IMAGES["black"], d)[~m] > 0).any()) for d, m in blob if m.any()]
    assert 0.55 < sum(soft) / len(soft) < 0.85


def test_grey_stays_grey_and_color_does_not():
    def is_grey(images):
        return [bool((i.amax(dim=0) - i.amin(dim=0)).max() < 1e-5) for i in images]

    assert all(is_grey(simulate(seed, IMAGES["grey"])[0] for seed in range(40)))
    assert not any(is_grey(simulate(seed)[0] for seed in range(40)))


def test_the_generator_decides():
    for one, other in ((0, 0), (3, 3)):
        assert all(map(torch.equal, simulate(one), simulate(other)))
    assert not torch.equal(simulate(0)[0], simulate(3)[0])
    rng = np.random.default_rng(0)
    first, second = (simulate_defect(texture(1), texture(2), rng)[0] for _ in range(2))
    assert not torch.equal(first, second)


def test_what_is_given_is_not_changed():
    image, other = texture(1).clone(), texture(2).clone()
    for seed in range(20):
        simulate(seed, image, other)
    assert torch.equal(image, texture(1))
    assert torch.equal(other, texture(2))


@pytest.mark.parametrize("kind", ["SHAPES", "FILLINGS"])
def test_every_shape_and_filling_is_reached_as_often_as_it_says(monkeypatch, kind):
    seen, count = [], 400
    listed = getattr(module, kind)

    def noting(function):
        def call(*args):
            seen.append(function.__name__)
            return function(*args)

        return call

    monkeypatch.setattr(module, kind, [(share, noting(f)) for share, f in listed])
    rng = np.random.default_rng(0)
    small = texture(1, 64, 64)
    for _ in range(count):
        simulate_defect(small, small, rng)
    assert sum(share for share, _ in listed) == pytest.approx(1)
    for share, function in listed:
        tolerance = 4 * (share * (1 - share) / count) ** 0.5
        assert seen.count(function.__name__) / count == pytest.approx(share, abs=tolerance)


@pytest.mark.parametrize("filling", [function.__name__ for _, function in FILLINGS])
@pytest.mark.parametrize("shape", [function.__name__ for _, function in SHAPES])
@pytest.mark.parametrize("size", [(64, 64), (64, 400), (333, 65), (512, 512)], ids=str)
def test_every_kind_at_any_size(only, size, shape, filling):
    only("SHAPES", shape)
    only("FILLINGS", filling)
    image, other = texture(1, *size), texture(2, *size)
    covered = []
    for seed in range(6):
        defective, mask = simulate(seed, image, other)
        assert defective.shape == (3, *size)
        assert mask.shape == size
        assert torch.isfinite(defective).all()
        covered.append(mask.float().mean().item())
    assert max(covered) > 0  # there are defects
    assert max(covered) < 0.5  # and they are part of the image only


@pytest.mark.parametrize("shape", [function.__name__ for _, function in SHAPES])
def test_shapes_lie_anywhere(only, shape):
    only("SHAPES", shape)
    masks = [simulate(seed, IMAGES["black"], IMAGES["white"])[1] for seed in range(150)]
    often = torch.stack(masks).float().mean(dim=0)
    quarters = often.unflatten(0, (2, -1)).unflatten(2, (2, -1)).mean(dim=(1, 3))
    assert (quarters > 0.4 * quarters.mean()).all()


def test_a_misplaced_part_comes_from_the_other_image(only):
    only("FILLINGS", "_misplaced")
    image, other = torch.zeros(3, 64, 64), torch.full((3, 64, 64), 0.5)
    image[2] = 0.1  # not grey
    other[0] = 0.25
    strongest = torch.zeros(3)
    for seed in range(60):
        defective, mask = simulate(seed, image, other)
        if mask.any():
            strongest = torch.maximum(strongest, defective[:, mask].amax(dim=1))
    # Recolored it may be up to 1.6 times as bright; the red stays the least.
    assert 0.25 < strongest[0] <= 0.4 + ROUNDING
    assert (strongest[1:] > 0.5).all()


def test_lighter_or_darker_keeps_the_color(only):
    only("FILLINGS", "_lighter_or_darker")
    image = torch.tensor([0.2, 0.4, 0.5])[:, None, None].expand(3, 64, 64)
    seen = set()
    for seed in range(40):
        defective, mask = simulate(seed, image, texture(2, 64, 64))
        if mask.any():
            ratio = defective[:, mask] / image[:, mask]
            torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
            seen.add(bool(ratio.mean() > 1))
    assert seen == {True, False}
