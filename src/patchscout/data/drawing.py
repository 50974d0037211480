"""Shapes drawn into the mask of one image, in a time that follows their outline and their area."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from patchscout.checks import InputValueError
from patchscout.data.clock import Clock
from patchscout.limits import current_limits
from patchscout.types import Mask

FARTHEST_PX = 1e12
"""Coordinates beyond this are refused: there a float no longer tells one pixel from the next."""

_ON_CORNER_PX = 1e-12
"""A pixel's center nearer than this to a corner counts as inside."""
_HALF_OPEN_PX = 1e-6
"""Lines are moved by this up and left, so that of two pixels just half a width away one counts."""
_AT_ONCE = 1 << 17
"""Crossings of edges with rows, or pixels of a circle's box, that are worked on at once."""


@dataclass(frozen=True, eq=False)
class Polygon:
    """A closed outline; where it crosses itself, what it holds an even number of times is outside.

    Attributes:
        points_xy: (N, 2) corners in pixels, (0, 0) being the corner of the first pixel.
    """

    points_xy: np.ndarray


@dataclass(frozen=True)
class Circle:
    """A disk.

    Attributes:
        center_xy: In pixels, (0, 0) being the corner of the first pixel.
        radius: In pixels; 0 marks nothing.
    """

    center_xy: tuple[float, float]
    radius: float


@dataclass(frozen=True, eq=False)
class Runs:
    """Alternating runs of normal and anomalous pixels, column by column.

    Attributes:
        counts: Lengths of the runs; they add up to the pixels of the image.
    """

    counts: np.ndarray


@dataclass(frozen=True, eq=False)
class Line:
    """A path of some width, its ends and bends round; a single point is a dot.

    Attributes:
        points_xy: (N, 2) points in pixels, (0, 0) being the corner of the first pixel.
        width_px: A whole width marks as many pixels across a line along rows or columns.
    """

    points_xy: np.ndarray
    width_px: float


@dataclass(frozen=True, eq=False)
class Bitmap:
    """Pixels of a part of the image.

    Attributes:
        pixels: (height, width) bool.
        left_top: Column and row of the first of them.
    """

    pixels: np.ndarray
    left_top: tuple[int, int]


Shape = Polygon | Circle | Runs | Line | Bitmap


@dataclass(frozen=True, eq=False)
class Hole:
    """A shape that is cut out: see `draw_shapes`."""

    shape: Shape


def ellipse(center_xy: tuple[float, float], radii: tuple[float, float], angle: float) -> Polygon:
    """Return an ellipse as a polygon; at 1000 px across its edge is off by less than 0.02 px.

    Args:
        center_xy: In pixels.
        radii: Along its own two axes, in pixels.
        angle: From the x axis to the first of these, towards the y axis, in radians.
    """
    turn = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    along, across = radii[0] * np.cos(turn), radii[1] * np.sin(turn)
    x = along * np.cos(angle) - across * np.sin(angle)
    y = along * np.sin(angle) + across * np.cos(angle)
    return Polygon(np.stack([x, y], axis=1) + center_xy)


def rectangle(
    corner_xy: tuple[float, float],
    opposite_xy: tuple[float, float],
    pivot_xy: tuple[float, float] = (0.0, 0.0),
    angle: float = 0.0,
) -> Polygon:
    """Return a rectangle.

    Args:
        corner_xy: One corner before it is turned, in pixels.
        opposite_xy: The opposite one.
        pivot_xy: What it is turned about.
        angle: From the x axis towards the y axis, in radians.
    """
    (left, top), (right, bottom) = corner_xy, opposite_xy
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    return Polygon((corners - pivot_xy) @ turn + pivot_xy if angle else corners)


def polygon(points_xy: np.ndarray) -> Polygon:
    """Return a polygon.

    Args:
        points_xy: (N, 2) corners in pixels.

    Raises:
        ValueError: It has fewer than three corners.
    """
    if len(points_xy) < 3:
        raise ValueError(
            f"is a polygon of {len(points_xy)} points, which has no area. Remove it, or complete "
            "it."
        )
    return Polygon(points_xy)


def shape_area(shape: Shape) -> float:
    """Return about how many pixels a shape marks."""
    if isinstance(shape, Bitmap):
        return float(np.count_nonzero(shape.pixels))
    if isinstance(shape, Runs):
        return float(shape.counts[1::2].sum())
    if isinstance(shape, Circle):
        return np.pi * shape.radius**2
    if isinstance(shape, Line):
        length = np.hypot(*np.diff(shape.points_xy, axis=0).T).sum()
        return shape.width_px * (float(length) + shape.width_px)
    x, y = shape.points_xy.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def _num_points(shape: Shape | Hole) -> int:
    """Return how many points or runs a shape has, which the time to draw it follows."""
    match shape:
        case Hole():
            return _num_points(shape.shape)
        case Polygon() | Line():
            return len(shape.points_xy)
        case Runs():
            return len(shape.counts)
        case _:
            return 2


