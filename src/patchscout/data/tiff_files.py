"""The first page of a TIFF file: its header read strictly, its segments inflated within bounds."""

from __future__ import annotations

import lzma
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

MIN_IS_WHITE = 0
"""Of a page's `photometric`: the largest value is black."""

_MOST_ENTRIES = 4096  # of a page's directory; real ones have tens
_MOST_SEGMENTS = 2**20
_LZMA_MEMORY_BYTES = 2**28
_WHOLE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
"""The field types of whole numbers, as `struct` has them."""

# The tags that say how pixels are stored, with what holds where one is missing. The number of
# values is checked where there may be several.
_SINGLE = {
    "width": (256, None),
    "height": (257, None),
    "compression": (259, 1),
    "photometric": (262, 1),
    "fill_order": (266, 1),
    "orientation": (274, 1),
    "channels": (277, 1),
    "rows_per_strip": (278, 2**32 - 1),
    "planes": (284, 1),
    "predictor": (317, 1),
    "tile_width": (322, 0),
    "tile_height": (323, 0),
}
_BITS, _SAMPLE_FORMAT, _EXTRA_CHANNELS = 258, 339, 338
_STRIPS, _TILES = (273, 279), (324, 325)  # where each starts, how many bytes it has
_SEVERAL = {_BITS, _SAMPLE_FORMAT, _EXTRA_CHANNELS, *_STRIPS, *_TILES}
_DEFLATE, _LZMA = (8, 32946), 34925
_OLD_JPEG = 6  # tells in other tags where its pixels are
_KINDS = {1: "u", 2: "i", 3: "f"}  # numpy's, by sample format


class TiffError(ValueError):
    """A TIFF file is damaged or stored in a way that is not read."""


@dataclass(frozen=True)
class TiffPage:
    """How the first page of a TIFF file is stored; sizes are in pixels, as stored."""

    byte_order: str
    width: int
    height: int
    channels: int
    bits: int
    kind: str
    compression: int
    predictor: int
    photometric: int
    fill_order: int
    orientation: int
    extra_channels: tuple[int, ...]
    planes_apart: bool
    segment_width: int
    segment_height: int
    offsets: tuple[int, ...]
    byte_counts: tuple[int, ...]

    @property
    def segments_across(self) -> int:
        """How many segments lie beside each other."""
        return math.ceil(self.width / self.segment_width)

    @property
    def segments_down(self) -> int:
        """How many segments lie below each other."""
        return math.ceil(self.height / self.segment_height)

    @property
    def decoded_bytes(self) -> int:
        """What all segments hold once inflated; tiles reach beyond the image."""
        across = self.segments_across * self.segment_width
        down = self.segments_down * self.segment_height
        return across * down * self.channels * self.bits // 8

    @property
    def is_read_here(self) -> bool:
        """Whether `read_pixels` knows how the page is stored."""
        known = self.compression in (1, *_DEFLATE, _LZMA)
        return known and self.predictor in (1, 2) and self.fill_order == 1


def read_page(file: BinaryIO) -> TiffPage | None:
    """Return how the first page is stored; None where the file is no TIFF file.

    Only whole numbers are taken for sizes, each tag once, so that every decoder finds the same.

    Raises:
        TiffError: The header is damaged.
    """
    file.seek(0)
    start = file.read(16)
    byte_order = {b"II": "<", b"MM": ">"}.get(start[:2])
    if byte_order is None or len(start) < 16:
        return None
    version = struct.unpack_from(f"{byte_order}H", start, 2)[0]
    if version not in (42, 43):
        return None
    tags = _read_tags(file, byte_order, start, is_big=version == 43)
    return _page(byte_order, tags)


