"""Image files decoded at their own depth, upright; damaged and absurd ones refused in one line."""

from __future__ import annotations

import io
import logging
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image as PillowImage
from PIL import ImageFile as ImageFileModule

from patchscout.checks import InputError, InputNotFoundError, InputValueError
from patchscout.data import tiff_files
from patchscout.data.walk import size_of_file
from patchscout.limits import current_limits

_COMMON_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "AVIF")  # whatever the name says
_EXPECTED = "Expected a PNG, JPEG, TIFF or another image"
SWAPS_SIDES = (5, 6, 7, 8)
"""EXIF orientations that include a quarter turn."""
_PNG_DEPTH_OFFSET = 24  # of the bit depth in a PNG file, whose header chunk comes first
_MOST_SCANS = 1000  # of a JPEG file: 20 s at 64 megapixels; programs write about ten


def _readable_formats() -> dict[str, str]:
    """Return the suffixes of images that Pillow and tifffile decode, and Pillow's format of each.

    Pillow hands EPS to another program and knows films and weather maps by their header only.
    """
    PillowImage.init()
    openers = {name: opener for name, (opener, _) in PillowImage.OPEN.items()}
    readable = {
        name
        for name, opener in openers.items()
        if not (isinstance(opener, type) and issubclass(opener, ImageFileModule.StubImageFile))
    } - {"EPS", "MPEG"}
    suffixes = {f".{name.rpartition('.')[2]}": "TIFF" for name in tifffile.TIFF.FILE_EXTENSIONS}
    for suffix, name in PillowImage.registered_extensions().items():
        name = "JPEG" if name == "MPO" else name  # its opener finds out
        if name in readable:
            suffixes[suffix] = name
    return suffixes


FORMAT_OF_SUFFIX = _readable_formats()
"""What names of image files end in, in lower case, and what Pillow calls the format."""


@dataclass(frozen=True)
class ImageFile:
    """An image file whose header is read and within the limits.

    Attributes:
        path: The file.
        file: The same, open.
        picture: What Pillow makes of it, not decoded yet.
        page: Of a TIFF file, how it is stored.
        bits: Bits of a channel: 8 or fewer where Pillow decodes without loss.
    """

    path: Path
    file: _TimedFile
    picture: PillowImage.Image
    page: tifffile.TiffPage | None
    bits: int

    @cached_property
    def orientation(self) -> int:
        """The EXIF orientation, 1 where Pillow turns the image itself, as it does a TIFF file.

        It is looked up once: where EXIF is damaged Pillow answers otherwise the second time.
        """
        return 1 if self.page else _orientation(self.picture)

    @property
    def stored_orientation(self) -> int:
        """The EXIF orientation, whoever turns the image."""
        tag = self.page and self.page.tags.get(tiff_files.ORIENTATION)
        return int(tag.value) if tag else self.orientation

    @property
    def has_more_pages(self) -> bool:
        """Whether pages or frames follow the first; what cannot be told counts as none."""
        try:
            return bool(getattr(self.picture, "is_animated", False))
        except InputError:  # the time is up
            raise
        except Exception:  # noqa: BLE001 - the first page may be whole nonetheless
            return False


