"""From test images to metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from patchscout.checks import about
from patchscout.data.images import read_image
from patchscout.data.loader import resized_mask
from patchscout.inference import WorkingMap, resize_map
from patchscout.metrics import MetricAccumulator
from patchscout.monitor import Monitor
from patchscout.types import Image, Sample

EvaluationSize = Literal["working", "native"]


def evaluate(
    score: Callable[[Image], WorkingMap],
    samples: Sequence[Sample],
    threshold: float,
    image_size: tuple[int, int],
    monitor: Monitor,
    size: EvaluationSize = "working",
) -> dict[str, Any]:
    """Score test images and return the metrics over them.

    Images without a mask take part in the figures of images, not in those of pixels. The score of
    an image is the one that `predict` gives: the largest value at its own size.

    Args:
        score: Returns the anomaly map of an image of any size, at the working size, in [0, 1].
        samples: Test images.
        threshold: The stored decision threshold.
        image_size: Height and width in pixels to compare at.
        monitor: Shows progress.
        size: With `native`, compare at each image's own size instead.

    Returns:
        What `MetricAccumulator.compute` returns, and the `evaluation_size`.
    """
    accumulator = MetricAccumulator()
    for sample in monitor.track(samples, "evaluating", len(samples), "image"):
        image = read_image(sample.image_path)
        with about(sample.image_path):
            anomaly_map = score(image)
        own_size = (image.shape[0], image.shape[1])
        compare_size = own_size if size == "native" else image_size
        accumulator.update(
            resize_map(anomaly_map, compare_size),
            resized_mask(sample, compare_size) if sample.has_mask else None,
            float(resize_map(anomaly_map, own_size).max()),
            sample.defect_type,
        )
    evaluation_size = "native" if size == "native" else list(image_size)
    return {**accumulator.compute(threshold), "evaluation_size": evaluation_size}
