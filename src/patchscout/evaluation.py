"""From test images to metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from patchscout.data.images import read_image
from patchscout.data.loader import resized_mask
from patchscout.inference import resize_map, score_image
from patchscout.metrics import MetricAccumulator
from patchscout.monitor import Monitor
from patchscout.networks.segmenter import Segmenter
from patchscout.types import Sample

EvaluationSize = Literal["working", "native"]


def evaluate(
    segmenter: Segmenter,
    samples: Sequence[Sample],
    threshold: float,
    image_size: tuple[int, int],
    device: torch.device,
    monitor: Monitor,
    size: EvaluationSize = "working",
) -> dict[str, Any]:
    """Return the metrics over test images.

    Args:
        segmenter: The trained model.
        samples: Test images.
        threshold: The stored decision threshold.
        image_size: Height and width in pixels that the model works at.
        device: Where the model is.
        monitor: Shows progress.
        size: Compare at the working size, masks resized and binarized at half; or at each
            image's own size, maps resized.

    Returns:
        What `MetricAccumulator.compute` returns, and the `evaluation_size`.
    """
    accumulator = MetricAccumulator()
    for sample in monitor.track(samples, "evaluating", len(samples), "image"):
        image = read_image(sample.image_path)
        own_size = (image.shape[0], image.shape[1])
        anomaly_map = score_image(segmenter, image, image_size, device)
        score = float(resize_map(anomaly_map, own_size).max())  # as `predict` scores it
        compare_size = image_size if size == "working" else own_size
        accumulator.update(
            resize_map(anomaly_map, compare_size),
            resized_mask(sample, compare_size),
            score,
            sample.defect_type,
        )
    evaluation_size = list(image_size) if size == "working" else "native"
    return {**accumulator.compute(threshold), "evaluation_size": evaluation_size}
