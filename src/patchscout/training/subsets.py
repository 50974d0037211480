"""A part of many images, where all would take too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def evenly_chosen(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Return every item, or `most` of them, as far apart as can be.

    Example:
        >>> evenly_chosen(range(10), 4)
        [0, 2, 5, 7]
    """
    if len(items) <= most:
        return items
    return [items[number * len(items) // most] for number in range(most)]
