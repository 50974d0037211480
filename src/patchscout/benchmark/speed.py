"""`make bench`: how fast, large and hungry the models are, in one table.

    python -m patchscout.benchmark.speed [--data DATA] [--run RUN] [--device cuda] [--out FOLDER]

Each subject is timed in a process of its own, one after the other, with all cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch.nn import functional as F

from patchscout.benchmark.machine import commit, machine_line, num_cores, today, versions
from patchscout.benchmark.markdown import table
from patchscout.benchmark.speed_subjects import REFERENCE, SUBJECTS
from patchscout.benchmark.speed_worker import median_seconds, peak_flops
from patchscout.config import preset_config
from patchscout.data.synthetic import write_sample
from patchscout.detector import PatchScout
from patchscout.devices import choose_device
from patchscout.files.atomic import write_json_atomic, write_text_atomic
from patchscout.networks import make_autoencoder

NEEDED = {"ONNX": "onnxruntime", "OpenVINO": "openvino", "anomalib": "anomalib"}
"""Libraries without which a subject is left out."""

IMAGE, PATCHES = (1, 3, 256, 256), (32, 3, 64, 64)
"""What the authors' autoencoder is run on for an error map, and trained on in one step."""

HEADER = [
    "model",
    "ms an image",
    "images a second",
    "% of peak",
    "times as fast",
    "peak MiB",
    "model MiB",
    "parameters",
    "GFLOP an image",
]


@dataclass(frozen=True)
class Arguments:
    """Time this program beside the paper's networks and, if there, peers."""

    data: Path | None = None
    """Category to time training on; unset: the embedded sample."""
    run: Path | None = None
    """Run folder whose model is timed; unset: random weights of the `fast` preset."""
    out: Path = Path("benchmarks/results/speed")
    """Folder for speed.json and speed.md."""
    device: str = "cpu"
    """Where PyTorch computes: `auto`, `cpu`, `cuda` or `mps`."""
    no_training: tyro.conf.FlagCreatePairsOff[bool] = False
    """Only score."""
    only: Annotated[str, tyro.conf.arg(metavar="TEXT")] = ""
    """Only subjects with this in their name."""


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure, write both files and print the table; returns what is in the JSON."""
    device = choose_device(arguments.device)
    arguments.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "date": today(),
        "commit": commit(),
        "machine": machine_line(device),
        "versions": versions(),
        "threads": num_cores(),
        "peak_gflops": peak_flops(device) / 1e9,
        "scoring": {},
    }
    for name in SUBJECTS:
        if arguments.only in name and _is_there(name):
            result["scoring"][name] = _in_a_process(name, arguments.run, device)
            print(f"{name}: {result['scoring'][name]['ms_per_image']:.1f} ms an image", flush=True)
    if not arguments.no_training:
        result["training"] = _training(arguments.data, device)
    text = report(result)
    write_json_atomic(arguments.out / "speed.json", result)
    write_text_atomic(arguments.out / "speed.md", text)
    print(text)
    return result


def report(result: dict[str, Any]) -> str:
    """Return the tables of a result as Markdown."""
    scoring = result["scoring"]
    slowest = scoring.get(REFERENCE, {}).get("ms_per_image", float("nan"))
    rows = [
        [
            name,
            f"{one['ms_per_image']:.1f}",
            f"{one['images_per_second']:.1f}",
            f"{100 * one['images_per_second'] * one['gflops'] / result['peak_gflops']:.0f}",
            f"{slowest / one['ms_per_image']:.0f}",
            f"{one['peak_memory_mib']:.0f}",
            f"{one['size_mib']:.1f}",
            f"{one['parameters']:,}",
            f"{one['gflops']:.2f}",
        ]
        for name, one in scoring.items()
    ]
    text = (
        f"{result['machine']}, {result['threads']} threads, {result['date']},"
        f" commit {result['commit']}; its peak at float32 convolutions is"
        f" {result['peak_gflops']:,.0f} GFLOPS.\n\n{table(HEADER, rows)}\n"
    )
    if training := result.get("training"):
        text += (
            f"\nTraining on {training['category']} ({training['num_normal']} normal images,"
            f" {training['num_labeled']} labeled ones): {training['seconds']:.0f} s, of which"
            f" {1000 * training['seconds_per_step']:.0f} ms a step of sampler and autoencoder. A"
            f" step as the authors do it, the paper's autoencoder over"
            f" {training['num_images']} images and one update:"
            f" {training['papers_seconds_per_step']:.1f} s,"
            f" {training['papers_seconds_per_step'] / training['seconds_per_step']:.0f} times as"
            " much.\n"
        )
    return text


def _is_there(name: str) -> bool:
    return all(find_spec(library) for word, library in NEEDED.items() if word in name)


def _in_a_process(name: str, run: Path | None, device: torch.device) -> dict[str, float]:
    order = {
        "name": name,
        "run": str(run) if run else None,
        "device": str(device),
        "threads": num_cores(),
    }
    command = [sys.executable, "-m", "patchscout.benchmark.speed_worker"]
    done = subprocess.run(
        command, input=json.dumps(order), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"timing {name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _training(data: Path | None, device: torch.device) -> dict[str, Any]:
    """Return how long training takes, whole and for a step, ours and the authors'."""
    with tempfile.TemporaryDirectory() as folder:
        data = data or write_sample(Path(folder) / "sample")
        whole = PatchScout(preset_config("fast", device=str(device))).fit(data)
        updates = whole.config.training.predictor_updates

        def seconds(num_cycles: int) -> float:
            # With one update of the predictor, so that there is an R_pred, and as in the authors'
            # step below none of the others.
            settings = {"predictor_updates": 1, "num_cycles": num_cycles}
            started = time.monotonic()
            PatchScout(preset_config("fast", device=str(device), training=settings)).fit(data)
            return time.monotonic() - started

        # What is done once, before and after the steps, is in both.
        seconds_per_step = (seconds(2) - seconds(1)) / whole.config.training.steps_per_cycle
    num_images = whole.record.num_normal + whole.record.num_labeled
    return {
        "category": whole.record.category,
        "num_normal": whole.record.num_normal,
        "num_labeled": whole.record.num_labeled,
        "num_images": num_images,
        "predictor_updates": updates,
        "seconds": whole.record.seconds,
        "seconds_per_step": seconds_per_step,
        "papers_seconds_per_step": _papers_step(num_images, device),
    }


def _papers_step(num_images: int, device: torch.device) -> float:
    """Return the seconds of one step as the authors do it, without sampler and predictor."""
    network = make_autoencoder("paper", 16, 32).to(device)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    image, patches = (torch.rand(shape, device=device) for shape in (IMAGE, PATCHES))

    def update() -> None:
        optimizer.zero_grad()
        loss = F.mse_loss(network(patches), patches)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device

    seconds = median_seconds(update)
    network.eval()
    with torch.no_grad():
        return seconds + num_images * median_seconds(lambda: network(image).cpu())


if __name__ == "__main__":
    main(tyro.cli(Arguments))
