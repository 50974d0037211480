"""How cost grows: training with the number of normal images, scoring with that of pixels.

    python -m patchscout.benchmark.cost_curves [--out FOLDER] [--picture FILE]

Beside each curve stands the arithmetic lower bound: the floating-point operations of the networks
over the rate of this machine at a large convolution, for training in mixed precision.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure

from patchscout.benchmark.machine import commit, machine_line, num_cores, today
from patchscout.benchmark.speed_subjects import CPU, count_flops, untrained
from patchscout.benchmark.speed_worker import fastest_seconds, peak_flops
from patchscout.channels import predictor_channels
from patchscout.config import Config, preset_config
from patchscout.data.synthetic import write_sample
from patchscout.detector import PatchScout
from patchscout.devices import has_fast_bfloat16
from patchscout.files.atomic import write_json_atomic
from patchscout.inference import Scorer
from patchscout.memory import keep_freed_memory

SHORT = {"predictor_updates": 400}
"""Schedule of the trainings; all 400 steps of sampler and autoencoder are made."""

BACKWARD = 3
"""An update takes about three times the operations of a forward pass."""


@dataclass(frozen=True)
class Arguments:
    """Measure and draw the cost of training and scoring."""

    out: Path = Path("benchmarks/results/speed")
    """Folder for cost_curves.json."""
    picture: Path = Path("docs/images/cost.png")
    """Where the curves are drawn."""
    sides_px: tuple[int, ...] = (128, 192, 256, 384, 512, 768, 1024, 1536)
    """Sides of the images to score."""
    normals: tuple[int, ...] = (32, 64, 128, 256, 512)
    """Numbers of normal images to train on."""


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure, write the JSON file and the picture; returns what is in the file."""
    peak = peak_flops(CPU)
    peak_mixed = peak_flops(CPU, torch.bfloat16) if has_fast_bfloat16(CPU) else peak
    training = trainings(arguments.normals, peak_mixed)
    keep_freed_memory()  # as the commands that score do
    result = {
        "date": today(),
        "commit": commit(),
        "machine": machine_line(CPU),
        "threads": num_cores(),
        "peak_gflops": peak / 1e9,
        "peak_mixed_gflops": peak_mixed / 1e9,
        "scoring": [scoring(side, peak) for side in arguments.sides_px],
        "training": training,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json_atomic(arguments.out / "cost_curves.json", result)
    draw(result, arguments.picture)
    return result


@torch.no_grad()
def scoring(side_px: int, peak: float) -> dict[str, int | float]:
    """Return the seconds to score a square image worked on at its own size, and the bound."""
    size = (side_px, side_px)
    segmenter = untrained(preset_config("fast", data={"image_size": size}))
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    flops = count_flops(segmenter, torch.zeros(1, 3, *size))
    score = Scorer(segmenter, size, CPU)
    return {
        "pixels": side_px**2,
        "seconds": fastest_seconds(lambda: score(image)),
        "bound": flops / peak,
    }


def trainings(numbers: Sequence[int], peak: float) -> list[dict[str, int | float]]:
    """Return the seconds to train on each number of normal images, and the bound."""
    points: list[dict[str, int | float]] = []
    with tempfile.TemporaryDirectory() as folder:
        data = write_sample(Path(folder), num_train=max(numbers))
        for count in numbers:
            config = preset_config("fast", device="cpu", max_normal=count, training=SHORT)
            scout = PatchScout(config).fit(data)
            bound = _training_flops(scout.config) / peak
            points.append({"normals": count, "seconds": scout.record.seconds, "bound": bound})
    return points


def _training_flops(config: Config) -> int:
    """Return the operations of the predictor's and the autoencoder's updates alone."""
    segmenter, training = untrained(config), config.training
    crop, patch = config.predictor.crop_px, config.sampler.patch_px
    (channels,) = predictor_channels(config)
    features = torch.zeros(config.predictor.batch_size, channels, crop, crop)
    profiles = segmenter.features.profiles
    assert profiles is not None
    autoencoder = profiles.sources[0][0]
    patches = torch.zeros(config.sampler.num_walkers, 3, patch, patch)
    steps = training.num_cycles * training.steps_per_cycle
    fixed = count_flops(segmenter.predictor.general, features)  # the backbone does not learn
    learned = count_flops(segmenter.predictor, features) - fixed
    update = fixed + BACKWARD * learned
    step = BACKWARD * count_flops(autoencoder, patches)
    return training.predictor_updates * update + steps * step


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw both curves, each with its bound."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    for panel, points, across, what in (
        (axes[0], result["training"], "normals", "normal images"),
        (axes[1], result["scoring"], "pixels", "pixels"),
    ):
        x = [point[across] for point in points]
        panel.plot(x, [point["seconds"] for point in points], "o-", label="measured")
        panel.plot(x, [point["bound"] for point in points], "--", color="gray", label="arithmetic")
        panel.set_xscale("log", base=2)
        panel.set_xlabel(what)
        panel.set_ylabel("seconds")
        panel.legend(frameon=False)
    axes[0].set_ylim(bottom=0)
    axes[0].set_title(f"training, {SHORT['predictor_updates']} updates of the predictor")
    axes[1].set_yscale("log")
    axes[1].set_title("scoring one image")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
