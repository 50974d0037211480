"""Memory that is freed is kept, for the next image to be scored in."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of glibc's allocator, as `malloc.h` numbers them."""

KEPT_BYTES = 2**31 - 1
"""At most so much that is free is kept; it is the most that the allocator can be told."""

STEP_BYTES = 2**26
"""The process asks the system for so much more at a time than it needs."""


def keep_freed_memory() -> bool:
    """Let this process keep up to 2 GiB of memory that it frees; return whether it does.

    Otherwise glibc gives every large tensor back to the system at once and asks for the next one
    anew, which the system has to fill with zeros page by page: half of the time in which a large
    image is scored. It holds for the whole process, which is why only commands that score do it. It
    is only done, and needed, where there is glibc, that is on most Linux systems.

    References:
        https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    wanted = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, STEP_BYTES))
    done = [mallopt(parameter, value) for parameter, value in wanted]
    return done == [1, 1, 1]
