"""From an image of any kind and size to what was found in it, at its own size."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from patchscout.data.images import resize, resize_image
from patchscout.data.loader import to_tensor
from patchscout.networks.segmenter import Segmenter
from patchscout.networks.tiles import segment
from patchscout.types import AnomalyMap, Image

WorkingMap = Float[np.ndarray, "working_height working_width"]
"""An anomaly map at the size that the model works at."""


@torch.no_grad()
def score_image(
    segmenter: Segmenter, image: Image, image_size: tuple[int, int], device: torch.device
) -> WorkingMap:
    """Return the anomaly map of an image at the working size.

    Args:
        segmenter: The trained model.
        image: (height, width, 3) float32 in [0, 1], of any size.
        image_size: Height and width in pixels that the model works at.
        device: Where the model is.
    """
    tensor = to_tensor(resize_image(image, image_size))[None].to(device)
    return segment(segmenter, tensor)[0].float().cpu().numpy()


def resize_map(anomaly_map: WorkingMap, size: tuple[int, int]) -> AnomalyMap:
    """Return an anomaly map at another size (height, width), values staying in [0, 1]."""
    if anomaly_map.shape == size:
        return anomaly_map
    return np.clip(resize(anomaly_map, size), 0.0, 1.0, dtype=np.float32)
