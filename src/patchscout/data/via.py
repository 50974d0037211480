"""Files of the VGG Image Annotator (VIA) 1 and 2: projects, and annotations exported as JSON."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from patchscout.checks import InputValueError
from patchscout.data.annotations import (
    AnnotatedImage,
    Annotation,
    image_key,
    read_corners,
    with_annotations,
)
from patchscout.data.clock import Clock
from patchscout.data.drawing import Circle, Line, Shape, ellipse, polygon, rectangle
from patchscout.data.json_files import Number, Text, parse_entry
from patchscout.text import shown

_PROJECT = "_via_img_metadata"
_VIA = "Expected a VIA file; export the annotations again as JSON."


class _Entry(BaseModel):
    """What a VIA file says of one image, as far as it is used."""

    filename: Text
    size: Number | None = None
    regions: dict[str, Any] | list[Any] = []


class _Region(BaseModel):
    """An entry of `regions`."""

    shape_attributes: dict[str, Any]
    region_attributes: dict[str, Any] = {}


class _Attributes(BaseModel):
    """The numbers of a `shape_attributes`; each kind of shape has some of them."""

    x: Number = 0.0
    y: Number = 0.0
    width: Number = 0.0
    height: Number = 0.0
    cx: Number = 0.0
    cy: Number = 0.0
    r: Number = 0.0
    rx: Number = 0.0
    ry: Number = 0.0
    theta: Number = 0.0


def is_via(content: dict[str, Any]) -> bool:
    """Return whether a JSON object is a VIA file."""
    return (
        _PROJECT in content
        or {"view", "metadata", "project"} <= content.keys()
        or any(isinstance(value, dict) and "regions" in value for value in content.values())
    )


def parse_via(content: dict[str, Any], path: Path) -> dict[str, AnnotatedImage]:
    """Return the images of a VIA file by their key, see `image_key`.

    Raises:
        InputValueError: It is no VIA file, one of VIA 3, or has two files of one name.
    """
    if "metadata" in content:
        raise InputValueError(
            f"{path} is a project of VIA 3, which is not read. Export it from VIA as COCO."
        )
    metadata = content.get(_PROJECT, content)
    if not isinstance(metadata, dict):
        raise InputValueError(f"{path}: `{_PROJECT}` must be an object. {_VIA}")
    clock = Clock(path)
    images: dict[str, AnnotatedImage] = {}
    annotations: dict[str, list[Annotation]] = defaultdict(list)
    bytes_of: dict[str, float] = {}
    for name, value in clock.timed(metadata.items()):
        where = f"{path}: {shown(name)!r}"
        entry = parse_entry(_Entry, value, where, _VIA)
        key, size = image_key(entry.filename), entry.size
        if size is not None and size > 0 and bytes_of.setdefault(key, size) != size:
            raise InputValueError(
                f"{where}: {shown(entry.filename)} is there twice, with {bytes_of[key]:.0f} and "
                f"{size:.0f} bytes, so that it is not known which of the two files is meant. Remove"
                " one, or give the names with their folders."
            )
        regions = entry.regions
        named = regions.items() if isinstance(regions, dict) else enumerate(regions)
        annotations[key] += [
            _annotation(value, f"region {i}", where) for i, value in clock.timed(named)
        ]
        images.setdefault(key, AnnotatedImage(entry.filename, None, None))
    return with_annotations(images, annotations)


def _annotation(value: Any, name: str, where: str) -> Annotation:
    region = parse_entry(_Region, value, f"{where}: {name}", _VIA)
    numbers = parse_entry(_Attributes, region.shape_attributes, f"{where}: {name}", _VIA)
    labels = [_text(label) for label in region.region_attributes.values()]
    label = next((label for label in labels if label), None)
    shapes = partial(_shapes, region.shape_attributes, numbers)
    return Annotation(name, label, None, shapes)


def _text(value: Any) -> str:
    """Return the value of an attribute; of checkboxes, the first that is ticked."""
    if isinstance(value, dict):
        return next((name for name, is_on in value.items() if is_on is True), "")
    return value.strip() if isinstance(value, str) else ""


def _shapes(
    attributes: dict[str, Any],
    numbers: _Attributes,
    _image_size: tuple[int, int],
    line_width_px: float,
) -> list[Shape]:
    """Return what a region outlines.

    Raises:
        ValueError: It has no area, or is of a kind that is not read.
    """
    kind, n = attributes.get("name"), numbers
    if kind in ("polygon", "polyline"):
        x, y = attributes.get("all_points_x"), attributes.get("all_points_y")
        if not (isinstance(x, list) and isinstance(y, list) and len(x) == len(y) > 0):
            raise ValueError("has not as many `all_points_x` as `all_points_y`. Mend it.")
        try:
            points = read_corners([list(pair) for pair in zip(x, y, strict=True)])
        except ValueError as error:
            raise ValueError(f"has points that cannot be drawn: each {error}. Mend it.") from error
        if kind == "polyline":
            return [Line(points, line_width_px)]
        return [polygon(points)]
    if kind == "rect" and n.width > 0 and n.height > 0:
        return [rectangle((n.x, n.y), (n.x + n.width, n.y + n.height))]
    if kind == "circle" and n.r > 0:
        return [Circle((n.cx, n.cy), n.r)]
    if kind == "ellipse" and n.rx > 0 and n.ry > 0:
        return [ellipse((n.cx, n.cy), (n.rx, n.ry), n.theta)]
    if kind == "point":
        return [Line(np.array([(n.cx, n.cy)]), line_width_px)]
    if kind in ("rect", "circle", "ellipse"):
        raise ValueError(f"is a {kind} of no size. Remove it.")
    raise ValueError(
        f"is a {shown(kind)}, which is not read. Read are polygon, polyline, rect, circle, ellipse "
        "and point; turn it into one of these or remove it."
    )
