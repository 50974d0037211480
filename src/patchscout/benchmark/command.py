"""The whole benchmark, top to bottom: plan, run what is missing, show the table."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from patchscout.benchmark.jobs import Job, find_categories, is_finished, plan_jobs
from patchscout.benchmark.protocols import Protocol
from patchscout.benchmark.results import add_result, read_results
from patchscout.benchmark.runner import Resources, Runner
from patchscout.benchmark.table import caption, results_table
from patchscout.benchmark.variants import read_base, read_variants
from patchscout.checks import InputValueError
from patchscout.devices import choose_device
from patchscout.files.atomic import remove_partial_files, write_text_atomic
from patchscout.monitor import Monitor
from patchscout.waiting import num_cores

MOST_THREADS = 4096
"""And as many jobs side by side."""


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        data: Categories, or folders that hold categories.
        out: The file of results.
        seeds: The seeds, with commas between them.
        variants: The file of variants, if any.
        config: A file of settings that all variants share, if any.
        protocol: Which images are trained and measured on.
        jobs: How many jobs run side by side; unset, one for each core.
        threads: Threads of each; unset, what the cores allow.
        device: Where to compute.
    """

    data: Sequence[Path]
    out: Path
    seeds: str = "42,43,44"
    variants: Path | None = None
    config: Path | None = None
    protocol: Protocol = "seen"
    jobs: int | None = None
    threads: int | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        missing: Jobs that have no result yet.
        finished: Jobs that have one.
        resources: What the jobs may use.
    """

    missing: list[Job]
    finished: list[Job]
    resources: Resources

    def lines(self) -> list[str]:
        """Return what would be done, job by job."""
        used = self.resources
        return [
            *(f"finished  {job.name}" for job in self.finished),
            *(f"to run    {job.name}" for job in self.missing),
            f"{len(self.finished)} finished, {len(self.missing)} to run, {used.parallel_jobs} side"
            f" by side with {used.threads} thread{'s' * (used.threads != 1)} each.",
        ]


def make_plan(request: Request) -> Plan:
    """Check everything that is asked for and find what is missing; nothing is written.

    Raises:
        InputError: If something does not fit.
    """
    for name, value in (("jobs", request.jobs), ("threads", request.threads)):
        if value is not None and not 1 <= value <= MOST_THREADS:
            raise InputValueError(f"`--{name}` must be in 1 to {MOST_THREADS}; got {value}.")
    seeds = parse_seeds(request.seeds)
    variants = read_variants(request.variants)
    base = read_base(request.config)
    if request.out.suffix != ".csv":
        raise InputValueError(f"`--out` must be a file that ends in .csv; got {request.out}.")
    choose_device(request.device)
    jobs = plan_jobs(
        find_categories(request.data),
        variants,
        seeds,
        base,
        protocol=request.protocol,
        device=request.device,
    )
    results = read_results(request.out)
    done = {job.key: is_finished(job, results, request.out) for job in jobs}
    return Plan(
        [job for job in jobs if not done[job.key]],
        [job for job in jobs if done[job.key]],
        Resources.choose(num_cores(), request.jobs, request.threads),
    )


def run_benchmark(out: Path, plan: Plan, monitor: Monitor, say: Callable[[str], None]) -> int:
    """Run what is missing and show the table of all results in the file.

    Args:
        out: The file of results.
        plan: What is to be done.
        monitor: Shows progress.
        say: Prints a line.

    Returns:
        The exit code: 1 if a job failed, 130 after Ctrl-C.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_partial_files(out.parent)
    if plan.finished:
        say(f"{len(plan.finished)} of {len(plan.finished) + len(plan.missing)} jobs are finished.")
    failed: list[str] = []
    errors = out.with_suffix(".errors.txt")
    errors.unlink(missing_ok=True)
    stopped = False
    try:
        for outcome in Runner(plan.resources).run(plan.missing, monitor):
            if outcome.result is not None:
                add_result(out, outcome.result)
            else:
                failed.append(f"{outcome.line()}\n{outcome.said}")
                write_text_atomic(errors, "\n".join(failed))
    except KeyboardInterrupt:
        stopped = True
    if results := read_results(out).values():
        say(f"{results_table(results)}\n\n{caption(results)}")
    for text in failed:
        say(text.partition("\n")[0])
    if stopped:
        say("Stopped. The same command goes on where it was; what is finished is not run again.")
    elif failed:
        say(f"{len(failed)} failed, see {errors}; the same command tries again.")
    return 130 if stopped else 1 if failed else 0


def parse_seeds(text: str) -> list[int]:
    """Return the seeds in a list such as `42,43,44`.

    Raises:
        InputValueError: If it is none.

    Example:
        >>> parse_seeds("42,43")
        [42, 43]
    """
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,10}", word) and int(word) < 2**31 for word in words):
        raise InputValueError(
            f"`--seeds` must be whole numbers from 0 with commas between, such as 42,43,44; got"
            f" '{text}'."
        )
    return list(dict.fromkeys(map(int, words)))
