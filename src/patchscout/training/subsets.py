"""A part of many images, where all would take too long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def evenly_chosen(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Return every item, or every second, third, ... so that there are at most `most`.

    Example:
        >>> evenly_chosen(range(10), 4)
        range(0, 10, 3)
    """
    return items[:: max(math.ceil(len(items) / most), 1)]
