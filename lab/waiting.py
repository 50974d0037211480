"""What other work on the machine costs: scoring and training beside busy processes.

    python lab/waiting.py RUN IMAGES [--busy 0 2] [--count 50]

RUN is a run folder in which `patchscout export RUN` has left a `model.onnx`, IMAGES a folder of
images. Each line is a process of its own, so that its threads are set up as a user's are; loading
PyTorch is not counted. `spinning` is how threads wait without PatchScout's setting.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice, pairwise
from pathlib import Path

from patchscout.waiting import OF_THE_USER, PASSIVE

NUM_UPDATES = 40
SPINNING = {"KMP_LIBRARY": "throughput"}
"""The default of Intel's runtime, unknown to GNU's: set, it only keeps PatchScout from setting
anything."""


def main() -> None:
    """Print a line for each measurement."""
    parser = argparse.ArgumentParser(description="Measure scoring and training beside other work.")
    parser.add_argument("run", type=Path, help="run folder that holds a model.onnx too")
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("--count", type=int, default=50, help="images to score, repeated if fewer")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2], help="busy processes")
    parser.add_argument("--work", help=argparse.SUPPRESS)  # what a process of its own does
    options = parser.parse_args()
    if options.work:
        print(_WORK[options.work](options))
        return
    for num_busy in options.busy:
        with busy(num_busy):
            for model in ("run", "onnx"):
                for threads in (1, None):
                    show(f"predict, {model}", num_busy, threads, "passive", PASSIVE)
            show("predict, run", num_busy, None, "spinning", SPINNING)
    for num_busy in (0, 1):
        with busy(num_busy):
            show("update", num_busy, 1, "passive", PASSIVE)
            show("update", num_busy, None, "passive", PASSIVE)
            show("update", num_busy, None, "spinning", SPINNING)


def show(
    work: str, num_busy: int, threads: int | None, waiting: str, settings: dict[str, str]
) -> None:
    """Measure in a process of its own, and print the seconds."""
    theirs = (*OF_THE_USER, "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in theirs}
    line = [sys.executable, *sys.argv, "--work", work]
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run(
        line, env=environment | settings, capture_output=True, text=True, check=True
    )
    number = "default" if threads is None else str(threads)
    seconds = float(done.stdout.split()[-1])
    print(
        f"{work:14} {num_busy} busy  {number:>7} threads  {waiting:8}  {seconds:8.3f} s", flush=True
    )


BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:  # so that it ends with the measurement, however that ends
    sum(range(100_000))
"""


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Let processes compute beside the block."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def seconds_of_predict(options: argparse.Namespace, model: Path) -> float:
    """Return the seconds of `patchscout predict`, without those of loading PyTorch."""
    from patchscout.cli import main as patchscout
    from patchscout.data.photos import find_photos
    from patchscout.detector import PatchScout  # noqa: F401 - loads PyTorch

    paths = map(str, islice(cycle(find_photos(options.images).images), options.count))
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder, "out"))
        started = time.perf_counter()
        assert patchscout(["predict", str(model), *paths, "--out", out, "--quiet"]) == 0
        return time.perf_counter() - started


def seconds_of_update(_: argparse.Namespace) -> float:
    """Return the median of the seconds of an update of the predictor, on a made-up data set."""
    from patchscout import PatchScout, preset_config
    from patchscout.data.synthetic import write_sample
    from patchscout.monitor import Monitor

    times: list[float] = []

    class Clock(Monitor):
        """Notes when there were figures."""

        def log(self, step: int, figures: dict[str, float]) -> None:
            """Note the time of an update."""
            times.append(time.perf_counter())

    short = {
        "profile": {"snapshots": (10,), "num_cycles": 1},
        "predictor": {"updates": NUM_UPDATES},
    }
    with tempfile.TemporaryDirectory() as folder:
        data = write_sample(Path(folder), num_train=8)
        PatchScout(preset_config("fast", device="cpu", **short)).fit(
            data, monitor=Clock(quiet=True)
        )
    last = times[-NUM_UPDATES // 2 :]
    return statistics.median(after - before for before, after in pairwise(last))


_WORK = {
    "predict, run": lambda options: seconds_of_predict(options, options.run),
    "predict, onnx": lambda options: seconds_of_predict(options, options.run / "model.onnx"),
    "update": seconds_of_update,
}

if __name__ == "__main__":
    main()
