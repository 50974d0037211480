"""The working size: shape and number of pixels follow the images and their thinnest defects."""

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from patchscout.checks import InputValueError
from patchscout.data.annotations import MaskFile
from patchscout.monitor import Monitor
from patchscout.training.working_size import (
    choose_image_size,
    relative_thickness,
    without_vanished,
)
from patchscout.types import Sample, Split


@pytest.fixture
def write(tmp_path):
    """Write an image of (height, width); with a thickness it has a line so thick, in px."""

    def make(size, thickness=None):
        stem = f"{len(list(tmp_path.iterdir()))}"
        path = tmp_path / f"{stem}.png"
        grain = np.random.default_rng(0).integers(0, 256, size, np.uint8)
        PillowImage.fromarray(grain).save(path)
        if thickness is None:
            return Sample(path)
        mask = np.zeros(size, np.uint8)
        top = size[0] // 2
        mask[top : top + thickness, size[1] // 4 : size[1] // 4 * 3] = 255
        PillowImage.fromarray(mask).save(tmp_path / f"{stem}_mask.png")
        return Sample(path, "crack", MaskFile(tmp_path / f"{stem}_mask.png"))

    return make


def area(size):
    return size[0] * size[1]


@pytest.mark.parametrize("native", [(1024, 1024), (900, 900), (300, 300), (100, 100)])
def test_squares_with_coarse_defects_or_none_are_worked_on_at_256(write, native):
    normal = [write(native)]
    coarse = [write(native, native[0] // 4)]
    assert choose_image_size(normal, []) == choose_image_size(normal, coarse) == (256, 256)


@pytest.mark.parametrize("native", [(300, 1200), (1260, 500), (600, 800)])
def test_the_shape_is_kept_and_the_pixels_are_as_many(write, native):
    height, width = choose_image_size([write(native)], [])
    assert height % 16 == width % 16 == 0
    assert height / width == pytest.approx(native[0] / native[1], rel=0.08)  # rounded to 16 px
    assert height * width == pytest.approx(256**2, rel=0.1)


def test_the_shape_is_the_median_of_the_normal_images(write):
    normal = [write(size) for size in ((400, 400), (400, 400), (400, 1600), (400, 400), (90, 30))]
    assert choose_image_size(normal, [write((100, 900), 20)]) == (256, 256)


def test_thin_defects_raise_the_number_of_pixels(write):
    normal, chosen = [write((1000, 1000))], []
    for thickness in (60, 24, 20, 18, 10, 2):
        height, width = choose_image_size(normal, [write((1000, 1000), thickness)])
        assert height == width
        chosen.append(height)
        # So large that the line is 8 px thick, but never above 512.
        wanted = max(256, min(512, 8 * 1000 / thickness))
        assert height == pytest.approx(wanted, abs=8)
    assert chosen[0] == 256
    assert 256 < chosen[2] < chosen[3] < 512
    assert chosen[-1] == 512


def test_not_larger_than_the_images_themselves(write):
    assert choose_image_size([write((400, 400))], [write((400, 400), 2)]) == (400, 400)
    assert choose_image_size([write((208, 800))], [write((208, 800), 2)]) == (208, 800)
    assert choose_image_size([write((128, 128))], [write((128, 128), 2)]) == (256, 256)


def test_a_quarter_of_thin_ones_decides(write):
    normal, coarse, thin = [write((1000, 1000))], write((1000, 1000), 80), write((1000, 1000), 2)
    assert choose_image_size(normal, [coarse] * 4 + [thin]) == (256, 256)
    assert choose_image_size(normal, [coarse] * 3 + [thin] * 2) == (512, 512)


def test_no_side_is_shorter_or_longer_than_can_be_worked_on(write):
    long = [write((100, 3000))]
    height, width = choose_image_size(long, [])
    assert (height, width) == (64, 1408)
    assert choose_image_size([write((32, 32 * 300))], []) == (64, 4096)


@pytest.mark.parametrize(("shape", "diameter"), [("disc", 40), ("line", 6)])
def test_thickness_is_the_diameter_of_the_largest_circle_inside(shape, diameter):
    mask = np.zeros((200, 300), np.uint8)
    if shape == "disc":
        cv2.circle(mask, (150, 100), diameter // 2, 1, -1)
    else:
        mask[50 : 50 + diameter, 10:290] = 1
    mask[150:152, 20:40] = 1  # a thinner one beside it does not count
    assert relative_thickness(mask > 0) * (200 * 300) ** 0.5 == pytest.approx(diameter, abs=2)


def test_a_single_pixel_has_some_thickness():
    mask = np.zeros((100, 100), bool)
    mask[3, 4] = True
    assert 0 < relative_thickness(mask) <= 2 / 100


def test_labels_that_vanish_at_the_working_size_are_left_out(write, tmp_path, capsys):
    normal, thick, thin = write((400, 400)), write((400, 400), 20), write((400, 400), 1)
    split = Split((normal,), (thick, thin, thin), (thin,))

    def kept(split, side_px):
        return without_vanished(split, (side_px, side_px), tmp_path, Monitor(quiet=False))

    assert kept(split, 64) == Split((normal,), (thick,), (thin,))
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "2 of 3 labeled images are left out" in said
    assert "raise `data.image_size`, which is (64, 64)" in said
    unlabeled = Split((normal,), (), ())
    assert (kept(split, 400), kept(unlabeled, 64)) == (split, unlabeled)
    assert capsys.readouterr().out == ""
    with pytest.raises(InputValueError, match="No labeled defect of"):
        kept(Split((normal,), (thin,), ()), 64)
