"""Peak memory of `train`, `evaluate` and `predict` against the number of images.

Each command runs in a process of its own with one thread, on copies of a small sample as hard
links. Training takes minutes for each number; `--config` names a shorter schedule.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from patchscout.data.synthetic import write_sample

SIZE_PX = 128
COMMAND = """
import resource, sys
import torch
from patchscout.cli import main
torch.set_num_threads(1)
code = main(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("\\n", peak / (2**20 if sys.platform == "darwin" else 2**10))
sys.exit(code)
"""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--numbers", type=int, nargs="+", default=[200, 2000, 20000])
    parser.add_argument("--config", type=Path, help="YAML file of settings to train with")
    asked = parser.parse_args()
    settings = ["--config", asked.config.resolve()] if asked.config else []
    peaks: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sample = write_sample(root / "sample", num_train=50, num_test_normal=20, size_px=SIZE_PX)
        for number in asked.numbers:
            data, run, found = root / f"{number}", root / f"run-{number}", root / f"found-{number}"
            multiply(sample, data, number)
            commands: dict[str, list[str | Path]] = {
                "train": [data, "--out", run, *settings],
                "evaluate": [run, data],
                "predict": [run, data / "test" / "good", "--out", found],
            }
            for name, options in commands.items():
                peak = peak_mib([name, *map(str, options), "--quiet"])
                peaks.setdefault(name, []).append(f"{peak:.0f}")
            shutil.rmtree(found)
    print("| peak MiB | " + " | ".join(f"{number:,} images" for number in asked.numbers) + " |")
    print("|---" * (len(asked.numbers) + 1) + "|")
    for name, found in peaks.items():
        print(f"| `{name}` | {' | '.join(found)} |")


def multiply(sample: Path, data: Path, number: int) -> None:
    """Make a data set whose normal images are `number` links to those of a sample."""
    shutil.copytree(sample, data, ignore=lambda _, names: {"good"} & set(names))
    for part in ("train", "test"):
        images = sorted((sample / part / "good").iterdir())
        folder = data / part / "good"
        folder.mkdir(parents=True)
        for index in range(number):
            os.link(images[index % len(images)], folder / f"{index:05}.png")


def peak_mib(arguments: list[str]) -> float:
    """Return the peak memory of a command."""
    command = [sys.executable, "-c", COMMAND, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`patchscout {' '.join(arguments)}` failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
