"""Every kind of image file and array becomes the same float32 RGB; what does not fit is refused."""

import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from patchscout.checks import InputError, InputNotFoundError, InputTypeError, InputValueError
from patchscout.data.images import (
    read_image,
    read_size,
    resize_image,
    resize_mask,
    to_image,
)

RNG = np.random.default_rng(0)
RGB8 = RNG.integers(0, 256, (6, 9, 3), np.uint8)
RGB16 = RNG.integers(0, 65536, (6, 9, 3), np.uint16)
GREY8, GREY16 = RGB8[:, :, 0], RGB16[:, :, 0]
EXACT = {"rtol": 0, "atol": 1e-6}

# Where the pixel of an upright image is stored, for each EXIF orientation: the definition in the
# standard, told as what is in the stored picture's first row and first column.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright[:, ::-1].swapaxes(0, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright[::-1].swapaxes(0, 1),
}


def grey(image):
    return np.repeat(image[:, :, None], 3, axis=2)


def save(array, path, mode=None, **options):
    picture = PillowImage.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def exif(orientation):
    tags = PillowImage.Exif()
    tags[0x0112] = orientation
    return tags


def pil(array):
    return lambda path: save(array, path)


def tiff(array, **options):
    return lambda path: tifffile.imwrite(path, array, **options)


def opencv(array, *options):
    return lambda path: cv2.imwrite(str(path), array[:, :, ::-1], [*options])


BITS = GREY8 > 99
LZW = (cv2.IMWRITE_TIFF_COMPRESSION, 5)
KINDS = [
    *((f"rgb.{suffix}", pil(RGB8), RGB8 / 255) for suffix in ("png", "bmp", "tif", "tiff")),
    *((f"grey.{suffix}", pil(GREY8), grey(GREY8 / 255)) for suffix in ("png", "bmp", "tif")),
    *((f"bits.{suffix}", pil(BITS), grey(BITS * 1.0)) for suffix in ("png", "bmp", "tif")),
    *((f"grey16.{suffix}", pil(GREY16), grey(GREY16 / 65535)) for suffix in ("png", "tif")),
    ("rgb16.png", opencv(RGB16), RGB16 / 65535),
    ("lzw16.tif", opencv(RGB16, *LZW), RGB16 / 65535),
    ("white8.tif", tiff(GREY8, photometric="miniswhite"), grey(1 - GREY8 / 255)),
    ("white16.tif", tiff(GREY16, photometric="miniswhite"), grey(1 - GREY16 / 65535)),
    ("pages8.tif", tiff(np.stack([RGB8, 255 - RGB8]), photometric="rgb"), RGB8 / 255),
    ("pages16.tif", tiff(np.stack([RGB16, 65535 - RGB16]), photometric="rgb"), RGB16 / 65535),
    ("float.tif", tiff((GREY8 / 255).astype(np.float32)), grey(GREY8 / 255)),
]


@pytest.mark.parametrize(("name", "write", "expected"), KINDS, ids=[kind[0] for kind in KINDS])
def test_each_kind_of_file_is_read_at_its_depth(tmp_path, name, write, expected):
    write(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    np.testing.assert_allclose(image, expected, **EXACT)


def test_jpeg_is_read_in_rgb_order(tmp_path):
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, :, 0] = 200
    image = read_image(save(red, tmp_path / "image.JPG", quality=95))
    np.testing.assert_allclose(image.mean(axis=(0, 1)), [200 / 255, 0, 0], atol=0.01)


def test_png_of_16_bits_with_alpha_is_laid_over_white(tmp_path):
    path = tmp_path / "image.png"
    alpha = np.full((6, 9, 1), 0x8000, np.uint16)
    cv2.imwrite(str(path), np.concatenate([RGB16[:, :, ::-1], alpha], axis=2))
    share = 0x8000 / 65535
    np.testing.assert_allclose(read_image(path), RGB16 / 65535 * share + 1 - share, **EXACT)


def test_float_tiff_must_lie_in_the_unit_range(tmp_path):
    tifffile.imwrite(tmp_path / "bad.tif", RGB8[:, :, 0].astype(np.float32))
    with pytest.raises(InputValueError, match=r"bad\.tif has values .* must lie in \[0, 1\]"):
        read_image(tmp_path / "bad.tif")