def read_pixels(page: TiffPage, file: BinaryIO, check_time: Callable[[], None]) -> np.ndarray:
    """Return the stored pixels of a page for which `is_read_here` holds, (H, W) or (H, W, C).

    Args:
        page: How they are stored.
        file: The file.
        check_time: Called before each segment; raises where the time is up.

    Raises:
        TiffError: A segment holds less or more than it should.
    """
    dtype = np.dtype(f"{page.byte_order}u{page.bits // 8}")  # differences are of whole numbers
    depth = 1 if page.planes_apart else page.channels
    num_planes = page.channels if page.planes_apart else 1
    across, down = page.segments_across, page.segments_down
    if not len(page.offsets) == len(page.byte_counts) == across * down * num_planes:
        raise TiffError(f"its {across * down * num_planes} segments are not all told")
    pixels = np.empty((page.height, page.width, page.channels), dtype.newbyteorder("="))
    for number, (offset, byte_count) in enumerate(zip(page.offsets, page.byte_counts, strict=True)):
        check_time()
        plane, place = divmod(number, across * down)
        top, left = place // across * page.segment_height, place % across * page.segment_width
        # Of strips the last may be shorter; tiles are whole.
        is_strip = page.segment_width == page.width
        rows = min(page.segment_height, page.height - top) if is_strip else page.segment_height
        row_bytes = page.segment_width * depth * dtype.itemsize
        data = _segment(
            file, offset, byte_count, page, rows * row_bytes, page.segment_height * row_bytes
        )
        segment = np.frombuffer(data, dtype, rows * page.segment_width * depth)
        segment = segment.reshape(rows, page.segment_width, depth)
        if page.predictor == 2:  # each value is stored as the difference to the one on its left
            segment = np.cumsum(segment, axis=1, dtype=pixels.dtype)
        target = pixels[top : top + rows, left : left + page.segment_width]
        channels = slice(plane, plane + 1) if page.planes_apart else slice(None)
        target[:, :, channels] = segment[: target.shape[0], : target.shape[1]]
    pixels = pixels.view(f"{page.kind}{page.bits // 8}")
    return pixels[:, :, 0] if page.channels == 1 else pixels


def _read_tags(
    file: BinaryIO, byte_order: str, start: bytes, *, is_big: bool
) -> dict[int, tuple[int, ...]]:
    """Return the values of the tags that say how pixels are stored."""
    count_format, entry_format, offset_format = ("Q", "HHQ", "Q") if is_big else ("H", "HHI", "I")
    file_bytes = file.seek(0, 2)
    file.seek(struct.unpack_from(byte_order + offset_format, start, 8 if is_big else 4)[0])
    (num_entries,) = _unpack(file, byte_order + count_format)
    if not 0 < num_entries <= _MOST_ENTRIES:
        raise TiffError(f"its header has {num_entries} entries; at most {_MOST_ENTRIES}")
    inline_bytes = struct.calcsize(byte_order + offset_format)
    entry_bytes = struct.calcsize(byte_order + entry_format) + inline_bytes
    entries = file.read(num_entries * entry_bytes)
    if len(entries) < num_entries * entry_bytes:
        raise TiffError("its header is cut off")
    singles = {tag for tag, _ in _SINGLE.values()}
    tags: dict[int, tuple[int, ...]] = {}
    for position in range(0, len(entries), entry_bytes):
        tag, field_type, count = struct.unpack_from(byte_order + entry_format, entries, position)
        if tag not in singles and tag not in _SEVERAL:
            continue
        if tag in tags:
            raise TiffError(f"its tag {tag} is given twice")
        if field_type not in _WHOLE:
            raise TiffError(f"its tag {tag} is no whole number (field type {field_type})")
        most = 1 if tag in singles else _MOST_SEGMENTS
        if not 0 < count <= most:
            raise TiffError(f"its tag {tag} has {count} values; expected 1 to {most}")
        values = f"{byte_order}{count}{_WHOLE[field_type]}"
        value_at = position + entry_bytes - inline_bytes
        if struct.calcsize(values) <= inline_bytes:
            tags[tag] = struct.unpack_from(values, entries, value_at)
            continue
        (offset,) = struct.unpack_from(byte_order + offset_format, entries, value_at)
        if offset + struct.calcsize(values) > file_bytes:
            raise TiffError(f"its tag {tag} lies behind the end of the file")
        file.seek(offset)
        tags[tag] = _unpack(file, values)
    if any(value < 0 for values in tags.values() for value in values):
        raise TiffError("its header has a negative number")
    return tags


