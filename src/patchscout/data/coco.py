"""Masks from one COCO JSON file: polygons and run-length encodings, compressed or not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, PlainValidator

from patchscout.checks import InputValueError
from patchscout.data.annotations import check_not_empty, check_size, read_corners
from patchscout.data.drawing import Polygon, Runs, Shape, draw_shapes
from patchscout.data.json_files import (
    Identifier,
    Number,
    Side,
    Text,
    number_array,
    parse_entry,
    read_json_object,
)
from patchscout.limits import current_limits
from patchscout.text import shown
from patchscout.types import NORMAL, Mask

ImageId = int | str

_MOST_GROUPS = 7
"""Groups of 5 bits that a number in a compressed encoding may have: no image has 2^34 pixels."""


@dataclass(frozen=True)
class CocoMask:
    """The union of all annotations of one image in a COCO file.

    Attributes:
        path: The JSON file, parsed once and kept for the next image.
        image_id: The `id` of the image in it.
    """

    path: Path
    image_id: ImageId

    def read(self, image_size: tuple[int, int]) -> Mask:
        """Return the mask of an image of `image_size` (height, width).

        Raises:
            InputNotFoundError: There is no such file.
            InputValueError: It is no COCO file, does not fit the image, marks nothing, or is beyond
                the limits.
        """
        coco = read_coco(self.path)
        image = coco.images.get(self.image_id)
        if image is None:
            raise InputValueError(
                f"{self.path} has no image {shown(self.image_id)} any more. {_COCO}"
            )
        source = f"{self.path} (image {shown(image.file_name)})"
        check_size((image.height, image.width), image_size, source)
        shapes: list[Shape] = []
        for number, annotation in enumerate(coco.annotations[self.image_id], 1):
            try:
                shapes += segmentation_shapes(annotation.segmentation, image_size)
            except ValueError as error:
                name = f"number {number} of it" if annotation.id is None else shown(annotation.id)
                raise InputValueError(
                    f"{source} has an annotation that cannot be drawn ({error}). Expected polygons "
                    f"or RLE in `segmentation`; mend annotation {name}."
                ) from error
        return check_not_empty(draw_shapes(shapes, image_size, source), source)


_COCO = "Expected a COCO file with `images` and `annotations`; export it again as COCO JSON."


class _Coco(BaseModel):
    """A COCO file, as far as it is used."""

    images: list[Any]
    annotations: list[Any]
    categories: list[Any] = []


class CocoImage(BaseModel):
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


class CocoAnnotation(BaseModel):
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


@dataclass(frozen=True)
class CocoFile:
    """A parsed COCO file: its images and categories by id, its annotations by image id."""

    path: Path
    images: dict[ImageId, CocoImage]
    annotations: dict[ImageId, list[CocoAnnotation]]
    categories: dict[ImageId, str]

    @cached_property
    def _by_name(self) -> dict[tuple[str, ...], list[tuple[ImageId, tuple[str, ...]]]]:
        """The annotated images, id and path, by base name, and by folder and base name."""
        by_name: dict[tuple[str, ...], list[tuple[ImageId, tuple[str, ...]]]] = {}
        for image_id, found in self.annotations.items():
            if found:
                name = self.images[image_id].file_name.replace("\\", "/")
                parts = PurePosixPath(name).parts
                for key in {parts[-1:], parts[-2:]}:
                    by_name.setdefault(key, []).append((image_id, parts))
        return by_name

    def find(self, relative_path: PurePosixPath) -> ImageId | None:
        """Return the id of an annotated image, by its relative path, else by its base name.

        Raises:
            InputValueError: Only the base name fits, and it fits several images.
        """
        wanted = relative_path.parts
        in_folder = self._by_name.get(wanted[-2:], [])
        matches = [image_id for image_id, parts in in_folder if parts[-len(wanted) :] == wanted]
        if not matches:
            matches = [image_id for image_id, _ in self._by_name.get(wanted[-1:], [])]
        if len(matches) > 1:
            raise InputValueError(
                f"{relative_path} fits {len(matches)} images of {self.path}. Expected one; give "
                "`file_name` with the folder that the image lies in."
            )
        return matches[0] if matches else None

    def largest_category(self, image_id: ImageId) -> str:
        """Return the category name of the annotation with the largest area, else `defect`.

        Raises:
            InputValueError: It is the name of what has no defect.
        """
        largest = max(self.annotations[image_id], key=lambda annotation: annotation.size)
        name = self.categories.get("" if largest.category_id is None else largest.category_id)
        if name == NORMAL:
            raise InputValueError(
                f"{self.path} has a category `{NORMAL}`, as normal images are called, for a defect "
                f"in {shown(self.images[image_id].file_name)}. Give the category another name."
            )
        return name or "defect"


def read_coco(path: Path) -> CocoFile:
    """Parse a COCO file; the last one is kept, and parsed anew once it has changed.

    Raises:
        InputNotFoundError: There is no such file.
        InputValueError: It is no COCO file, or beyond the limits.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return _parse(path, 0, 0)  # which says what is wrong
    return _parse(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _parse(path: Path, _mtime_ns: int, _size: int) -> CocoFile:
    coco = parse_entry(_Coco, read_json_object(path, "a COCO file"), str(path), _COCO)
    images: dict[ImageId, CocoImage] = {}
    for i, value in enumerate(coco.images):
        where = f"{path}: `images[{i}]`"
        image = parse_entry(CocoImage, value, where, _COCO)
        if images.setdefault(image.id, image).file_name != image.file_name:
            raise InputValueError(
                f"{where}: `id` {shown(image.id)} is the one of another image too. {_COCO}"
            )
    annotations: dict[ImageId, list[CocoAnnotation]] = {image_id: [] for image_id in images}
    for i, value in enumerate(coco.annotations):
        where = f"{path}: `annotations[{i}]`"
        annotation = parse_entry(CocoAnnotation, value, where, _COCO)
        if annotation.image_id not in annotations:
            raise InputValueError(
                f"{where}: `image_id` {shown(annotation.image_id)} is missing among the images. "
                f"{_COCO}"
            )
        annotations[annotation.image_id].append(annotation)
    categories: dict[ImageId, str] = {}
    for i, value in enumerate(coco.categories):
        category = parse_entry(_Category, value, f"{path}: `categories[{i}]`", _COCO)
        categories[category.id] = str(category.name)
    return CocoFile(path, images, annotations, categories)


def segmentation_shapes(segmentation: Any, image_size: tuple[int, int]) -> list[Shape]:
    """Return what the `segmentation` of an annotation outlines: polygons, or runs of pixels.

    Args:
        segmentation: As JSON has it.
        image_size: (height, width) of the image in pixels.

    Raises:
        ValueError: It does not fit the image or the format.
    """
    if isinstance(segmentation, dict):
        rle = parse_entry(_Rle, segmentation, "RLE", "Expected `size` and `counts`")
        height, width = rle.size
        if (height, width) != image_size:
            raise ValueError(f"RLE of {width} x {height} pixels")
        return [Runs(check_runs(rle.counts, height * width))]
    if not isinstance(segmentation, list):
        raise ValueError(f"`segmentation` must be polygons or RLE; got {shown(segmentation)}")
    polygons: list[Shape] = []
    for value in segmentation:
        try:
            points = read_corners(value)
        except ValueError as error:
            raise ValueError(f"a polygon {error}; got {shown(value)}") from error
        if len(points) < 3:
            raise ValueError("a polygon needs three points or more")
        polygons.append(Polygon(points))
    return polygons


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
