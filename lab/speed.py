"""Time and operations of training and scoring, and the share of the machine's peak that they use.

The peak is that of a large convolution in float32, measured in the same run. Operations (those of
convolutions and products of matrices) are counted by PyTorch in a second training, which is slower;
what a GPU replays is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from patchscout.data.images import read_image
from patchscout.data.synthetic import write_sample
from patchscout.detector import PatchScout
from patchscout.exported import ExportedModel
from patchscout.monitor import Monitor
from patchscout.presets import file_config, preset_config

CHANNELS, SIDE = 1024, 64
"""Of the large convolution, whose kernel has one pixel: no algorithm needs fewer operations."""


@dataclass
class Phase:
    """What a loop of the training took."""

    steps: int = 0
    seconds: float = 0.0
    flop: int = 0


class PhaseMonitor(Monitor):
    """Keeps time and operations of every loop that shows progress, by its description."""

    def __init__(self, count: Callable[[], int] = lambda: 0) -> None:
        super().__init__(quiet=True)
        self.phases: dict[str, Phase] = {}
        self._count = count

    def track(
        self, items: Iterable[Any], description: str, total: int | None = None, unit: str = "step"
    ) -> Iterator[Any]:
        """Yield the items and note what happens until the next is asked for."""
        phase = self.phases.setdefault(description, Phase())
        for item in items:
            started, counted = time.perf_counter(), self._count()
            yield item
            phase.steps += 1
            phase.seconds += time.perf_counter() - started
            phase.flop += self._count() - counted


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="category; unset: the embedded sample")
    parser.add_argument("--run", type=Path, help="run folder of a trained model, only scored with")
    parser.add_argument("--config", type=Path, help="YAML file of settings")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    config = file_config(asked.config) if asked.config else preset_config("fast")
    peak = peak_flops(torch.device(asked.device))
    print(f"{asked.threads} threads on {asked.device}; peak {peak / 1e9:.0f} GFLOP/s\n")
    with tempfile.TemporaryDirectory() as folder:
        data = asked.data or write_sample(Path(folder) / "sample")
        if asked.run:
            scout = PatchScout.load(asked.run, device=asked.device)
        else:
            scout = PatchScout(config.model_copy(update={"device": asked.device}))
            print(training(scout, data, peak))
        images = [read_image(sample.image_path) for sample in scout.split_of(data).test[:4]]
        print(scoring(scout, images, peak, Path(folder), asked.threads))


def training(scout: PatchScout, data: Path, peak: float) -> str:
    """Train twice, timed and counted, and return a row for each loop of the training."""
    monitor, twin = PhaseMonitor(), PatchScout(scout.config)
    scout.fit(data, monitor=monitor)
    with FlopCounterMode(display=False) as counter:
        counted = PhaseMonitor(counter.get_total_flops)
        twin.fit(data, monitor=counted)
    phases = {"all": Phase(1, scout.record.seconds, counter.get_total_flops())}
    for name, one in monitor.phases.items():
        if one.steps:
            phases[name] = Phase(one.steps, one.seconds, counted.phases[name].flop)
    rows = ["| training | steps | s | ms a step | GFLOP a step | % of peak |", "|---" * 6 + "|"]
    for name, one in phases.items():
        seconds, flop = one.seconds / one.steps, one.flop / one.steps
        figures = f"{1000 * seconds:.1f} | {flop / 1e9:.3f} | {100 * flop / seconds / peak:.0f}"
        rows.append(f"| {name} | {one.steps} | {one.seconds:.1f} | {figures} |")
    return "\n".join([*rows, ""])


def scoring(
    scout: PatchScout, images: Sequence[np.ndarray], peak: float, folder: Path, threads: int
) -> str:
    """Return a row for PyTorch and, where there is ONNX Runtime, for the exported model."""
    with FlopCounterMode(display=False) as counter:
        scout.predict(images[0])
    gflop = counter.get_total_flops() / 1e9
    ways: dict[str, Callable[[], object]] = {"PyTorch": lambda: scout.predict(images[0])}
    if find_spec("onnxruntime"):
        scout.export(path := folder / "model.onnx", images=images)
        model = ExportedModel.load(path, num_threads=threads)
        pixels = np.round(images[0][None] * 255).astype(np.uint8)
        ways["ONNX Runtime"] = lambda: model.run(pixels)
    height, width = images[0].shape[:2]
    rows = [f"| scoring {height} x {width} px | ms | GFLOP | % of peak |", "|---" * 4 + "|"]
    for name, score in ways.items():
        seconds = statistics.median(times(score))
        rows.append(
            f"| {name} | {1000 * seconds:.1f} | {gflop:.2f} | {1e11 * gflop / seconds / peak:.0f} |"
        )
    return "\n".join(rows)


@torch.no_grad()
def peak_flops(device: torch.device) -> float:
    """Return the operations a second of a large convolution in float32."""
    network = torch.nn.Conv2d(CHANNELS, CHANNELS, 1).to(device)
    images = torch.rand(1, SIDE, SIDE, CHANNELS, device=device).permute(0, 3, 1, 2)
    return 2 * CHANNELS**2 * SIDE**2 / min(times(lambda: network(images)[0, 0, 0, 0].item()))


def times(action: Callable[[], object]) -> list[float]:
    """Return how long an action takes, for three seconds."""
    action()
    found: list[float] = []
    while len(found) < 5 or sum(found) < 3:
        started = time.perf_counter()
        action()
        found.append(time.perf_counter() - started)
    return found


if __name__ == "__main__":
    main()
