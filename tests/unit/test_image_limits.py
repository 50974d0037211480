"""Image files that ask for too much, or that are damaged, are refused before the work is done."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from patchscout.checks import InputError, InputValueError
from patchscout.data import image_files, images, tiff_files
from patchscout.data.images import read_image, read_size, to_image

RNG = np.random.default_rng(0)
RGB8 = RNG.integers(0, 256, (6, 9, 3), np.uint8)
RGB16 = RNG.integers(0, 65536, (6, 9, 3), np.uint16)
RGBA16 = RNG.integers(0, 65536, (6, 9, 4), np.uint16)
TYPES = {"byte": 1, "text": 2, "short": 3, "long": 4, "rational": 5, "signed": 9, "double": 12}


def png_of_size(path, width, height, bits=8, color_type=0):
    def chunk(name, content):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + end)
    return path


def tiff(path, segment, bits=16, changes=None, side=8, compression=8):
    """Write a grey TIFF file of one strip; `changes` are (type, count, value) by tag."""
    tags = {
        256: (4, 1, side),
        257: (4, 1, side),
        258: (3, 1, bits),
        259: (3, 1, compression),
        262: (3, 1, 1),
        273: (4, 1, 400),
        277: (3, 1, 1),
        278: (4, 1, side),
        279: (4, 1, len(segment)),
    }
    tags |= changes or {}
    given = [(tag, *entry) for tag, entry in sorted(tags.items()) if entry is not None]
    entries = b"".join(struct.pack("<HHII", *entry) for entry in given)
    header = b"II*\0" + struct.pack("<IH", 8, len(given)) + entries + b"\0\0\0\0"
    path.write_bytes(header.ljust(400, b"\0") + segment)
    return path


def test_pixels_are_limited(tmp_path, limits):
    huge = png_of_size(tmp_path / "huge.png", 100_000, 100_000)
    large = png_of_size(tmp_path / "large.png", 8_100, 8_000)
    for read in (read_image, read_size):
        with pytest.raises(
            InputValueError, match=r"huge\.png has more pixels than .* 64 million pixels. Cut"
        ):
            read(huge)
        with pytest.raises(
            InputValueError, match=r"8100 x 8000 pixels; `limits.megapixels` allows 64 million .*--"
        ):
            read(large)
    small = tmp_path / "small.png"
    PillowImage.fromarray(RGB8).save(small)
    limits(megapixels=54e-6)
    assert read_size(small) == read_image(small).shape[:2] == (6, 9)
    limits(megapixels=53e-6)
    for read in (read_image, read_size):
        with pytest.raises(InputValueError, match=r"small\.png has 9 x 6 pixels"):
            read(small)


@pytest.mark.filterwarnings("error")
def test_pillow_neither_warns_nor_refuses_below_175_megapixels(tmp_path, limits):
    limits(megapixels=175)
    path = png_of_size(tmp_path / "large.png", 17_500, 10_000, bits=1)
    with pytest.raises(InputValueError, match=r"large\.png is truncated"):
        read_image(path)


def test_decoded_bytes_are_limited(tmp_path, limits):
    limits(decoded_mib=1)
    cases = ((400, 400, 16, 2), (600, 600, 8, 2), (400, 400, 16, 6))
    for width, height, bits, color_type in cases:
        path = png_of_size(tmp_path / "image.png", width, height, bits, color_type)
        with pytest.raises(
            InputValueError, match=r"(takes 1 MiB decoded; .*--limits\.decoded-mib|is truncated)"
        ) as error:
            read_image(path)
        channels = {2: 3, 6: 4}[color_type]
        is_too_large = width * height * channels * bits // 8 > 2**20
        assert ("decoded_mib" in str(error.value)) == is_too_large
    # A tile far larger than the image; libtiff would decode it in full.
    tile = {322: (4, 1, 4096), 323: (4, 1, 4096), 324: (4, 1, 400), 325: (4, 1, 9)}
    path = tiff(tmp_path / "tile.tif", b"x" * 9, bits=8, changes=tile)
    with pytest.raises(InputValueError, match=r"takes 16 MiB decoded; .* allows 1\."):
        read_image(path)


@pytest.mark.parametrize("compression", [8, 32946])
def test_segments_are_inflated_no_further_than_they_should(tmp_path, compression):
    content = zlib.compress(bytes(2**24))
    tracemalloc.start()
    with pytest.raises(InputValueError, match="a segment holds more than its 128 bytes"):
        read_image(tiff(tmp_path / "bomb.tif", content, compression=compression))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


@pytest.mark.parametrize(
    ("segment", "compression", "message"),
    [
        (zlib.compress(bytes(127)), 8, "a segment holds 127 bytes instead of 128"),
        (zlib.compress(bytes(128))[:9], 8, "a segment is cut off"),
        (b"nonsense", 8, "a segment cannot be inflated"),
        (b"nonsense", 34925, "a segment cannot be inflated"),
        (bytes(127), 1, "a segment holds 127 bytes instead of 128"),
    ],
)
def test_segments_that_hold_less(tmp_path, segment, compression, message):
    with pytest.raises(InputValueError, match=rf"bad\.tif is truncated or damaged \({message}"):
        read_image(tiff(tmp_path / "bad.tif", segment, compression=compression))


@pytest.mark.parametrize("tag", [256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 338, 339])
@pytest.mark.parametrize("kind", ["text", "rational", "double"])
def test_tags_of_odd_types(tmp_path, tag, kind):
    path = tiff(tmp_path / "odd.tif", zlib.compress(bytes(128)), changes={tag: (TYPES[kind], 1, 8)})
    for read in (read_image, read_size):
        with pytest.raises(InputValueError, match=rf"odd\.tif .*its tag {tag} is no whole number"):
            read(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({258: (3, 2**31, 16)}, "its tag 258 has 2147483648 values"),
        ({258: (3, 0, 16)}, "its tag 258 has 0 values"),
        ({256: (4, 2, 16)}, "its tag 256 has 2 values; expected 1 to 1"),
        ({256: (9, 1, 2**32 - 1)}, "its header has a negative number"),
        ({256: (4, 1, 0)}, "its header gives no width, height or channels"),
        ({277: (3, 1, 0)}, "its header gives no width, height or channels"),
        ({278: (4, 1, 0)}, "its strips have no rows"),
        ({322: (4, 1, 16)}, "its tiles have no rows"),
        ({273: (4, 9, 2**31)}, "its tag 273 lies behind the end of the file"),
        ({278: (4, 1, 2)}, "it has 1 segments instead of 4"),
        ({273: None}, "it has 0 segments instead of 1"),
        ({273: (4, 1, 2**31)}, "a segment lies behind the end of the file"),
        ({279: (4, 1, 2**31)}, "a segment lies behind the end of the file"),
        ({279: None}, "its 1 segments are not all told"),
        ({256: (4, 1, 9)}, "a segment holds 128 bytes instead of 144"),
        ({258: (3, 1, 12)}, "."),
        ({339: (3, 1, 77)}, "."),
    ],
)
def test_tags_of_odd_values(tmp_path, changes, message):
    path = tiff(tmp_path / "odd.tif", zlib.compress(bytes(128)), changes=changes)
    with pytest.raises(InputError, match=rf"odd\.tif .*{message}"):
        read_image(path)


def test_what_other_tags_hold_is_not_read(tmp_path):
    """Each of 400 descriptions is the whole file."""
    pixels = RNG.integers(0, 65536, (8, 8), np.uint16)
    path = tiff(tmp_path / "vast.tif", pixels.astype("<u2").tobytes(), compression=1)
    content = bytearray(path.read_bytes())
    (num_entries,) = struct.unpack_from("<H", content, 8)
    end = 10 + 12 * num_entries
    start = 50_000
    entries = bytes(content[10:end]).replace(
        struct.pack("<HHII", 273, 4, 1, 400), struct.pack("<HHII", 273, 4, 1, start)
    )
    entries += struct.pack("<HHII", 270, 2, 10**6, start) * 400
    header = content[:8] + struct.pack("<H", num_entries + 400) + entries + bytes(4)
    path.write_bytes(bytes(header).ljust(start, b"\0") + content[400:] + bytes(2 * 10**6))
    tracemalloc.start()
    image = read_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(image[:, :, 0], pixels / 65535, rtol=0, atol=1e-6)
    assert peak < 2e7


def test_channels_are_together_where_the_tag_is_damaged(tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, RGB16, photometric="rgb")
    tag = struct.pack("<HHIH", 284, 3, 1, 1)
    assert tag in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(tag, struct.pack("<HHIH", 284, 3, 1, 16)))
    np.testing.assert_allclose(read_image(path), RGB16 / 65535, rtol=0, atol=1e-6)


def test_sample_formats_that_are_not_read(tmp_path):
    content = zlib.compress(bytes(256))
    path = tiff(tmp_path / "complex.tif", content, bits=32, changes={339: (3, 1, 5)})
    with path.open("rb") as file:
        page = tiff_files.read_page(file)
        assert page is not None
        with pytest.raises(tiff_files.TiffError, match="its sample format 5 is not read"):
            tiff_files.read_pixels(page, file, lambda: None)


def test_a_page_is_decoded_alike_each_time(tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", RGB16, photometric="rgb", compression="zlib")
    with image_files.open_image(tmp_path / "image.tif") as image:
        for _ in range(2):
            np.testing.assert_array_equal(image_files.decode(image), RGB16)


def test_a_tag_that_is_given_twice(tmp_path):
    path = tiff(tmp_path / "twice.tif", zlib.compress(bytes(128)))
    path.write_bytes(
        path.read_bytes().replace(struct.pack("<HH", 277, 3), struct.pack("<HH", 256, 4))
    )
    with pytest.raises(InputValueError, match="its tag 256 is given twice"):
        read_image(path)


def test_strips_that_a_small_tiff_lacks_are_not_black(tmp_path):
    path = tiff(tmp_path / "tall.tif", bytes(64), 8, {257: (4, 1, 1000)}, compression=1)
    with pytest.raises(InputValueError, match="it has 1 segments instead of 125"):
        read_image(path)


@pytest.mark.parametrize("compression", [None, "zlib", "lzma"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_tiff_of_16_bits_however_it_is_stored(tmp_path, compression, tile, planes, byte_order):
    pixels = RNG.integers(0, 65536, (33, 47, 3), np.uint16)
    stored = np.moveaxis(pixels, 2, 0) if planes == "separate" else pixels
    for is_big in {False, byte_order == "<"}:
        tifffile.imwrite(
            tmp_path / "image.tif",
            stored,
            photometric="rgb",
            planarconfig=planes,
            compression=compression,
            tile=tile,
            byteorder=byte_order,
            rowsperstrip=33 if is_big else 5,
            bigtiff=is_big,
            predictor=bool(is_big and compression),
        )
        image = read_image(tmp_path / "image.tif")
        np.testing.assert_allclose(image, pixels / 65535, rtol=0, atol=1e-6)


def test_the_fourth_channel_of_a_deep_tiff(tmp_path):
    def write(kind):
        tifffile.imwrite(tmp_path / "image.tif", RGBA16, photometric="rgb", extrasamples=[kind])
        return tmp_path / "image.tif"

    np.testing.assert_allclose(
        read_image(write("unspecified")), RGBA16[:, :, :3] / 65535, atol=1e-6
    )
    alpha = RGBA16[:, :, 3:] / 65535
    expected = RGBA16[:, :, :3] / 65535 * alpha + 1 - alpha
    np.testing.assert_allclose(read_image(write("unassalpha")), expected, rtol=0, atol=1e-6)
    with pytest.raises(InputValueError, match="its colors are multiplied with alpha"):
        read_image(write("assocalpha"))


def test_channels_stored_apart_that_only_another_decoder_could_inflate(tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(
        path, np.moveaxis(RGB16, 2, 0), photometric="rgb", planarconfig="separate", rowsperstrip=6
    )
    tag = struct.pack("<HHIH", 259, 3, 1, 1)
    assert tag in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(tag, struct.pack("<HHIH", 259, 3, 1, 5)))
    with pytest.raises(InputValueError, match="its channels are stored apart"):
        read_image(path)


def test_time_is_limited(tmp_path, limits):
    PillowImage.fromarray(RGB8).save(tmp_path / "8.png")
    tifffile.imwrite(tmp_path / "16.tif", RGB16)
    limits(seconds=1e-9)
    for name in ("8.png", "16.tif"):
        with pytest.raises(
            InputValueError, match=rf"{name} takes more than 1e-09 s .*--limits\.se"
        ):
            read_image(tmp_path / name)


def test_scans_of_a_jpeg_are_limited(tmp_path):
    path = tmp_path / "scans.jpg"
    PillowImage.fromarray(RGB8).save(path, progressive=True)
    content = path.read_bytes()
    last = content[content.rindex(b"\xff\xda") : -2]
    path.write_bytes(content[:-2] + last * 900 + b"\xff\xd9")
    assert read_image(path).shape == (6, 9, 3)
    path.write_bytes(content[:-2] + last * 1001 + b"\xff\xd9")
    with pytest.raises(InputValueError, match=r"it has 10\d\d scans; at most 1000"):
        read_image(path)


@pytest.mark.parametrize("stage", ["decode", "convert"])
def test_images_too_large_for_the_memory(tmp_path, monkeypatch, stage):
    def fail(*_):
        raise MemoryError

    place, name = (image_files, "eight_bit") if stage == "decode" else (images, "_converted")
    monkeypatch.setattr(place, name, fail)
    PillowImage.fromarray(RGB8).save(tmp_path / "image.png")
    message = r"image\.png is too large for the memory\. .*`--limits\.megapixels`"
    with pytest.raises(InputValueError, match=message):
        read_image(tmp_path / "image.png")


def test_a_pillow_image_that_is_damaged():
    file = io.BytesIO()
    PillowImage.fromarray(RNG.integers(0, 256, (90, 90, 3), np.uint8)).save(file, "PNG")
    picture = PillowImage.open(io.BytesIO(file.getvalue()[:-9000]))
    with pytest.raises(InputValueError, match=r"`image` cannot be decoded \(OSError\)"):
        to_image(picture)


def test_rows_are_converted_alike_whatever_the_block(monkeypatch):
    whole = to_image(RGBA16)
    monkeypatch.setattr(images, "_BLOCK_VALUES", 1)
    np.testing.assert_array_equal(to_image(RGBA16), whole)


def test_damaged_exif_turns_an_image_alike_whenever_it_is_asked(tmp_path):
    """Pillow gives up on such a chunk once, and says something else the second time."""
    path = tmp_path / "image.png"
    PillowImage.new("RGB", (8, 4)).save(path)
    content = path.read_bytes()
    exif = b"eXIf" + b"MM\0*\0"
    chunk = struct.pack(">I", len(exif) - 4) + exif + struct.pack(">I", zlib.crc32(exif))
    path.write_bytes(content[:33] + chunk + content[33:])
    with image_files.open_image(path) as image:
        image_files.upright_size(image)
        assert read_image(path).shape[:2] == image_files.upright_size(image)
