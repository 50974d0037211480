"""Does one job in a process of its own: `python -m patchscout.benchmark.worker`, job on stdin."""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback

import cv2
import torch
from pydantic import BaseModel

from patchscout.benchmark.jobs import Job
from patchscout.benchmark.machine import machine_line, today
from patchscout.benchmark.protocols import DIVIDED
from patchscout.benchmark.results import MEASURED, Result
from patchscout.checks import InputError, one_line
from patchscout.detector import PatchScout
from patchscout.evaluation import evaluate
from patchscout.inference import Scorer
from patchscout.limits import Limits, set_limits
from patchscout.monitor import Monitor
from patchscout.text import csv_cell

MEASURED_SIZE = (256, 256)
"""Height and width in pixels that all variants are compared at, as published figures are."""


class Order(BaseModel):
    """A job, and how and for whom it is done.

    Attributes:
        job: What to do.
        threads: Threads to compute with.
        parallel_jobs: How many jobs run side by side.
        commit: The commit of the program, if it is in a checkout.
        limits: What is read at most.
    """

    job: Job
    threads: int
    parallel_jobs: int
    commit: str | None
    limits: Limits

    def line(self) -> str:
        """Return it as one line of JSON, in ASCII, so that names need not be UTF-8."""
        return json.dumps(self.model_dump(mode="json"))


def run(order: Order) -> Result:
    """Train and test.

    Raises:
        InputError: If the images do not allow it.
    """
    job = order.job
    set_limits(order.limits)
    torch.set_num_threads(order.threads)
    cv2.setNumThreads(order.threads)
    scout = PatchScout(job.config)
    split = None  # drawn by the seed
    if job.protocol in DIVIDED:
        _, drawn = scout.prepare(job.root)
        split = DIVIDED[job.protocol](drawn, job.config.seed)
    scout.fit(job.root, split=split)
    if not scout.is_trained or not scout.record.is_complete:
        raise KeyboardInterrupt  # half a training is no result
    score = Scorer(scout.segmenter, scout.config.data.working_size, scout.device)
    test = scout.split_of(job.root).test
    metrics = evaluate(score, test, scout.decision, scout.trained.scores, MEASURED_SIZE, Monitor())
    category, variant, seed, held_out_type = job.key
    return Result(
        category=category,
        variant=variant,
        protocol=job.protocol,
        seed=seed,
        held_out_type=held_out_type,
        **{name: value for name, key in MEASURED.items() if (value := metrics[key]) is not None},
        budgets=json.dumps(metrics["budgets"], separators=(",", ":")),
        seconds=scout.record.seconds,
        threads=order.threads,
        parallel_jobs=order.parallel_jobs,
        machine=machine_line(scout.device),
        commit=order.commit or "",
        date=today(),
        settings=csv_cell(json.dumps(job.settings, separators=(",", ":"))),
        config=job.digest,
    )


def main() -> int:
    """Do the job on standard input and say on standard output how it went, as one JSON line."""
    order = Order.model_validate(json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        result = run(order)
    except Exception as error:  # noqa: BLE001 whatever it is, the other jobs go on
        traceback.print_exc()
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        print(json.dumps({"error": one_line(kind + str(error))}))
        return 1
    print(json.dumps({"result": result.model_dump(mode="json")}))
    return 0


def _end_with_parent() -> None:
    """Wait for the end of standard input, which is the end of the command that began the job."""
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
