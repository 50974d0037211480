"""The time that one annotation file, or the mask of one image in it, may take to read."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from patchscout.checks import InputValueError
from patchscout.limits import current_limits

Part = TypeVar("Part")


class Clock:
    """Refuses a file that takes longer than `limits.seconds`, counted from here on.

    Args:
        source: What is read, for the message.
    """

    def __init__(self, source: object) -> None:
        self._source = source
        self._end = time.monotonic() + current_limits().seconds

    def check(self) -> None:
        """Refuse the file where the time is over.

        Raises:
            InputValueError: It is.
        """
        if time.monotonic() > self._end:
            raise InputValueError(
                f"{self._source} has annotations that take more than {current_limits().seconds:g} s"
                " to read. Outline more coarsely, divide the file, or raise `--limits.seconds`."
            )

    def timed(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Yield parts of the file, as long as there is time."""
        for part in parts:
            self.check()
            yield part
