"""Metrics on cases small enough to work out by hand; the arithmetic is beside each."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from patchscout.checks import InputValueError
from patchscout.curves import Curve, PixelPool
from patchscout.metrics import MetricAccumulator, aupro, binary_metrics

# Eight pixels: two defects, of one and of three pixels, and four normal ones.
#            normal defect normal | defect defect defect normal normal
SCORES = [[0.1, 0.9, 0.8, 0.7, 0.6, 0.2, 0.3, 0.0]]
DEFECT = [[0, 1, 0, 1, 1, 1, 0, 0]]


def _map(values: list[list[float]]) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def _mask(values: list[list[int]]) -> np.ndarray:
    return np.array(values, dtype=bool)


def _ranking(preds: np.ndarray, target: np.ndarray) -> Curve:
    return Curve.of_scores(preds[target], preds[~target])


def _curve(maps: list[np.ndarray], masks: list[np.ndarray]) -> Curve:
    pool = PixelPool()
    for anomaly_map, gt_mask in zip(maps, masks, strict=True):
        pool.add(anomaly_map, gt_mask)
    return Curve.of_pixels([pool])


def test_binary_metrics_by_hand() -> None:
    # From the top: 0.9 hit, 0.8 false, 0.7 hit, 0.6 hit, 0.3 false, 0.2 hit, 0.1 false, 0.0 false.
    # AUROC: normal pixels below each hit: 4 + 3 + 3 + 2 = 12 of 4 * 4 pairs = 0.75.
    # AP: precision at each hit, each worth a recall of 1/4: (1/1 + 2/3 + 3/4 + 4/6) / 4.
    # F1: 2/5, 4/7, 6/8 at 0.6, 8/10 at 0.2; the largest is 0.8 at 0.2.
    metrics = binary_metrics(_ranking(_map(SCORES).ravel(), _mask(DEFECT).ravel()))
    assert metrics.auroc == pytest.approx(0.75)
    assert metrics.ap == pytest.approx((1 + 2 / 3 + 3 / 4 + 2 / 3) / 4)
    assert metrics.f1_max == pytest.approx(0.8)


def test_ties_between_classes_count_half() -> None:
    # Anomalous 0.5, 0.5; normal 0.5, 0.1: each anomalous one beats one and ties with one of two
    # normal ones: AUROC (1.5 + 1.5) / 4. One threshold matters: 2 hits of 3 predicted: AP 2/3,
    # F1 4/5.
    metrics = binary_metrics(
        _ranking(np.array([0.5, 0.5, 0.5, 0.1]), np.array([True, False, True, False]))
    )
    assert metrics == pytest.approx((0.75, 2 / 3, 0.8))


@pytest.mark.parametrize("target", [[True, True], [False, False]])
def test_one_class_alone_has_no_ranking(target: list[bool]) -> None:
    metrics = binary_metrics(_ranking(np.array([0.1, 0.2]), np.array(target)))
    assert all(math.isnan(value) for value in metrics)
    assert math.isnan(aupro(_curve([_map([[0.1, 0.2]])], [np.array([target])])))


def test_threshold_counts_as_reached_at_the_precision_of_the_scores() -> None:
    # float32(0.7) is below the float64 0.7; the mask calls it reached, so must the metric.
    accumulator = MetricAccumulator()
    accumulator.update(_map([[0.7]]), _mask([[1]]), 0.7, "crack")
    assert accumulator.compute(threshold=0.7)["pixel_f1_at_threshold"] == 1.0


def test_aupro_by_hand() -> None:
    # Threshold: FPR -> mean overlap of the defects of 1 and of 3 pixels, all normal pixels 4.
    #   0.9: 0/4 -> (1 + 0/3) / 2 = 1/2
    #   0.8: 1/4 -> 1/2
    #   0.7: 1/4 -> (1 + 1/3) / 2 = 2/3;  0.6: 1/4 -> (1 + 2/3) / 2 = 5/6
    #   0.3: 2/4 -> 5/6;  0.2: 2/4 -> 1, and 1 from there on.
    # To 0.3: 1/4 * 1/2 + 0.05 * 5/6, over 0.3.
    maps, masks = [_map(SCORES)], [_mask(DEFECT)]
    assert aupro(_curve(maps, masks)) == pytest.approx((0.125 + 0.05 * 5 / 6) / 0.3)


def test_aupro_slants_where_normal_and_anomalous_pixels_tie() -> None:
    # One score for 1 anomalous and 2 of 4 normal pixels: from (0, 0) straight to (1/2, 1). At
    # 0.3 the overlap is 0.6, so the area is 0.3 * 0.6 / 2, over 0.3: 0.3.
    maps, masks = [_map([[0.5, 0.5, 0.5, 0.1, 0.1]])], [_mask([[1, 0, 0, 0, 0]])]
    assert aupro(_curve(maps, masks)) == pytest.approx(0.3)


def test_aupro_ends_at_a_limit_that_the_curve_reaches_exactly() -> None:
    # Ten normal pixels; three of them above the defect: overlap 0 up to an FPR of exactly 0.3.
    scores = _map([[0.9, 0.9, 0.9, 0.5, 0, 0, 0, 0, 0, 0, 0]])
    assert aupro(_curve([scores], [_mask([[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]])])) == 0.0


def test_aupro_joins_defects_that_touch_at_a_corner() -> None:
    # One defect of 3 pixels, of which 0.9 alone is above every normal pixel: overlap 1/3 up to
    # an FPR of 1/3. Were the corner not a contact, there would be a defect of 1 and one of 2
    # pixels, and the overlap would be 1/2.
    scores = _map([[0.9, 0.5], [0.1, 0.2], [0.4, 0.1]])
    mask = _mask([[1, 0], [0, 1], [0, 1]])
    assert aupro(_curve([scores], [mask])) == pytest.approx(1 / 3)


def test_small_defects_weigh_as_much_as_large_ones() -> None:
    # The large defect (9 pixels) is found at once, the small one (1 pixel) last: overlap 1/2.
    large, small = np.ones((3, 4), dtype=bool), np.zeros((2, 2), dtype=bool)
    large[:, 3] = False
    small[0, 0] = True
    maps = [np.where(large, 0.9, 0.3), np.where(small, 0.1, 0.3)]
    # All normal pixels tie at 0.3: one level line from FPR 0 to 1.
    assert aupro(_curve(maps, [large, small])) == pytest.approx(0.5)


def _accumulator() -> MetricAccumulator:
    """One normal image and one each of two defect types, of three sizes."""
    accumulator = MetricAccumulator()
    accumulator.update(_map([[0.1, 0.3]]), _mask([[0, 0]]), 0.3, "good")
    accumulator.update(_map([[0.9, 0.2], [0.4, 0.1]]), _mask([[1, 0], [0, 0]]), 0.9, "crack")
    accumulator.update(_map([[0.2, 0.6, 0.1]]), _mask([[1, 0, 0]]), 0.2, "stain")
    return accumulator


def test_accumulator_pools_pixels_and_images() -> None:
    metrics = _accumulator().compute(threshold=0.4)
    # Anomalous 0.9, 0.2; normal 0.1 0.3 0.2 0.4 0.1 0.6 0.1: of the 7 normal pixels 0.9 beats 7,
    # 0.2 beats 3 and ties with 1: (7 + 3.5) / 14. AP: (1/1 + 2/6) / 2. F1: 2/3 at 0.9, 4/8.
    assert metrics["pixel_auroc"] == pytest.approx(10.5 / 14)
    assert metrics["pixel_ap"] == pytest.approx((1 + 1 / 3) / 2)
    assert metrics["pixel_f1_max"] == pytest.approx(2 / 3)
    # At 0.4: hit 0.9, false 0.4 and 0.6, missed 0.2: 2 / (2 + 2 + 1).
    assert metrics["pixel_f1_at_threshold"] == pytest.approx(2 / 5)
    # Overlap 1/2 from the start; 0.3 of 7 normal pixels is 2.1, and 0.2 comes after 3: 1/2.
    assert metrics["pixel_aupro"] == pytest.approx(0.5)
    # Images: anomalous 0.9 and 0.2, normal 0.3: AUROC 1/2, AP (1 + 2/3) / 2, F1 4/5 at 0.2.
    assert metrics["image_auroc"] == pytest.approx(0.5)
    assert metrics["image_ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert metrics["image_f1_max"] == pytest.approx(0.8)
    assert (metrics["num_images"], metrics["num_anomalous"]) == (3, 2)
    assert metrics["pixel_threshold"] == 0.4


def test_each_defect_type_is_set_against_the_normal_images_only() -> None:
    per_type = _accumulator().compute(threshold=0.4)["per_defect_type"]
    assert list(per_type) == ["crack", "stain"]
    # Stain: anomalous 0.2 against 0.1 0.3 (good) and 0.6 0.1 (its own image): beats 2 of 4.
    assert per_type["stain"]["pixel_auroc"] == pytest.approx(0.5)
    assert per_type["stain"]["pixel_f1_at_threshold"] == 0.0
    assert per_type["crack"]["pixel_auroc"] == 1.0
    assert per_type["crack"]["image_auroc"] == 1.0
    assert per_type["stain"]["image_auroc"] == 0.0
    assert (per_type["stain"]["num_images"], per_type["stain"]["num_anomalous"]) == (2, 1)


def test_images_can_be_added_after_a_first_result() -> None:
    accumulator = _accumulator()
    before = accumulator.compute(threshold=0.4)
    assert accumulator.compute(threshold=0.4) == before
    accumulator.update(_map([[0.95, 0.95]]), _mask([[0, 0]]), 0.95, "good")
    after = accumulator.compute(threshold=0.4)
    # Two more normal pixels above every anomalous one: 10.5 right pairs of 2 * 9.
    assert after["pixel_auroc"] == pytest.approx(10.5 / 18)
    assert after["num_images"] == 4


def test_what_is_not_defined_is_none_and_the_result_is_json() -> None:
    accumulator = MetricAccumulator()
    accumulator.update(_map([[0.1, 0.3]]), _mask([[0, 0]]), 0.3, "good")
    metrics = accumulator.compute(threshold=0.5)
    assert metrics["pixel_f1_at_threshold"] is None
    assert metrics["image_auroc"] is None
    assert metrics["per_defect_type"] == {}
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert MetricAccumulator().compute(threshold=0.5)["num_images"] == 0


def test_a_defect_lost_at_the_evaluation_size_still_counts_as_a_defective_image() -> None:
    accumulator = MetricAccumulator()
    accumulator.update(_map([[0.1]]), _mask([[0]]), 0.1, "good")
    accumulator.update(_map([[0.8]]), _mask([[0]]), 0.8, "crack")
    metrics = accumulator.compute(threshold=0.5)
    assert metrics["image_auroc"] == 1.0
    assert metrics["pixel_auroc"] is None


def test_the_accumulator_keeps_its_own_copy() -> None:
    accumulator = MetricAccumulator()
    anomaly_map, gt_mask = _map([[0.9, 0.1]]), _mask([[1, 0]])
    accumulator.update(anomaly_map, gt_mask, 0.9, "crack")
    anomaly_map[:] = anomaly_map[:, ::-1].copy()
    assert accumulator.compute(threshold=0.5)["pixel_auroc"] == 1.0
    assert anomaly_map[0, 1] == np.float32(0.9)


@pytest.mark.parametrize(
    ("scores", "mask", "message"),
    [
        ([[0.1, 0.2]], np.zeros((2, 1), dtype=bool), "one size"),
        ([[0.1, np.nan]], np.zeros((1, 2), dtype=bool), "finite"),
        ([[0.1, np.inf]], np.zeros((1, 2), dtype=bool), "finite"),
        ([[0.1, 0.2]], np.zeros((1, 2), dtype=np.uint8), "bool"),
    ],
)
def test_what_cannot_be_ranked_is_refused(
    scores: list[list[float]], mask: np.ndarray, message: str
) -> None:
    with pytest.raises(InputValueError, match=message):
        MetricAccumulator().update(_map(scores), mask, 0.5, "crack")


def test_an_image_score_must_be_a_number() -> None:
    with pytest.raises(InputValueError, match="image_score"):
        MetricAccumulator().update(_map([[0.1]]), _mask([[0]]), math.nan, "good")


def test_images_without_a_mask_count_as_images_only() -> None:
    accumulator = MetricAccumulator()
    gt_mask = np.array([[True, False]])
    accumulator.update(np.array([[0.1, 0.2]]), ~gt_mask & False, 0.2, "good")
    accumulator.update(np.array([[0.9, 0.3]]), gt_mask, 0.9, "dent")
    accumulator.update(np.array([[0.1, 0.1]]), None, 0.1, "dent")
    accumulator.update(np.array([[0.8, 0.7]]), None, 0.8, "hole")
    metrics = accumulator.compute(0.5)
    assert (metrics["num_images"], metrics["num_anomalous"]) == (4, 3)
    assert metrics["image_auroc"] == pytest.approx(2 / 3)
    assert (metrics["pixel_auroc"], metrics["pixel_f1_at_threshold"]) == (1.0, 1.0)
    assert metrics["num_without_mask"] == 2
    hole = metrics["per_defect_type"]["hole"]
    assert (hole["image_auroc"], hole["num_without_mask"]) == (1.0, 1)
    assert [hole[name] for name in hole if name.startswith("pixel")] == [None] * 5
