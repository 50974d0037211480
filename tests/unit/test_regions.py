"""Regions of a mask: boxes, sizes, order."""

from __future__ import annotations

import numpy as np

from patchscout.regions import find_regions
from patchscout.types import Region


def test_boxes_and_sizes_of_an_l_and_a_dot() -> None:
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:5, 2] = True  # an L: 4 pixels down, 2 more to the right
    mask[4, 3:5] = True
    mask[0, 7] = True
    assert find_regions(mask) == [
        Region(x=2, y=1, width=3, height=4, area_px=6),
        Region(x=7, y=0, width=1, height=1, area_px=1),
    ]


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    assert find_regions(np.eye(3, dtype=bool)) == [Region(0, 0, 3, 3, 3)]


def test_regions_of_one_size_come_in_reading_order() -> None:
    mask = np.zeros((5, 5), dtype=bool)
    mask[4, 0] = mask[0, 4] = mask[0, 0] = mask[2, 2] = True
    assert [(region.x, region.y) for region in find_regions(mask)] == [
        (0, 0),
        (4, 0),
        (2, 2),
        (0, 4),
    ]


def test_a_full_mask_is_one_region_and_an_empty_one_none() -> None:
    assert find_regions(np.ones((2, 3), dtype=bool)) == [Region(0, 0, 3, 2, 6)]
    assert find_regions(np.zeros((2, 3), dtype=bool)) == []


def test_values_are_plain_ints() -> None:
    region = find_regions(np.ones((2, 3), dtype=bool))[0]
    assert {type(value) for value in vars(region).values()} == {int}
