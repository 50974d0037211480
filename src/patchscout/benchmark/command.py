"""The whole benchmark, top to bottom: plan, run what is missing, write tables and plots."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from patchscout.benchmark.jobs import (
    Job,
    MeasuredSize,
    TestPart,
    find_categories,
    is_finished,
    plan_jobs,
)
from patchscout.benchmark.machine import commit, num_cores
from patchscout.benchmark.page import check_folder, open_folder, write_page
from patchscout.benchmark.published import read_published
from patchscout.benchmark.runner import Resources, Runner
from patchscout.benchmark.screen import results_table
from patchscout.benchmark.variants import read_base, read_variants
from patchscout.checks import InputValueError, nearest
from patchscout.devices import choose_device
from patchscout.monitor import Monitor

MOST_THREADS = 4096
"""And as many jobs side by side."""


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        data: Categories, or folders that hold categories.
        out: The folder of results.
        seeds: The seeds, with commas between them.
        variants: The file of variants, if any.
        config: A file of settings that all variants share, if any.
        reference: The variant that the others are compared with.
        on: Measured on the test images, or on some that are kept from training.
        size: Measured at 256 x 256 px, or at each image's own size too.
        jobs: How many jobs run side by side; unset, one for each core.
        threads: Threads of each; unset, what the cores allow.
        device: Where to compute.
        command: What the person typed.
    """

    data: Sequence[Path]
    out: Path
    seeds: str
    variants: Path | None
    config: Path | None
    reference: str
    on: TestPart
    size: MeasuredSize
    jobs: int | None
    threads: int | None
    device: str
    command: str


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        missing: Jobs that have no result yet.
        finished: Jobs that have one.
        notes: A line for each protocol that a category has no use for.
        resources: What the jobs may use.
    """

    missing: list[Job]
    finished: list[Job]
    notes: list[str]
    resources: Resources

    def lines(self) -> list[str]:
        """Return what would be done, job by job."""
        used = self.resources
        return [
            *(f"finished  {job.name}" for job in self.finished),
            *(f"to run    {job.name}" for job in self.missing),
            *self.notes,
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
    if request.reference not in variants:
        raise InputValueError(
            f"`--reference` must be one of the variants {', '.join(variants)}; got"
            f" '{request.reference}'{nearest(request.reference, variants)}."
        )
    choose_device(request.device)
    check_folder(request.out)
    jobs, notes = plan_jobs(
        find_categories(request.data),
        variants,
        seeds,
        read_base(request.config),
        on=request.on,
        size=request.size,
        device=request.device,
    )
    done = {job.name: is_finished(job, request.out) for job in jobs}
    return Plan(
        [job for job in jobs if not done[job.name]],
        [job for job in jobs if done[job.name]],
        notes,
        Resources.choose(num_cores(), request.jobs, request.threads),
    )


def run_benchmark(
    request: Request, plan: Plan, monitor: Monitor, say: Callable[[str | Table], None]
) -> int:
    """Run what is missing and write what all results amount to.

    Args:
        request: What is asked for.
        plan: What is to be done.
        monitor: Shows progress.
        say: Prints a line or a table.

    Returns:
        The exit code: 1 if a job failed, 130 after Ctrl-C.
    """
    open_folder(request.out, request.command)
    failed: list[str] = []
    status = 0
    for note in plan.notes:
        say(note)
    if plan.finished:
        say(f"{len(plan.finished)} of {len(plan.finished) + len(plan.missing)} jobs are finished.")
    try:
        runner = Runner(request.out, plan.resources, request.command, commit())
        for outcome in runner.run(plan.missing, monitor):
            if outcome.error is not None:
                failed.append(outcome.line())
    except KeyboardInterrupt:
        status = 130
    runs, rows, lines = write_page(request.out, request.reference)
    if rows:
        say(results_table(runs, rows, read_published()))
    for line in (*failed, *lines):
        say(line)
    if status:
        say("Stopped. The same command goes on where it was; what is finished is not run again.")
    elif failed:
        say(f"{len(failed)} jobs failed; the same command tries them again.")
    return status or (1 if failed else 0)


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
