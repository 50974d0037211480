"""`patchscout benchmark DATA... --out FILE.csv`."""

from __future__ import annotations

from patchscout.arguments import BenchmarkArguments, parse
from patchscout.benchmark.command import Request, make_plan, run_benchmark
from patchscout.commands.shell import console
from patchscout.monitor import Monitor

_APART = ("dry_run", "quiet", "limits")
"""Arguments that do not say what is done: what is shown, and what holds for the whole process."""


def run(arguments: list[str]) -> int:
    """Run the jobs that are not finished, or list them."""
    options = parse(BenchmarkArguments, arguments, "patchscout benchmark")
    asked = {name: value for name, value in vars(options).items() if name not in _APART}
    plan = make_plan(Request(**asked))
    if options.dry_run:
        for line in plan.lines():
            console.print(line)
        return 0

    def say(text: str) -> None:
        for line in text.splitlines():
            console.print(line)

    return run_benchmark(options.out, plan, Monitor(quiet=options.quiet), say)
