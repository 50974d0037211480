"""Scores of normal entries in bounded memory: the highest one by one, the others in fine bins."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

Scores = Float[np.ndarray, "_"]
Counts = Int[np.ndarray, "_"]

CAPACITY = 2**25
"""Scores that are kept one by one, four bytes each."""

_BIN_BITS = 16  # sign, exponent and the first seven bits after the point


class NormalScores:
    """Counts how many scores reach a threshold.

    Up to `capacity` scores all are kept, and every count is exact. Beyond it the lower ones are
    only counted in bins, 128 for each factor of two, within which all are taken for ties; counts
    stay exact for every threshold that fewer than half of `capacity` scores are above. An F1 near
    its maximum is made of such thresholds alone, since below them false positives outnumber
    everything else.

    Args:
        capacity: How many scores are kept one by one, at least 2.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._kept: list[Scores] = []
        self._num_kept = 0
        self._is_sorted = True
        self._bins: Counts | None = None
        self._cut: float | np.floating = -np.inf

    def __len__(self) -> int:
        return self._num_kept + self._num_binned

    def add(self, scores: Scores) -> None:
        """Add finite scores."""
        if self._bins is not None:
            is_low = scores <= self._cut
            self._count(scores[is_low])
            scores = scores[~is_low]
        self._kept.append(scores)
        self._num_kept += len(scores)
        self._is_sorted = False
        if self._num_kept > self.capacity:
            self._shed()

    def num_reaching(self, thresholds: Scores) -> Counts:
        """Return how many scores are at or above each threshold."""
        return self._num_from(thresholds, "left")

    def num_above(self, thresholds: Scores) -> Counts:
        """Return how many scores are above each threshold."""
        return self._num_from(thresholds, "right")

    def _num_from(self, thresholds: Scores, side: str) -> Counts:
        kept = self._sorted()
        counts = len(kept) - np.searchsorted(kept, thresholds, side=side)  # pyright: ignore
        is_low = thresholds <= self._cut
        if self._bins is not None and is_low.any():
            reaching = np.append(np.cumsum(self._bins[::-1])[::-1], 0)
            places = _places(thresholds[is_low].astype(np.float32))
            counts[is_low] += reaching[places if side == "left" else places + 1]
        return counts

    @property
    def _num_binned(self) -> int:
        return 0 if self._bins is None else int(self._bins.sum())

    def _sorted(self) -> Scores:
        """Return the scores that are kept one by one, ascending; sorts only what is new."""
        if not self._is_sorted:
            scores = np.concatenate(self._kept)
            scores.sort()
            self._kept = [scores]
            self._is_sorted = True
        return self._kept[0] if self._kept else np.zeros(0, np.float32)

    def _shed(self) -> None:
        """Move the lower half of the scores to the bins."""
        scores = np.concatenate(self._kept)
        self._kept = []
        first = len(scores) - self.capacity // 2 - 1
        scores.partition(first)
        self._cut = scores[first]
        is_low = scores <= self._cut
        self._count(scores[is_low])
        self._kept = [scores[~is_low]]
        self._num_kept = len(self._kept[0])

    def _count(self, scores: Scores) -> None:
        if self._bins is None:
            self._bins = np.zeros(2**_BIN_BITS, np.int64)
        self._bins += np.bincount(_places(scores.astype(np.float32)), minlength=2**_BIN_BITS)


def _places(scores: Scores) -> Counts:
    """Return the bin of each score: the first bits of a number that is in the order of floats."""
    bits = scores.view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(2**31))
    return (ordered >> (32 - _BIN_BITS)).astype(np.int64)
