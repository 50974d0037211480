"""The nouns that every layer shares: samples on disk, the split made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from patchscout.checks import InputValueError

Image = Float[np.ndarray, "height width 3"]
"""An RGB image as float32 in [0, 1]."""

Mask = Bool[np.ndarray, "height width"]
"""True on anomalous pixels."""

AnomalyMap = Float[np.ndarray, "height width"]
"""Probability per pixel of being anomalous, float32 in [0, 1]."""

WorkingMap = Float[np.ndarray, "working_height working_width"]
"""An anomaly map at the size that the model works at."""

ROUNDING = 1e-5
"""By so much sums of float32 may leave [0, 1]."""

NORMAL = "good"
"""The `defect_type` of an image without a defect, as MVTec AD names it."""


LeftOut = dict[str, list[Path]]
"""Files and folders that are not used, by the reason."""


@runtime_checkable
class MaskSource(Protocol):
    """Where the mask of one image comes from: an image file, polygons, a COCO annotation."""

    def read(self, image_size: tuple[int, int]) -> Mask:
        """Return the mask of an image of `image_size` (height, width), checked to fit it."""
        ...


@runtime_checkable
class TypedMask(MaskSource, Protocol):
    """A mask that may tell the type of the defect too."""

    def defect_type(self) -> str | None:
        """Return the type that most of it is of, or None."""
        ...


@dataclass(frozen=True)
class Sample:
    """One image on disk, not yet read.

    Attributes:
        image_path: The image file.
        defect_type: `"good"` for a normal image, else the name of its defect type.
        mask: Where the mask comes from; None for a normal image, whose mask is empty, and for a
            defective one whose mask is not known.
        region: What is looked at, at any size; None for all of the image.
    """

    image_path: Path
    defect_type: str = NORMAL
    mask: MaskSource | None = None
    region: Mask | None = field(default=None, compare=False, repr=False)

    @property
    def is_anomalous(self) -> bool:
        """Whether the image shows a defect."""
        return self.defect_type != NORMAL

    @property
    def has_mask(self) -> bool:
        """Whether it is known which pixels are anomalous."""
        return self.mask is not None or not self.is_anomalous


@dataclass(frozen=True)
class Dataset:
    """All images of one category, grouped by what is known of them.

    Attributes:
        name: The category, such as `bottle`.
        root: The folder that the paths of a saved split are relative to.
        train_normal: Normal images to train on.
        test_normal: Normal images kept for testing.
        anomalous: Images with a defect, with a mask or without.
        layout: How the folders were read, for people.
        left_out: Files that are not used, by the reason.
        looked_in: Where the first mask that is missing was looked for, if one is.
    """

    name: str
    root: Path
    train_normal: tuple[Sample, ...]
    test_normal: tuple[Sample, ...]
    anomalous: tuple[Sample, ...]
    layout: str = ""
    left_out: LeftOut = field(default_factory=dict)
    looked_in: str = ""

    @property
    def defect_types(self) -> tuple[str, ...]:
        """The defect types there are, sorted."""
        return tuple(sorted({sample.defect_type for sample in self.anomalous}))


@dataclass(frozen=True)
class Split:
    """Which images are trained on and which are only tested on.

    Attributes:
        train_normal: Normal images to train on.
        labeled: Anomalous images with masks to train on.
        test: Normal and anomalous images that nothing is trained on or chosen by.
    """

    train_normal: tuple[Sample, ...]
    labeled: tuple[Sample, ...]
    test: tuple[Sample, ...]

    @property
    def has_test_defects(self) -> bool:
        """Whether there is a defective image to test on."""
        return any(sample.is_anomalous for sample in self.test)


def check_probabilities(anomaly_maps: Float[np.ndarray, "*_"]) -> None:
    """Check what a model gave; a defect would be missed in silence where it is not a number.

    Raises:
        InputValueError: If values are not finite or, by more than rounding, outside of [0, 1].
    """
    lowest, highest = float(anomaly_maps.min()), float(anomaly_maps.max())
    if lowest >= -ROUNDING and highest <= 1 + ROUNDING:
        return
    is_finite = math.isfinite(lowest) and math.isfinite(highest)
    values = f"from {lowest:g} to {highest:g}" if is_finite else "that are not finite"
    raise InputValueError(
        f"The model gives values {values} where probabilities in [0, 1] are expected: it is damaged"
        " or its training diverged. Copy it again from where it was made, or train anew."
    )
