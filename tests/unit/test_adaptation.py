"""Settings that are left to the training images: chosen by rule where a user does not."""

import numpy as np
import pytest
from PIL import Image as PillowImage

from patchscout.data.annotations import MaskFile
from patchscout.presets import parse_config, preset_config
from patchscout.training.adaptation import adapt
from patchscout.training.working_size import choose_image_size
from patchscout.types import Sample, Split

SIZE = (120, 480)


@pytest.fixture
def split(tmp_path):
    """Make a split of normal images, with a labeled one if asked for."""

    def make(*, labeled=False, striped=False):
        rng, samples = np.random.default_rng(0), []
        for number in range(3):
            grain = rng.integers(0, 256, SIZE, np.uint8)
            if striped:
                grain = (grain // 8 + 100 * (np.arange(SIZE[1]) // 12 % 2)).astype(np.uint8)
            PillowImage.fromarray(grain).save(tmp_path / f"{number}.png")
            samples.append(Sample(tmp_path / f"{number}.png"))
        mask = np.zeros(SIZE, np.uint8)
        mask[40:90, 100:200] = 255
        PillowImage.fromarray(mask).save(tmp_path / "mask.png")
        defect = Sample(tmp_path / "0.png", "dent", MaskFile(tmp_path / "mask.png"))
        return Split(tuple(samples), (defect,) if labeled else (), ())

    return make


def test_settings_that_are_given_stay(split):
    given = preset_config(
        "fast",
        data={"image_size": (128, 128)},
        views={"limited": ("shear",)},
        predictor={"novelty_weight": 0.0},
    )
    assert adapt(given, split()) == given


def test_settings_that_are_not_given_are_filled_in(split):
    images, config = split(), preset_config("fast", seed=3)
    adapted = adapt(config, images)
    assert adapted.data.working_size == choose_image_size(images.train_normal, ()) == (128, 512)
    assert adapted.views.limited == ()
    assert adapted.predictor.novelty_weight is not None
    unset = {"data": config.data, "views": config.views, "predictor": config.predictor}
    assert adapted.model_copy(update=unset) == config
    assert adapt(adapted, images) == adapted
    assert parse_config(adapted.model_dump(mode="json")) == adapted


def test_the_direction_of_stripes_is_kept(split):
    limited = adapt(preset_config("fast"), split(striped=True)).views.limited
    assert limited == ("rotation", "shear")


def test_without_labels_novelty_counts_for_more(split):
    weights = [
        adapt(preset_config("fast"), split(labeled=labeled)).predictor.novelty_weight
        for labeled in (True, False)
    ]
    assert weights == [0.35, 3.0]
