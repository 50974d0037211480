"""Shapes fill exactly the pixels that scikit-image fills, in bounded time and memory."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import draw

from patchscout.checks import InputValueError
from patchscout.data.drawing import (
    FARTHEST_PX,
    Bitmap,
    Circle,
    Hole,
    Line,
    Polygon,
    Runs,
    draw_shapes,
)


def polygon_by_skimage(points_xy, image_size):
    mask = np.zeros(image_size, bool)
    x, y = (np.array(points_xy, float) - 0.5).T
    mask[draw.polygon(y, x, shape=image_size)] = True
    return mask


def draw_polygon(points_xy, image_size):
    return draw_shapes([Polygon(np.array(points_xy, float))], image_size, "a.json")


SIDES = st.tuples(st.integers(1, 12), st.integers(1, 12))
COORDINATES = st.one_of(
    st.integers(-6, 30).map(lambda n: n / 2),  # corners and centers of pixels
    st.integers(-30, 150).map(lambda n: n / 10),
    st.floats(-3, 15),
    st.integers(-6, 30).map(lambda n: n / 2 + 4e-13),  # as good as on them
    st.sampled_from([-FARTHEST_PX, -1e6 - 0.5, 1e9 / 3, FARTHEST_PX]),
)


@settings(max_examples=300)
@given(st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=9), SIDES)
def test_polygons_are_filled_as_scikit_image_does(points_xy, image_size):
    expected = polygon_by_skimage(points_xy, image_size)
    np.testing.assert_array_equal(draw_polygon(points_xy, image_size), expected)


def test_centers_on_an_edge_or_a_corner_are_inside():
    square = [(0.5, 0.5), (2.5, 0.5), (2.5, 2.5), (0.5, 2.5)]
    assert np.argwhere(draw_polygon(square, (5, 5))).tolist() == [
        [row, column] for row in range(3) for column in range(3)
    ]
    assert np.argwhere(draw_polygon([(2.5, 1.5)], (5, 5))).tolist() == [[1, 2]]
    almost = [(0.6, 0), (3.4, 0), (3.4, 2), (0.6, 2)]
    assert np.argwhere(draw_polygon(almost, (5, 5))).tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]


def test_what_an_outline_crosses_twice_is_outside():
    once = [(0, 0), (6, 0), (6, 6), (0, 6)]
    inner = [(2, 2), (4, 2), (4, 4), (2, 4), (2, 2)]
    mask = draw_polygon([*once, (0, 0), *inner, (0, 0)], (6, 6))
    assert mask.sum() == 36 - 4
    assert not mask[2:4, 2:4].any()


def test_shapes_work_in_parts_as_in_one(monkeypatch):
    points = np.random.default_rng(1).uniform(-5, 45, (60, 2))
    shapes = [Polygon(points), Circle((20.0, 20.0), 9.0)]
    expected = draw_shapes(shapes, (40, 50), "a.json")
    monkeypatch.setattr("patchscout.data.drawing._AT_ONCE", 50)
    np.testing.assert_array_equal(draw_shapes(shapes, (40, 50), "a.json"), expected)


@settings(max_examples=100)
@given(st.tuples(COORDINATES, COORDINATES), st.integers(1, 60).map(lambda n: n / 4), SIDES)
def test_circles_are_filled_as_scikit_image_does(center_xy, radius, image_size):
    expected = np.zeros(image_size, bool)
    rows, columns = draw.disk(np.array(center_xy[::-1]) - 0.5, radius)
    near = (rows >= 0) & (rows < image_size[0]) & (columns >= 0) & (columns < image_size[1])
    expected[rows[near], columns[near]] = True
    mask = draw_shapes([Circle(center_xy, radius)], image_size, "a.json")
    np.testing.assert_array_equal(mask, expected)


def test_a_circle_of_no_size_marks_nothing():
    assert not draw_shapes([Circle((2.5, 2.5), 0.0)], (5, 5), "a.json").any()
    assert draw_shapes([Circle((0.0, 0.0), 1e12)], (5, 5), "a.json").all()


def test_an_outline_of_300_000_points_takes_no_time():
    angle = np.linspace(0, 2 * np.pi, 300_000, endpoint=False)
    radius = 400 * (1 + 0.1 * np.sin(50 * angle))
    points = 500 + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    start = time.process_time()
    mask = draw_polygon(points, (1000, 1000))
    assert time.process_time() - start < 2  # 0.1 s; minutes where each pixel looks at each corner
    area = np.pi * 400**2 * (1 + 0.1**2 / 2)
    assert mask.sum() == pytest.approx(area, rel=1e-3)


def test_many_shapes_of_a_large_image_take_the_memory_of_one_mask():
    square = np.array([(0.0, 0.0), (9, 0), (9, 9), (0, 9)])
    runs = np.full(4000, 1000)  # the lower half of each column
    shapes = [*(Polygon(square + x) for x in range(500)), *[Runs(runs)] * 5]
    shapes.append(Circle((1000.0, 1000.0), 900.0))
    tracemalloc.start()
    start = time.process_time()
    mask = draw_shapes(shapes, (2000, 2000), "a.json")
    elapsed, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * mask.nbytes  # rows, columns, their union
    assert elapsed < 2
    assert mask[1000:].all()
    # Above circle and runs, the squares cover what is at most 8 pixels from the diagonal.
    assert mask[:100].sum() == 92 * 17 + sum(range(9, 17))


def test_edges_far_beyond_the_image_cost_nothing():
    tall = [(-1e12, -1e12), (1e12, 1e12), (-1e12, 1e12)]
    start = time.process_time()
    mask = draw_polygon(tall, (200, 300))
    assert time.process_time() - start < 0.5
    np.testing.assert_array_equal(mask, np.tri(200, 300, dtype=bool))


def test_points_beyond_the_limit_are_refused_before_drawing(limits):
    limits(points=9)
    triangle = Polygon(np.array([(0.0, 0.0), (4, 0), (0, 4)]))
    runs = Runs(np.array([1, 2, 97]))
    assert draw_shapes([triangle, triangle, runs], (10, 10), "a.json").any()
    message = r"a\.json has outlines of more than 9 points or runs.* raise `--limits\.points`"
    with pytest.raises(InputValueError, match=message):
        draw_shapes([triangle, triangle, runs, runs], (10, 10), "a.json")


@pytest.mark.parametrize(
    "shape",
    [
        Polygon(np.random.default_rng(0).uniform(0, 500, (9999, 2))),
        Circle((200.0, 200.0), 100.0),
        Runs(np.array([500 * 500])),
        Line(np.array([(200.0, 200.0)]), 3.0),
        Bitmap(np.ones((9, 9), bool), (5, 5)),
        Hole(Circle((200.0, 200.0), 100.0)),
    ],
)
def test_shapes_that_take_too_long_are_refused(limits, shape):
    limits(seconds=1e-9)
    with pytest.raises(InputValueError, match=r"a\.json .* 1e-09 s .* raise `--limits\.seconds`"):
        draw_shapes([shape], (500, 500), "a.json")
