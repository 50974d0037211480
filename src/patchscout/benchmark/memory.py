"""Peak memory of `train`, `evaluate` and `predict` against the number of images.

    python -m patchscout.benchmark.memory [--numbers 200 2000 20000] [--out FOLDER]

Each command runs in a process of its own, on copies of a small sample as hard links.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from patchscout.benchmark.machine import commit, machine_line, today
from patchscout.benchmark.markdown import table
from patchscout.benchmark.speed_subjects import CPU
from patchscout.data.synthetic import write_sample
from patchscout.files.atomic import write_json_atomic

SIZE_PX = 128
SETTINGS = (
    f"--data.image-size {SIZE_PX} {SIZE_PX} --training.num-cycles 2 --training.steps-per-cycle 60"
    " --training.predictor-updates 120"
).split()

COMMAND = """
import sys
import torch
from patchscout.benchmark.machine import peak_memory_mib
from patchscout.cli import main
torch.set_num_threads(1)
code = main(sys.argv[1:])
print("\\n", peak_memory_mib())
sys.exit(code)
"""


@dataclass(frozen=True)
class Arguments:
    """Measure how much memory the commands need."""

    numbers: tuple[int, ...] = (200, 2000, 20000)
    """Numbers of normal images to train on, and of as many to test on."""
    out: Path = Path("benchmarks/results/speed")
    """Folder for memory.json."""


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure, write the file and print the table; returns what is in the file."""
    peaks: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sample = write_sample(root, num_train=50, num_test_normal=20, size_px=SIZE_PX)
        for number in arguments.numbers:
            data, run, found = root / f"{number}", root / f"run-{number}", root / f"found-{number}"
            _multiply(sample, data, number)
            commands: dict[str, list[str | Path]] = {
                "train": [data, "--out", run, *SETTINGS],
                "evaluate": [run, data],
                "predict": [run, data / "test" / "good", "--out", found],
            }
            for name, options in commands.items():
                peak = _peak_mib([name, *map(str, options), "--quiet"])
                peaks.setdefault(name, {})[str(number)] = peak
                print(f"{name}, {number} images: {peak:.0f} MiB", flush=True)
            shutil.rmtree(found)
    result = {
        "date": today(),
        "commit": commit(),
        "machine": machine_line(CPU),
        "peak_mib": peaks,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json_atomic(arguments.out / "memory.json", result)
    print(report(result))
    return result


def report(result: dict[str, Any]) -> str:
    """Return the table of a result as Markdown."""
    peaks = result["peak_mib"]
    numbers = list(next(iter(peaks.values())))
    header = ["", *(f"{int(number):,} images" for number in numbers)]
    rows = [
        [f"`{command}`", *(f"{found[number]:.0f}" for number in numbers)]
        for command, found in peaks.items()
    ]
    return table(header, rows)


def _multiply(sample: Path, data: Path, number: int) -> None:
    """Make a data set whose normal images are `number` links to those of a sample."""
    shutil.copytree(sample, data, ignore=lambda _, names: {"good"} & set(names))
    for part in ("train", "test"):
        images = sorted((sample / part / "good").iterdir())
        folder = data / part / "good"
        folder.mkdir(parents=True)
        for index in range(number):
            os.link(images[index % len(images)], folder / f"{index:05}.png")


def _peak_mib(arguments: list[str]) -> float:
    """Return the peak memory of a command."""
    command = [sys.executable, "-c", COMMAND, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`patchscout {' '.join(arguments)}` failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main(tyro.cli(Arguments))
