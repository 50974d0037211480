"""`patchscout benchmark DATA... --out DIR`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from patchscout.arguments import BenchmarkArguments, parse
from patchscout.benchmark.command import Request, make_plan, run_benchmark
from patchscout.commands.shell import console, typed
from patchscout.monitor import Monitor

_ONLY_SHOWN = ("dry_run", "quiet")
"""Arguments that decide what is shown, not what is done."""


def run(arguments: list[str]) -> int:
    """Run the jobs that are not finished, or list them."""
    options = parse(BenchmarkArguments, arguments, "patchscout benchmark")
    asked = {name: value for name, value in vars(options).items() if name not in _ONLY_SHOWN}
    request = Request(**asked, command=typed("benchmark", *arguments))
    plan = make_plan(request)
    if options.dry_run:
        for line in plan.lines():
            console.print(line)
        return 0
    with _stopped_by_signals():
        return run_benchmark(request, plan, Monitor(quiet=options.quiet), console.print)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let a request to end, and Ctrl-C in the background too, stop the jobs as Ctrl-C does."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
