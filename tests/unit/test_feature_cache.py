"""Features of the normal images: computed once, kept in half precision in a bounded file."""

import os

import pytest
import torch

from patchscout.training import feature_cache as module


def test_features_are_those_of_the_backbone_to_half_precision(world):
    made = world()
    numbers = torch.tensor([4, 0, 4])
    found = made.cache().features(numbers)
    images = made.loader.images([made.normal[number] for number in numbers])
    expected = made.observer.features(images)
    assert [tuple(one.shape) for one in found] == [(3, 6, 16, 24), (3, 3, 8, 12)]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=2**-10, atol=2**-10)


@pytest.mark.parametrize("side", [1, 4, 5, 8])
def test_windows_are_slices_about_the_same_middle_at_every_level(world, side):
    cache = world().cache()
    numbers = torch.tensor([0, 1, 2, 3])
    places = torch.tensor([[8, 10], [0, 0], [15, 23], [2, 21]])
    fine, coarse = cache.windows(numbers, places, side)
    whole = cache.features(numbers)
    for index, (row, column) in enumerate(places.tolist()):
        for window, level, cell in ((fine, whole[0], 1), (coarse, whole[1], 2)):
            rows, columns = level.shape[-2:]
            top = min(max(row // cell - side // 2, 0), rows - side)
            left = min(max(column // cell - side // 2, 0), columns - side)
            expected = level[index, :, top : top + side, left : left + side]
            assert torch.equal(window[index], expected)


def test_a_window_is_at_most_the_level(world):
    fine, coarse = world().cache().windows(torch.tensor([0]), torch.tensor([[3, 3]]), 10)
    assert fine.shape == (1, 6, 10, 10)
    assert coarse.shape == (1, 3, 8, 10)


@pytest.mark.parametrize(("cache_mib", "num_computed"), [(16, 6), (0, 18)])
def test_what_fits_into_the_file_is_computed_once(world, monkeypatch, cache_mib, num_computed):
    monkeypatch.setattr(module, "KEPT_AT_HAND", 1)
    made = world()
    cache = made.cache(cache_mib)
    before = made.observer.backbone.num_images
    first, *others = [cache.features(range(6)) for _ in range(3)]
    assert made.observer.backbone.num_images - before == num_computed
    for again in others:
        assert all(map(torch.equal, first, again))


def test_what_is_at_hand_is_not_read_again(world):
    made = world()
    cache = made.cache(0)
    before = made.observer.backbone.num_images
    for _ in range(3):
        cache.windows(torch.arange(6), torch.full((6, 2), 4), 4)
    assert made.observer.backbone.num_images - before == 6


def test_the_file_is_bounded_and_half_as_large_as_float32(world):
    made = world((512, 512), num_normal=4)  # 128 x 128 x 6 and 64 x 64 x 3 values: 216 KiB each
    cache = made.cache(1)
    cache.features(range(4))
    assert cache._slots.num_slots == 4
    file = cache._slots._file
    assert file is not None
    assert file.seek(0, os.SEEK_END) == 4 * 2 * (6 * 128**2 + 3 * 64**2) <= 2**20


def test_of_no_images_there_are_no_windows(world):
    fine, coarse = world().cache().windows(torch.arange(0), torch.zeros(0, 2).long(), 8)
    assert (fine.shape, coarse.shape) == ((0, 6, 8, 8), (0, 3, 8, 8))
