"""From test images to metrics: of pixels, of scores, and of the decisions that were made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from patchscout.checks import about
from patchscout.data.images import read_image
from patchscout.data.loader import resized_mask
from patchscout.decision import (
    Decision,
    ImageScores,
    decide,
    image_score,
    interval,
    upper_bound,
)
from patchscout.inference import resize_map
from patchscout.metrics import MetricAccumulator
from patchscout.monitor import Monitor
from patchscout.prediction import Prediction, make_prediction
from patchscout.types import NORMAL, Image, Sample, WorkingMap

EvaluationSize = Literal["working", "native"]

BUDGETS = (0.01, 0.02, 0.05, 0.1)
"""Shares of good parts that may be called defective, of which each is measured."""

NUM_BINS = 10
"""Of probabilities that are compared with what images turn out to be."""


def evaluate(
    score: Callable[[Image], WorkingMap],
    samples: Sequence[Sample],
    decision: Decision,
    scores: ImageScores,
    image_size: tuple[int, int],
    monitor: Monitor,
    size: EvaluationSize = "working",
) -> dict[str, Any]:
    """Score test images, decide on them as `predict` does, and return the metrics over them.

    Images without a mask take part in the figures of images, not in those of pixels.

    Args:
        score: Returns the anomaly map of an image of any size, at the working size, in [0, 1].
        samples: Test images.
        decision: The stored decision.
        scores: The image scores that it was made on.
        image_size: Height and width in pixels to compare at.
        monitor: Shows progress.
        size: With `native`, compare at each image's own size instead.

    Returns:
        What `MetricAccumulator.compute` returns; `evaluation_size`; and of images `decisions`,
        `budgets`, `reliability`, `roc` and `images`, see the functions below.
    """
    accumulator = MetricAccumulator()
    images: list[dict[str, Any]] = []
    for sample in monitor.track(samples, "evaluating", len(samples), "image"):
        image = read_image(sample.image_path)
        with about(sample.image_path):
            working_map = score(image)
            own_size = (image.shape[0], image.shape[1])
            own_map = resize_map(working_map, own_size)
            found = make_prediction(own_map, image_score(working_map), decision)
        compare_size = own_size if size == "native" else image_size
        accumulator.update(
            own_map if size == "native" else resize_map(working_map, image_size),
            resized_mask(sample, compare_size) if sample.has_mask else None,
            found.image_score,
            sample.defect_type,
        )
        images.append(_image_row(sample, found))
    good = np.array([row["image_score"] for row in images if row["defect_type"] == NORMAL])
    defective = np.array([row["image_score"] for row in images if row["defect_type"] != NORMAL])
    return {
        **accumulator.compute(decision.pixel_threshold),
        "evaluation_size": "native" if size == "native" else list(image_size),
        "decisions": decisions(images, decision, scores),
        "budgets": budgets(good, defective, decision, scores),
        "reliability": reliability(good, defective, decision),
        "roc": roc(good, defective, decision),
        "images": sorted(images, key=_worst_first),
    }


def _image_row(sample: Sample, found: Prediction) -> dict[str, Any]:
    """Return what was decided on an image: `missed`, `rejected`, `detected` or `passed`."""
    outcomes = ("missed", "detected") if sample.is_anomalous else ("passed", "rejected")
    return {
        "outcome": outcomes[found.is_anomalous],
        "path": str(sample.image_path),
        "defect_type": sample.defect_type,
        "pred_score": found.pred_score,
        "image_score": found.image_score,
    }


def _worst_first(row: dict[str, Any]) -> tuple[int, float]:
    """Order missed images, rejected good ones, then the others, by how wrong their scores are."""
    order = ("missed", "rejected", "detected", "passed").index(row["outcome"])
    return order, row["image_score"] * (1 if row["outcome"] in ("missed", "detected") else -1)


def decisions(
    images: Sequence[dict[str, Any]], decision: Decision, scores: ImageScores
) -> dict[str, Any]:
    """Return how many images were decided wrongly, beside what was promised.

    Returns:
        `score_threshold`; `good` and `defective`, each with `num_images`, `num_wrong`, `share`,
        its 95 % `interval`, and what was `asked` and is `promised` at 95 % confidence; and
        `missed_per_type`, [missed, all] of each defect type. Shares are of images decided wrongly;
        None where there are none or nothing was asked or promised.
    """
    outcomes = [row["outcome"] for row in images]
    asked = decision.asked
    types = sorted({row["defect_type"] for row in images} - {NORMAL})
    missed = None if asked.min_detected is None else 1 - asked.min_detected
    return {
        "score_threshold": decision.threshold_probability,
        "good": _counted(outcomes.count("rejected"), outcomes.count("passed"))
        | {
            "asked": asked.budget,
            "promised": decision.most_false_alarms if decision.num_good else None,
        },
        "defective": _counted(outcomes.count("missed"), outcomes.count("detected"))
        | {
            "asked": missed,
            "promised": 1 - decision.least_detected if scores.kind == "new" else None,
        },
        "missed_per_type": {
            name: [
                sum(row["outcome"] == "missed" for row in images if row["defect_type"] == name),
                sum(row["defect_type"] == name for row in images),
            ]
            for name in types
        },
    }


def _counted(num_wrong: int, num_right: int) -> dict[str, Any]:
    total = num_wrong + num_right
    return {
        "num_images": total,
        "num_wrong": num_wrong,
        "share": num_wrong / total if total else None,
        "interval": list(interval(num_wrong, total)) if total else None,
    }


def budgets(
    good: np.ndarray, defective: np.ndarray, decision: Decision, scores: ImageScores
) -> list[dict[str, Any]]:
    """Return what other budgets would have come to, by scores alone.

    Returns:
        For each the `budget`; what is `promised` at 95 % confidence; and `rejected` and `detected`,
        the shares of good and of defective test images that reach its threshold.
    """
    rows = []
    for budget in BUDGETS if scores.normal else ():
        asked = decision.asked.model_copy(update={"max_false_alarms": budget, "min_detected": None})
        other = decide(scores, decision.pixel_threshold, asked)
        rejected, detected = (
            float(np.mean(group >= other.image_threshold)) if len(group) else None
            for group in (good, defective)
        )
        rows.append(
            {
                "budget": budget,
                "promised": upper_bound(other.num_rejected, other.num_good),
                "rejected": rejected,
                "detected": detected,
            }
        )
    return rows


def reliability(
    good: np.ndarray, defective: np.ndarray, decision: Decision
) -> list[dict[str, Any]]:
    """Return how often images of each probability are defective.

    Returns:
        For each of `NUM_BINS` bins of equal width with images in it: `from` and `to`; `num_good`
        and `num_defective`; their mean `probability`; and `observed`, the share of defective ones.
        The latter two are at even odds, good images weighing as much as defective ones altogether.
    """
    groups = [np.array([decision.probability(s) for s in group]) for group in (good, defective)]
    weights = [1 / max(len(group), 1) for group in groups]
    bins = [np.minimum((group * NUM_BINS).astype(int), NUM_BINS - 1) for group in groups]
    rows = []
    for number in range(NUM_BINS):
        inside = [group[of == number] for group, of in zip(groups, bins, strict=True)]
        shares = [len(group) * weight for group, weight in zip(inside, weights, strict=True)]
        if not sum(shares):
            continue
        mean = sum(group.sum() * weight for group, weight in zip(inside, weights, strict=True))
        rows.append(
            {
                "from": number / NUM_BINS,
                "to": (number + 1) / NUM_BINS,
                "num_good": len(inside[0]),
                "num_defective": len(inside[1]),
                "probability": float(mean / sum(shares)),
                "observed": shares[1] / sum(shares),
            }
        )
    return rows


def roc(good: np.ndarray, defective: np.ndarray, decision: Decision) -> list[dict[str, Any]]:
    """Return how many images reach each score, from the highest on.

    Returns:
        For each distinct score its probability, `score_threshold`, and `num_rejected` and
        `num_detected`, with their shares `rejected` and `detected`.
    """
    rows = []
    for score in np.unique(np.concatenate([good, defective]))[::-1]:
        counts = [int(np.count_nonzero(group >= score)) for group in (good, defective)]
        rows.append(
            {
                "score_threshold": decision.probability(score),
                "num_rejected": counts[0],
                "num_detected": counts[1],
                "rejected": counts[0] / max(len(good), 1),
                "detected": counts[1] / max(len(defective), 1),
            }
        )
    return rows
