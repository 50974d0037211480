"""From test images to metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from patchscout.checks import about
from patchscout.data.images import read_image, read_size
from patchscout.data.loader import resized_mask
from patchscout.inference import WorkingMap, resize_map
from patchscout.metrics import MetricAccumulator
from patchscout.monitor import Monitor
from patchscout.types import AnomalyMap, Image, Mask, Sample

EvaluationSize = Literal["working", "native"]
Score = Callable[[Image], WorkingMap]
"""Returns the anomaly map of an image of any size, at the working size and in [0, 1]."""


@dataclass(frozen=True)
class ScoredImage:
    """A test image with what was found in it, both at the size to compare at.

    Attributes:
        anomaly_map: Its anomaly map.
        gt_mask: Its mask.
        pred_score: The score of the image.
        defect_type: `"good"` or its defect type.
    """

    anomaly_map: AnomalyMap
    gt_mask: Mask
    pred_score: float
    defect_type: str


def evaluate(
    score: Score,
    samples: Sequence[Sample],
    threshold: float,
    image_size: tuple[int, int],
    monitor: Monitor,
    size: EvaluationSize = "working",
) -> dict[str, Any]:
    """Score test images and return the metrics over them; see `measure`.

    Args:
        score: The trained model.
        samples: Test images.
        threshold: The stored decision threshold.
        image_size: Height and width in pixels that the model works at.
        monitor: Shows progress.
        size: Compare at the size that the model works at, or at each image's own.
    """
    compare_size = image_size if size == "working" else None
    return measure(score_all(score, samples, monitor), samples, threshold, compare_size)


def score_all(score: Score, samples: Sequence[Sample], monitor: Monitor) -> Iterable[WorkingMap]:
    """Yield the anomaly map of each sample."""
    for sample in monitor.track(samples, "evaluating", len(samples), "image"):
        image = read_image(sample.image_path)
        with about(sample.image_path):
            anomaly_map = score(image)
        yield anomaly_map


def measure(
    anomaly_maps: Iterable[WorkingMap],
    samples: Sequence[Sample],
    threshold: float,
    size: tuple[int, int] | None,
) -> dict[str, Any]:
    """Return the metrics over anomaly maps.

    Args:
        anomaly_maps: The map of each sample, at the size that the model works at.
        samples: Test images.
        threshold: The stored decision threshold.
        size: Height and width in pixels to compare at, maps resized and masks resized and
            binarized at half; None compares at each image's own size.

    Returns:
        What `MetricAccumulator.compute` returns, and the `evaluation_size`.
    """
    return figures(compared(anomaly_maps, samples, size), threshold, size)


def compared(
    anomaly_maps: Iterable[WorkingMap], samples: Sequence[Sample], size: tuple[int, int] | None
) -> Iterator[ScoredImage]:
    """Yield each test image at the size to compare at; see `measure`.

    The score of an image is the one that `predict` gives: the largest value at its own size.
    """
    for sample, anomaly_map in zip(samples, anomaly_maps, strict=True):
        own_size = read_size(sample.image_path)
        yield ScoredImage(
            resize_map(anomaly_map, size or own_size),
            resized_mask(sample, size or own_size),
            float(resize_map(anomaly_map, own_size).max()),
            sample.defect_type,
        )


def figures(
    images: Iterable[ScoredImage], threshold: float, size: tuple[int, int] | None
) -> dict[str, Any]:
    """Return the metrics over test images at the size to compare at; see `measure`."""
    accumulator = MetricAccumulator()
    for image in images:
        accumulator.update(image.anomaly_map, image.gt_mask, image.pred_score, image.defect_type)
    evaluation_size = "native" if size is None else list(size)
    return {**accumulator.compute(threshold), "evaluation_size": evaluation_size}
