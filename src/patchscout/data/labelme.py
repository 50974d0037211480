"""LabelMe's annotation files: one JSON file for one image."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from pydantic import BaseModel, ConfigDict

from patchscout.checks import InputError
from patchscout.data.annotations import LINE_WIDTH_PX, AnnotatedImage, Annotation, Corners
from patchscout.data.clock import Clock
from patchscout.data.drawing import Bitmap, Circle, Line, Polygon, Shape, polygon, rectangle
from patchscout.data.json_files import Side, Text, parse_entry, read_json_object
from patchscout.text import shown
from patchscout.types import Mask

_LABELME = "Expected a LabelMe file; save it again in LabelMe."


@dataclass(frozen=True)
class LabelMeFile:
    """The mask of an image from a LabelMe file.

    Attributes:
        path: The JSON file. Of the names of its labels only `_background_`, `background` and
            `ignore` matter: their shapes are cut out.
        line_width_px: How wide lines and points are, in pixels of the image as annotated.
    """

    path: Path
    line_width_px: float = LINE_WIDTH_PX

    def read(self, image_size: tuple[int, int]) -> Mask:
        """Return the mask of an image of `image_size` (height, width).

        Raises:
            InputNotFoundError: There is no such file.
            InputValueError: It is no LabelMe file, of another size, marks nothing, or is beyond
                the limits.
        """
        image = parse_labelme(read_json_object(self.path, "a LabelMe file"), self.path)
        return image.draw(image_size, self.line_width_px, str(self.path))


def parse_labelme(content: dict[str, Any], path: Path) -> AnnotatedImage:
    """Return what a LabelMe file says of its image."""
    labelme = parse_entry(_LabelMe, content, str(path), _LABELME)
    shapes = enumerate(Clock(path).timed(labelme.shapes))
    annotations = [_annotation(value, i, path) for i, value in shapes]
    return AnnotatedImage("", labelme.imageHeight, labelme.imageWidth, tuple(annotations))


def _annotation(value: object, index: int, path: Path) -> Annotation:
    name = f"`shapes[{index}]`"
    shape = parse_entry(_LabelMeShape, value, f"{path}: {name}", _LABELME)
    label = None if shape.label is None else str(shape.label)
    called = name if label is None else f"{name} ({shown(label, 40)})"
    return Annotation(called, label, None, partial(_shapes, shape))


def image_name(path: Path) -> str | None:
    """Return the name of the image that a LabelMe file says it is for; None if it is no such file.

    It is often that of a folder which is no more.
    """
    try:
        content = read_json_object(path, "a LabelMe file")
    except InputError:  # told if it is used
        return None
    name = content.get("imagePath")
    if not isinstance(name, str) or not content.get("shapes"):
        return None
    return name.replace("\\", "/").rpartition("/")[2]


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
    label: Any = None
    mask: Text | None = None


def _shapes(
    shape: _LabelMeShape, image_size: tuple[int, int], line_width_px: float
) -> Sequence[Shape]:
    """Return what an entry of `shapes` outlines; X-AnyLabeling's `rotation` is among the types.

    Raises:
        ValueError: It has too few points or too many, or is of a type that is not read.
    """
    kind, points = shape.shape_type or "polygon", shape.points
    match kind, len(points):
        case "polygon", _:
            return [polygon(points)]
        case "rectangle", 2:
            (left, top), (right, bottom) = points.tolist()
            return [rectangle((left, top), (right, bottom))]
        case (("rectangle" | "oriented_rectangle" | "rotation" | "quadrilateral"), 4):
            around = points - points.mean(axis=0)
            return [Polygon(points[np.argsort(np.arctan2(around[:, 1], around[:, 0]))])]
        case "circle", 2:  # the center and a point on the edge
            x, y = points[0].tolist()
            return [Circle((x, y), float(np.hypot(*(points[1] - points[0]))))]
        case (("line" | "linestrip"), count) if count >= 1:
            return [Line(points, line_width_px)]
        case (("point" | "points"), count) if count >= 1:
            return [Line(point[None], line_width_px) for point in points]
        case "mask", 2 if shape.mask:
            return [_bitmap(shape.mask, points, image_size)]
        case "mask", 2:
            raise ValueError("is a mask without its pixels in `mask`. Save the file again.")
        case (("rectangle" | "circle" | "mask"), count):
            raise ValueError(
                f"is a {kind} of {count} points, which has no area. Remove it, or complete it."
            )
    raise ValueError(
        f"is a {shown(kind)} of {len(points)} points, which is not read. Read are polygon, "
        "rectangle, oriented_rectangle, circle, line, linestrip, point and mask; turn it into one "
        "of these or remove it."
    )


def _bitmap(text: str, points: np.ndarray, image_size: tuple[int, int]) -> Bitmap:
    """Return the mask that LabelMe's AI drew: a PNG image of what lies in the box of two points.

    The box holds its last row and column. Some versions name the ones after them, but cut the
    pixels off at the border of the image, so that the box may be larger than the mask by one.

    Raises:
        ValueError: It is no PNG image, or of another size.
    """
    try:
        data = base64.b64decode(text, validate=True)
        picture = PillowImage.open(io.BytesIO(data), formats=("PNG",))
    except Exception as error:  # decoders raise all sorts on damaged files
        raise ValueError(
            f"has a `mask` that is no PNG image ({shown(str(error), 60)}). Save the file again."
        ) from error
    width, height = picture.size
    (left, top), (right, bottom) = np.sort(np.trunc(points), axis=0).astype(int).tolist()
    box_width, box_height = right - left + 1, bottom - top + 1
    if width - box_width not in (0, -1) or height - box_height not in (0, -1):
        raise ValueError(
            f"has a `mask` of {width} x {height} pixels for a box of {box_width} x {box_height} in "
            "`points`. Save the file again."
        )
    if height > image_size[0] or width > image_size[1]:
        raise ValueError(
            f"has a `mask` of {width} x {height} pixels, larger than the image. Save the file "
            "again."
        )
    try:
        pixels = np.asarray(picture.convert("L")) > 0
    except Exception as error:
        raise ValueError(
            f"has a damaged `mask` ({shown(str(error), 60)}). Save the file again."
        ) from error
    return Bitmap(pixels, (left, top))