class _TimedFile(io.BufferedReader):
    """A file that is read for so long and no longer: decoders ask it for one part at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._path = path
        self._start = time.monotonic()

    def read(self, size: int | None = -1, /) -> bytes:
        self.check_time()
        return super().read(size)

    def check_time(self) -> None:
        """Refuse the file where it takes longer than allowed."""
        seconds = current_limits().seconds
        if time.monotonic() - self._start > seconds:
            raise InputValueError(
                f"{self._path} takes more than {seconds:g} s to read. Save it anew as PNG, or "
                "raise `--limits.seconds`."
            )


@contextmanager
def open_image(path: Path) -> Iterator[ImageFile]:
    """Open an image by its header alone.

    Raises:
        InputNotFoundError: There is no such file.
        InputValueError: It is empty, larger than `limits.megapixels` or `limits.decoded_mib`
            allow, or no image.
    """
    if size_of_file(path, _EXPECTED) == 0:
        raise InputValueError(
            f"{path} is empty (0 bytes). {_EXPECTED}; copy the file again or remove it."
        )
    try:
        file = _TimedFile(path)
    except FileNotFoundError as error:  # gone since
        raise InputNotFoundError(f"{path} does not exist. {_EXPECTED}; check the path.") from error
    except OSError as error:
        raise InputValueError(
            f"{path} may not be read ({error.strerror}). Change its permissions or leave it out."
        ) from error
    with file, _quiet_decoders(), _read_header(path, file) as image:
        yield image


def upright_size(image: ImageFile) -> tuple[int, int]:
    """Return (height, width) in pixels with the EXIF orientation applied."""
    width, height = image.picture.size
    turned = image.orientation in SWAPS_SIDES
    return (width, height) if turned else (height, width)


def decode(image: ImageFile) -> np.ndarray:
    """Decode an opened image, upright.

    Returns:
        (H, W) or (H, W, C) in RGB or RGBA order; uint8, or the file's own type where it is deeper.

    Raises:
        InputValueError: The file is damaged, takes too long, is too large for the memory, or is of
            a depth that is not read, such as 12 bits.
    """
    path, bits = image.path, image.bits
    if bits > 8 and bits not in (16, 32):
        raise InputValueError(
            f"{path} has {bits} bits per channel; expected 8 or 16. Save it with 8 or 16."
        )
    try:
        if bits <= 8 or image.picture.mode == "CMYK":
            return _decode_pillow(image)
        if image.page:
            return _decode_deep_tiff(image, image.page)
        return _decode_deep_png(image) if image.picture.format == "PNG" else _decode_pillow(image)
    except InputError:
        raise
    except MemoryError as error:
        raise too_large_for_memory(path) from error
    except Exception as error:  # decoders raise all sorts on damaged files
        if isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem:
            raise too_large_for_memory(path) from error
        raise InputValueError(
            f"{path} is truncated or damaged ({_shortened(error)}). {_EXPECTED} that is whole; "
            "copy the file again or remove it."
        ) from error


def too_large_for_memory(path: object) -> InputValueError:
    """Return the error that an image does not fit into the memory."""
    return InputValueError(
        f"{path} is too large for the memory. Cut it into tiles or scale it down; a lower "
        "`--limits.megapixels` refuses such images before they are decoded."
    )


def eight_bit(picture: PillowImage.Image) -> np.ndarray:
    """Return a Pillow image of up to 8 bits as (H, W), (H, W, 3) or (H, W, 4) uint8."""
    if picture.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in picture.info:
        mode = "RGBA"
    else:
        mode = "L" if picture.mode in ("1", "L") else "RGB"
    return np.asarray(picture if picture.mode == mode else picture.convert(mode))


def oriented(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the EXIF orientation of an (H, W) or (H, W, C) array."""
    if orientation in SWAPS_SIDES:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]


@contextmanager
def _read_header(path: Path, file: _TimedFile) -> Iterator[ImageFile]:
    """Yield what the header of an open file says, where it is within the limits."""
    try:
        page = tiff_files.read_page(file)
        if page is not None:
            _check_size(path, page.imagewidth, page.imagelength, tiff_files.decoded_bytes(page))
        file.seek(0)
        own_format = FORMAT_OF_SUFFIX.get(path.suffix.lower(), "PNG")
        picture = PillowImage.open(file, formats=(*_COMMON_FORMATS, own_format))
    except InputError:
        raise
    except PillowImage.DecompressionBombError as error:
        raise _too_many_pixels(f"{path} has more pixels than are ever read") from error
    except MemoryError as error:
        raise too_large_for_memory(path) from error
    except Exception as error:  # decoders raise all sorts on damaged files
        reason = f" ({_shortened(error)})" if isinstance(error, tiff_files.TiffError) else ""
        raise InputValueError(
            f"{path} is not an image that can be read{reason}. {_EXPECTED}; convert it or remove "
            "it."
        ) from error
    try:
        bits = page.bitspersample if page else _bits_per_channel(picture, file)
        width, height = picture.size
        _check_size(
            path, width, height, width * height * len(picture.getbands()) * math.ceil(bits / 8)
        )
        yield ImageFile(path, file, picture, page, bits)
    finally:
        picture.close()  # what it decoded too


def _check_size(path: Path, width: int, height: int, decoded_bytes: int) -> None:
    """Refuse an image that is larger than the limits allow."""
    limits = current_limits()
    if width * height == 0:
        raise InputValueError(f"{path} has no pixels ({width} x {height}). {_EXPECTED}; remove it.")
    if width * height > limits.megapixels * 1e6:
        raise _too_many_pixels(f"{path} has {width} x {height} pixels")
    if decoded_bytes > limits.decoded_mib * 2**20:
        raise InputValueError(
            f"{path} takes {decoded_bytes / 2**20:.0f} MiB decoded; `limits.decoded_mib` allows "
            f"{limits.decoded_mib}. Cut it into tiles, scale it down, or raise "
            "`--limits.decoded-mib`."
        )


def _too_many_pixels(what: str) -> InputValueError:
    return InputValueError(
        f"{what}; `limits.megapixels` allows {current_limits().megapixels:g} million pixels. Cut it"
        " into tiles, scale it down, or raise `--limits.megapixels`."
    )


