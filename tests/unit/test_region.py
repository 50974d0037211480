"""A region of interest: read from masks and polygons, it holds for images, masks and models."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from patchscout.build import build
from patchscout.checks import InputError, InputValueError
from patchscout.data.annotations import MaskFile
from patchscout.data.images import resize_nearest
from patchscout.data.loader import ImageLoader, resized_mask
from patchscout.data.region import limited, read_region
from patchscout.inference import Scorer, resize_map
from patchscout.monitor import Monitor
from patchscout.networks.tiles import segment
from patchscout.presets import preset_config
from patchscout.training.colors import color_statistics
from patchscout.types import Sample, Split

SIZE = 40, 60
LEFT, TOP = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
LEFT[:, :30] = TOP[:20] = True


def save(path, pixels):
    PillowImage.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return path


@pytest.fixture
def samples(tmp_path):
    """A normal image, red on the left and blue on the right, and one with a defect on each side."""
    image = np.zeros((*SIZE, 3), np.uint8)
    image[..., 0], image[..., 2] = 200 * LEFT, 100 * ~LEFT
    paths = [save(tmp_path / f"{name}.png", image) for name in ("normal", "left", "right")]
    for name, columns in (("left", slice(5, 15)), ("right", slice(40, 50))):
        mask = np.zeros(SIZE)
        mask[10:30, columns] = 255
        save(tmp_path / f"{name}_mask.png", mask)
    masks = [None, *(MaskFile(tmp_path / f"{name}_mask.png") for name in ("left", "right"))]
    kinds = ["good", "dent", "dent"]
    return [Sample(*one) for one in zip(paths, kinds, masks, strict=True)]


def labelme(path):
    shape = {"points": [[0, 0], [29.5, 39.5]], "shape_type": "rectangle"}
    path.write_text(json.dumps({"shapes": [shape], "imageHeight": 40, "imageWidth": 60}))


def coco(path, num_images=1):
    corners = [[0, 0, 29.5, 0, 29.5, 39.5, 0, 39.5]]
    numbers = range(1, num_images + 1)
    content = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in (*numbers, 99)],
        "annotations": [{"image_id": i, "segmentation": corners} for i in numbers],
    }
    path.write_text(json.dumps(content))


KINDS = {
    "mask.png": lambda path: save(path, 255 * LEFT),
    "half.png": lambda path: save(path, 1 * LEFT[::2, ::2]),
    "labelme.json": labelme,
    "coco.json": coco,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_region_is_read_from_masks_and_polygons(samples, tmp_path, name):
    KINDS[name](tmp_path / name)
    np.testing.assert_array_equal(read_region(tmp_path, name, None, samples), LEFT)
    np.testing.assert_array_equal(read_region(tmp_path, None, name, samples), ~LEFT)
    save(tmp_path / "top.png", 255 * TOP)
    np.testing.assert_array_equal(read_region(tmp_path, "top.png", name, samples), TOP & ~LEFT)
    assert read_region(tmp_path, None, None, samples) is None


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda path: save(path, np.full((40, 40), 255)),
            "40 x 40 pixels .* another shape than .*",
        ),
        (lambda path: save(path, np.zeros(SIZE)), "is black. Expected an image that is white"),
        (lambda path: path.write_bytes(b"none"), "is not an image that can be read"),
        (lambda path: None, "does not exist"),
        (lambda path: coco(path.with_suffix(".json"), 2), "annotations of 2 images. Expected"),
    ],
)
def test_what_is_no_region_is_refused_in_one_line(samples, tmp_path, make, line):
    make(tmp_path / "roi.png")
    name = "roi.json" if (tmp_path / "roi.json").exists() else "roi.png"
    with pytest.raises(InputError, match=rf"^`data.ignore`: .*roi\..*{line}"):
        read_region(tmp_path, None, name, samples)


def test_a_region_must_leave_something(samples, tmp_path):
    save(tmp_path / "left.png", 255 * LEFT)
    with pytest.raises(InputValueError, match=r"Nothing is left to look at inside of .*left\.png"):
        read_region(tmp_path, "left.png", "left.png", samples)


def test_defects_outside_are_neither_trained_nor_tested_on(samples, capsys):
    split = Split(tuple(samples[:1]), tuple(samples[1:]), tuple(samples))
    kept = limited(split, LEFT, Monitor(quiet=False))
    assert kept.labeled == (samples[1],)
    assert kept.test == (samples[0], samples[1])
    said = capsys.readouterr()
    assert "2 defective images are left out, as their defects lie outside" in said.out + said.err
    halved = limited(split, TOP, Monitor(quiet=True)).labeled[0]
    assert resized_mask(halved, SIZE)[:20].sum() == 100
    assert not resized_mask(halved, SIZE)[20:].any()


def test_the_color_outside_is_the_mean_inside(samples):
    (normal,) = limited(Split(tuple(samples[:1]), (), ()), LEFT, Monitor()).train_normal
    loader = ImageLoader((80, 120), cache_mib=1)
    mean, _ = color_statistics([normal], loader)
    torch.testing.assert_close(mean, torch.tensor([200 / 255, 0, 0]), atol=0.01, rtol=0)
    loader.limit_to(normal.region, mean)
    for _ in range(2):  # read, and remembered
        image = loader.image(normal)
        torch.testing.assert_close(image[..., 60:], mean[:, None, None].expand(3, 80, 60))
        assert image[0, :, :59].min() > 0.78


@pytest.fixture
def segmenter():
    """A model with random weights that looks at the left of images of 64 x 96 pixels."""
    torch.manual_seed(0)
    config = preset_config(
        data={"image_size": (64, 96), "roi": "left.png"},
        predictor={"base_channels": 4, "novelty_weight": 0.0},
    )
    made = build(config, pretrained=True)
    assert made.region is not None
    made.region[:, 48:] = False
    made.observer.channel_mean.fill_(0.4)
    return made


def test_nothing_outside_is_looked_at_or_found(segmenter):
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    found = segment(segmenter, images)
    assert found[..., 48:].max() == 0 < found[..., :48].min()
    changed = images.clone()
    changed[..., 48:] = 0
    torch.testing.assert_close(segment(segmenter, changed), found, atol=0, rtol=0)
    painted = images.clone()
    painted[..., 48:] = 0.4  # as the loader gives it in training
    segmenter.region = None
    unlimited = segment(segmenter, painted)
    torch.testing.assert_close(unlimited[..., :48], found[..., :48])
    assert unlimited[..., 48:].min() > 0


def test_tiles_know_their_part_of_the_region(segmenter):
    images = torch.rand(1, 3, 64, 1328, generator=torch.Generator().manual_seed(0))
    segmenter.region = torch.arange(1328).expand(64, 1328) < 700
    whole = segmenter(images)
    torch.testing.assert_close(segment(segmenter, images, tile_px=256), whole, atol=2e-5, rtol=0)
    assert whole[..., 700:].max() == 0 < whole[..., :700].min()


@pytest.mark.parametrize("size", [(37, 113), (240, 250)])
def test_outside_is_zero_at_the_own_size_too(segmenter, size):
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    working = Scorer(segmenter, (64, 96), torch.device("cpu"))(image)
    found = resize_map(working, size)
    inside = resize_nearest(segmenter.region.numpy(), size)
    assert abs(inside.mean() - 0.5) < 0.01
    assert found[~inside].max() == 0 < found[inside].min()


def test_the_weights_hold_the_region_only_where_there_is_one(segmenter):
    state = segmenter.state_dict()
    assert state["region"].sum() == 64 * 48
    config = preset_config(data={"image_size": (64, 64)})
    assert "region" not in build(config, pretrained=True).state_dict()


def test_the_papers_method_has_no_region():
    with pytest.raises(InputValueError, match=r"`data\.roi` and `data\.ignore` are not for"):
        preset_config("paper", data={"ignore": str(Path("mask.png"))})
