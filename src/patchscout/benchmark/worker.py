"""Runs one job in a process of its own: `python -m patchscout.benchmark.worker`, job on stdin."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pydantic import BaseModel

from patchscout.benchmark.fitted import Fitted
from patchscout.benchmark.histograms import ScoreTable, bin_edges, count_pixels, write_table
from patchscout.benchmark.jobs import FORMAT_VERSION, Job
from patchscout.benchmark.machine import machine_line, peak_memory_mib, today, versions
from patchscout.benchmark.methods import fit
from patchscout.checks import InputError, one_line
from patchscout.data.layout import check_dataset, read_dataset
from patchscout.data.split import relative_path
from patchscout.devices import choose_device
from patchscout.evaluation import ScoredImage, compared, figures, measure, score_all
from patchscout.files.atomic import write_json_atomic
from patchscout.limits import Limits, set_limits
from patchscout.monitor import Monitor
from patchscout.training.adaptation import adapt
from patchscout.training.working_size import without_vanished
from patchscout.types import Dataset, Split

MEASURED_SIZE = (256, 256)
"""Height and width in pixels that all variants are compared at, as published figures are."""


class Order(BaseModel):
    """A job, and how and for whom it is done.

    Attributes:
        job: What to do.
        out: The folder of results.
        threads: Threads to compute with.
        parallel_jobs: How many jobs run side by side.
        command: What the person typed.
        commit: The commit of the program, if it is in a checkout.
        limits: What is read at most.
    """

    job: Job
    out: Path
    threads: int
    parallel_jobs: int
    command: str
    commit: str | None
    limits: Limits

    def line(self) -> str:
        """Return it as one line of JSON, in ASCII, so that names need not be UTF-8."""
        return json.dumps(self.model_dump(mode="json"))

    @classmethod
    def read(cls, line: str) -> Order:
        """Return what `line` gave."""
        return cls.model_validate(json.loads(line))


def run(order: Order) -> dict[str, Any]:
    """Do a job and write its files; the JSON comes last, so that it says that all is there."""
    set_limits(order.limits)
    job, monitor = order.job, Monitor()
    torch.set_num_threads(order.threads)
    cv2.setNumThreads(order.threads)
    device = choose_device(job.config.device)
    dataset = read_dataset(job.root)
    check_dataset(dataset)
    split = job.split(dataset)
    config = adapt(job.config, split)
    split = without_vanished(split, config.data.working_size, dataset.root, monitor)

    cpu_started = time.process_time()
    fitted = fit(job.method, job.model, split, config, device, monitor)
    cpu_trained, scoring_started = time.process_time(), time.monotonic()
    maps = list(score_all(fitted.score, split.test, monitor))
    scored, cpu_scored = time.monotonic(), time.process_time()

    def images() -> Iterator[ScoredImage]:
        return compared(maps, split.test, MEASURED_SIZE)

    result = {
        "format_version": FORMAT_VERSION,
        "job": job.description(),
        "working_size": list(config.data.working_size),
        "metrics": figures(images(), fitted.threshold, MEASURED_SIZE),
    }
    if job.size == "native":
        result["metrics_native"] = measure(maps, split.test, fitted.threshold, None)
    result |= {
        "images": {
            "train_normal": len(split.train_normal),
            "labeled": len(split.labeled),
            "test": len(split.test),
        },
        "seconds": {
            "train": round(fitted.seconds, 2),
            "train_cpu": round(cpu_trained - cpu_started, 2),
            "evaluate": round(scored - scoring_started, 2),
            "evaluate_cpu": round(cpu_scored - cpu_trained, 2),
        },
        "peak_memory_mib": peak_memory_mib(),
        "threads": order.threads,
        "parallel_jobs": order.parallel_jobs,
        "machine": machine_line(device),
        "versions": versions(),
        "commit": order.commit,
        "date": today(),
        "command": order.command,
    }
    path = job.path(order.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(job.path(order.out, ".npz"), score_table(images, dataset, split, fitted))
    write_json_atomic(path, result)
    return result


def score_table(
    images: Callable[[], Iterator[ScoredImage]], dataset: Dataset, split: Split, fitted: Fitted
) -> ScoreTable:
    """Return the histograms of the scores of all test images, which are looked at twice."""
    scores = np.concatenate([image.anomaly_map[image.gt_mask] for image in images()])
    edges = bin_edges(scores, fitted.threshold)
    image_scores, normal, anomalous = [], [], []
    for image in images():
        counts = count_pixels(image.anomaly_map, image.gt_mask, edges)
        normal.append(counts[0])
        anomalous.append(counts[1])
        image_scores.append(image.pred_score)
    return ScoreTable(
        names=tuple(relative_path(sample.image_path, dataset.root) for sample in split.test),
        defect_types=tuple(sample.defect_type for sample in split.test),
        image_scores=np.array(image_scores, dtype=np.float32),
        edges=edges,
        normal=np.stack(normal),
        anomalous=np.stack(anomalous),
        threshold_bin=int(np.searchsorted(edges, np.float32(fitted.threshold), side="right")),
    )


def main() -> int:
    """Do the job on standard input and say on standard output how it went, as one JSON line."""
    order = Order.read(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        result = run(order)
    except Exception as error:  # noqa: BLE001 whatever it is, the other jobs go on
        traceback.print_exc()
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        print(json.dumps({"error": one_line(kind + str(error))}))
        return 1
    print(json.dumps({"metrics": result["metrics"], "seconds": result["seconds"]}))
    return 0


def _end_with_parent() -> None:
    """Wait for the end of standard input, which is the end of the command that began the job."""
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
