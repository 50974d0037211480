"""Whether an image is like the normal training images as a whole: light, focus, size, depth.

A handful of statistics of the whole image are compared with their range over normal training
images. Small defects hardly change them; a lamp, a lens or a converter does. Runs without PyTorch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

Inside = Bool[np.ndarray, "rows columns"]

FEWEST_IMAGES = 5
"""Of fewer normal images there is no range."""

FEWEST_SCORED = 20
"""Of fewer images scores are not compared."""

MOST_IMAGES = 100
"""At most so many normal images, evenly chosen, are measured."""

TWELVE_BITS = 4096 / 65535
"""More than a camera of 12 bits gives whose values are stored in 16 without scaling."""

MOST_VALUES = 100_000
"""About so many of them are looked at, evenly chosen."""

SMALLEST = 1e-5
"""Added before logarithms and divisions; less than any camera tells apart."""

SLACK, SLACK_OF_FEW = 0.5, 15.0
"""A range is extended either way by its width times the first, and the second over the number of
images: the fewer there are, the less their range tells of others."""

CHANGES = {
    "brightness": ("darker", "brighter", 0.1),
    "contrast": ("less contrast", "more contrast", 0.1),
    "sharpness": ("blurred", "sharper", 0.1),
    "color": ("paler", "more colorful", 0.02),
    "shape": ("another shape", "another shape", 0.02),
    "size": ("smaller", "larger", 0.1),
}
"""What a statistic below and above its range is called, and what a range is extended by at least.

Of logarithms 0.1 is 10 %.
"""

TWELVE_BIT_VALUES = "12-bit values"

Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]


@dataclass(frozen=True)
class NormalRange:
    """The statistics of normal training images.

    Attributes:
        num_images: How many were measured.
        lowest: The smallest value of each statistic, see `measure`.
        highest: The largest.
    """

    num_images: Annotated[int, Field(ge=FEWEST_IMAGES, strict=True)]
    lowest: dict[str, Finite]
    highest: dict[str, Finite]

    @classmethod
    def of(cls, measured: Sequence[dict[str, float]]) -> NormalRange | None:
        """Return the range of measured images; None of fewer than five."""
        if len(measured) < FEWEST_IMAGES:
            return None
        values = {name: [one[name] for one in measured] for name in measured[0]}
        lowest = {name: min(found) for name, found in values.items()}
        highest = {name: max(found) for name, found in values.items()}
        return cls(len(measured), lowest, highest)

    def changes(self, measured: dict[str, float]) -> tuple[str, ...]:
        """Return what of a measured image is unlike the normal ones, such as `darker`."""
        found: list[str] = []
        for name, (below, above, least) in CHANGES.items():
            if name not in self.lowest or name not in self.highest:
                continue
            low, high = self.lowest[name], self.highest[name]
            margin = max((SLACK + SLACK_OF_FEW / self.num_images) * (high - low), least)
            if not low - margin <= measured[name] <= high + margin:
                found.append(below if measured[name] < low else above)
        if "darker" in found and measured["depth"] == 12:
            found[found.index("darker")] = TWELVE_BIT_VALUES
        return tuple(found)


def measure(
    image: Float[np.ndarray, "height width 3"],
    working_size: tuple[int, int],
    inside: Inside | None = None,
) -> dict[str, float]:
    """Return the statistics of an image.

    All but `shape`, `size` and `depth` are taken at the working size. Light that is scaled changes
    `brightness` alone.

    Args:
        image: RGB in [0, 1].
        working_size: Height and width in pixels.
        inside: Which part of the image counts, of any size; all of it unless given.

    Returns:
        `brightness`: logarithm of the mean. `contrast`: logarithm of the standard deviation over
        the mean. `sharpness`: logarithm of the mean absolute Laplacian over the standard
        deviation. `color`: mean difference of the largest and the smallest channel over the mean.
        `shape`: logarithm of height over width. `size`: logarithm of their geometric mean.
        `depth`: 12 if the values are those of at most 12 bits in 16, else 0.
    """
    height, width = image.shape[:2]
    side = working_size[1], working_size[0]
    small = cv2.resize(np.ascontiguousarray(image), side, interpolation=cv2.INTER_AREA)
    grey = small.mean(axis=2)
    edges = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    spread = small.max(axis=2) - small.min(axis=2)
    if inside is not None:
        chosen = cv2.resize(inside.astype(np.uint8), side, interpolation=cv2.INTER_NEAREST) > 0
        if chosen.any():
            grey, edges, spread = (values[chosen] for values in (grey, edges, spread))
    mean, deviation = float(grey.mean()) + SMALLEST, float(grey.std()) + SMALLEST
    return {
        "brightness": math.log(mean),
        "contrast": math.log(deviation / mean),
        "sharpness": math.log((float(edges.mean()) + SMALLEST) / deviation),
        "color": float(spread.mean()) / mean,
        "shape": math.log(height / width),
        "size": math.log(height * width) / 2,
        "depth": 12.0 if _has_twelve_bits(image) else 0.0,
    }


def _has_twelve_bits(image: Float[np.ndarray, "height width 3"]) -> bool:
    """Return whether values are no larger than 12 bits in 16 allow, and finer than 8 bits are."""
    if float(image.max()) > TWELVE_BITS:
        return False
    levels = image.reshape(-1)[:: image.size // MOST_VALUES + 1] * np.float32(255)
    return bool((np.abs(levels - np.rint(levels)) > 0.01).any())


def summary(changes: Iterable[tuple[str, ...]]) -> str | None:
    """Return one line on all images of a batch; None if all are like the training images.

    Args:
        changes: What is unlike the training images in each.
    """
    of_each = list(changes)
    num_unlike = sum(map(bool, of_each))
    if not num_unlike:
        return None
    counts = Counter(name for one in of_each for name in one).most_common()
    listed = ", ".join(f"{name} ({count})" for name, count in counts)
    remedy = (
        "Scale their values to all 16 bits."
        if counts[0][0] == TWELVE_BIT_VALUES
        else "Check lamp, lens and camera, or train again with such images."
    )
    return (
        f"{num_unlike} of {len(of_each)} images are unlike the training images: {listed}. {remedy}"
    )


def higher_scores(scores: Sequence[float], normal: Sequence[float]) -> str | None:
    """Return one line if scores of a batch are higher than those of normal images; None else.

    They are if their median is above the 95th percentile of the latter.

    Args:
        scores: Image scores of the batch; of fewer than 20 nothing is said.
        normal: Of normal images that the model was not trained on; of fewer than five likewise.
    """
    if len(scores) < FEWEST_SCORED or len(normal) < FEWEST_IMAGES:
        return None
    usual = float(np.quantile(normal, 0.95, method="higher"))
    if float(np.median(scores)) <= usual:
        return None
    return (
        f"Half of the {len(scores)} images score higher than 95 % of the good images that the"
        " decision was made on. Unless most of them are defective, they are unlike the training"
        " images: check lamp, lens and camera, or train again with such images."
    )
