"""Image files decoded at their own depth, upright; damaged and absurd ones refused in one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image as PillowImage
from PIL import ImageOps

from patchscout.checks import InputNotFoundError, InputValueError

MAX_PIXELS = 175_000_000
"""Larger images are refused before they are decoded; just below Pillow's own limit."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_EXPECTED = "Expected a PNG, JPEG, BMP or TIFF image"
_ORIENTATION = 0x0112  # EXIF and TIFF tag
_BITS_PER_SAMPLE = 0x0102  # TIFF tag
_SWAPS_SIDES = (5, 6, 7, 8)  # orientations that include a quarter turn
_PNG_DEPTH_OFFSET = 24  # of the bit depth in a PNG file, whose header chunk comes first
_MIN_IS_WHITE = 0
_PLANES_APART = 2


def open_image(path: Path) -> PillowImage.Image:
    """Open an image by its header alone, to be closed by the caller.

    Raises:
        InputNotFoundError: There is no such file.
        InputValueError: It is empty, larger than `MAX_PIXELS` or no image.
    """
    if not path.exists():
        raise InputNotFoundError(f"{path} does not exist. {_EXPECTED}; check the path.")
    if path.is_dir():
        raise InputValueError(f"{path} is a folder. {_EXPECTED}; name a file in it.")
    if path.stat().st_size == 0:
        raise InputValueError(
            f"{path} is empty (0 bytes). {_EXPECTED}; copy the file again or remove it."
        )
    limit = f"{MAX_PIXELS / 1e6:g} million pixels"
    remedy = "Cut it into tiles or scale it down."
    try:
        with _quiet_decoders():
            picture = PillowImage.open(path, formats=_FORMATS)
    except PillowImage.DecompressionBombError as error:
        raise InputValueError(
            f"{path} has more pixels than allowed; at most {limit}. {remedy}"
        ) from error
    except PermissionError as error:
        raise InputValueError(f"{path} may not be read. Change its permissions.") from error
    except Exception as error:  # decoders raise all sorts on damaged files
        raise InputValueError(
            f"{path} is not an image that can be read. {_EXPECTED}; convert it or remove it."
        ) from error
    width, height = picture.size
    if 0 < width * height <= MAX_PIXELS:
        return picture
    picture.close()
    if width * height == 0:
        raise InputValueError(f"{path} has no pixels ({width} x {height}). {_EXPECTED}; remove it.")
    raise InputValueError(f"{path} has {width} x {height} pixels; at most {limit}. {remedy}")


def upright_size(picture: PillowImage.Image) -> tuple[int, int]:
    """Return (height, width) in pixels with the EXIF orientation applied."""
    width, height = picture.size
    # Pillow reports a TIFF's size as turned already.
    turned = picture.format != "TIFF" and _orientation(picture) in _SWAPS_SIDES
    return (width, height) if turned else (height, width)


def decode(picture: PillowImage.Image, path: Path) -> np.ndarray:
    """Decode an opened image, upright.

    Returns:
        (H, W) or (H, W, C) in RGB or RGBA order; uint8, or the file's own type where it is deeper.

    Raises:
        InputValueError: The file is damaged, or of a depth that is not read, such as 12 bits.
    """
    bits = _bits_per_channel(picture, path)
    if bits > 8 and bits not in (16, 32):
        raise InputValueError(
            f"{path} has {bits} bits per channel; expected 8 or 16. Save it with 8 or 16."
        )
    try:
        with _quiet_decoders():
            if bits <= 8 or picture.mode == "CMYK":
                return eight_bit(ImageOps.exif_transpose(picture))
            decode_deep = _decode_deep_tiff if picture.format == "TIFF" else _decode_deep_png
            return decode_deep(path, _orientation(picture))
    except Exception as error:  # decoders raise all sorts on damaged files
        raise InputValueError(
            f"{path} is truncated or damaged ({error}). {_EXPECTED} that is whole; "
            "copy the file again or remove it."
        ) from error


def eight_bit(picture: PillowImage.Image) -> np.ndarray:
    """Return a Pillow image of up to 8 bits as (H, W), (H, W, 3) or (H, W, 4) uint8."""
    if picture.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in picture.info:
        return np.asarray(picture.convert("RGBA"))
    return np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))


def _bits_per_channel(picture: PillowImage.Image, path: Path) -> int:
    """Return how many bits each channel has: 8 or fewer where Pillow decodes without loss."""
    if picture.format == "PNG":
        with path.open("rb") as file:
            return file.read(_PNG_DEPTH_OFFSET + 1)[_PNG_DEPTH_OFFSET]
    if picture.format == "TIFF":
        return int(np.max(picture.getexif().get(_BITS_PER_SAMPLE, 1)))  # one number, or one each
    return 8


def _orientation(picture: PillowImage.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - damaged EXIF does not make the pixels unreadable
        return 1


def _oriented(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the EXIF orientation of an (H, W) or (H, W, C) array."""
    if orientation in _SWAPS_SIDES:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]


@contextmanager
def _quiet_decoders() -> Iterator[None]:
    """Keep decoders from printing lines of their own about a damaged file: the error tells it."""
    logger = logging.getLogger("tifffile")
    was_disabled, logger.disabled = logger.disabled, True
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        cv2.utils.logging.setLogLevel(level)
        logger.disabled = was_disabled


def _decode_deep_png(path: Path, orientation: int) -> np.ndarray:
    """Decode a PNG file that Pillow would cut down to 8 bits."""
    with open_image(path) as picture:
        picture.verify()  # every chunk; OpenCV leaves the rest of a truncated file black
    return _oriented(_decode_opencv(path), orientation)


def _decode_deep_tiff(path: Path, orientation: int) -> np.ndarray:
    """Decode the first page of a TIFF file that Pillow would cut down to 8 bits."""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            pixels = page.asarray()
            if page.planarconfig == _PLANES_APART and pixels.ndim == 3:
                pixels = np.moveaxis(pixels, 0, 2)
            if page.photometric == _MIN_IS_WHITE and pixels.dtype == np.uint16:
                pixels = np.iinfo(np.uint16).max - pixels
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        # A compression that tifffile alone does not know, such as LZW. OpenCV turns a TIFF itself.
        return _decode_opencv(path)
    return _oriented(pixels, orientation)


def _decode_opencv(path: Path) -> np.ndarray:
    """Decode with OpenCV, from bytes, since it does not open every file name by itself."""
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("the decoder gave up")
    if pixels.ndim == 2:
        return pixels
    return pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]]
