"""`patchscout benchmark DATA... --out DIR`."""

from __future__ import annotations

from patchscout.arguments import BenchmarkArguments, parse
from patchscout.benchmark.command import Request, make_plan, run_benchmark
from patchscout.commands.shell import console, typed
from patchscout.monitor import Monitor

_APART = ("dry_run", "quiet", "limits")
"""Arguments that do not say what is done: what is shown, and what holds for the whole process."""


def run(arguments: list[str]) -> int:
    """Run the jobs that are not finished, or list them."""
    options = parse(BenchmarkArguments, arguments, "patchscout benchmark")
    asked = {name: value for name, value in vars(options).items() if name not in _APART}
    request = Request(**asked, command=typed("benchmark", *arguments))
    plan = make_plan(request)
    if options.dry_run:
        for line in plan.lines():
            console.print(line)
        return 0
    return run_benchmark(request, plan, Monitor(quiet=options.quiet), console.print)