def _bits_per_channel(picture: PillowImage.Image, file: _TimedFile) -> int:
    """Return how many bits each channel has: 8 or fewer where Pillow decodes without loss."""
    if picture.format == "PNG":
        position = file.tell()
        file.seek(_PNG_DEPTH_OFFSET)
        bits = file.read(1)[0]
        file.seek(position)
        return bits
    return 16 if picture.mode.startswith("I;16") else 32 if picture.mode in ("I", "F") else 8


def _orientation(picture: PillowImage.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        return int(picture.getexif().get(tiff_files.ORIENTATION, 1))
    except InputError:  # the time is up
        raise
    except Exception:  # noqa: BLE001 - damaged EXIF does not make the pixels unreadable
        return 1


@contextmanager
def _quiet_decoders() -> Iterator[None]:
    """Keep decoders from printing lines of their own about a damaged file: the error tells it."""
    logger = logging.getLogger("PIL.TiffImagePlugin")
    was_disabled, logger.disabled = logger.disabled, True
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        cv2.utils.logging.setLogLevel(level)
        logger.disabled = was_disabled


def _decode_pillow(image: ImageFile) -> np.ndarray:
    """Decode a file of up to 8 bits, or of more in a format other than PNG and TIFF."""
    picture = image.picture
    if picture.format in ("JPEG", "MPO"):
        _check_scans(image)
    orientation, size = image.orientation, picture.size
    picture.load()
    if picture.size != size:
        raise ValueError("its header gives two sizes")
    if image.bits <= 8 or picture.mode == "CMYK":
        return oriented(eight_bit(picture), orientation)
    pixels = np.asarray(picture)
    is_scaled = picture.format == "PPM" and pixels.dtype == np.int32  # to 16 bits, by Pillow
    return oriented(pixels.astype(np.uint16) if is_scaled else pixels, orientation)


def _check_scans(image: ImageFile) -> None:
    """Refuse a JPEG file of so many scans, each over all pixels, that it takes minutes."""
    position = image.file.tell()
    image.file.seek(0)
    num_scans = 0
    while part := image.file.read(2**20):
        num_scans += part.count(b"\xff\xda")
    image.file.seek(position)
    if num_scans > _MOST_SCANS:
        raise ValueError(f"it has {num_scans} scans; at most {_MOST_SCANS}")


def _decode_deep_png(image: ImageFile) -> np.ndarray:
    """Decode a PNG file that Pillow would cut down to 8 bits."""
    orientation = image.orientation
    image.file.seek(0)
    with PillowImage.open(image.file, formats=("PNG",)) as picture:
        picture.verify()  # every chunk; OpenCV leaves the rest of a truncated file black
    return oriented(_decode_opencv(image), orientation)


def _decode_deep_tiff(image: ImageFile, page: tifffile.TiffPage) -> np.ndarray:
    """Decode the first page of a TIFF file that Pillow would cut down to 8 bits."""
    if tiff_files.is_read_here(page):
        pixels = tiff_files.read_pixels(page, image.file, image.file.check_time)
        pixels = oriented(pixels, page.tags[tiff_files.ORIENTATION].value)
    elif page.planarconfig == 2 and page.samplesperpixel > 1:
        raise ValueError("its channels are stored apart with a compression that is not read so")
    else:  # a compression such as LZW; OpenCV turns a TIFF itself
        pixels = _decode_opencv(image)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype == np.uint16:
        pixels = np.iinfo(np.uint16).max - pixels
    if page.samplesperpixel == 4 and page.extrasamples[:1] == (tifffile.EXTRASAMPLE.UNSPECIFIED,):
        return pixels[:, :, :3]
    if page.samplesperpixel == 4 and page.extrasamples[:1] == (tifffile.EXTRASAMPLE.ASSOCALPHA,):
        raise ValueError("its colors are multiplied with alpha, which is not read at 16 bits")
    return pixels


def _decode_opencv(image: ImageFile) -> np.ndarray:
    """Decode with OpenCV, from bytes, since it does not open every file name by itself."""
    file_bytes, most = image.file.seek(0, 2), current_limits().decoded_mib * 2**20
    if file_bytes > most:
        raise InputValueError(
            f"{image.path} has {file_bytes / 2**20:.0f} MiB; `limits.decoded_mib` allows "
            f"{most // 2**20}. Save its first page alone, or raise `--limits.decoded-mib`."
        )
    image.file.seek(0)
    stored = np.frombuffer(image.file.read(), np.uint8)
    pixels = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("the decoder gave up")
    if sorted(pixels.shape[:2]) != sorted(image.picture.size):
        raise ValueError("its header gives two sizes")
    if pixels.ndim == 3 and pixels.shape[2] >= 3:  # BGR; swapped in place, an image may be large
        blue = pixels[:, :, 0].copy()
        pixels[:, :, 0] = pixels[:, :, 2]
        pixels[:, :, 2] = blue
    return pixels


def _shortened(error: Exception) -> str:
    """Return the first line of what a decoder says, cut to a length that can be shown."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:120]
