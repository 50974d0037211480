"""What is told of an exported model, and when it is refused; models are functions of an image."""

import re

import numpy as np
import pytest
import torch

from patchscout import export
from patchscout.checks import InputValueError
from patchscout.decision import Decision, DecisionSettings
from patchscout.export import compare, export_model, rounding
from patchscout.exported import ExportedModel, ModelFacts
from patchscout.networks.segmenter import Segmenter

IMAGES = list(np.random.default_rng(0).random((3, 64, 80, 3), np.float32))
NAMES = ["a.png", "b.png", "c.png"]


class Reds(Segmenter):
    """In place of a trained model: answers with the red of images."""

    def __init__(self):
        torch.nn.Module.__init__(self)

    def forward(self, images, lighting=None, corner=(0, 0)):
        return images[:, 0]


def exported(change=lambda maps: maps, threshold=0.5, **rules):
    """In place of an exported model: answers with the red of images, changed."""

    def run(pixels):
        maps = change(pixels[..., 0].astype(np.float32) / 255)
        return maps, maps >= threshold, maps.max(axis=(1, 2))

    decision = Decision(
        asked=DecisionSettings(**rules), image_threshold=threshold, pixel_threshold=threshold
    )
    facts = ModelFacts(category="reds", decision=decision, image_size=(64, 80))
    return ExportedModel(run, facts)


def at(x, y, by):
    """Returns a function that changes one pixel of maps."""

    def change(maps):
        maps[:, y, x] += by
        return maps

    return change


def test_the_same_model_is_the_same():
    parity = compare(Reds(), exported(), IMAGES, NAMES)
    assert parity.holds
    assert (parity.largest_difference, parity.largest_score_difference) == (0, 0)
    assert (parity.num_images, parity.num_pixels) == (3, 3 * 64 * 80)
    assert parity.num_other_side == parity.num_other_decisions == parity.num_ties == 0


@pytest.mark.parametrize(("by", "holds"), [(1.1e-4, True), (9e-4, True), (1.1e-3, False)])
def test_the_tolerance_follows_the_precision_and_the_range(by, holds):
    """Maps from 0 to 1 by float32 may differ by 0.001."""
    images = [image.copy() for image in IMAGES]
    images[1][7, 5] = 0.25  # rounded to a pixel value of 64
    parity = compare(Reds(), exported(at(5, 7, by)), images, NAMES)
    assert parity.tolerance == pytest.approx(8192 * 2**-23 * 1.0, rel=0.01)
    assert parity.largest_difference == pytest.approx(by, rel=1e-3)
    assert parity.holds is holds


def test_maps_that_hardly_vary_may_hardly_differ():
    assert rounding(0.2, 0.3) == pytest.approx(rounding(0.0, 1.0) / 10)
    assert rounding(0.2, 0.2) == rounding(0.2, 0.21) == pytest.approx(8192 * 2**-23 / 100)


def test_the_pixel_that_differs_most_is_named():
    images = [image.copy() for image in IMAGES]
    images[2][7, 5] = 0.2  # 51 of 255
    change = at(5, 7, 0.01)
    parity = compare(
        Reds(), exported(lambda maps: change(maps) if maps[0, 7, 5] < 0.21 else maps), images, NAMES
    )
    assert "(in c.png at x 5, y 7: 0.21 where 0.2 is expected; " in str(parity)


def test_a_decision_at_the_threshold_is_told_and_not_refused():
    images = [np.full((64, 80, 3), 128 / 255, np.float32)] * 3
    threshold = 128 / 255 + 4e-7
    found = exported(lambda maps: maps + np.float32(8e-7), threshold)
    parity = compare(Reds(), found, images, NAMES)
    assert (parity.num_other_decisions, parity.num_ties) == (3, 3)
    assert parity.num_other_side == 3 * 64 * 80
    assert parity.largest_score_difference == pytest.approx(8e-7, rel=0.2)
    assert parity.holds
    assert "decisions in 3 images, of which 3 are at a threshold" in str(parity)


@pytest.mark.parametrize(("by", "holds"), [(2e-6, True), (0.2, False)])
def test_decisions_are_compared_with_their_rules(by, holds):
    """A region of 20 pixels, one of which is just below the threshold and then above it."""
    image = np.zeros((64, 80, 3), np.float32)
    image[10:12, 10:20, 0] = 0.8
    image[10, 10, 0] = 102 / 255
    threshold = 102 / 255 + 1e-6
    for area, num_others in (("19px", 0), ("20px", 1), ("21px", 0)):
        found = exported(at(10, 10, by), threshold, min_area=area)
        parity = compare(Reds(), found, [image], ["a.png"])
        assert parity.num_other_decisions == num_others
        assert parity.num_ties == (num_others if holds else 0) or not holds
        assert parity.holds is holds


def test_another_decision_away_from_the_threshold_is_refused_at_any_tolerance_below_it():
    images = [np.full((64, 80, 3), 0.4, np.float32)]
    found = exported(lambda maps: maps + np.float32(0.2))
    for tolerance, num_ties in ((0.05, 0), (0.15, 1), (0.25, 1)):
        parity = compare(Reds(), found, images, ["a.png"], tolerance)
        assert (parity.num_other_decisions, parity.num_ties) == (1, num_ties)
        assert parity.holds is (tolerance == 0.25)


def test_a_model_that_gives_no_numbers_is_named_with_the_image():
    class Broken(Reds):
        def forward(self, images, lighting=None, corner=(0, 0)):
            return images[:, 0] / 0

    with pytest.raises(InputValueError, match=r"a\.png: The model gives values that are not fini"):
        compare(Broken(), exported(), IMAGES, NAMES)
    with pytest.raises(InputValueError, match=r"a\.png: The model gives values from .* to 1\.5"):
        compare(Reds(), exported(at(0, 0, 1.5)), [np.zeros((64, 80, 3), np.float32)], ["a.png"])


@pytest.fixture
def written(monkeypatch, tmp_path):
    """Exports `Reds` as a model that answers otherwise at one pixel of one image, by 0.02."""

    def change(maps):
        maps[:, 7, 5] += 0.1 * maps[:, 7, 5]
        return maps

    monkeypatch.setitem(export._WRITERS, "onnx", lambda model, facts, path: path.touch())
    monkeypatch.setattr(ExportedModel, "load", lambda path: exported(change))
    images = [np.zeros((64, 80, 3), np.float32), np.ones((64, 80, 3), np.float32) * 0.2]

    def write(tolerance):
        path, facts = tmp_path / "model.onnx", exported().facts
        return export_model(Reds(), facts, path, "onnx", images, ["a.png", "b.png"], tolerance)

    return write


def test_a_refusal_names_image_pixel_values_and_what_to_do(written):
    says = re.escape("in b.png at x 5, y 7: 0.22 where 0.2 is expected")
    with pytest.raises(InputValueError, match=rf"is not the trained one: .*{says}.*`--tolerance`"):
        written(None)


def test_the_tolerance_that_is_asked_for_decides(written):
    parity = written(0.03)
    assert (parity.tolerance, parity.holds) == (0.03, True)
    assert parity.largest_difference == pytest.approx(0.02, rel=1e-4)
    with pytest.raises(InputValueError, match=r"the tolerance is 1\.0e-02"):
        written(0.01)
    for nonsense in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputValueError, match=f"`--tolerance` must be above 0; got {nonsense}"):
            written(nonsense)
