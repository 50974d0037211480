"""Times one subject in a process of its own, so that memory and threads are its own too."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from patchscout.benchmark.machine import peak_memory_mib
from patchscout.benchmark.speed_subjects import SIZE, build
from patchscout.devices import full_precision
from patchscout.memory import keep_freed_memory

WARM_UP = 3
LEAST_REPEATS = 5
SECONDS = 6.0
"""Each measurement is repeated for so long."""

BATCH_SIZE = {"cpu": 8, "cuda": 64, "mps": 64}
"""Images at a time where as many a second as possible are asked for."""

LARGE_CONVOLUTION = {"cpu": (256, 64), "cuda": (2048, 128), "mps": (512, 128)}
"""Channels, and side of an image, that keep all cores busy."""


def measure(
    name: str, run: Path | None, device: torch.device, num_threads: int
) -> dict[str, float]:
    """Return the figures of one subject."""
    torch.set_num_threads(num_threads)
    keep_freed_memory()  # as the commands that score do
    subject = build(name, run, device)
    rng = np.random.default_rng(0)
    batch_size = BATCH_SIZE[device.type]
    images = rng.integers(0, 256, (batch_size, *SIZE, 3)).astype(np.uint8)
    one = median_seconds(lambda: subject.score(images[:1]))
    many = median_seconds(lambda: subject.score(images))
    return {
        "ms_per_image": 1000 * one,
        "images_per_second": max(batch_size / many, 1 / one),
        "peak_memory_mib": _peak_memory_mib(device) or float("nan"),
        "size_mib": subject.size_bytes / 2**20,
        "parameters": subject.num_parameters,
        "gflops": subject.flops / 1e9,
    }


def _peak_memory_mib(device: torch.device) -> float | None:
    """Return the most memory that was taken on a GPU, elsewhere by the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    return peak_memory_mib()


@torch.no_grad()
def peak_flops(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Return the operations a second of a large convolution.

    Its kernel has one pixel, so that no algorithm needs fewer operations. On a CPU that PyTorch's
    product of matrices is not made for, it is faster than that.
    """
    channels, side = LARGE_CONVOLUTION[device.type]
    convolution = nn.Conv2d(channels, channels, 1).to(device, dtype)
    images = torch.rand(1, side, side, channels, device=device, dtype=dtype).permute(0, 3, 1, 2)
    with full_precision():
        seconds = fastest_seconds(lambda: convolution(images)[0, 0, 0, 0].item())  # waits for it
    return 2 * channels**2 * side**2 / seconds


def median_seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes, the median of many times."""
    return statistics.median(_times(action))


def fastest_seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes when nothing else does, the least of many times."""
    return min(_times(action))


def _times(action: Callable[[], object]) -> list[float]:
    for _ in range(WARM_UP):
        action()
    times: list[float] = []
    while len(times) < LEAST_REPEATS or sum(times) < SECONDS:
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    order = json.load(sys.stdin)
    run = Path(order["run"]) if order["run"] else None
    device = torch.device(order["device"])
    json.dump(measure(order["name"], run, device, order["threads"]), sys.stdout)
