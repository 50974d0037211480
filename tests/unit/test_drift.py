"""What is said of images that are unlike the training images, and that others raise no alarm."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from patchscout.drift import CHANGES, FEWEST_IMAGES, NormalRange, higher_scores, measure, summary

SIZE = 96, 128
WORKING = 64, 64


def image(seed, size=SIZE):
    """A part with a texture, in light that varies a little, as a camera with noise sees it."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]] / np.array(size)[:, None, None]
    part = 0.35 + 0.15 * (np.hypot(rows - 0.5, columns - 0.5) < 0.3)
    texture = 0.04 * gaussian_filter(rng.standard_normal(size), 1) + 0.05 * np.sin(60 * columns)
    grey = (part + texture) * rng.normal(1, 0.02) + 0.005 * rng.standard_normal(size)
    return np.clip(grey[..., None] * [1.0, 0.9, 0.8], 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def known():
    return range_of([measure(image(seed), WORKING) for seed in range(30)])


def range_of(measured):
    known = NormalRange.of(measured)
    assert known is not None
    return known


def blurred(one):
    return gaussian_filter(one, (2, 2, 0))


def defective(one):
    changed = one.copy()
    changed[30:40, 40:52] = 0.02
    return changed


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda one: one, ()),
        (defective, ()),
        (lambda one: one * np.float32(0.6), ("darker",)),
        (lambda one: np.rint(one * 0.06 * 255).astype(np.float32) / 255, "darker"),
        (lambda one: np.rint(one * 4095).astype(np.float32) / 65535, ("12-bit values",)),
        (lambda one: one * np.float32(1.5), ("brighter",)),
        (lambda one: one**2, "darker"),
        (blurred, "blurred"),
        (lambda one: np.repeat(one.mean(axis=2, keepdims=True), 3, axis=2), ("paler",)),
        (lambda one: one[:, 16:-16], "another shape"),
        (lambda one: one.repeat(2, axis=0).repeat(2, axis=1), ("larger",)),
        (lambda one: one.transpose(1, 0, 2), "another shape"),
        (lambda one: one + np.float32(0.3), "less contrast"),
    ],
)
def test_what_changed_is_named(known, change, expected):
    """In all of ten new images; a name alone may have others beside it."""
    for seed in range(1000, 1010):
        found = known.changes(measure(np.clip(change(image(seed)), 0, 1), WORKING))
        assert expected in found if isinstance(expected, str) else found == expected


DRAWS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape),
    "heavy-tailed": lambda rng, shape: rng.standard_t(5, shape),
}


@pytest.mark.parametrize(
    ("num_images", "draw"),
    [
        *((count, name) for count in (5, 10, 30, 100, 500) for name in ("normal", "uniform")),
        *((count, "heavy-tailed") for count in (10, 30, 100, 500)),
    ],
)
def test_at_most_one_in_a_hundred_images_like_the_training_ones_is_flagged(num_images, draw):
    """Statistics that vary independently, and by more than the least that a range is extended."""
    rng = np.random.default_rng(0)
    names, num_flagged, num_sets, num_new = [*CHANGES], 0, 500, 10
    for _ in range(num_sets):
        training, new = (
            5 * DRAWS[draw](rng, (count, len(names))) for count in (num_images, num_new)
        )
        known = range_of([dict(zip(names, one, strict=True)) for one in training.tolist()])
        rows = [{**dict(zip(names, one, strict=True)), "depth": 0.0} for one in new.tolist()]
        num_flagged += sum(bool(known.changes(row)) for row in rows)
    assert num_flagged / (num_sets * num_new) <= 0.01


def test_only_what_is_inside_counts(known):
    inside = np.zeros(SIZE, bool)
    inside[:, :64] = True
    changed = image(1000)
    changed[:, 66:] = 0
    whole = known.changes(measure(changed, WORKING))
    assert "darker" in whole
    expected = measure(image(1000), WORKING, inside)
    assert measure(changed, WORKING, inside) == pytest.approx(expected, abs=0.03)


def test_a_map_without_an_inside_leaves_the_whole_image():
    whole = measure(image(0), WORKING)
    assert measure(image(0), WORKING, np.zeros(SIZE, bool)) == whole


def test_few_images_have_no_range():
    assert NormalRange.of([measure(image(0), WORKING)] * (FEWEST_IMAGES - 1)) is None
    assert range_of([measure(image(0), WORKING)] * FEWEST_IMAGES).num_images == FEWEST_IMAGES


def test_a_batch_has_one_line():
    assert summary([(), ()]) is None
    assert summary([("darker",), (), ("darker", "blurred")]) == (
        "2 of 3 images are unlike the training images: darker (2), blurred (1). Check lamp, lens"
        " and camera, or train again with such images."
    )
    assert summary([("12-bit values",)]) == (
        "1 of 1 images are unlike the training images: 12-bit values (1). Scale their values to all"
        " 16 bits."
    )


@pytest.mark.parametrize(
    ("scores", "normal", "is_told"),
    [
        ([0.2] * 9 + [0.96] * 11, np.linspace(0, 1, 101), True),
        ([0.2] * 9 + [0.95] * 11, np.linspace(0, 1, 101), False),  # at the percentile
        ([0.2] * 11 + [0.96] * 9, np.linspace(0, 1, 101), False),  # less than half
        ([0.96] * 19, np.linspace(0, 1, 101), False),
        ([0.96] * 20, [0.1] * 5, True),
        ([0.96] * 20, [0.1] * 4 + [0.97], False),
        ([0.96] * 20, [0.1] * 4, False),
    ],
)
def test_a_batch_of_higher_scores_has_a_line(scores, normal, is_told):
    line = higher_scores(scores, list(normal))
    assert (line is not None) == is_told
    if line is not None:
        assert line.startswith("Half of the 20 images score higher than 95 % of the good images")
