"""COCO's annotation files: polygons and run-length encodings, compressed or not."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, PlainValidator

from patchscout.checks import InputValueError
from patchscout.data.annotations import (
    AnnotatedImage,
    Annotation,
    check_size,
    image_key,
    read_corners,
    united,
    with_annotations,
)
from patchscout.data.clock import Clock
from patchscout.data.drawing import Polygon, Runs, Shape
from patchscout.data.json_files import (
    Identifier,
    Number,
    Side,
    Text,
    number_array,
    parse_entry,
)
from patchscout.limits import current_limits
from patchscout.text import shown

_MOST_GROUPS = 7
"""Groups of 5 bits that a number in a compressed encoding may have: no image has 2^34 pixels."""

_COCO = "Expected a COCO file with `images` and `annotations`; export it again as COCO JSON."


class _Coco(BaseModel):
    """A COCO file, as far as it is used."""

    images: list[Any]
    annotations: list[Any]
    categories: list[Any] = []


class _Image(BaseModel):
    """An entry of `images`, as far as it is used."""

    id: Identifier
    file_name: Text
    height: Side | None = None
    width: Side | None = None


def _box(value: Any) -> list[float]:
    expected = "must be a list of x, y, width and height"
    if not isinstance(value, list) or len(value) in (1, 2, 3):
        raise ValueError(expected)
    try:
        return number_array(value).tolist()
    except ValueError as error:
        raise ValueError(expected) from error


Box = Annotated[list[float], PlainValidator(_box)]
"""A box, empty where a tool does not know it, or with an angle after its size."""


class _Annotation(BaseModel):
    """An entry of `annotations`, as far as it is used.

    Its `segmentation` is looked at when the image is drawn, as there are formats for other uses.
    """

    image_id: Identifier
    id: Identifier | None = None
    category_id: Identifier | None = None
    area: Number | None = None
    bbox: Box | None = None
    segmentation: Any = None

    @property
    def size(self) -> float:
        """The area that is stated, else that of the box, in square pixels."""
        if self.area is not None:
            return self.area
        _, _, width, height, *_ = self.bbox or (0.0, 0.0, 0.0, 0.0)
        return width * height


class _Category(BaseModel):
    """An entry of `categories`, as far as it is used."""

    id: Identifier
    name: Identifier


class _Rle(BaseModel):
    """A run-length encoding."""

    size: tuple[Side, Side]
    counts: Any


def parse_coco(content: dict[str, Any], path: Path) -> dict[str, AnnotatedImage]:
    """Return the images of a COCO file by their key; entries of one image are united.

    Raises:
        InputValueError: It is no COCO file, or one `id` is that of two images or categories, so
            that it is not known which of them an annotation is for.
    """
    coco = parse_entry(_Coco, content, str(path), _COCO)
    clock = Clock(path)
    categories: dict[str, str] = {}
    for i, value in enumerate(clock.timed(coco.categories)):
        where = f"{path}: `categories[{i}]`"
        category = parse_entry(_Category, value, where, _COCO)
        if categories.setdefault(category.id, category.name) != category.name:
            raise _repeated(where, category.id, categories[category.id], category.name)
    entries: dict[str, _Image] = {}
    images: dict[str, AnnotatedImage] = {}
    for i, value in enumerate(clock.timed(coco.images)):
        where = f"{path}: `images[{i}]`"
        entry = parse_entry(_Image, value, where, _COCO)
        key = image_key(entry.file_name)
        if image_key(entries.setdefault(entry.id, entry).file_name) != key:
            raise _repeated(where, entry.id, entries[entry.id].file_name, entry.file_name)
        image = AnnotatedImage(entry.file_name, entry.height, entry.width)
        images[key] = united(images.get(key, image), image, f"{where}:")
    annotations: dict[str, list[Annotation]] = {key: [] for key in images}
    for i, value in enumerate(clock.timed(coco.annotations)):
        where = f"{path}: `annotations[{i}]`"
        entry = parse_entry(_Annotation, value, where, _COCO)
        if entry.image_id not in entries:
            raise InputValueError(
                f"{where}: `image_id` {shown(entry.image_id)} is missing among the images. {_COCO}"
            )
        annotation = Annotation(
            f"`annotations[{i}]`" if entry.id is None else f"annotation {shown(entry.id)}",
            categories.get(entry.category_id or ""),
            entry.size,
            partial(_shapes, entry),
        )
        annotations[image_key(entries[entry.image_id].file_name)].append(annotation)
    return with_annotations(images, annotations)


def _repeated(where: str, identifier: str, first: str, second: str) -> InputValueError:
    """Return the error that two entries have one id, as where two files were put together."""
    return InputValueError(
        f"{where}: `id` {shown(identifier)} is that of {shown(first)} and of {shown(second)}, so "
        "that it is not known which one its annotations are for. Give each an `id` of its own; "
        "where files were joined, join them with a tool that numbers anew."
    )


def _shapes(
    annotation: _Annotation, image_size: tuple[int, int], _line_width_px: float
) -> list[Shape]:
    """Return what the `segmentation` of an annotation outlines: polygons, or runs of pixels.

    Raises:
        ValueError: It does not fit the image or the format.
    """
    shapes = [_shape(part, image_size) for part in _parts(annotation.segmentation)]
    _, _, width, height, *_ = annotation.bbox or (0.0, 0.0, 0.0, 0.0)
    if not shapes and (width > 0 or height > 0):
        raise ValueError(
            "has a box and no `segmentation`; a box is no outline, as most of its pixels may be "
            "normal. Mark it with a polygon or a mask, or remove it."
        )
    if not shapes and annotation.area:
        raise ValueError("has an `area` and no `segmentation`. Mark it with a polygon or a mask.")
    return shapes


def _parts(segmentation: Any) -> list[Any]:
    """Return the outlines of a `segmentation`, which may be one of them itself.

    VIA writes the coordinates of a polygon without the list of polygons around them.
    """
    if segmentation is None or isinstance(segmentation, dict):
        return [segmentation] if segmentation else []
    if not isinstance(segmentation, list):
        raise ValueError(f"has a `segmentation` that is no list or RLE: {shown(segmentation)}.")
    is_outline = any(type(part) in (int, float) for part in segmentation) or (
        len(segmentation) > 2
        and all(type(part) is list and len(part) == 2 for part in segmentation)
        and not any(type(number) is list for pair in segmentation for number in pair)
    )
    return [segmentation] if is_outline else [part for part in segmentation if part != []]


def _shape(part: Any, image_size: tuple[int, int]) -> Shape:
    """Return one outline of a `segmentation`."""
    if isinstance(part, dict) and "counts" in part:
        rle = parse_entry(
            _Rle, part, "has an RLE that does not fit", "Expected `size` and `counts`."
        )
        check_size(rle.size, image_size, "has an RLE that")
        try:
            return Runs(check_runs(rle.counts, image_size[0] * image_size[1]))
        except ValueError as error:
            raise ValueError(f"cannot be drawn ({error}). Mend it.") from error
    try:
        points = read_corners(part)
    except ValueError as error:
        raise ValueError(
            f"has a polygon that cannot be drawn: it {error}; got {shown(part)}. Mend it."
        ) from error
    if len(points) < 3:
        raise ValueError(
            f"has a polygon of {len(points)} points, which has no area. Remove that part of its "
            "`segmentation`."
        )
    return Polygon(points)


def check_runs(counts: Any, num_pixels: int) -> np.ndarray:
    """Return run lengths that make up an image as an array.

    Raises:
        ValueError: They do not: the sum is another, one is negative or no whole number.
    """
    if isinstance(counts, str):
        runs = decompress_counts(counts)
    elif isinstance(counts, list):
        runs = number_array(counts)
    else:
        raise ValueError(f"RLE `counts` must be a list or a text; got {shown(counts)}")
    fits = (runs >= 0) & (runs <= num_pixels) & (runs == np.floor(runs))
    if not fits.all():
        raise ValueError(f"RLE with a run of {runs[~fits][0]:g} pixels")
    total = int(runs.sum())
    if total != num_pixels:
        raise ValueError(f"RLE of {total} pixels for {num_pixels}")
    return runs.astype(np.int64)


def decompress_counts(text: str) -> np.ndarray:
    """Return the run lengths behind COCO's compressed string.

    Each number is written in groups of 5 bits, lowest first, as the characters from 48 on; bit 6
    says that more follows, bit 5 of the last group is the sign. From the fourth number on, the
    difference to the number two before is written.

    Raises:
        ValueError: It is no such string, or has more runs than the limit on points.

    References:
        rleFrString in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c
    """
    try:
        groups = np.frombuffer(text.encode("ascii"), np.uint8) - np.uint8(48)
    except UnicodeEncodeError as error:
        raise ValueError(f"RLE with the character {text[error.start]!a}") from error
    if (strange := groups >= 64).any():
        raise ValueError(f"RLE with the character {text[int(strange.argmax())]!a}")
    ends = np.flatnonzero(groups < 32) + 1
    if len(text) and (not ends.size or ends[-1] != len(text)):
        raise ValueError("RLE that ends within a number")
    if ends.size > (limit := current_limits().points):
        raise ValueError(f"RLE of {ends.size:,} runs, more than `--limits.points` {limit:,}")
    lengths = np.diff(ends, prepend=0)
    if ends.size and lengths.max() > _MOST_GROUPS:
        raise ValueError("RLE with a number that no image has pixels for")
    values = np.zeros(ends.size, np.int64)
    for i in range(_MOST_GROUPS):
        has_group = lengths > i
        group = groups[(ends - lengths)[has_group] + i].astype(np.int64)
        values[has_group] |= (group & 31) << 5 * i
    is_negative = (groups[ends - 1] & 16) > 0
    values[is_negative] -= 1 << 5 * lengths[is_negative]
    for first in (1, 2):
        values[first::2] = np.cumsum(values[first::2])
    return values