def draw_shapes(
    shapes: Iterable[Shape | Hole], image_size: tuple[int, int], source: object
) -> Mask:
    """Return the union of shapes: the pixels whose center lies in one of them, or on its edge.

    A hole is cut out of what comes before it; a shape after it may mark an island in it again. One
    that nothing comes before is cut out of what comes after it, where that covers all of it.

    Args:
        shapes: What lies outside of the image is cut off. Each is drawn before the next is asked
            for, so that not all of them are held at once.
        image_size: (height, width) in pixels.
        source: Where the shapes come from, for messages.

    Raises:
        InputValueError: The shapes are beyond the limits on points, memory or seconds.

    Example:
        >>> square = Polygon(np.array([(1.0, 1.0), (4.0, 1.0), (4.0, 3.0), (1.0, 3.0)]))
        >>> int(draw_shapes([square], (5, 5), "a test").sum())
        6
    """
    limits, clock = current_limits(), Clock(source)
    canvas = _Canvas(image_size, clock)
    early: list[Shape] = []
    num_points = num_bytes = 0

    def hole_mask(shape: Shape) -> Mask:
        hole = _Canvas(image_size, clock)
        hole.fill(shape)
        return hole.mask()

    for shape in clock.timed(shapes):
        num_points += _num_points(shape)
        if num_points > limits.points:
            raise InputValueError(
                f"{source} has outlines of more than {limits.points:,} points or runs. Outline it "
                "more coarsely, or raise `--limits.points`."
            )
        if not isinstance(shape, Hole):
            canvas.fill(shape)
        elif not canvas.cut(hole_mask(shape.shape)):
            early.append(shape.shape)
            num_bytes += shape.shape.pixels.nbytes if isinstance(shape.shape, Bitmap) else 0
            if num_bytes > limits.decoded_mib << 20:
                raise InputValueError(
                    f"{source} cuts out masks of more than {limits.decoded_mib} MiB. Remove some, "
                    "or raise `--limits.decoded-mib`."
                )
    mask = canvas.mask()
    for shape in [shape for shape in clock.timed(early) if mask[hole_mask(shape)].all()]:
        mask &= ~hole_mask(shape)
    return mask


