"""Annotations in XML: "CVAT for images" of many images, and the former LabelMe's of one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from patchscout.checks import InputValueError
from patchscout.data.annotations import AnnotatedImage, Annotation, image_key
from patchscout.data.clock import Clock
from patchscout.data.drawing import (
    FARTHEST_PX,
    Bitmap,
    Line,
    Polygon,
    Shape,
    ellipse,
    rectangle,
)
from patchscout.limits import current_limits
from patchscout.text import shown

_NO_SHAPES = ("tag", "attribute")
"""Elements that say something of the whole image."""


def parse_cvat(root: Element, path: Path) -> dict[str, AnnotatedImage]:
    """Return the images of a file of "CVAT for images 1.1" by their key, see `image_key`.

    Raises:
        InputValueError: It is an export for videos, or two images have one name.
    """
    if root.find("image") is None:
        raise InputValueError(
            f"{path} names no images, as an export for videos does not. Export it as `CVAT for "
            "images 1.1`."
        )
    images: dict[str, AnnotatedImage] = {}
    clock = Clock(path)
    for element in clock.timed(root.iterfind("image")):
        name = element.get("name", "")
        where = f"{path}: image {shown(name)}"
        if image_key(name) in images:
            raise InputValueError(
                f"{where} is there twice, as in two tasks of a project, so that it is not known "
                "which of the two files is meant. Export each task by itself."
            )
        elements = [child for child in element if child.tag not in _NO_SHAPES]
        elements.sort(key=lambda child: _number(child, "z_order", where, 0.0))
        annotations = [
            _annotation(child, i)
            for i, child in enumerate(clock.timed(elements))
            if child.get("outside") != "1"
        ]
        height, width = (int(_number(element, side, where)) for side in ("height", "width"))
        images[image_key(name)] = AnnotatedImage(name, height, width, tuple(annotations))
    return images


def parse_labelme_xml(root: Element, path: Path) -> AnnotatedImage:
    """Return the image of a file in the XML format of the former LabelMe, which CVAT writes too.

    Raises:
        InputValueError: It has other objects than polygons.
    """
    sides = [(root.findtext(f"imagesize/{side}") or "").strip() for side in ("nrows", "ncols")]
    height, width = (int(side) if side.isdecimal() and len(side) < 10 else None for side in sides)
    annotations = []
    for i, element in enumerate(Clock(path).timed(root.iterfind("object"))):
        if (element.findtext("deleted") or "0").strip() == "1":
            continue
        label = (element.findtext("name") or "").strip()
        where = f"{path}: object {i} ({shown(label)})"
        corners = [(p.findtext("x"), p.findtext("y")) for p in element.iterfind("polygon/pt")]
        if len(corners) < 3:
            if mask := (element.findtext("segm/mask") or "").strip():
                raise InputValueError(
                    f"{where} has its mask in {shown(mask)}. Give the folder of these masks with "
                    "`--data.masks`, or export as `CVAT for images 1.1`."
                )
            kind = "a box" if element.find("bndbox") is not None else "no polygon"
            raise InputValueError(
                f"{where} is {kind}, which is no outline. Export it as `CVAT for images 1.1` or "
                "as masks, or remove it."
            )
        numbers = [_floats(value or "", where) for corner in corners for value in corner]
        if any(len(one) != 1 for one in numbers):
            raise InputValueError(f"{where} has a point without one `x` and one `y`. Mend it.")
        shape = Polygon(np.concatenate(numbers).reshape(-1, 2))
        shapes = partial(_same, [shape])
        annotations.append(Annotation(f"object {i}", label or None, None, shapes))
    return AnnotatedImage("", height or None, width or None, tuple(annotations))


def _same(shapes: list[Shape], *_: object) -> list[Shape]:
    """Return shapes that are the same at every size."""
    return shapes


def _annotation(element: Element, index: int) -> Annotation:
    label = element.get("label")
    name = f"{element.tag} {index} ({shown(label or 'no label')})"
    return Annotation(name, label, None, partial(_shapes, element))


def _shapes(
    element: Element, _image_size: tuple[int, int], line_width_px: float
) -> Sequence[Shape]:
    """Return what an element outlines; lengths in pixels, angles in degrees clockwise.

    Raises:
        ValueError: It cannot be drawn.
    """

    def number(name: str, default: float | None = None) -> float:
        return _number(element, name, "has a wrong number:", default)

    turn = float(np.deg2rad(number("rotation", 0.0)))
    match element.tag:
        case "polygon" | "polyline" | "points":
            points = _floats(element.get("points", "").replace(";", ","), "has wrong points:")
            if points.size % 2 or points.size < (6 if element.tag == "polygon" else 2):
                raise ValueError("has not enough points, so that it has no area. Remove it.")
            points = points.reshape(-1, 2)
            if element.tag == "polygon":
                return [Polygon(points)]
            if element.tag == "polyline":
                return [Line(points, line_width_px)]
            return [Line(point[None], line_width_px) for point in points]
        case "box":
            corner, opposite = (number("xtl"), number("ytl")), (number("xbr"), number("ybr"))
            middle = (corner[0] + opposite[0]) / 2, (corner[1] + opposite[1]) / 2
            return [rectangle(corner, opposite, middle, turn)]
        case "ellipse":
            return [ellipse((number("cx"), number("cy")), (number("rx"), number("ry")), turn)]
        case "mask":
            left, top, width, height = (
                int(number(name)) for name in ("left", "top", "width", "height")
            )
            return [Bitmap(_decode_runs(element.get("rle", ""), height, width), (left, top))]
    raise ValueError(
        f"is a {element.tag}, which is not read. Read are polygon, box, ellipse, mask, polyline "
        "and points; turn it into one of these or remove it."
    )


def _decode_runs(text: str, height: int, width: int) -> np.ndarray:
    """Return the (height, width) pixels behind runs, row by row, of normal and anomalous by turns.

    Raises:
        ValueError: They do not fit, or are more than the limits allow.

    References:
        https://docs.cvat.ai/docs/other/xml_format
    """
    runs = _floats(text, "has a wrong `rle`:")
    limits = current_limits()
    if runs.size > limits.points or not 0 < height * width <= limits.megapixels * 1e6:
        raise ValueError(
            f"has an `rle` of {runs.size:,} runs for {width} x {height} pixels. Mark it more "
            "coarsely, or raise `--limits.points` or `--limits.megapixels`."
        )
    is_whole = bool(((runs >= 0) & (runs <= height * width) & (runs % 1 == 0)).all())
    if not is_whole or runs.sum() != height * width or min(height, width) < 1:
        raise ValueError(
            f"has an `rle` that does not make up {width} x {height} pixels. Export it again."
        )
    values = np.arange(runs.size) % 2 == 1
    return np.repeat(values, runs.astype(int)).reshape(height, width)


def _number(element: Element, name: str, where: str, default: float | None = None) -> float:
    """Return an attribute as a number; `where` is the start of the message of an error."""
    text = element.get(name)
    if text is None and default is not None:
        return default
    numbers = _floats(text or "", f"{where} `{name}`")
    if numbers.size != 1:
        raise InputValueError(f"{where} `{name}` must be a number; got {shown(text or 'nothing')}.")
    return float(numbers[0])


def _floats(text: str, where: str) -> np.ndarray:
    """Return numbers with commas or spaces between them; `where` begins the message of an error."""
    try:
        numbers = np.array(text.replace(",", " ").split(), float)
    except ValueError as error:
        raise InputValueError(f"{where} {shown(text)} are no numbers. Export it again.") from error
    if not (np.abs(numbers) <= FARTHEST_PX).all():  # said so that NaN fails too
        raise InputValueError(
            f"{where} {shown(text)} must be finite and at most {FARTHEST_PX:g}. Export it again."
        )
    return numbers
