"""Images of every accepted kind as float32 RGB in [0, 1], and at another size."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped
from PIL import Image as PillowImage
from PIL import ImageOps

from patchscout.checks import InputTypeError, InputValueError
from patchscout.data.image_files import (
    FORMAT_OF_SUFFIX,
    decode,
    eight_bit,
    open_image,
    too_large_for_memory,
    upright_size,
)
from patchscout.types import Image, Mask

IMAGE_SUFFIXES = tuple(sorted(FORMAT_OF_SUFFIX))
"""What an image file's name ends in, in lower case: all that Pillow and tifffile decode."""

_LARGEST = {"bool": 1, "uint8": 255, "uint16": 65535}
_BLOCK_VALUES = 2**20  # how many are turned into float32 at a time


def is_image_name(path: Path) -> bool:
    """Return whether a file is named as an image and not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) in pixels as `read_image` would, without decoding the pixels."""
    return read_facts(path).size


class ImageFacts(NamedTuple):
    """What the header of an image file says.

    Attributes:
        size: (height, width) in pixels, upright.
        bits: Bits of a channel.
        num_channels: 1 where grey, with or without alpha, or else 3.
        has_more_pages: Whether pages or frames follow the first, which are not read.
    """

    size: tuple[int, int]
    bits: int
    num_channels: int
    has_more_pages: bool


def read_facts(path: str | Path) -> ImageFacts:
    """Return what the header of an image file says.

    Raises:
        InputNotFoundError: There is no such file.
        InputValueError: It is no image or beyond the limits.
    """
    with open_image(Path(path)) as image:
        is_grey = len(image.picture.getbands()) < 3 and image.picture.mode != "P"
        channels = 1 if is_grey else 3
        return ImageFacts(upright_size(image), image.bits, channels, image.has_more_pages)


def read_orientation(path: str | Path) -> tuple[tuple[int, int], int]:
    """Return what `read_size` does, and the EXIF orientation, 1 to 8, that was applied."""
    with open_image(Path(path)) as image:
        return upright_size(image), image.stored_orientation


def read_image(path: str | Path, *, background: float = 1.0) -> Image:
    """Read an image file as it is meant to be seen, the EXIF orientation applied.

    Of a file with several pages the first is read. 16-bit values are divided by 65535.

    Args:
        path: A file that Pillow or tifffile decodes: grey, RGB, palette or CMYK, with or without
            alpha.
        background: Grey level in [0, 1] that transparent pixels are laid over; white unless told.

    Returns:
        (height, width, 3) float32 in [0, 1].

    Raises:
        InputNotFoundError: There is no such file.
        InputTypeError: Its values are of a type that no camera writes, such as 32-bit integers.
        InputValueError: It is empty, damaged, no image, or more than the limits allow.
    """
    path = Path(path)
    with open_image(path) as image:
        pixels = decode(image)
    return _rgb(pixels, str(path), background)


def to_image(image: object) -> Image:
    """Return an array, a Pillow image or a file as an image.

    Args:
        image: A path; a Pillow image; or an array of shape (H, W), (H, W, 1), (H, W, 3) or
            (H, W, 4), RGB order, uint8, uint16, bool, or float in [0, 1]. Alpha is laid over white.

    Returns:
        (height, width, 3) float32 in [0, 1].

    Raises:
        InputTypeError: `image` or the type of its values is none of these.
        InputValueError: Its shape or its values do not fit.

    Example:
        >>> to_image(np.full((2, 3), 51, np.uint8))[0, 0]
        array([0.2, 0.2, 0.2], dtype=float32)
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, PillowImage.Image):
        image = _pixels_of(image)
    if not isinstance(image, np.ndarray):
        raise InputTypeError(
            "`image` must be a numpy array, a Pillow image or a path; "
            f"got {type(image).__name__}. Convert it with `numpy.asarray(image)`."
        )
    return _rgb(image, "`image`", 1.0)


def resize_image(
    image: Image, size_hw: tuple[int, int]
) -> Float[np.ndarray, "new_height new_width 3"]:
    """Resize an image to `size_hw` (height, width) in pixels.

    Averages over areas along a side that shrinks and interpolates linearly along one that grows.
    """
    return resize(image, size_hw)


def resize_mask(mask: Mask, size_hw: tuple[int, int]) -> Bool[np.ndarray, "new_height new_width"]:
    """Resize a mask to `size_hw` (height, width): True where at least half is anomalous."""
    return resize(mask.astype(np.float32), size_hw) >= np.float32(0.5)


def resize(array: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize an array to `size_hw` (height, width), rows first and then columns.

    OpenCV averages over areas only where neither side grows, hence one side at a time.
    """
    height, width = size_hw
    for axis, size in ((0, (array.shape[1], height)), (1, (width, height))):
        if size_hw[axis] != array.shape[axis]:
            shrinks = size_hw[axis] < array.shape[axis]
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            array = cv2.resize(array, size, interpolation=method)
    return array


