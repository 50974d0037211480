"""Metrics against independent implementations: scikit-learn, and overlap counted naively."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from skimage.measure import label
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_curve,
    roc_auc_score,
)

from patchscout.metrics import MetricAccumulator, aupro, binary_metrics, f1_at_threshold

# Few levels make ties in nearly every case, many levels in nearly none.
CASES = st.tuples(
    st.integers(0, 2**32 - 1), st.integers(2, 300), st.sampled_from([1, 2, 3, 10, 10**6])
)


def _random_scores(seed: int, size: int, num_levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 scores on a grid of levels, and a target of a random share."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, num_levels, size) / num_levels
    return scores.astype(np.float32), rng.random(size) < rng.random()


@settings(max_examples=100, deadline=None)
@given(CASES)
def test_binary_metrics_agree_with_scikit_learn(case: tuple[int, int, int]) -> None:
    preds, target = _random_scores(*case)
    assume(0 < target.sum() < target.size)
    metrics = binary_metrics(preds, target)
    assert metrics.auroc == pytest.approx(roc_auc_score(target, preds), abs=1e-12)
    assert metrics.ap == pytest.approx(average_precision_score(target, preds), abs=1e-12)
    precision, recall, _ = precision_recall_curve(target, preds)
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))
    assert metrics.f1_max == pytest.approx(f1.max(), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(CASES, st.floats(0, 1))
def test_f1_at_threshold_agrees_with_scikit_learn(
    case: tuple[int, int, int], threshold: float
) -> None:
    preds, target = _random_scores(*case)
    assume(target.any())
    expected = f1_score(target, preds >= np.float32(threshold))
    assert f1_at_threshold(preds, target, threshold) == pytest.approx(expected, abs=1e-12)


def _naive_aupro(
    anomaly_maps: list[np.ndarray], gt_masks: list[np.ndarray], max_fpr: float
) -> float:
    """AUPRO as its definition reads: a mask for every threshold, a loop over every defect."""
    points = [(0.0, 0.0)]
    thresholds = sorted({float(score) for scores in anomaly_maps for score in scores.ravel()})
    for threshold in reversed(thresholds):
        overlaps: list[float] = []
        num_false = num_normal = 0
        for scores, gt_mask in zip(anomaly_maps, gt_masks, strict=True):
            predicted = scores >= threshold
            defects = np.asarray(label(gt_mask, connectivity=2))
            for index in range(1, int(defects.max()) + 1):
                overlaps.append(float(predicted[defects == index].mean()))
            num_false += int((predicted & ~gt_mask).sum())
            num_normal += int((~gt_mask).sum())
        points.append((num_false / num_normal, sum(overlaps) / len(overlaps)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= max_fpr:
            break
        if x1 > max_fpr:
            x1, y1 = max_fpr, y0 + (y1 - y0) * (max_fpr - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / max_fpr


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 4, 12, 10**6]),
    st.sampled_from([0.05, 0.3, 0.5, 1.0]),
)
def test_aupro_agrees_with_counting_naively(seed: int, num_levels: int, max_fpr: float) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 9, size=(int(rng.integers(1, 4)), 2))
    gt_masks = [rng.random(size) < rng.choice([0.0, 0.2, 0.5]) for size in sizes]
    assume(any(mask.any() for mask in gt_masks) and not all(mask.all() for mask in gt_masks))
    maps = [
        ((rng.integers(0, num_levels, mask.shape) + mask * rng.integers(0, 2)) / num_levels).astype(
            np.float32
        )
        for mask in gt_masks
    ]
    expected = _naive_aupro(maps, gt_masks, max_fpr)
    assert aupro(maps, gt_masks, max_fpr) == pytest.approx(expected, abs=1e-12)


@pytest.fixture(scope="module")
def mvtec_au_pro() -> Callable[..., tuple[float, object]]:
    """MVTec's own evaluation code, as adeval carries it; skips where adeval is not installed.

    Only its one file is run: importing the package changes how multiprocessing pickles functions.
    """
    package = importlib.util.find_spec("adeval")
    if package is None or package.origin is None:
        pytest.skip("adeval is not installed: pip install --no-deps adeval")
    path = Path(package.origin).with_name("au_pro.py")
    spec = importlib.util.spec_from_file_location("mvtec_au_pro", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.calculate_au_pro


@pytest.mark.parametrize("seed", range(5))
def test_aupro_agrees_with_mvtec(
    seed: int, mvtec_au_pro: Callable[..., tuple[float, object]]
) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.random((6, 64, 64)).astype(np.float32)
    gt_masks = [cv2.GaussianBlur(layer, (0, 0), 3) > 0.55 for layer in noise]
    maps = [
        cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2) + rng.random(mask.shape, np.float32)
        for mask in gt_masks
    ]
    num_normal = sum(int((~mask).sum()) for mask in gt_masks)
    expected, _ = mvtec_au_pro(
        [mask.astype(int) for mask in gt_masks], maps, num_thresholds=num_normal
    )
    # Theirs joins the points of neighboring normal pixels, ours steps at the anomalous ones.
    assert aupro(maps, gt_masks) == pytest.approx(expected, abs=2 / (0.3 * num_normal))
    assert 0.1 < expected < 0.99


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 5, 10**6]))
def test_accumulator_agrees_with_pooling_everything(seed: int, num_levels: int) -> None:
    rng = np.random.default_rng(seed)
    accumulator = MetricAccumulator()
    kept = []
    for defect_type in ["good", "crack", "stain", "good", "crack", "hole"]:
        size = rng.integers(2, 9, size=2)
        gt_mask = (rng.random(size) < 0.3) & (defect_type != "good")
        scores = (rng.integers(0, num_levels, size) / num_levels).astype(np.float32)
        accumulator.update(scores, gt_mask, float(scores.max()), defect_type)
        kept.append((defect_type, scores, gt_mask))
    metrics = accumulator.compute(threshold=0.5)
    for name, figures in [("all", metrics), *metrics["per_defect_type"].items()]:
        images = [image for image in kept if name in ("all", image[0]) or image[0] == "good"]
        preds = np.concatenate([scores.ravel() for _, scores, _ in images])
        target = np.concatenate([gt_mask.ravel() for _, _, gt_mask in images])
        image_preds = [scores.max() for _, scores, _ in images]
        image_target = [defect_type != "good" for defect_type, _, _ in images]
        assert figures["image_auroc"] == pytest.approx(roc_auc_score(image_target, image_preds))
        assert figures["image_ap"] == pytest.approx(
            average_precision_score(image_target, image_preds)
        )
        if not target.any():
            assert figures["pixel_ap"] is None
            continue
        assert figures["pixel_auroc"] == pytest.approx(roc_auc_score(target, preds))
        assert figures["pixel_ap"] == pytest.approx(average_precision_score(target, preds))
        assert figures["pixel_f1_at_threshold"] == pytest.approx(f1_score(target, preds >= 0.5))
        assert figures["pixel_aupro"] == pytest.approx(
            _naive_aupro([image[1] for image in images], [image[2] for image in images], 0.3)
        )
