"""What is counted of decisions on test images; a model that fails on one is named."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from patchscout.checks import InputValueError
from patchscout.data.layout import read_dataset
from patchscout.decision import Decision, DecisionSettings, ImageScores, decide, interval
from patchscout.evaluation import budgets, evaluate, reliability, roc
from patchscout.monitor import Monitor
from patchscout.types import Sample, check_probabilities

DECISION = Decision(image_threshold=0.5, pixel_threshold=0.5)
NO_SCORES = ImageScores()


def test_the_image_whose_map_is_none_is_named(sample_data):
    samples = read_dataset(sample_data).anomalous[:2]
    maps = iter([np.zeros((96, 96), np.float32), np.full((96, 96), np.nan, np.float32)])

    def score(image):
        anomaly_map = next(maps)
        check_probabilities(anomaly_map)
        return anomaly_map

    says = re.escape(f"{samples[1].image_path}: The model gives values that are not finite")
    with pytest.raises(InputValueError, match=says):
        evaluate(score, samples, DECISION, ImageScores(), (96, 96), Monitor())


@pytest.fixture
def counted(tmp_path):
    """Evaluates images of one grey level, which is their map, some with a defect in one corner."""

    def evaluated(good, defective, decision=DECISION, scores=NO_SCORES):
        class Corner:
            def read(self, image_size):
                mask = np.zeros(image_size, bool)
                mask[:4, :4] = True
                return mask

        samples = []
        for kind, levels in (("good", good), ("dent", defective)):
            for number, level in enumerate(levels):
                path = tmp_path / f"{kind}{number}.png"
                PillowImage.new("L", (20, 16), level).save(path)
                samples.append(Sample(path, kind, None if kind == "good" else Corner()))
        return evaluate(
            lambda image: image[..., 0].copy(), samples, decision, scores, (16, 20), Monitor()
        )

    return evaluated


def test_wrong_decisions_are_counted_and_listed_the_worst_first(counted):
    scores = ImageScores((0.1,) * 60, (0.9,) * 20, "new")
    asked = DecisionSettings(max_false_alarms=0.05, min_detected=0.9)
    decision = decide(scores, 0.3, asked).model_copy(update={"image_threshold": 0.5})
    metrics = counted([10, 200, 150, 20], [90, 250, 50, 240, 100], decision, scores)
    found = metrics["decisions"]
    assert found["good"] == {
        "num_images": 4,
        "num_wrong": 2,
        "share": 0.5,
        "interval": list(interval(2, 4)),
        "asked": 0.05,
        "promised": pytest.approx(1 - 0.05 ** (1 / 60)),
    }
    assert (found["defective"]["num_wrong"], found["defective"]["num_images"]) == (3, 5)
    assert found["defective"]["asked"] == pytest.approx(0.1)
    assert found["defective"]["promised"] == pytest.approx(1 - 0.05 ** (1 / 20))
    assert found["missed_per_type"] == {"dent": [3, 5]}
    listed = [(row["outcome"], Path(row["path"]).stem) for row in metrics["images"]]
    assert listed == [
        *[("missed", name) for name in ("dent2", "dent0", "dent4")],
        *[("rejected", name) for name in ("good1", "good2")],
        *[("detected", name) for name in ("dent3", "dent1")],
        *[("passed", name) for name in ("good3", "good0")],
    ]
    assert metrics["pixel_threshold"] == 0.3


def test_decisions_are_made_by_the_rules_too(counted):
    """Maps are level: the region is the whole image of 320 pixels, or nothing."""
    for area, num_rejected in (("320px", 1), ("321px", 0)):
        asked = DecisionSettings(min_area=area)
        decision = DECISION.model_copy(update={"asked": asked})
        assert counted([200, 20], [250], decision)["decisions"]["good"]["num_wrong"] == num_rejected


def test_the_curve_has_every_score():
    rows = roc(np.array([0.1, 0.4]), np.array([0.4, 0.8]), DECISION)
    counts = [(row["num_rejected"], row["num_detected"]) for row in rows]
    assert counts == [(0, 1), (1, 2), (2, 2)]  # at 0.8, 0.4 and 0.1
    assert [row["score_threshold"] for row in rows] == pytest.approx([0.8, 0.4, 0.1])
    assert (rows[1]["rejected"], rows[1]["detected"]) == (0.5, 1.0)


def test_reliability_is_at_even_odds():
    good, defective = np.array([0.05] * 8 + [0.95] * 2), np.array([0.95] * 4 + [0.05])
    low, high = reliability(good, defective, DECISION)
    assert (low["from"], low["to"], low["num_good"], low["num_defective"]) == (0.0, 0.1, 8, 1)
    assert (low["observed"], high["observed"]) == (
        pytest.approx(0.2 / (0.2 + 0.8)),
        pytest.approx(0.8 / (0.8 + 0.2)),
    )
    assert (low["probability"], high["probability"]) == (
        pytest.approx(0.05),
        pytest.approx(0.95),
    )
    assert reliability(np.array([1.0]), np.array([]), DECISION)[0]["to"] == 1.0


def test_other_budgets_are_measured_by_scores():
    scores = ImageScores(tuple(number / 1000 for number in range(300)))
    rows = budgets(np.array([0.1, 0.298, 0.5]), np.array([0.28, 0.4]), DECISION, scores)
    assert [row["budget"] for row in rows] == [0.01, 0.02, 0.05, 0.1]
    assert all(row["promised"] <= row["budget"] for row in rows)
    # 0, 1, 8 and 21 of 300 may be rejected: thresholds just above .299, .298, .291 and .278.
    assert [row["rejected"] for row in rows] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert [row["detected"] for row in rows] == pytest.approx([0.5, 0.5, 0.5, 1.0])
    assert budgets(np.array([0.1]), np.array([0.2]), DECISION, ImageScores()) == []
