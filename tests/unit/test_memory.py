"""Freed memory is kept where a command asks for it."""

import ctypes
import subprocess
import sys

import pytest

from patchscout import memory

ALLOCATE = """
import ctypes
import resource
import sys
from patchscout.memory import keep_freed_memory
if "keep" in sys.argv:
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
before = None
for _ in range(11):
    address = libc.malloc(ctypes.c_size_t(2**26))
    ctypes.memset(address, 1, 2**26)
    libc.free(address)
    if before is None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*arguments):
    """Return how many pages a process is given by the system for 10 times the same 64 MiB."""
    command = [sys.executable, "-c", ALLOCATE, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


HAS_GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")


@pytest.mark.skipif(not HAS_GLIBC, reason="there is no glibc")
def test_freed_memory_is_used_again():
    assert page_faults() > 10 * 2**26 / 2**22  # pages are 4 kB to 4 MB
    assert page_faults("keep") < 10


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert not memory.keep_freed_memory()
