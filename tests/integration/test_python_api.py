"""PatchScout from Python: any kind of image in, results at its own size out."""

from collections import UserList

import numpy as np
import pytest
from PIL import Image as PillowImage

from patchscout import Config, PatchScout, Prediction, preset_config
from patchscout.checkpoint import describe_run
from patchscout.checks import InputNotFoundError, InputTypeError, InputValueError
from patchscout.data.layout import read_dataset
from patchscout.training.profile_trainer import ProfileTrainer


@pytest.fixture(scope="module")
def scout(trained_run):
    return PatchScout.load(trained_run, device="cpu")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (48, 70, 3), np.uint8)


def same(a: Prediction, b: Prediction):
    np.testing.assert_allclose(a.anomaly_map, b.anomaly_map, atol=1e-6)
    return a.decision == b.decision


def test_a_prediction_is_at_the_images_own_size(scout, image):
    found = scout.predict(image)
    assert found.anomaly_map.shape == found.pred_mask.shape == (48, 70)
    assert (found.anomaly_map.dtype, found.pred_mask.dtype) == (np.float32, np.bool_)
    assert 0 <= found.anomaly_map.min() <= found.anomaly_map.max() <= 1
    assert found.decision == scout.decision
    assert found.pred_score == scout.decision.probability(found.image_score)
    np.testing.assert_array_equal(
        found.pred_mask, found.anomaly_map >= scout.decision.pixel_threshold
    )
    assert found.is_anomalous == (found.image_score >= scout.decision.image_threshold)


@pytest.mark.parametrize("size", [(64, 64), (32, 500), (300, 40), (40, 64), (200, 200)])
def test_any_size_and_aspect_ratio(scout, size):
    found = scout.predict(np.random.default_rng(1).random((*size, 3)))
    assert found.anomaly_map.shape == size


def test_every_kind_of_image_gives_the_same(scout, image, tmp_path):
    PillowImage.fromarray(image).save(tmp_path / "image.png")
    expected = scout.predict(image)
    opaque = np.dstack([image, np.full((48, 70), 255, np.uint8)])
    for other in (
        image / 255,
        (image / 255).astype(np.float32),
        image.astype(np.uint16) * 257,
        opaque,
        PillowImage.fromarray(image),
        tmp_path / "image.png",
        str(tmp_path / "image.png"),
    ):
        assert same(scout.predict(other), expected)


def test_grey_is_grey_in_every_shape(scout, image):
    grey = image[:, :, 0]
    expected = scout.predict(np.repeat(grey[:, :, None], 3, axis=2))
    for other in (grey, grey[:, :, None], grey / 255, PillowImage.fromarray(grey)):
        assert same(scout.predict(other), expected)


def test_several_images_give_a_list(scout, image, tmp_path):
    PillowImage.fromarray(image).save(tmp_path / "image.png")
    small = image[:40, :40]
    alone = [scout.predict(image), scout.predict(small)]
    for sequence in ([image, small], (tmp_path / "image.png", PillowImage.fromarray(small))):
        found = scout.predict(sequence)
        assert isinstance(found, list)
        assert [prediction.anomaly_map.shape for prediction in found] == [(48, 70), (40, 40)]
        assert all(map(same, found, alone))
    assert len(scout.predict(UserList([image]))) == 1
    assert scout.predict([]) == []


def test_an_array_of_four_dimensions_is_a_batch(scout, image):
    batch = np.stack([image, 255 - image, image[::-1]])
    found = scout.predict(batch)
    assert len(found) == 3
    assert all(map(same, found, [scout.predict(one) for one in batch]))
    assert not np.allclose(found[0].anomaly_map, found[1].anomaly_map)


def test_the_image_that_is_given_is_not_changed(scout, image):
    before, given = image / 255, image / 255
    scout.predict(given)
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("given", [3, None, {"image": 1}, iter([])])
def test_what_is_no_image(scout, given):
    with pytest.raises(InputTypeError, match="`images` must be an image, a path or a sequence"):
        scout.predict(given)


