"""Regions of a mask and decisions on images, by hand."""

import math

import numpy as np
import pytest

from patchscout.checks import InputValueError
from patchscout.decision import Decision, DecisionSettings
from patchscout.prediction import find_regions, make_prediction


def decision(image=0.5, pixel=0.5, **rules):
    return Decision(asked=DecisionSettings(**rules), image_threshold=image, pixel_threshold=pixel)


def test_area_length_box_and_peak_of_each_region():
    levels = np.full((40, 30), 0.1, np.float32)
    levels[5, 3:13] = 0.6  # a line of ten pixels
    levels[10:20, 10:20] = 0.7  # a ring, and a pixel in its hole
    levels[11:19, 11:19] = 0.2
    levels[15, 15] = 0.9
    for step in range(10):
        levels[25 + step, 5 + step] = 0.5 + step / 100  # a diagonal, one region by its corners
    mask = levels >= 0.5
    assert [tuple(region) for region in find_regions(mask, levels)] == [
        (10, 10, 10, 10, 36, pytest.approx(1 + 9 * math.sqrt(2)), pytest.approx(0.7)),
        (3, 5, 10, 1, 10, 10.0, pytest.approx(0.6)),
        (5, 25, 10, 10, 10, pytest.approx(1 + 9 * math.sqrt(2)), pytest.approx(0.59)),
        (15, 15, 1, 1, 1, 1.0, pytest.approx(0.9)),
    ]
    assert find_regions(np.zeros((4, 4), bool), levels[:4, :4]) == []
    (whole,) = find_regions(np.ones((3, 4), bool), np.ones((3, 4), np.float32))
    assert (whole.area_px, whole.length_px) == (12, pytest.approx(1 + math.hypot(2, 3)))


def test_every_pixel_is_in_one_region():
    rng = np.random.default_rng(0)
    mask = rng.random((60, 70)) < 0.45
    regions = find_regions(mask, rng.random((60, 70), np.float32))
    assert sum(region.area_px for region in regions) == mask.sum()
    assert all(region.length_px >= 1 + math.hypot(*region[2:4]) / 2 - 2 for region in regions)
    assert all(region.length_px <= 1 + math.hypot(*region[2:4]) for region in regions)


@pytest.mark.parametrize(
    ("score", "chosen", "is_anomalous"),
    [
        (0.5, decision(), True),
        (0.499, decision(), False),
        (0.9, decision(pixel=1.0), True),  # no pixel is in the mask, and yet
        (0.9, decision(pixel=1.0, min_area="1px"), False),
        (0.9, decision(min_area="12px"), True),
        (0.9, decision(min_area="13px"), False),
        (0.9, decision(min_area="3mm2", pixel_size="0.5mm"), True),
        (0.9, decision(min_area="3.1mm2", pixel_size="0.5mm"), False),
        (0.9, decision(min_length="10px"), True),
        (0.9, decision(min_length="11px"), False),
        (0.9, decision(min_area="11px", min_length="10px"), False),  # not the same region
        (0.1, decision(min_area="1px"), False),
    ],
)
def test_an_image_is_defective_by_its_score_and_a_region(score, chosen, is_anomalous):
    levels = np.zeros((20, 20), np.float32)
    levels[2:5, 2:6] = 0.9  # 12 pixels
    levels[10, 4:14] = 0.9  # 10 in a line
    found = make_prediction(levels, score, chosen)
    assert found.is_anomalous is is_anomalous
    assert found.pred_score == pytest.approx(score)
    np.testing.assert_array_equal(found.pred_mask, levels >= chosen.pixel_threshold)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1])
def test_maps_and_scores_that_are_none_are_an_error(value):
    levels = np.zeros((4, 4), np.float32)
    with pytest.raises(InputValueError, match="The model gives values"):
        make_prediction(levels, value, decision())
    levels[1, 2] = value
    with pytest.raises(InputValueError, match="The model gives values"):
        make_prediction(levels, 0.5, decision())
