"""Which images a job trains and measures on."""

from __future__ import annotations

import math
from typing import Literal

from patchscout.checks import InputValueError
from patchscout.data.split import draw_samples, number_of_type
from patchscout.types import Sample, Split

Protocol = Literal["seen", "unseen", "ten", "validation"]
"""How the images are divided.

- `seen`: labeled images of every defect type are trained on; measured on the test images.
- `unseen`: one defect type, each in turn, is left out of training; measured on it and on normal
  test images.
- `ten`: ten labeled images in all are trained on, whatever their type, which is how others report;
  measured on the other test images.
- `validation`: no test image is used; measured on some of the training images, which then are not
  trained on. This is how defaults are chosen.
"""

TEN = 10
"""Labeled images of protocol `ten`."""

VALIDATED_LABELED = 2 / 5
"""Share of the labeled images of each type that `validation` measures on; one at least."""

VALIDATED_NORMAL = 30
LARGEST_VALIDATED_NORMAL = 1 / 3
"""How many normal training images it measures on, and the largest share of them."""


def validation_split(split: Split, seed: int) -> Split:
    """Return a split that measures on training images of another one.

    Of the labeled images of each type two of five are measured on: at least one where there are
    two or more, none where there is one. 30 normal training images join them, at most a third.

    Args:
        split: Its test images are left out.
        seed: Decides which images are drawn; the draw of one type does not depend on the others.

    Raises:
        InputValueError: If no labeled or no normal image would be measured on.
    """
    labeled: list[Sample] = []
    test: list[Sample] = []
    for defect_type in sorted({sample.defect_type for sample in split.labeled}):
        samples = [sample for sample in split.labeled if sample.defect_type == defect_type]
        count = max(math.floor(VALIDATED_LABELED * len(samples)), len(samples) > 1)
        drawn, others = draw_samples(samples, count, [seed, number_of_type(defect_type)])
        test += drawn
        labeled += others
    count = min(VALIDATED_NORMAL, math.floor(LARGEST_VALIDATED_NORMAL * len(split.train_normal)))
    if not test or not count:
        raise InputValueError(
            "`--protocol validation` needs two labeled images of a defect type and three normal"
            f" training images; got {len(split.labeled)} and {len(split.train_normal)}. Raise"
            " `labeled_per_type` or add images, or choose another protocol."
        )
    normal, train_normal = draw_samples(split.train_normal, count, [seed])
    return Split(tuple(train_normal), tuple(labeled), (*normal, *test))


def ten_split(split: Split, seed: int) -> Split:
    """Return a split that trains on ten labeled images, drawn over all types.

    Args:
        split: Its labeled and its test images together are drawn from.
        seed: Decides which are drawn.

    Raises:
        InputValueError: If no defective image would be left to measure on.
    """
    defective = [sample for sample in (*split.labeled, *split.test) if sample.is_anomalous]
    labeled, others = draw_samples([sample for sample in defective if sample.has_mask], TEN, [seed])
    if not others:
        raise InputValueError(
            f"`--protocol ten` needs more than {TEN} defective images with masks; got"
            f" {len(labeled)}. Add images, or choose another protocol."
        )
    test = [sample for sample in split.test if not sample.is_anomalous]
    without_mask = [sample for sample in defective if not sample.has_mask]
    return Split(split.train_normal, tuple(labeled), (*test, *others, *without_mask))


DIVIDED = {"ten": ten_split, "validation": validation_split}
"""Protocols that divide the images of a split anew."""
