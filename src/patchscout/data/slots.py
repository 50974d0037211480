"""Arrays remembered in a bounded, nameless file, so that they take no memory of the process."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np


class FileSlots:
    """Remembers the latest arrays of at most one size, by key.

    They lie in a temporary file that vanishes with the process. What the system has of it in its
    own cache it gives up when memory is needed.

    Args:
        capacity_bytes: Size of the file at most; an array for which it is too small is forgotten.
        slot_bytes: The largest array.
    """

    def __init__(self, capacity_bytes: int, slot_bytes: int) -> None:
        self.num_slots = capacity_bytes // slot_bytes
        self._slot_bytes = slot_bytes
        self._file = None
        if self.num_slots:
            self._file = tempfile.TemporaryFile(prefix="patchscout-")  # noqa: SIM115 - as long as this
        self._free = list(reversed(range(self.num_slots)))  # so that the file grows as needed
        self._places: OrderedDict[Hashable, tuple[int, tuple[int, ...], np.dtype]] = OrderedDict()

    def put(self, key: Hashable, array: np.ndarray) -> None:
        """Remember an array, if need be in the place of the one that was used longest ago."""
        if self._file is None:
            return
        slot = self._free.pop() if self._free else self._places.popitem(last=False)[1][0]
        try:
            self._file.seek(slot * self._slot_bytes)
            self._file.write(np.ascontiguousarray(array).data)
        except BaseException:  # such as Ctrl-C in the middle
            self._free.append(slot)
            raise
        self._places[key] = slot, array.shape, array.dtype

    def get(self, key: Hashable) -> np.ndarray | None:
        """Return a copy of what is remembered under a key; None if it is not."""
        if self._file is None or key not in self._places:
            return None
        self._places.move_to_end(key)
        slot, shape, dtype = self._places[key]
        array = np.empty(shape, dtype)
        self._file.seek(slot * self._slot_bytes)
        self._file.readinto(array.data)  # pyright: ignore[reportAttributeAccessIssue]
        return array
