"""Masks from mask images and from shapes in annotation files, checked to fit their image."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from pydantic import PlainValidator

from patchscout.checks import InputValueError
from patchscout.data.drawing import FARTHEST_PX, Hole, Shape, draw_shapes, shape_area
from patchscout.data.image_files import SWAPS_SIDES, oriented
from patchscout.data.images import read_orientation, resize_nearest
from patchscout.data.json_files import number_array
from patchscout.data.mask_images import MaskTypes, Reading, read_marked
from patchscout.data.names import LONGEST_NAME
from patchscout.text import shown
from patchscout.types import Mask, Sample

LINE_WIDTH_PX = 3.0
"""How wide lines and points are, which have no area of their own, unless told otherwise."""

_NO_DEFECT = ("background", "ignore", "ignored")
"""Labels of shapes that are cut out, whatever their case and the underscores around them."""


@dataclass(frozen=True)
class MaskFile:
    """A mask stored as an image.

    Attributes:
        path: Any image that `read_image` reads; see `read_marked`.
        types: What its values or colors stand for; unset: all but the background are anomalous.
    """

    path: Path
    types: MaskTypes = ()

    def read(self, image_size: tuple[int, int]) -> Mask:
        """Return the mask of an image of `image_size` (height, width).

        Raises:
            InputNotFoundError: There is no such file.
            InputValueError: It is of another size, empty, of values that are not clear, or no
                image.
        """
        mask = read_marked(self.path, self.types).mask
        height, width = mask.shape
        check_size((height, width), image_size, self.path)
        return check_not_empty(mask, self.path)

    def reading(self) -> Reading | None:
        """Return how the values were read, `SOFT` or `SEVERAL`; None where they are two."""
        return read_marked(self.path, self.types).reading

    def defect_type(self) -> str | None:
        """Return the type that most pixels have, None where the types are not told."""
        return MaskFiles((self,)).defect_type()


@dataclass(frozen=True)
class MaskFiles:
    """A mask stored as several images, such as one for each defect: their union.

    Attributes:
        files: Each of them, for the same image.
    """

    files: tuple[MaskFile, ...]

    def read(self, image_size: tuple[int, int]) -> Mask:
        """Return the mask of an image of `image_size` (height, width).

        Raises:
            InputError: One of them cannot be read, see `MaskFile.read`.
        """
        mask = np.zeros(image_size, bool)
        for file in self.files:  # one at a time, so that not all of them are held at once
            mask |= file.read(image_size)
        return mask

    def defect_type(self) -> str | None:
        """Return the type that most pixels have, None where the types are not told."""
        counts: Counter[str] = Counter()
        for file in self.files:
            if file.types:
                counts += read_marked(file.path, file.types).num_pixels
        return counts.most_common(1)[0][0] if counts else None


def mask_files(mask: object) -> tuple[MaskFile, ...]:
    """Return the mask images that a mask comes from; none where it comes from annotations."""
    if isinstance(mask, MaskFiles):
        return mask.files
    return (mask,) if isinstance(mask, MaskFile) else ()


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


def image_key(file_name: str) -> str:
    r"""Return the name of an image in an annotation file, in the one form that names are compared.

    Raises:
        InputValueError: It is longer than names are.

    Example:
        >>> image_key(".\\bad//a\u0301.png") == "bad/\u00e1.png"
        True
    """
    if len(file_name) > LONGEST_NAME:  # composing characters takes a time that follows its square
        raise InputValueError(
            f"The name {shown(file_name)} has {len(file_name):,} characters; at most "
            f"{LONGEST_NAME:,} are read. Name the image by its path."
        )
    return str(PurePosixPath(unicodedata.normalize("NFC", file_name).replace("\\", "/")))


@dataclass(frozen=True)
class Annotation:
    """What a file says of one place of an image.

    Attributes:
        name: What errors call it, such as `annotation 3`.
        label: The name of its defect type, if there is one.
        area: In square pixels, where it is known before drawing; else None, see `measured_area`.
        shapes: Given the size of the image (height, width) and the width of lines in pixels, what
            it outlines; a ValueError says, after the name, what is wrong with it.
    """

    name: str
    label: str | None
    area: float | None
    shapes: Callable[[tuple[int, int], float], Sequence[Shape]]

    @property
    def is_hole(self) -> bool:
        """Whether it marks what is no defect, as LabelMe's `_background_` and `__ignore__` do."""
        return self.label is not None and self.label.strip(" _").casefold() in _NO_DEFECT

    def measured_area(self, image_size: tuple[int, int]) -> float:
        """Return about how many pixels it marks in an image of `image_size` (height, width).

        It is 0 where it cannot be drawn, which is said once it is.
        """
        if self.area is not None:
            return self.area
        try:
            return sum(map(shape_area, self.shapes(image_size, 1.0)))
        except ValueError:
            return 0.0


