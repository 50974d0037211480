"""How threads wait for each other: asleep, so that their cores are free for others.

By default the OpenMP threads of PyTorch spin while they wait. Where another program holds the core
that one of them needs, the others burn theirs until the system lets it go on, and everything takes
many times longer. On a quiet machine it makes no difference that is measurable.
"""

from __future__ import annotations

import os
import sys

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""For GNU's runtime, and for those of Intel and LLVM."""

OF_THE_USER = (*PASSIVE, "GOMP_SPINCOUNT", "KMP_LIBRARY")
"""Where one of these is set, a user has decided."""


def wait_passively() -> bool:
    """Let threads of this process and of those it starts wait asleep; return whether they do.

    The runtimes look only once, when PyTorch loads them: afterwards, nothing is changed.

    References:
        https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html
    """
    if "torch" in sys.modules or any(name in os.environ for name in OF_THE_USER):
        return False
    os.environ.update(PASSIVE)
    return True


def num_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