def _page(byte_order: str, tags: dict[int, tuple[int, ...]]) -> TiffPage:
    """Return the page that the tags describe."""
    single = {name: tags.get(tag, (default,))[0] for name, (tag, default) in _SINGLE.items()}
    width, height, channels = single["width"], single["height"], single["channels"]
    if not width or not height or not channels:
        raise TiffError("its header gives no width, height or channels")
    is_tiled = single["tile_width"] > 0 and single["tile_height"] > 0
    rows_per_strip = min(single["rows_per_strip"], height)
    if rows_per_strip == 0:
        raise TiffError("its strips have no rows")
    segment_width = single["tile_width"] if is_tiled else width
    segment_height = single["tile_height"] if is_tiled else rows_per_strip
    num_segments = math.ceil(width / segment_width) * math.ceil(height / segment_height)
    num_segments *= channels if single["planes"] == 2 else 1
    if num_segments > _MOST_SEGMENTS:
        raise TiffError(f"it is cut into more than {_MOST_SEGMENTS} segments")
    starts, counts = _TILES if is_tiled else _STRIPS
    offsets = tags.get(starts, ())
    # Some decoders would leave what is missing black.
    if len(offsets) < num_segments and single["compression"] != _OLD_JPEG:
        raise TiffError(f"it has {len(offsets)} segments instead of {num_segments}")
    bits, sample_formats = tags.get(_BITS, (1,)), tags.get(_SAMPLE_FORMAT, (1,))
    if max(bits) > 8 and (len(set(bits)) > 1 or len(set(sample_formats)) > 1):
        raise TiffError("its channels differ in depth")
    return TiffPage(
        byte_order=byte_order,
        width=width,
        height=height,
        channels=channels,
        bits=max(bits),
        kind=_KINDS.get(sample_formats[0], "u"),
        compression=single["compression"],
        predictor=single["predictor"],
        photometric=single["photometric"],
        fill_order=single["fill_order"],
        orientation=single["orientation"],
        extra_channels=tags.get(_EXTRA_CHANNELS, ()),
        planes_apart=single["planes"] == 2 and channels > 1,
        segment_width=segment_width,
        segment_height=segment_height,
        offsets=offsets,
        byte_counts=tags.get(counts, ()),
    )


def _unpack(file: BinaryIO, values: str) -> tuple[int, ...]:
    data = file.read(struct.calcsize(values))
    if len(data) < struct.calcsize(values):
        raise TiffError("its header is cut off")
    return struct.unpack(values, data)


def _segment(
    file: BinaryIO, offset: int, byte_count: int, page: TiffPage, least: int, most: int
) -> bytes:
    """Return what one segment holds, inflated, `least` to `most` bytes and never more."""
    file_bytes = file.seek(0, 2)
    if byte_count == 0 or offset + byte_count > file_bytes:
        raise TiffError("a segment lies behind the end of the file")
    file.seek(offset)
    if page.compression == 1:
        data = file.read(min(byte_count, most))
    else:
        # What is stored is not read in full either where it is more than could be needed.
        stored = file.read(min(byte_count, most + most // 2 + 2**16))
        try:
            data = _inflated(stored, page.compression, most)
        except (zlib.error, lzma.LZMAError) as error:
            raise TiffError(f"a segment cannot be inflated: {error}") from error
    if len(data) < least:
        raise TiffError(f"a segment holds {len(data)} bytes instead of {least}")
    if len(data) > most:
        raise TiffError(f"a segment holds more than its {most} bytes")
    return data


def _inflated(stored: bytes, compression: int, most: int) -> bytes:
    """Return what was compressed; of what is longer than `most` bytes, one byte more than that."""
    if compression == _LZMA:
        decompressor = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES)
    else:
        decompressor = zlib.decompressobj()
    data = decompressor.decompress(stored, most + 1)
    if len(data) <= most and not decompressor.eof:
        raise TiffError("a segment is cut off")
    return data