class _Canvas:
    """A mask that shapes are drawn into, until the time is over."""

    def __init__(self, image_size: tuple[int, int], clock: Clock) -> None:
        self._rows = np.zeros(image_size, bool)
        self._columns: np.ndarray | None = None  # (width, height), for runs that go down columns
        self._clock = clock

    def fill(self, shape: Shape) -> None:
        """Mark a shape."""
        if isinstance(shape, Polygon):
            self.fill_polygon(shape.points_xy)
        elif isinstance(shape, Circle):
            self.fill_circle(shape.center_xy, shape.radius)
        elif isinstance(shape, Line):
            self.fill_line(shape.points_xy, shape.width_px)
        elif isinstance(shape, Bitmap):
            self.fill_bitmap(shape.pixels, shape.left_top)
        else:
            self.fill_runs(shape.counts)

    def cut(self, hole: Mask) -> bool:
        """Unmark the pixels of a hole; return whether any was marked."""
        self._rows, self._columns = self.mask(), None
        was_marked = bool(self._rows[hole].any())
        self._rows &= ~hole
        return was_marked

    def mask(self) -> Mask:
        """Return what has been drawn."""
        return self._rows if self._columns is None else self._rows | self._columns.T

    def fill_polygon(self, points_xy: np.ndarray) -> None:
        """Mark the pixels whose center lies in a polygon, on an edge or on a corner."""
        height, width = self._rows.shape
        x, y = np.ascontiguousarray(points_xy.T, float) - 0.5
        column, row = np.rint(x), np.rint(y)
        hit = (np.abs(x - column) < _ON_CORNER_PX) & (np.abs(y - row) < _ON_CORNER_PX)
        hit &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
        self._rows[row[hit].astype(int), column[hit].astype(int)] = True
        self._fill_rows(np.stack([x, y, np.roll(x, 1), np.roll(y, 1)]), 0, height - 1)

    def _fill_rows(self, edges: np.ndarray, top: int, bottom: int) -> None:
        """Mark what lies between the edges, (x, y) to (x, y) each, in the rows `top` to `bottom`.

        A center that lies exactly on an edge is inside: it is counted whether the edges cross its
        row to its right, those that only touch the row from above left out, and to its left, those
        that only touch it from below left out; an odd number on either side is inside.
        """
        self._clock.check()
        low, high = np.minimum(edges[1], edges[3]), np.maximum(edges[1], edges[3])
        first, last = np.maximum(np.ceil(low), top), np.minimum(np.floor(high), bottom)
        crosses = (first <= last) & (low < high)
        edges, low, high, first = (part[..., crosses] for part in (edges, low, high, first))
        num_rows = (last[crosses] - first + 1).astype(int)
        num_crossings = int(num_rows.sum())
        if num_crossings > _AT_ONCE and top < bottom:
            middle = (top + bottom) // 2
            self._fill_rows(edges, top, middle)
            self._fill_rows(edges, middle + 1, bottom)
            return
        edge = np.repeat(np.arange(num_rows.size), num_rows)
        before = np.cumsum(num_rows) - num_rows
        row = first.astype(int)[edge] + np.arange(num_crossings) - before[edge]
        x0, y0, x1, y1 = edges[:, edge]
        y0, y1 = y0 - row, y1 - row
        crossing = x0 + (x1 - x0) * (y0 / (y0 - y1))
        # Only for the nearest center rounding could decide, so that it is looked at by itself.
        column = np.rint(crossing).clip(-1, self._rows.shape[1])
        ahead = ((x0 - column) * y1 - (x1 - column) * y0) / (y1 - y0)
        right, left = column + (ahead > 0), column + (ahead >= 0)
        to_right = self._spans(row, right, row < high[edge])
        to_left = self._spans(row, left, row > low[edge])
        _mark(self._rows, *to_right)
        if not np.array_equal(to_right, to_left):
            _mark(self._rows, *to_left)

    def _spans(self, row: np.ndarray, column: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return the (2, N) starts and ends of spans within rows, as indices of the flat mask."""
        width = self._rows.shape[1]
        ends = row[counts] * width + column[counts].clip(0, width).astype(int)
        ends.sort()  # an even number of edges crosses a row, so that no pair spans two rows
        spans = ends.reshape(-1, 2).T
        return spans[:, spans[0] < spans[1]]

    def fill_circle(self, center_xy: tuple[float, float], radius: float) -> None:
        """Mark the pixels whose center is nearer to the center of a circle than its radius."""
        if radius <= 0:
            return
        axes = []
        for center, size in zip(reversed(center_xy), self._rows.shape, strict=True):
            first = int(max(np.ceil(center - 0.5 - radius), 0))
            end = max(int(min(np.floor(center - 0.5 + radius), size - 1)) + 1, first)
            distance = (np.arange(end - first) - (center - 0.5 - first)) / radius
            axes.append((slice(first, end), distance**2))
        (rows, vertical), (columns, horizontal) = axes
        step = max(_AT_ONCE // max(horizontal.size, 1), 1)
        box = self._rows[rows, columns]
        for start in range(0, vertical.size, step):
            self._clock.check()
            near = vertical[start : start + step, None] + horizontal < 1
            box[start : start + step] |= near

    def fill_line(self, points_xy: np.ndarray, width_px: float) -> None:
        """Mark the pixels whose center is nearer to a path than half its width."""
        points = points_xy - _HALF_OPEN_PX
        half = width_px / 2
        size = self._rows.shape[::-1]
        for x, y in points[((points > -half) & (points < np.add(size, half))).all(axis=1)].tolist():
            self.fill_circle((x, y), half)
        starts, steps = points[:-1], np.diff(points, axis=0)
        lengths = np.hypot(steps[:, 0], steps[:, 1])
        low, high = np.minimum(starts, points[1:]), np.maximum(starts, points[1:])
        seen = (lengths > 0) & ((high > -half) & (low < np.add(size, half))).all(axis=1)
        aside = half * steps[seen][:, ::-1] * (-1, 1) / lengths[seen, None]
        a, b = starts[seen], points[1:][seen]
        for corners in np.stack([a - aside, b - aside, b + aside, a + aside], axis=1):
            self.fill_polygon(corners)

    def fill_bitmap(self, pixels: np.ndarray, left_top: tuple[int, int]) -> None:
        """Mark pixels of a part of the image."""
        self._clock.check()
        left, top = left_top
        pixels = pixels[max(-top, 0) :, max(-left, 0) :]
        part = self._rows[max(top, 0) :, max(left, 0) :][: pixels.shape[0], : pixels.shape[1]]
        part |= pixels[: part.shape[0], : part.shape[1]]

    def fill_runs(self, counts: np.ndarray) -> None:
        """Mark every other run of pixels, the first of them normal, column by column."""
        self._clock.check()
        if self._columns is None:
            self._columns = np.zeros(self._rows.shape[::-1], bool)
        ends = np.cumsum(counts)
        _mark(self._columns, ends[:-1:2], ends[1::2])


def _mark(mask: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
    """Mark spans of the pixels of a contiguous mask, numbered row by row."""
    flat = mask.reshape(-1)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        flat[start:end] = True
