"""Finds the connected regions of a mask."""

from __future__ import annotations

import cv2
import numpy as np

from patchscout.types import Mask, Region


def find_regions(pred_mask: Mask) -> list[Region]:
    """Return the connected regions of `pred_mask`, the largest first.

    Pixels that touch at an edge or a corner belong together (8-connectivity), as they do for
    the regions of `metrics.aupro`.

    Args:
        pred_mask: (height, width) bool, True on anomalous pixels.

    Returns:
        One region for each component; regions of one size in reading order of their top left
        corners. Empty for an empty mask.

    Example:
        >>> mask = np.zeros((4, 6), dtype=bool)
        >>> mask[1:3, 2:5] = True
        >>> find_regions(mask)
        [Region(x=2, y=1, width=3, height=2, area_px=6)]
    """
    if not pred_mask.any():
        return []
    _, _, stats, _ = cv2.connectedComponentsWithStats(pred_mask.astype(np.uint8), connectivity=8)
    regions = [Region(*(int(value) for value in row)) for row in stats[1:]]  # row 0: background
    return sorted(regions, key=lambda region: (-region.area_px, region.y, region.x))