@dataclass(frozen=True)
class AnnotatedImage:
    """What an annotation file says of one image.

    Attributes:
        file_name: The image's name in it.
        height: In pixels; None where it is not told.
        width: Likewise.
        annotations: In the order of the file.
    """

    file_name: str
    height: int | None
    width: int | None
    annotations: tuple[Annotation, ...] = ()

    def draw(self, image_size: tuple[int, int], line_width_px: float, source: str) -> Mask:
        """Return the mask of the image, of `image_size` (height, width); see `draw_shapes`.

        Raises:
            InputValueError: It is of another size, an annotation cannot be drawn, nothing is
                marked, or the limits are exceeded; the message begins with `source`.
        """
        check_size((self.height, self.width), image_size, source)

        def shapes() -> Iterator[Shape | Hole]:
            for annotation in self.annotations:
                try:
                    drawn = annotation.shapes(image_size, line_width_px)
                except SizeError as error:
                    raise SizeError(
                        f"{source}: {annotation.name} {error.args[0]}", error.size
                    ) from None
                except ValueError as error:
                    raise InputValueError(f"{source}: {annotation.name} {error}") from error
                yield from map(Hole, drawn) if annotation.is_hole else drawn

        return check_not_empty(draw_shapes(shapes(), image_size, source), source)


def united(one: AnnotatedImage, other: AnnotatedImage, where: str) -> AnnotatedImage:
    """Return two entries for one image as one, whose annotations are added once all are known.

    Raises:
        InputValueError: They are for images of two sizes; the message begins with `where`.
    """
    sides = zip((one.width, one.height), (other.width, other.height), strict=True)
    if any(None not in pair and pair[0] != pair[1] for pair in sides):
        raise InputValueError(
            f"{where} {shown(one.file_name)} is there twice, with {one.width} x {one.height} and "
            f"{other.width} x {other.height} pixels. Expected one image of a name; give "
            "the names with their folders."
        )
    return replace(
        one,
        height=one.height or other.height,
        width=one.width or other.width,
    )


def with_annotations(
    images: Mapping[str, AnnotatedImage], annotations: Mapping[str, list[Annotation]]
) -> dict[str, AnnotatedImage]:
    """Return images with the annotations that all of their entries have, by the same key."""
    return {
        key: replace(image, annotations=tuple(annotations[key])) for key, image in images.items()
    }


def read_mask(sample: Sample) -> Mask:
    """Return the mask of a sample, upright as its image, inside of its region; empty if normal."""
    mask = read_turned_mask(sample)[0]
    if sample.region is None:
        return mask
    return mask & resize_nearest(sample.region, (mask.shape[0], mask.shape[1]))


def read_turned_mask(sample: Sample) -> tuple[Mask, bool | None]:
    """Return the mask of a sample, and whether it had to be turned as EXIF turns its image.

    Most tools show an image upright and write coordinates as shown. An annotation for the sides of
    the image as it is stored, the other way round, was made without looking at EXIF; it is turned
    too. A half turn, a mirror image or a square leaves the size as it is: there the answer is None,
    and the mask is taken as upright.

    The sample must have a mask, see `Sample.has_mask`.

    Raises:
        InputNotFoundError: The image or the annotation is missing.
        InputValueError: They do not fit each other, or are beyond the limits.
    """
    assert sample.has_mask, f"the mask of {sample.image_path} is not known"
    image_size, orientation = read_orientation(sample.image_path)
    if sample.mask is None:
        return np.zeros(image_size, bool), False
    height, width = image_size
    has_two_sizes = orientation in SWAPS_SIDES and height != width
    try:
        mask = sample.mask.read(image_size)
    except SizeError as error:
        if not has_two_sizes or error.size != (width, height):
            raise
        return oriented(sample.mask.read((width, height)), orientation), True
    return mask, False if has_two_sizes or orientation == 1 else None


class SizeError(InputValueError):
    """An annotation is made for an image of another `size` (height, width)."""

    def __init__(self, message: str, size: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.size = size


def check_size(
    size: tuple[int | None, int | None], image_size: tuple[int, int], source: object
) -> None:
    """Refuse an annotation made for an image of another size than `image_size` (height, width).

    Args:
        size: (height, width); None for what it does not tell.
        image_size: What the image has.
        source: The annotation, for the message.

    Raises:
        SizeError: They differ.
    """
    height, width = (
        own if told is None else told for told, own in zip(size, image_size, strict=True)
    )
    if (height, width) != image_size:
        raise SizeError(
            f"{source} is made for {width} x {height} pixels (width x height); its image has "
            f"{image_size[1]} x {image_size[0]}. Annotate the image at its own size.",
            (height, width),
        )


def check_not_empty(mask: Mask, source: object) -> Mask:
    """Return the mask, or refuse it where it marks nothing."""
    if not mask.any():
        raise InputValueError(
            f"{source} is empty: it marks no anomalous pixel. Expected at least one; outline the "
            "defect, or move the image to the normal ones."
        )
    return mask