def test_palette_image(tmp_path):
    picture = PillowImage.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 255, 0, 0])
    picture.save(tmp_path / "image.png")
    expected = np.array([[[10, 20, 30], [40, 50, 60]], [[255, 0, 0], [40, 50, 60]]])
    np.testing.assert_allclose(read_image(tmp_path / "image.png"), expected / 255, **EXACT)
    picture.save(tmp_path / "image.png", transparency=2)
    expected[1, 0] = 255
    np.testing.assert_allclose(read_image(tmp_path / "image.png"), expected / 255, **EXACT)


@pytest.mark.parametrize(("background", "level"), [(1.0, 255), (0.0, 0)])
def test_alpha_is_laid_over_the_background(tmp_path, background, level):
    rgba = np.full((1, 3, 4), 100, np.uint8)
    rgba[0, :, 3] = [255, 0, 51]
    save(rgba, tmp_path / "rgba.png")
    save(rgba, tmp_path / "rgba.tif")
    save(np.ascontiguousarray(rgba[:, :, 2:]), tmp_path / "grey_alpha.png")
    expected = grey(np.array([[100, level, 100 * 0.2 + level * 0.8]]) / 255)
    for name in ("rgba.png", "rgba.tif", "grey_alpha.png"):
        image = read_image(tmp_path / name, background=background)
        np.testing.assert_allclose(image, expected, **EXACT)


def test_cmyk(tmp_path):
    cmyk = np.zeros((16, 16, 4), np.uint8)
    cmyk[:, :, 1] = cmyk[:, :, 2] = 255  # magenta and yellow make red
    for name in ("image.jpg", "image.tif"):
        PillowImage.fromarray(cmyk, "CMYK").save(tmp_path / name)
        mean = read_image(tmp_path / name).mean(axis=(0, 1))
        np.testing.assert_allclose(mean, [1, 0, 0], atol=0.03)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    def check(name, expected, **tolerance):
        image = read_image(tmp_path / name)
        assert read_size(tmp_path / name) == image.shape[:2] == (6, 9)
        np.testing.assert_allclose(image, expected, **tolerance)

    stored8 = np.ascontiguousarray(STORED[orientation](RGB8))
    stored16 = np.ascontiguousarray(STORED[orientation](RGB16))
    tag = [(274, "H", 1, orientation, True)]
    save(stored8, tmp_path / "8.png", exif=exif(orientation))
    check("8.png", RGB8 / 255, **EXACT)
    tifffile.imwrite(tmp_path / "8.tif", stored8, photometric="rgb", extratags=tag)
    check("8.tif", RGB8 / 255, **EXACT)
    tifffile.imwrite(tmp_path / "16.tif", stored16, photometric="rgb", extratags=tag)
    check("16.tif", RGB16 / 65535, **EXACT)
    save(stored16[:, :, 0], tmp_path / "16.png", exif=exif(orientation))
    check("16.png", grey(RGB16[:, :, 0] / 65535), **EXACT)
    options = {"compression": "tiff_lzw", "tiffinfo": {274: orientation}}
    save(stored16[:, :, 0], tmp_path / "16_lzw.tif", **options)
    check("16_lzw.tif", grey(RGB16[:, :, 0] / 65535), **EXACT)
    smooth = np.add.outer(np.arange(6), np.arange(9) * 2).astype(np.uint8) * 10
    save(STORED[orientation](smooth), tmp_path / "8.jpg", quality=100, exif=exif(orientation))
    check("8.jpg", grey(smooth / 255), atol=0.02)


def test_missing_file(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"gone\.png does not exist. Expected .* check"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize("read", [read_image, read_size])
def test_files_that_are_no_images(tmp_path, read):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(InputValueError, match=r"empty\.png is empty \(0 bytes\)"):
        read(tmp_path / "empty.png")
    with pytest.raises(InputValueError, match=r"text\.png is not an image .* convert it"):
        read(tmp_path / "text.png")
    with pytest.raises(InputValueError, match=r"is a folder\. Expected a PNG"):
        read(tmp_path)


@pytest.mark.parametrize(
    "name", ["8.png", "8.jpg", "8.bmp", "8.tif", "16.png", "16.tif", "16_zlib.tif", "16_lzw.tif"]
)
def test_truncated_file(tmp_path, name, capfd):
    path = tmp_path / name
    if name.startswith("8"):
        save(RNG.integers(0, 256, (60, 60, 3), np.uint8), path)
    else:
        pixels = RNG.integers(0, 65536, (60, 60, 3), np.uint16)
        if name == "16_zlib.tif":
            tifffile.imwrite(path, pixels, compression="zlib")
        elif name == "16.tif":
            tifffile.imwrite(path, pixels)
        else:
            cv2.imwrite(str(path), pixels)
    read_image(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputValueError, match=rf"{name} is (truncated|not an image).* remove it"):
        read_image(path)
    assert "ERROR" not in capfd.readouterr().err


def test_image_of_zero_width(tmp_path):
    path = save(RGB8, tmp_path / "zero.png")
    content = path.read_bytes()
    header = content[12:16] + struct.pack(">I", 0) + content[20:29]
    path.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])
    with pytest.raises(InputValueError, match=r"zero\.png (has no pixels|is not an image)"):
        read_image(path)


