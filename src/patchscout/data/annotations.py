"""Masks from mask images and from LabelMe polygons, checked to fit their image."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, PlainValidator

from patchscout.checks import InputValueError
from patchscout.data.drawing import FARTHEST_PX, Circle, Polygon, Shape, draw_shapes
from patchscout.data.images import read_image
from patchscout.data.json_files import (
    Side,
    Text,
    number_array,
    parse_entry,
    read_json_object,
)
from patchscout.text import shown
from patchscout.types import Mask, Sample


@dataclass(frozen=True)
class MaskFile:
    """A mask stored as an image: 0 where normal, one other value where anomalous.

    Attributes:
        path: Any image that `read_image` reads; transparent pixels count as normal, a color counts
            by its largest channel.
    """

    path: Path

    def read(self, image_size: tuple[int, int]) -> Mask:
        """Return the mask of an image of `image_size` (height, width).

        Raises:
            InputValueError: It is of another size, empty, not binary, or no image.
        """
        values = read_image(self.path, background=0.0).max(axis=2)
        height, width = values.shape
        check_size((height, width), image_size, self.path)
        mask = values > 0
        if not np.all(values[mask] == values.max()):
            levels = np.unique(values)
            shown = ", ".join(f"{level * 255:.4g}" for level in levels[:4])
            raise InputValueError(
                f"{self.path} is not binary: it has {levels.size} values ({shown}, ... of 255); a "
                "mask has 0 and one other. Save it as PNG with 0 for normal, 255 for anomalous."
            )
        return check_not_empty(mask, self.path)


def read_corners(value: Any) -> np.ndarray:
    """Return the corners of an outline in a JSON file as an (N, 2) array of x and y.

    Args:
        value: A list of x, y pairs, or of x and y by turns.

    Raises:
        ValueError: It is neither, or a coordinate is no number or too far away.
    """
    expected = "must be a list of x, y pairs, or of x and y by turns"
    if type(value) is not list:
        raise ValueError(expected)
    if all(type(pair) is list and len(pair) == 2 for pair in value):
        value = list(chain.from_iterable(value))
    if len(value) % 2 or any(type(number) is list for number in value):
        raise ValueError(expected)
    numbers = number_array(value)
    if numbers.size and np.abs(numbers).max() > FARTHEST_PX:
        raise ValueError(f"must have coordinates of at most {FARTHEST_PX:g} pixels")
    return numbers.reshape(-1, 2)


Corners = Annotated[np.ndarray, PlainValidator(read_corners)]
"""An outline in a JSON file."""


@dataclass(frozen=True)
class LabelMePolygons:
    """A LabelMe file: the mask is the union of its polygons, rectangles and circles.

    Attributes:
        path: The JSON file. The names of its labels do not matter.
    """

    path: Path

    def read(self, image_size: tuple[int, int]) -> Mask:
        """Return the mask of an image of `image_size` (height, width).

        Raises:
            InputNotFoundError: There is no such file.
            InputValueError: It is no LabelMe file, of another size, marks nothing, or is beyond
                the limits.
        """
        content = read_json_object(self.path, "a LabelMe file")
        labelme = parse_entry(_LabelMe, content, str(self.path), _LABELME)
        check_size((labelme.imageHeight, labelme.imageWidth), image_size, self.path)
        shapes = [self._shape(value, i) for i, value in enumerate(labelme.shapes)]
        return check_not_empty(draw_shapes(shapes, image_size, self.path), self.path)

    def _shape(self, value: object, index: int) -> Shape:
        """Return what an entry of `shapes` outlines."""
        where = f"{self.path}: `shapes[{index}]`"
        entry = parse_entry(_LabelMeShape, value, where, _LABELME)
        kind, points = entry.shape_type or "polygon", entry.points
        if kind == "polygon" and len(points) >= 3:
            return Polygon(points)
        if kind == "rectangle" and len(points) in (2, 4):  # two corners, or since 2024 all four
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
            return Polygon(np.array(corners))
        if kind == "circle" and len(points) == 2:  # the center and a point on the edge
            x, y = points[0].tolist()
            return Circle((x, y), float(np.hypot(*(points[1] - points[0]))))
        raise InputValueError(f"{where} is a {shown(kind)} of {len(points)} points. {_LABELME}")


_LABELME = (
    "Expected a LabelMe file with shapes of type polygon, rectangle or circle; outline the defect "
    "again with one of these."
)


class _LabelMe(BaseModel):
    """A LabelMe file, as far as it is used."""

    shapes: list[Any]
    imageHeight: Side | None = None  # noqa: N815 - LabelMe's own name
    imageWidth: Side | None = None  # noqa: N815


class _LabelMeShape(BaseModel):
    """An entry of `shapes`, as far as it is used."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    points: Corners
    shape_type: Text | None = None


def read_mask(sample: Sample, image_size: tuple[int, int]) -> Mask:
    """Return the mask of a sample whose image has `image_size` (height, width); empty if normal.

    The sample must have a mask, see `Sample.has_mask`.
    """
    assert sample.has_mask, f"the mask of {sample.image_path} is not known"
    if sample.mask is None:
        return np.zeros(image_size, bool)
    return sample.mask.read(image_size)


def check_size(
    size: tuple[int | None, int | None], image_size: tuple[int, int], source: object
) -> None:
    """Refuse an annotation made for an image of another size than `image_size` (height, width).

    Args:
        size: (height, width); None for what it does not tell.
        image_size: What the image has.
        source: The annotation, for the message.
    """
    height, width = (
        own if told is None else told for told, own in zip(size, image_size, strict=True)
    )
    if (height, width) != image_size:
        raise InputValueError(
            f"{source} is made for {width} x {height} pixels (width x height); its image has "
            f"{image_size[1]} x {image_size[0]}. Annotate the image at its own size."
        )


def check_not_empty(mask: Mask, source: object) -> Mask:
    """Return the mask, or refuse it where it marks nothing."""
    if not mask.any():
        raise InputValueError(
            f"{source} is empty: it marks no anomalous pixel. Expected at least one; outline the "
            "defect, or move the image to the normal ones."
        )
    return mask
