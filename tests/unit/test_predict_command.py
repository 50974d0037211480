"""`patchscout predict`: images that are scored side by side."""

import threading

import numpy as np
import pytest
from PIL import Image as PillowImage

from patchscout.checks import InputValueError
from patchscout.commands import predict
from patchscout.decision import Decision, image_score
from patchscout.prediction import make_prediction


@pytest.fixture
def paths(tmp_path):
    """Images of grey levels that rise."""
    files = [tmp_path / f"{number}.png" for number in range(7)]
    for number, path in enumerate(files):
        PillowImage.new("L", (4, 3), number * 30).save(path)
    return files


def level(image):
    levels = image[..., 0].copy()
    decision = Decision(image_threshold=0.5, pixel_threshold=0.5)
    return make_prediction(levels, image_score(levels), decision)


@pytest.mark.parametrize("num_at_once", [0, 1, 3, 20])
def test_images_come_in_their_order_and_no_more_than_told_are_scored_ahead(paths, num_at_once):
    begun = []

    def find_defects(image):
        begun.append(image)
        return level(image)

    for number, (image, found) in enumerate(predict._in_turn(find_defects, paths, num_at_once)):
        assert found.image_score == pytest.approx(number * 30 / 255)
        np.testing.assert_array_equal(image[..., 0], found.anomaly_map)
        assert len(begun) <= number + 1 + num_at_once
    assert len(begun) == len(paths)


def test_two_images_are_scored_at_the_same_time(paths):
    both = threading.Barrier(2, timeout=20)

    def find_defects(image):
        both.wait()  # breaks where one waits for the other to be done
        return level(image)

    assert len(list(predict._in_turn(find_defects, paths[:6], 2))) == 6


def test_an_error_names_its_image_and_ends_the_others(paths):
    def find_defects(image):
        if image[0, 0, 0] > 0.2:
            raise InputValueError("the model gives no numbers")
        return level(image)

    scored = predict._in_turn(find_defects, paths, 2)
    assert [next(scored)[1].image_score for _ in range(2)]
    with pytest.raises(InputValueError, match=r"2\.png: the model gives no numbers"):
        next(scored)