def test_depths_that_are_not_read(tmp_path):
    tifffile.imwrite(tmp_path / "deep.tif", np.zeros((4, 5), np.uint32))
    with pytest.raises(InputError, match=r"deep\.tif (has values of type uint32|is not an image)"):
        read_image(tmp_path / "deep.tif")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RGB8, RGB8 / 255),
        (RGB16, RGB16 / 65535),
        (RGB16.astype(">u2"), RGB16 / 65535),
        (RGB8[:, :, :1], grey(RGB8[:, :, 0] / 255)),
        (RGB8[:, :, 0], grey(RGB8[:, :, 0] / 255)),
        (RGB8[:, :, 0] > 99, grey((RGB8[:, :, 0] > 99) * 1.0)),
        (RGB8 / 255, RGB8 / 255),
        ((RGB8 / 255).astype(np.float32), RGB8 / 255),
        (np.full((2, 3, 4), 0.5), np.full((2, 3, 3), 0.75)),
    ],
)
def test_arrays(array, expected):
    image = to_image(array)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, expected, **EXACT)


def test_pillow_images_and_paths(tmp_path):
    picture = PillowImage.fromarray(RGB8)
    np.testing.assert_allclose(to_image(picture), RGB8 / 255, **EXACT)
    deep = to_image(PillowImage.fromarray(RGB16[:, :, 0]))
    np.testing.assert_allclose(deep, grey(RGB16[:, :, 0] / 65535), **EXACT)
    path = save(np.ascontiguousarray(STORED[6](RGB8)), tmp_path / "image.png", exif=exif(6))
    for image in (path, str(path), PillowImage.open(path)):
        np.testing.assert_allclose(to_image(image), RGB8 / 255, **EXACT)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((250, 250, 2)), r"`image` must have 1, 3 or 4 .* \(250, 250, 2\). Convert it to"),
        (np.zeros((3, 250, 250)), r"got \(3, 250, 250\). Move the channels last"),
        (np.zeros((1, 8, 8, 3)), r"got \(1, 8, 8, 3\). Give one image at a time"),
        (np.zeros((0, 8, 3)), r"`image` has no pixels; got shape \(0, 8, 3\)"),
        (np.full((8, 8), 255.0), r"values from 255 to 255; .* Divide them"),
        (np.full((8, 8), -0.1), r"values from -0\.1"),
        (np.full((8, 8), np.nan), r"values from nan"),
    ],
)
def test_arrays_that_do_not_fit(array, message):
    with pytest.raises(InputValueError, match=message):
        to_image(array)


def test_types_that_do_not_fit():
    with pytest.raises(InputTypeError, match="values of type int64; expected uint8"):
        to_image(np.zeros((8, 8), np.int64))
    with pytest.raises(InputTypeError, match="a Pillow image or a path; got list"):
        to_image([[0, 1], [1, 0]])


def test_shrinking_averages_and_enlarging_interpolates():
    board = np.indices((8, 8)).sum(axis=0) % 2
    image = to_image(board.astype(bool))
    np.testing.assert_allclose(resize_image(image, (4, 4)), 0.5)
    one_way = resize_image(image, (16, 4))  # the columns shrink, the rows grow
    assert one_way.shape == (16, 4, 3)
    np.testing.assert_allclose(one_way, 0.5)
    ramp = resize_image(to_image(np.array([[0.0, 1.0]])), (1, 4))
    np.testing.assert_allclose(ramp[0, :, 0], [0, 0.25, 0.75, 1])
    np.testing.assert_array_equal(resize_image(image, (8, 8)), image)


def test_masks_are_resized_to_the_majority():
    mask = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 1]], bool)
    np.testing.assert_array_equal(resize_mask(mask, (2, 2)), [[True, False], [True, False]])
    np.testing.assert_array_equal(resize_mask(mask, (8, 8))[::2, ::2], mask)
    assert resize_mask(mask, (4, 4)).dtype == bool