def test_a_tiny_image_is_scored_too(scout):
    found = scout.predict(np.full((3, 2), 0.5))
    assert found.anomaly_map.shape == (3, 2)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([None], InputTypeError, r"`image` must be a numpy array, .* got NoneType"),
        ([[1, 2]], InputTypeError, r"`image` must be a numpy array, .* got list"),
        (np.zeros((64, 64, 3), np.int64), InputTypeError, r"values of type int64; expected uint8"),
        (np.zeros((64, 64, 3), complex), InputTypeError, r"values of type complex128"),
        (np.full((64, 64), 255.0), InputValueError, r"must lie in \[0, 1\]. Divide them"),
        (np.full((64, 64), np.nan), InputValueError, r"must lie in \[0, 1\]"),
        (np.zeros(64), InputValueError, r"must have shape \(height, width\)"),
        (np.zeros((64, 64, 5)), InputValueError, r"1, 3 or 4 channels; got \(64, 64, 5\)"),
        (np.zeros((3, 64, 64)), InputValueError, r"Move the channels last"),
        (np.zeros((64, 0)), InputValueError, r"has no pixels"),
        ("none.png", InputNotFoundError, r"none.png does not exist"),
    ],
)
def test_images_that_do_not_fit(scout, given, error, message):
    with pytest.raises(error, match=message) as raised:
        scout.predict(given)
    assert isinstance(raised.value, {InputTypeError: TypeError}.get(error, Exception))


def test_untrained_use_says_what_to_do(image, tmp_path, sample_data):
    scout = PatchScout()
    assert not scout.is_trained
    assert scout.config == Config() == preset_config("fast")
    for use in (
        lambda: scout.predict(image),
        lambda: scout.evaluate(sample_data),
        lambda: scout.save(tmp_path / "run"),
        lambda: scout.decision,
        lambda: scout.record,
        lambda: scout.segmenter,
    ):
        with pytest.raises(InputValueError, match=r"not trained. Call `fit\(data\)` or use"):
            use()
    assert not any(tmp_path.iterdir())


def test_saving_does_not_replace_unless_told(scout, tmp_path, image):
    scout.save(tmp_path / "run")
    with pytest.raises(InputValueError, match="must be a new or empty folder"):
        scout.save(str(tmp_path / "run"))
    scout.save(tmp_path / "run", overwrite=True)
    assert same(PatchScout.load(str(tmp_path / "run")).predict(image), scout.predict(image))


@pytest.fixture(scope="module")
def fitted(trained_run, sample_data):
    """A PatchScout fitted in this process with the settings of the trained run."""
    config = describe_run(trained_run).config
    scout = PatchScout(config)
    assert scout.fit(sample_data) is scout
    return scout


def test_fit_gives_what_the_command_line_gives(fitted, scout, image, sample_data, tmp_path):
    assert same(fitted.predict(image), scout.predict(image))
    assert fitted.evaluate(sample_data) == scout.evaluate(sample_data)
    assert fitted.evaluate(read_dataset(sample_data)) == scout.evaluate(sample_data)
    fitted.save(tmp_path / "run")
    loaded = PatchScout.load(tmp_path / "run")
    assert same(loaded.predict(image), fitted.predict(image))
    assert loaded.split_of(sample_data) == fitted.split_of(sample_data)


def test_evaluation_is_refused_on_other_data(fitted, sample_data, tmp_path):
    other = tmp_path / "other"
    for group in ("train/good", "test/stain", "ground_truth/stain"):
        (other / group).mkdir(parents=True)
        for path in (sample_data / group).iterdir():
            (other / group / path.name).symlink_to(path)
    with pytest.raises(InputValueError, match=r"`data` must be the folder that was trained on"):
        fitted.evaluate(other)


def test_predictions_do_not_depend_on_each_other(scout, image):
    expected = scout.predict(image)
    scout.predict(np.zeros((64, 64), np.uint8))
    np.testing.assert_array_equal(scout.predict(image).anomaly_map, expected.anomaly_map)


def test_fitting_again_forgets_the_loaded_run(trained_run, sample_data, monkeypatch):
    def press_ctrl_c(*_):
        raise KeyboardInterrupt

    scout = PatchScout.load(trained_run)
    monkeypatch.setattr(ProfileTrainer, "train", press_ctrl_c)
    scout.fit(sample_data)
    assert not scout.is_trained
    with pytest.raises(InputValueError, match="not trained"):
        _ = scout.decision


def test_data_that_do_not_fit_leave_a_model_as_it_was(trained_run, tmp_path, image):
    scout = PatchScout.load(trained_run)
    expected = scout.predict(image)
    with pytest.raises(InputNotFoundError, match="does not exist"):
        scout.fit(tmp_path / "none")
    assert same(scout.predict(image), expected)
