"""Images at the working size: read when needed, remembered in a bounded file."""

import os

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from patchscout.data import loader as module
from patchscout.data.annotations import MaskFile
from patchscout.data.images import read_image, resize_image
from patchscout.data.loader import ImageLoader, resized_mask, to_tensor
from patchscout.types import Sample

SIZE = (256, 256)  # in half precision 0.375 MiB, so that two fit into one MiB


@pytest.fixture
def samples(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(4):
        pixels = rng.integers(0, 256, (40, 60, 3), np.uint8)
        PillowImage.fromarray(pixels).save(tmp_path / f"{index}.png")
    return [Sample(tmp_path / f"{index}.png") for index in range(4)]


@pytest.fixture
def reads(monkeypatch):
    """The names of the files read so far."""
    names = []

    def read(path):
        names.append(path.stem)
        return read_image(path)

    monkeypatch.setattr(module, "read_image", read)
    return names


def test_the_latest_are_remembered_and_no_more_than_fit(samples, reads):
    loader = ImageLoader(SIZE, 1)
    for index in (0, 1, 0, 1):
        loader.image(samples[index])
    assert reads == ["0", "1"]
    loader.image(samples[2])  # in place of 0, the one used longest ago
    loader.image(samples[1])
    loader.image(samples[2])
    assert reads == ["0", "1", "2"]
    loader.image(samples[0])
    loader.image(samples[2])  # 1 was used longest ago, so 2 is still there
    assert reads == ["0", "1", "2", "0"]


def test_what_is_remembered_stays_within_the_bound(samples):
    loader = ImageLoader(SIZE, 1)
    for sample in samples:
        loader.image(sample)
    file = loader._slots._file
    assert file is not None
    assert 0 < file.seek(0, os.SEEK_END) <= 2**20


def test_without_room_every_image_is_read_again(samples, reads):
    loader = ImageLoader(SIZE, 0)
    for _ in range(3):
        loader.image(samples[0])
    assert reads == ["0"] * 3


def test_half_precision_costs_less_than_a_tenth_of_a_grey_level(samples):
    exact = to_tensor(resize_image(read_image(samples[0].image_path), SIZE))
    loader = ImageLoader(SIZE, 1)
    for _ in range(2):  # read, and remembered
        image = loader.image(samples[0])
        assert image.dtype == torch.float32
        assert (image - exact).abs().max() <= 2**-12 < 0.1 / 255
        assert image.min() >= 0
        assert image.max() <= 1


def test_changing_what_is_returned_does_not_change_what_is_remembered(samples):
    loader = ImageLoader(SIZE, 1)
    before = loader.image(samples[0]).clone()
    loader.image(samples[0]).zero_()
    assert torch.equal(loader.image(samples[0]), before)


def test_sizes_are_height_and_width(samples, tmp_path):
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 30:60] = 255
    PillowImage.fromarray(mask).save(tmp_path / "mask.png")
    loader = ImageLoader((64, 128), 1)
    labeled = Sample(samples[0].image_path, "dent", MaskFile(tmp_path / "mask.png"))
    assert loader.image(labeled).shape == (3, 64, 128)
    assert loader.images(samples).shape == (4, 3, 64, 128)
    resized = loader.mask(labeled)
    assert resized.dtype == torch.bool
    assert resized.shape == (64, 128)
    rows, columns = resized.nonzero().unbind(dim=1)
    assert (rows.min(), rows.max() + 1) == (16, 32)
    assert (columns.min(), columns.max() + 1) == (64, 128)


def test_the_mask_of_a_normal_image_is_empty(samples):
    assert resized_mask(samples[0], (5, 7)).shape == (5, 7)
    assert not resized_mask(samples[0], (5, 7)).any()
