"""Ends a command by SIGTERM and SIGHUP as Ctrl-C does: once, so that it can clean up.

While a command cleans up, a further signal only prints a line: an exception in the middle of it
would leave the debris that it is there to remove, and it takes a moment only. Training catches the
first one and goes on with the threshold, which takes longer; it calls `heed_again`, so that a
second one ends that too. SIGKILL always ends a process; what it leaves is the next command's to
clean up.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is not on every system
_BY_DEFAULT = (signal.SIG_DFL, signal.default_int_handler)

_is_ending = False


class Interrupted(KeyboardInterrupt):
    """A signal that ends a command.

    Attributes:
        number: The signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def heeded() -> Iterator[list[int]]:
    """Raise `Interrupted` in the block at the first signal that ends a command.

    Signals that are ignored, as under nohup, or that the program has a use for stay as they are;
    so do all outside the main thread.

    Yields:
        The numbers of the signals that were raised so far.
    """
    raised: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        global _is_ending
        if _is_ending:
            with suppress(OSError):
                os.write(2, b"patchscout: stopping already\n")
            return
        _is_ending = True
        raised.append(number)
        raise Interrupted(number)

    before = {}
    heed_again()
    if threading.current_thread() is threading.main_thread():
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) in _BY_DEFAULT:
                before[number] = signal.signal(number, interrupt)
    try:
        yield raised
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def heed_again() -> None:
    """Let the next signal raise again, where a command goes on after one."""
    global _is_ending
    _is_ending = False
