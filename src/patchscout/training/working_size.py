"""The size that images are worked on at, by a rule, and the labeled images that it leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from patchscout.checks import InputValueError
from patchscout.config import LONGEST_PX, SHORTEST_PX
from patchscout.data.annotations import read_mask
from patchscout.data.images import read_size
from patchscout.data.loader import resized_mask
from patchscout.data.split import evenly_chosen
from patchscout.monitor import Monitor
from patchscout.types import Mask, Sample, Split

BASE_PX = 256
"""Side of the square that has as many pixels as an image of coarse defects is worked on at."""

LARGEST_PX = 512
"""The same for the thinnest defects."""

THIN_PX = 8.0
"""How thick the thin ones among the labeled defects should be at the working size."""

SIZE_MULTIPLE = 16
MOST_MEASURED = 64


def choose_image_size(normal: Sequence[Sample], labeled: Sequence[Sample]) -> tuple[int, int]:
    """Return the height and width in pixels to work at.

    The shape is the median one of the normal images. The number of pixels is 256 squared, and more,
    up to 512 squared or what the images have, if a quarter of the labeled images has defects that
    would be thinner than 8 px at that size.

    Args:
        normal: Normal training images.
        labeled: Labeled training images; may be empty.
    """
    chosen = evenly_chosen(normal, MOST_MEASURED)
    sizes = np.array([read_size(sample.image_path) for sample in chosen], float)
    shape = math.exp(float(np.median(np.log(sizes[:, 0] / sizes[:, 1]))))
    native = math.sqrt(float(np.median(sizes.prod(axis=1))))
    thickness = [relative_thickness(read_mask(s)) for s in labeled]
    wanted = THIN_PX / float(np.quantile(thickness, 0.25)) if thickness else BASE_PX
    side = max(min(wanted, LARGEST_PX, native), BASE_PX)
    height, width = side * math.sqrt(shape), side / math.sqrt(shape)
    return _rounded(height), _rounded(width)


def without_vanished(split: Split, size: tuple[int, int], root: Path, monitor: Monitor) -> Split:
    """Return a split without the labeled images whose defects all vanish at the working size.

    With an empty mask they would be trained on as normal images.

    Args:
        split: The images; the test part stays as it is.
        size: Height and width in pixels to work at.
        root: The folder of the images, for the message.
        monitor: Says how many are left out, if any.

    Raises:
        InputValueError: If none would be left.
    """
    visible = tuple(sample for sample in split.labeled if resized_mask(sample, size).any())
    num_vanished = len(split.labeled) - len(visible)
    if not num_vanished:
        return split
    if not visible:
        raise InputValueError(
            f"No labeled defect of {root} covers half a pixel at `data.image_size`"
            f" {size}. Expected larger ones; raise `data.image_size`."
        )
    monitor.say(
        f"{num_vanished} of {len(split.labeled)} labeled images are left out, as no defect in them"
        f" covers half a pixel. To train on them raise `data.image_size`, which is {size}."
    )
    return replace(split, labeled=visible)


def relative_thickness(mask: Mask) -> float:
    """Return how thick the thickest defect in a mask is, over the root of the image's area.

    Thickness is the diameter of the largest circle that fits into the defect.
    """
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return 2 * float(distance.max()) / math.sqrt(mask.size)


def _rounded(side: float) -> int:
    return min(max(round(side / SIZE_MULTIPLE) * SIZE_MULTIPLE, SHORTEST_PX), LONGEST_PX)
