"""Masks from mask images and from LabelMe polygons, checked to fit their image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from skimage import draw

from patchscout.checks import InputValueError
from patchscout.data.images import read_image
from patchscout.data.json_files import read_json_object
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
        check_size(values.shape, image_size, self.path)
        mask = values > 0
        if not np.all(values[mask] == values.max()):
            levels = np.unique(values)
            shown = ", ".join(f"{level * 255:.4g}" for level in levels[:4])
            raise InputValueError(
                f"{self.path} is not binary: it has {levels.size} values ({shown}, ... of 255); a "
                "mask has 0 and one other. Save it as PNG with 0 for normal, 255 for anomalous."
            )
        return check_not_empty(mask, self.path)


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
            InputValueError: It is no LabelMe file, of another size, or marks nothing.
        """
        content = read_json_object(self.path, "a LabelMe file")
        shapes = content.get("shapes")
        if not isinstance(shapes, list):
            raise self._damaged("it has no list `shapes`")
        size = (content.get("imageHeight"), content.get("imageWidth"))
        if size != (None, None):
            check_size(size, image_size, self.path)
        mask = np.zeros(image_size, bool)
        for shape in shapes:
            mask |= self._draw(shape, image_size)
        return check_not_empty(mask, self.path)

    def _draw(
        self,
        shape: Any,
        image_size: tuple[int, int],
    ) -> Mask:
        """Return the mask of one entry of `shapes`."""
        try:
            kind = shape.get("shape_type") or "polygon"
            points = np.asarray(shape["points"], float).reshape(-1, 2)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._damaged("a shape has no list `points` of x, y pairs") from error
        if not np.isfinite(points).all():
            raise self._damaged("a point is not a finite number")
        if kind == "polygon" and len(points) >= 3:
            return fill_polygon(points, image_size)
        if kind == "rectangle" and len(points) in (2, 4):  # two corners, or since 2024 all four
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
            return fill_polygon(np.array(corners), image_size)
        if kind == "circle" and len(points) == 2:  # the center and a point on the edge
            mask = np.zeros(image_size, bool)
            radius = float(np.hypot(*(points[1] - points[0])))
            mask[draw.disk(points[0, ::-1] - 0.5, radius, shape=image_size)] = True
            return mask
        raise self._damaged(f"it has a {kind} of {len(points)} points")

    def _damaged(self, what: str) -> InputValueError:
        return InputValueError(
            f"{self.path} is not a LabelMe file that can be used: {what}. Expected shapes of type "
            "polygon, rectangle or circle; outline the defect again with one of these."
        )


def read_mask(sample: Sample, image_size: tuple[int, int]) -> Mask:
    """Return the mask of a sample whose image has `image_size` (height, width); empty if normal."""
    if sample.mask is None:
        return np.zeros(image_size, bool)
    return sample.mask.read(image_size)


def fill_polygon(points_xy: np.ndarray, image_size: tuple[int, int]) -> Mask:
    """Return the pixels whose center lies in a polygon.

    Args:
        points_xy: (N, 2) corners in pixels, (0, 0) being the corner of the first pixel.
        image_size: (height, width) in pixels; what lies outside is cut off.

    Example:
        >>> int(fill_polygon(np.array([(1, 1), (4, 1), (4, 3), (1, 3)]), (5, 5)).sum())
        6
    """
    mask = np.zeros(image_size, bool)
    mask[draw.polygon(points_xy[:, 1] - 0.5, points_xy[:, 0] - 0.5, shape=image_size)] = True
    return mask


def check_size(size: tuple[Any, ...], image_size: tuple[int, int], path: Path) -> None:
    """Refuse an annotation of `size` (height, width) made for an image of another size."""
    if size != image_size:
        raise InputValueError(
            f"{path} is made for {size[1]} x {size[0]} pixels (width x height); its image has "
            f"{image_size[1]} x {image_size[0]}. Annotate the image at its own size."
        )


def check_not_empty(mask: Mask, source: Path | str) -> Mask:
    """Return the mask, or refuse it where it marks nothing."""
    if not mask.any():
        raise InputValueError(
            f"{source} is empty: it marks no anomalous pixel. Expected at least one; outline the "
            "defect, or move the image to the normal ones."
        )
    return mask
