"""The first page of a TIFF file: its tags checked, its segments inflated within bounds."""

from __future__ import annotations

import io
import logging
import lzma
import math
import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import tifffile

ORIENTATION = 274
"""The tag of how a page is turned, in EXIF data too."""

_MOST_ENTRIES = 4096  # of a page's directory; real ones have tens
_MOST_SEGMENTS = 2**20
_LZMA_MEMORY_BYTES = 2**28
_DEFLATE, _LZMA = (8, 32946), 34925
_OLD_JPEG = 6  # tells in other tags where its pixels are
_WHOLE = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8"}
_WHOLE |= {18: "u8"}  # numpy's types, by the field types of whole numbers
# The tags that say how pixels are stored, of one value and of several.
_SINGLE = (256, 257, 259, 262, 266, ORIENTATION, 277, 278, 284, 317, 322, 323)
_SEVERAL = (258, 273, 279, 324, 325, 338, 339)
_DEFAULTS = {262: 1, ORIENTATION: 1, 277: 1, 278: 2**32 - 1, 284: 1}

# Without a handler tifffile prints lines of its own about a damaged file: the error tells it.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class TiffError(ValueError):
    """A TIFF file is damaged or stored in a way that is not read."""


def read_page(file: BinaryIO) -> tifffile.TiffPage | None:
    """Return how the first page is stored; None where the file is no TIFF file.

    tifffile and libtiff pass over a tag that they do not understand, each over other ones, and
    tifffile reads what all others hold, which takes any memory. So it is handed only the tags of
    pixels, in a header of their own, after each is found once and whole.

    Raises:
        TiffError: The header is damaged.
    """
    file.seek(0)
    start = file.read(16)
    if start[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") or len(start) < 16:
        return None
    order = "<" if start[:2] == b"II" else ">"
    tags = _read_tags(file, start, order, 8 if b"+" in start[2:4] else 4)
    tags = {tag: np.array([value]) for tag, value in _DEFAULTS.items()} | tags
    if not all(tag in tags and tags[tag][0] for tag in (256, 257, 277)):
        raise TiffError("its header gives no width, height or channels")
    if not tags[278][0]:
        raise TiffError("its strips have no rows")
    if 322 in tags and not tags.get(323, [0])[0]:
        raise TiffError("its tiles have no rows")
    tags[284] = np.where(tags[284] == 2, 2, 1)  # as libtiff does where it is damaged
    page = tifffile.TiffFile(io.BytesIO(_header(order, tags))).pages.first
    num_segments, num_told = math.prod(page.chunked), len(tags.get(_places(page)[0], ()))
    if num_segments > _MOST_SEGMENTS:
        raise TiffError(f"it is cut into more than {_MOST_SEGMENTS} segments")
    # Some decoders would leave what is missing black.
    if num_told < num_segments and page.compression != _OLD_JPEG:
        raise TiffError(f"it has {num_told} segments instead of {num_segments}")
    if isinstance(page.bitspersample, tuple):
        raise TiffError("its channels differ in depth")
    return page


def decoded_bytes(page: tifffile.TiffPage) -> int:
    """Return what all segments hold once inflated; tiles reach beyond the image."""
    return math.prod(page.chunked) * _segment_bytes(page)


def is_read_here(page: tifffile.TiffPage) -> bool:
    """Return whether `read_pixels` knows how the page is stored."""
    known = _compression(page) in (1, *_DEFLATE, _LZMA)
    return known and page.predictor in (1, 2) and page.fillorder == 1


def read_pixels(
    page: tifffile.TiffPage, file: BinaryIO, check_time: Callable[[], None]
) -> np.ndarray:
    """Return the stored pixels of a page that `is_read_here`, (H, W) or (H, W, C).

    Args:
        page: How they are stored.
        file: The file.
        check_time: Called before each segment; raises where the time is up.

    Raises:
        TiffError: A segment holds less or more than it should.
    """
    offsets, byte_counts = (page.tags.valueof(tag, default=()) for tag in _places(page))
    num_segments = math.prod(page.chunked)
    if not len(offsets) == len(byte_counts) == num_segments:
        raise TiffError(f"its {num_segments} segments are not all told")
    if page.dtype is None or page.dtype.itemsize * 8 != page.bitspersample:
        raise TiffError(f"its sample format {page.sampleformat} is not read")
    page.compression = 1  # tifffile inflates without bounds: it gets what is inflated already
    pixels = np.empty(page.shaped, page.dtype)  # (planes, 1, H, W, channels)
    most = _segment_bytes(page)
    for number, (offset, byte_count) in enumerate(zip(offsets, byte_counts, strict=True)):
        check_time()
        _, _, shape = page.decode(None, number)
        least = math.prod(shape) * pixels.itemsize  # of strips the last may be shorter
        data = _segment(file, offset, byte_count, _compression(page), least, most)
        segment, (plane, _, top, left, _), _ = page.decode(data, number)
        target = pixels[plane, 0, top : top + shape[1], left : left + shape[2]]
        target[:] = np.asarray(segment)[0, : target.shape[0], : target.shape[1]]
    pixels = np.moveaxis(pixels[:, 0, :, :, 0], 0, 2) if len(pixels) > 1 else pixels[0, 0]
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _read_tags(
    file: BinaryIO, start: bytes, order: str, offset_bytes: int
) -> dict[int, np.ndarray]:
    """Return the values of the tags that say how pixels are stored."""
    file_bytes = file.seek(0, 2)
    number = np.dtype(f"{order}u{offset_bytes}")
    file.seek(int(np.frombuffer(start, number, 1, offset_bytes)[0]))
    count_type = np.dtype(f"{order}u{8 if offset_bytes == 8 else 2}")
    num_entries = int(np.frombuffer(file.read(count_type.itemsize), count_type)[0])
    if not 0 < num_entries <= _MOST_ENTRIES:
        raise TiffError(f"its header has {num_entries} entries; at most {_MOST_ENTRIES}")
    fields = [("tag", f"{order}u2"), ("type", f"{order}u2"), ("count", number), ("at", number)]
    stored = file.read(num_entries * np.dtype(fields).itemsize)
    if len(stored) < num_entries * np.dtype(fields).itemsize:
        raise TiffError("its header is cut off")
    entries = np.frombuffer(stored, fields)
    tags: dict[int, np.ndarray] = {}
    for entry in entries[np.isin(entries["tag"], _SINGLE + _SEVERAL)]:
        tag, field_type, count, offset = entry.tolist()
        most = 1 if tag in _SINGLE else _MOST_SEGMENTS
        if tag in tags:
            raise TiffError(f"its tag {tag} is given twice")
        if field_type not in _WHOLE:
            raise TiffError(f"its tag {tag} is no whole number (field type {field_type})")
        if not 0 < count <= most:
            raise TiffError(f"its tag {tag} has {count} values; expected 1 to {most}")
        values = np.dtype(order + _WHOLE[field_type])
        stored = entry.tobytes()[-offset_bytes:]
        if (num_bytes := count * values.itemsize) > offset_bytes:
            if offset + num_bytes > file_bytes:
                raise TiffError(f"its tag {tag} lies behind the end of the file")
            file.seek(offset)
            stored = file.read(num_bytes)
        tags[tag] = np.frombuffer(stored, values, count)
        if tags[tag].min() < 0:
            raise TiffError("its header has a negative number")
    return tags


def _header(order: str, tags: dict[int, np.ndarray]) -> bytes:
    """Return a BigTIFF header of only these tags, all of 8 bytes a value."""
    entries, values = b"", b""
    for tag, numbers in sorted(tags.items()):
        stored = numbers.astype(f"{order}u8").tobytes()
        if len(numbers) > 1:
            stored, values = (
                struct.pack(f"{order}Q", 32 + 20 * len(tags) + len(values)),
                (values + stored),
            )
        entries += struct.pack(f"{order}HHQ", tag, 16, len(numbers)) + stored
    start = struct.pack(f"{order}HHHQQ", 43, 8, 0, 16, len(tags))
    return (b"II" if order == "<" else b"MM") + start + entries + bytes(8) + values


def _compression(page: tifffile.TiffPage) -> int:
    """Return how segments are compressed."""
    return page.tags.valueof(259, default=1)


def _places(page: tifffile.TiffPage) -> tuple[int, int]:
    """Return the tags that tell where each segment starts and how many bytes it has."""
    return (324, 325) if page.is_tiled else (273, 279)


def _segment_bytes(page: tifffile.TiffPage) -> int:
    width = page.tilewidth if page.is_tiled else page.imagewidth
    height = page.tilelength if page.is_tiled else page.rowsperstrip
    return width * height * page.shaped[4] * page.bitspersample // 8


def _segment(
    file: BinaryIO, offset: int, byte_count: int, compression: int, least: int, most: int
) -> bytes:
    """Return what one segment holds, inflated, `least` to `most` bytes and never more."""
    file_bytes = file.seek(0, 2)
    if byte_count == 0 or offset + byte_count > file_bytes:
        raise TiffError("a segment lies behind the end of the file")
    file.seek(offset)
    # What is stored is not read in full either where it is more than could be needed.
    data = file.read(min(byte_count, most if compression == 1 else most + most // 2 + 2**16))
    if compression != 1:
        decompressor = zlib.decompressobj()
        if compression == _LZMA:
            decompressor = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES)
        try:
            data = decompressor.decompress(data, most + 1)
        except (zlib.error, lzma.LZMAError) as error:
            raise TiffError(f"a segment cannot be inflated: {error}") from error
        if len(data) <= most and not decompressor.eof:
            raise TiffError("a segment is cut off")
    if len(data) < least:
        raise TiffError(f"a segment holds {len(data)} bytes instead of {least}")
    if len(data) > most:
        raise TiffError(f"a segment holds more than its {most} bytes")
    return data
