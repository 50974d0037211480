"""From the map at the working size to a prediction at the image's own; and where to compute."""

import math

import numpy as np
import pytest
import torch

from patchscout.checks import InputValueError
from patchscout.decision import image_score
from patchscout.devices import choose_device
from patchscout.inference import Scorer, resize_map
from patchscout.networks.deployable import image_scores
from patchscout.networks.segmenter import Segmenter

MAP = np.array([[0.0, 1.0], [0.5, 0.5]], np.float32)


def test_a_map_of_the_right_size_stays_as_it_is():
    assert resize_map(MAP, (2, 2)) is MAP


def test_a_side_that_shrinks_is_averaged_and_one_that_grows_interpolated():
    # Rows shrink to their mean (0.25, 0.75); columns grow, and with centers aligned
    # (0.25, 0.25 + 0.5 / 4, 0.75 - 0.5 / 4, 0.75).
    expected = [[0.25, 0.375, 0.625, 0.75]]
    np.testing.assert_allclose(resize_map(MAP, (1, 4)), expected, atol=1e-6)
    np.testing.assert_allclose(resize_map(MAP.T.copy(), (4, 1)).T, expected, atol=1e-6)
    np.testing.assert_allclose(resize_map(MAP, (1, 1)), [[0.5]], atol=1e-6)


@pytest.mark.parametrize("size", [(1, 7), (300, 5), (64, 64)])
def test_values_stay_in_range(size):
    resized = resize_map(np.random.default_rng(0).random((17, 23), np.float32), size)
    assert resized.shape == size
    assert resized.dtype == np.float32
    assert 0 <= resized.min() <= resized.max() <= 1


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (math.nan, "values that are not finite"),
        (math.inf, "values that are not finite"),
        (-math.inf, "values that are not finite"),
        (1.001, "values from 0 to 1.001 where"),
        (-0.5, "values from -0.5 to 1 where"),
    ],
)
def test_one_pixel_that_is_no_probability_is_an_error(value, says):
    broken = MAP.copy()
    broken[1, 1] = value
    score = Scorer(Reds(), (16, 32), torch.device("cpu"))
    image = np.zeros((16, 32, 3), np.float32)
    image[:2, :2, 0] = broken
    with pytest.raises(InputValueError, match=f"The model gives {says}"):
        score(image)
    with pytest.raises(InputValueError, match=f"The model gives {says}"):
        list(score.many([image]))


def test_the_score_of_an_image_is_the_same_in_an_exported_model():
    maps = np.random.default_rng(0).random((3, 8, 9), np.float32)
    maps[0, 2, 3] = 1 + 1e-6  # rounding
    scores = image_scores(torch.from_numpy(maps)).tolist()
    assert scores == [image_score(one) for one in maps] == [1.0, *maps[1:].max(axis=(1, 2))]
    maps[1, 4, 4] = np.nan
    assert image_scores(torch.from_numpy(maps)).isnan().tolist() == [False, True, False]


class Reds(Segmenter):
    """In place of a model: answers with the red of images, and notes how many there were."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.counts = []

    def forward(self, images, lighting=None, corner=(0, 0)):
        self.counts.append(len(images))
        return images[:, 0]


@pytest.mark.parametrize(
    ("batch_size", "counts"), [(1, [1] * 7), (3, [3, 3, 1]), (4, [4, 3]), (8, [7])]
)
def test_images_are_scored_a_batch_at_a_time(batch_size, counts):
    images = np.random.default_rng(0).random((7, 16, 32, 3), np.float32)
    model = Reds()
    score = Scorer(model, (16, 32), torch.device("cpu"))
    score.batch_size = batch_size
    found = list(score.many(iter(images)))
    np.testing.assert_array_equal(found, images[..., 0])
    assert model.counts == counts
    np.testing.assert_array_equal(score(images[3]), images[3, ..., 0])
    assert not list(score.many([]))


@pytest.mark.parametrize(
    ("size", "batch_size"),
    [((64, 64), 16), ((256, 256), 16), ((256, 512), 8), ((912, 352), 3), ((1664, 1664), 1)],
)
def test_a_gpu_scores_fewer_images_at_a_time_if_they_are_large(size, batch_size):
    assert Scorer(Reds(), size, torch.device("cuda")).batch_size == batch_size
    assert Scorer(Reds(), size, torch.device("cpu")).batch_size == 1


def test_no_more_than_a_batch_is_read_ahead():
    score = Scorer(Reds(), (8, 8), torch.device("cpu"))
    score.batch_size = 2
    read = []

    def images():
        for number in range(5):
            read.append(number)
            yield np.zeros((8, 8, 3), np.float32)

    found = score.many(images())
    next(found)
    assert read == [0, 1]


def test_auto_takes_what_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:99", ""])
def test_a_device_that_is_not_there(name):
    with pytest.raises(InputValueError, match=r"`device` must be .*; got '.*'\. Use `auto`"):
        choose_device(name)