def resize_nearest(
    array: Shaped[np.ndarray, "height width"], size_hw: tuple[int, int]
) -> Shaped[np.ndarray, "new_height new_width"]:
    """Return for each pixel of `size_hw` (height, width) the old one that its center lies in.

    Example:
        >>> resize_nearest(np.array([[1, 2]]), (1, 5))
        array([[1, 1, 2, 2, 2]])
    """
    places = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for old, new in zip(array.shape, size_hw, strict=True)
    )
    return array[np.ix_(*places)]


def _pixels_of(picture: PillowImage.Image) -> np.ndarray:
    """Return the pixels of a Pillow image, upright; it may only now be decoded."""
    try:
        upright = ImageOps.exif_transpose(picture)
        deep = upright.mode.startswith(("I", "F"))
        return np.asarray(upright) if deep else eight_bit(upright)
    except MemoryError as error:
        raise too_large_for_memory("`image`") from error
    except Exception as error:  # decoders raise all sorts on damaged files
        raise InputValueError(
            f"`image` cannot be decoded ({type(error).__name__}). Give its path or an array."
        ) from error


def _rgb(pixels: np.ndarray, name: str, background: float) -> Image:
    """Return pixel values of 1, 3 or 4 channels as RGB, alpha laid over `background`."""
    _check_values(pixels, name)
    shape = pixels.shape
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3:
        raise InputValueError(
            f"{name} must have shape (height, width) or (height, width, channels); got {shape}. "
            "Give one image at a time."
        )
    if pixels.shape[2] not in (1, 3, 4):
        channels_first = shape[0] in (1, 3, 4)
        remedy = "Move the channels last" if channels_first else "Convert it to RGB or grey"
        raise InputValueError(f"{name} must have 1, 3 or 4 channels; got {shape}. {remedy}.")
    if 0 in shape:
        raise InputValueError(f"{name} has no pixels; got shape {shape}. Leave it out.")
    try:
        return _converted(pixels, np.float32(background))
    except MemoryError as error:
        raise too_large_for_memory(name) from error


def _check_values(pixels: np.ndarray, name: str) -> None:
    """Refuse values of a type, or out of the range, that images do not have."""
    if pixels.dtype.name in _LARGEST:
        return
    if not np.issubdtype(pixels.dtype, np.floating):
        raise InputTypeError(
            f"{name} has values of type {pixels.dtype}; expected uint8, uint16, bool, or float in "
            "[0, 1]. Convert it to 8 or 16 bits."
        )
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)
    if not (low >= 0.0 and high <= 1.0):  # said so that NaN fails too
        raise InputValueError(
            f"{name} has values from {low:g} to {high:g}; float values must lie in [0, 1]. "
            "Divide them by the largest possible value, such as 255."
        )


def _converted(pixels: np.ndarray, background: np.float32) -> Image:
    """Return (H, W, C) values as float32 RGB, some rows at a time so that there is no second copy.

    The peak is that of `pixels` and the result, 12 bytes a pixel.
    """
    height, width, channels = pixels.shape
    image = np.empty((height, width, 3), np.float32)
    largest = _LARGEST.get(pixels.dtype.name, 1)
    num_rows = max(1, _BLOCK_VALUES // (width * channels))
    for top in range(0, height, num_rows):
        block = pixels[top : top + num_rows].astype(np.float32)
        if largest != 1:
            block /= np.float32(largest)
        if channels == 4:
            alpha = block[:, :, 3:]
            block = block[:, :, :3] * alpha + background * (1 - alpha)
        image[top : top + num_rows] = block
    return image
