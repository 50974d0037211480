"""Runs jobs side by side, each in a process of its own, and ends them when it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from patchscout.benchmark.jobs import Job
from patchscout.benchmark.machine import commit
from patchscout.benchmark.results import Result
from patchscout.benchmark.worker import Order
from patchscout.checks import one_line
from patchscout.limits import current_limits
from patchscout.monitor import Monitor

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
GRACE_S = 5.0
"""How long a process that is asked to end may take before it is made to."""


@dataclass(frozen=True)
class Resources:
    """What jobs may use.

    Attributes:
        parallel_jobs: How many run side by side.
        threads: Threads of each.
    """

    parallel_jobs: int
    threads: int

    @classmethod
    def choose(cls, cores: int, jobs: int | None, threads: int | None) -> Resources:
        """Return the resources asked for; unset, a job a core, or the cores there are for a job.

        Example:
            >>> Resources.choose(8, None, None), Resources.choose(8, 3, None)
            (Resources(parallel_jobs=8, threads=1), Resources(parallel_jobs=3, threads=2))
        """
        parallel_jobs = jobs if jobs is not None else max(1, cores // (threads or 1))
        return cls(
            parallel_jobs, threads if threads is not None else max(1, cores // parallel_jobs)
        )


@dataclass(frozen=True)
class Outcome:
    """How a job went: its result, or the line that says why there is none, and all it said."""

    job: Job
    result: Result | None = None
    error: str = ""
    said: str = ""

    def line(self) -> str:
        """Return it in one line."""
        if self.result is None:
            return f"{self.job.name}: FAILED: {self.error}"
        figures = f"F1_max {self.result.f1_max:.3f}, AP {self.result.ap:.3f}"
        return f"{self.job.name}: {figures}, {self.result.seconds:.0f} s to train"


class Runner:
    """Runs jobs in processes and ends those that still run when it is stopped.

    Args:
        resources: How many side by side, with how many threads.
    """

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._commit = commit()
        self._processes: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, jobs: Sequence[Job], monitor: Monitor) -> Iterator[Outcome]:
        """Do the jobs and yield how each went, in the order in which they end."""
        pool = ThreadPoolExecutor(self.resources.parallel_jobs)
        try:
            futures = [pool.submit(self._run_one, job) for job in jobs]
            for future in monitor.track(as_completed(futures), "benchmark", len(jobs), "job"):
                outcome = future.result()
                monitor.say(outcome.line())
                yield outcome
        finally:
            self._stop()
            pool.shutdown(cancel_futures=True)

    def _run_one(self, job: Job) -> Outcome:
        """Do one job in a process and wait for it."""
        order = Order(
            job=job,
            threads=self.resources.threads,
            parallel_jobs=self.resources.parallel_jobs,
            commit=self._commit,
            limits=current_limits(),
        )
        with tempfile.TemporaryFile() as errors:  # no pipe, which would have to be emptied
            process = self._start(errors)
            if process is None:
                return Outcome(job, error="stopped")
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError):  # it ended before it read; what it said tells why
                process.stdin.write(order.line() + "\n")
                process.stdin.flush()  # not closed: its end is the end of this command
            answer = process.stdout.read()
            status = process.wait()
            process.stdin.close()
            errors.seek(0)
            said = errors.read().decode(errors="backslashreplace")
        with self._lock:
            self._processes.discard(process)
        return outcome_of(job, status, answer, said)

    def _start(self, errors: IO[bytes]) -> subprocess.Popen[str] | None:
        """Start a process, in a session of its own so that Ctrl-C reaches only this one."""
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(self.resources.threads))
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                [sys.executable, "-m", "patchscout.benchmark.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="backslashreplace",
                env=environment,
                start_new_session=True,
            )
            self._processes.add(process)
            return process

    def _stop(self) -> None:
        """End the processes that still run."""
        with self._lock:
            self._stopped = True
            running = [process for process in self._processes if process.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def outcome_of(job: Job, status: int, answer: str, errors: str) -> Outcome:
    """Return how a job went, from what its process left.

    Args:
        job: The job.
        status: The exit code, negative for a signal.
        answer: What it wrote to standard output.
        errors: What it wrote to standard error.
    """
    said = answer.strip().splitlines()
    found = json.loads(said[-1]) if said and said[-1].startswith("{") else {}
    if status == 0 and "result" in found:
        return Outcome(job, Result.model_validate(found["result"]))
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return Outcome(job, error=f"the process was ended by {name}{hint}", said=errors)
    last = errors.strip().splitlines()
    reason = one_line(last[-1]) if last else f"the process ended with exit code {status}"
    return Outcome(job, error=found.get("error") or reason, said=errors)
