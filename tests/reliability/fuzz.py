"""Fuzzes what people hand in: `python tests/reliability/fuzz.py --executions 100000 --seed 1`.

Each execution is drawn by the seed and its number alone, so that any of them can be repeated with
`--replay NUMBER`. They run in forked processes, whose end is noticed, whose memory is bounded, and
which are ended when one execution takes too long.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import json
import mmap
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import cv2
from fuzz_targets import (
    EXIT_0,
    EXIT_2,
    REFUSED,
    TARGETS,
    UNDECLARED,
    VALUE,
    Case,
    Target,
    UndeclaredError,
    make_targets,
    write_files,
)
from models import run_in_one_thread

OUTCOMES = {
    VALUE: "value",
    REFUSED: "refused",
    EXIT_0: "exit 0",
    EXIT_2: "exit 2",
    UNDECLARED: "undeclared",
}

NUM_A_WORKER = 2000
"""A process is ended after so many executions, and a new one forked."""

GRACE_S = 3.0
"""After the time limit an exception is raised; so much later the process is killed."""


class Overtime(BaseException):
    """An execution takes too long."""


@dataclass(frozen=True)
class Bounds:
    """What an execution may take.

    Attributes:
        seconds: Time.
        gib: Memory beyond what the process has at its start.
    """

    seconds: float = 5.0
    gib: float = 4.0


class Board:
    """What the processes share: how each execution ended, which is being done, and since when."""

    def __init__(self, num_executions: int, num_targets: int) -> None:
        self.outcomes = mmap.mmap(-1, max(num_executions, 1))
        self._now = memoryview(mmap.mmap(-1, 16)).cast("d")  # each item is written at once
        self._peaks = mmap.mmap(-1, 8 * (num_targets + 1))
        self._seconds = mmap.mmap(-1, 8 * max(num_targets, 1))

    def start(self, number: int) -> None:
        """Note which execution begins."""
        self._now[1] = time.monotonic()
        self._now[0] = number

    def current(self) -> tuple[int, float]:
        """Return the execution that is being done and when it began."""
        number, since = self._now
        return int(number), since

    def add_seconds(self, target: int, seconds: float) -> None:
        """Add processor time that an execution of a target took."""
        struct.pack_into("d", self._seconds, 8 * target, self.seconds(target) + seconds)

    def seconds(self, target: int) -> float:
        """Return the processor time that the executions of a target took."""
        return struct.unpack_from("d", self._seconds, 8 * target)[0]

    def note_growth(self, target: int, kib: int) -> None:
        """Note how far memory grew in an execution of a target; of the last one since the start."""
        if kib > self.growth_kib(target):
            struct.pack_into("q", self._peaks, 8 * target, kib)

    def growth_kib(self, target: int) -> int:
        """Return how far memory grew at most, in KiB."""
        return struct.unpack_from("q", self._peaks, 8 * target)[0]


class Fuzzer:
    """Runs executions and keeps what is undeclared.

    Args:
        targets: By name.
        seed: Decides all inputs.
        corpus: Folder for inputs whose outcome is undeclared, one of each kind.
        bounds: What an execution may take.
        work: Folder to write inputs to.
    """

    def __init__(
        self, targets: dict[str, Target], seed: int, corpus: Path, bounds: Bounds, work: Path
    ) -> None:
        self.targets = targets
        self.seed = seed
        self.corpus = corpus
        self.bounds = bounds
        self.work = work
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in targets}
        self.undeclared: Counter[tuple[str, str]] = Counter()
        self.board = Board(0, len(targets))
        self._log = work / "undeclared.jsonl"
        self._crash_log = work / "crash.txt"

    def draw(self, number: int) -> tuple[str, Case]:
        """Return the target and the input of an execution."""
        rng = random.Random(f"{self.seed}/{number}")
        names = list(self.targets)
        (name,) = rng.choices(names, [self.targets[name].weight for name in names])
        return name, self.targets[name].make(rng)

    def run(self, num_executions: int, seconds: float | None = None) -> int:
        """Do executions from number 0 on; return how many were done.

        Args:
            num_executions: At most so many.
            seconds: Stop after so long.
        """
        self.board = Board(num_executions, len(self.targets))
        end = None if seconds is None else time.monotonic() + seconds
        gc.freeze()
        number = 0
        while number < num_executions and (end is None or time.monotonic() < end):
            number = self._work_through(number, min(number + NUM_A_WORKER, num_executions), end)
        self._collect(number)
        return number

    def replay(self, number: int) -> int:
        """Do one execution in this process; exceptions come out."""
        name, case = self.draw(number)
        folder = self._fresh_folder()
        print(f"{name}: {case.arguments} {[(n, c[:300]) for n, c in case.files.items()]}")
        return self.targets[name].execute(case, folder)

    def _work_through(self, first: int, stop: int, end: float | None) -> int:
        """Do executions in a process of their own; return the number of the next one."""
        self.board.start(first)
        child = os.fork()
        if child == 0:
            status = 70
            with suppress(BaseException):
                self._child(first, stop, end)
                status = 0
            os._exit(status)
        status, was_killed = self._wait(child)
        number, _ = self.board.current()
        if status == 0:
            return number
        name, case = self.draw(number)
        if was_killed:
            what = "takes too long, and does not stop"
        elif status < 0:
            what = f"crash of the process, {signal.Signals(-status).name}"
        else:
            what = f"end of the process with {status}"
        self._note(number, name, case, f"{what} {_crash_place(self._crash_log)}".strip(), "")
        return number + 1

    def _wait(self, child: int) -> tuple[int, bool]:
        """Wait for a process, and end it if it takes too long; return how it ended."""
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status), False
            if time.monotonic() - self.board.current()[1] > self.bounds.seconds + GRACE_S:
                os.kill(child, signal.SIGKILL)
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), True
            time.sleep(0.02)

    def _child(self, first: int, stop: int, end: float | None) -> None:
        self._prepare_process()
        names = list(self.targets)
        start_kib = last_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(first, stop):
            self.board.start(number)
            name, case = self.draw(number)
            started = time.process_time()
            self.board.outcomes[number] = self._execute(number, name, case)
            self.board.add_seconds(names.index(name), time.process_time() - started)
            peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if peak_kib > last_kib:
                self.board.note_growth(names.index(name), peak_kib - last_kib)
                self.board.note_growth(len(names), peak_kib - start_kib)
                last_kib = peak_kib
            if end is not None and time.monotonic() > end:
                stop = number + 1
                break
        self.board.start(stop)

    def _prepare_process(self) -> None:
        """Silence the process, bound its memory, and have it say where it crashes."""
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        self._crash_file = self._crash_log.open("w")  # kept, or it would be closed
        faulthandler.enable(self._crash_file)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = used + int(self.bounds.gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, _raise_overtime)

    def _execute(self, number: int, name: str, case: Case) -> int:
        folder = self._fresh_folder()
        signal.setitimer(signal.ITIMER_REAL, self.bounds.seconds)
        try:
            return self.targets[name].execute(case, folder)
        except BaseException as error:  # noqa: BLE001 - any that gets here is what is looked for
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._note(
                number, name, case, describe(error), "".join(traceback.format_exception(error))
            )
            return UNDECLARED
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _fresh_folder(self) -> Path:
        folder = self.work / "now"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _note(self, number: int, name: str, case: Case, kind: str, details: str) -> None:
        """Keep an undeclared outcome; of each kind the first input."""
        self.board.outcomes[number] = UNDECLARED
        with self._log.open("a") as log:
            log.write(json.dumps({"number": number, "target": name, "kind": kind}) + "\n")
        place = self.corpus / f"{name}-{re.sub(r'[^A-Za-z0-9.]+', '-', kind)[:120]}"
        if place.exists():
            return
        place.mkdir(parents=True)
        write_files(case, place / "files")
        facts = {"seed": self.seed, "number": number, "kind": kind, "arguments": case.arguments}
        (place / "case.json").write_text(json.dumps(facts, indent=2))
        (place / "traceback.txt").write_text(details, errors="backslashreplace")

    def _collect(self, num_done: int) -> None:
        for number in range(num_done):
            rng = random.Random(f"{self.seed}/{number}")
            names = list(self.targets)
            (name,) = rng.choices(names, [self.targets[name].weight for name in names])
            self.counts[name][OUTCOMES[self.board.outcomes[number]]] += 1
        if self._log.exists():
            for line in self._log.read_text().splitlines():
                entry = json.loads(line)
                self.undeclared[entry["target"], entry["kind"]] += 1


def describe(error: BaseException) -> str:
    """Return what tells one kind of error from another: its type and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/patchscout/" in f.filename]
    place = ""
    if ours:
        file = ours[-1].filename.rpartition("/patchscout/")[2]
        place = f" in {file}:{ours[-1].lineno} {ours[-1].name}"
    said = f": {error}" if isinstance(error, UndeclaredError) else ""
    return f"{type(error).__name__}{place}{said[:200]}"


def _crash_place(log: Path) -> str:
    """Return the innermost line of the product in what `faulthandler` wrote."""
    found = (
        re.search(r'/patchscout/(\S+)", line (\d+) in (\S+)', log.read_text())
        if log.exists()
        else None
    )
    return "" if found is None else f"in {found[1]}:{found[2]} {found[3]}"


def _raise_overtime(_: int, __: FrameType | None) -> None:
    raise Overtime


def report(fuzzer: Fuzzer, num_done: int, seconds: float) -> str:
    """Return what was found, as text."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = max(used.ru_utime + used.ru_stime, 1e-3)
    lines = [
        f"{num_done} executions in {seconds:.0f} s, {num_done / seconds:.0f} a second,"
        f" {num_done / busy:.0f} a second of processor time"
    ]
    for number, (name, counts) in enumerate(fuzzer.counts.items()):
        shown = ", ".join(f"{count} {what}" for what, count in counts.most_common())
        growth = fuzzer.board.growth_kib(number) / 2**10
        pace = counts.total() / max(fuzzer.board.seconds(number), 1e-3)
        lines.append(f"  {name}: {shown}; {pace:.0f} a second, at most {growth:.0f} MiB more")
    peak = fuzzer.board.growth_kib(len(fuzzer.targets)) / 2**20
    lines.append(f"Peak memory beyond the start: {peak:.2f} GiB of {fuzzer.bounds.gib:g}")
    lines.append(f"Distinct undeclared outcomes: {len(fuzzer.undeclared)}")
    lines += [f"  {n:5}  {t}: {kind}" for (t, kind), n in sorted(fuzzer.undeclared.items())]
    if fuzzer.undeclared:
        lines.append(f"One input of each kind is in {fuzzer.corpus}")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Fuzz, print what was found, and return 1 if anything was undeclared."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--target", choices=TARGETS, nargs="+", default=TARGETS)
    parser.add_argument("--gib", type=float, default=Bounds.gib, help="memory beyond the start")
    parser.add_argument("--limit-s", type=float, default=Bounds.seconds, help="time an execution")
    parser.add_argument(
        "--corpus", type=Path, help="folder for inputs; a temporary one unless given"
    )
    parser.add_argument("--replay", type=int, metavar="NUMBER", help="do one execution, openly")
    options = parser.parse_args(words)
    run_in_one_thread()
    cv2.setNumThreads(1)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        corpus = options.corpus or Path(tempfile.mkdtemp(prefix="patchscout-fuzz-"))
        (work := Path(folder) / "work").mkdir()
        targets = make_targets(options.target, Path(folder))
        bounds = Bounds(options.limit_s, options.gib)
        fuzzer = Fuzzer(targets, options.seed, corpus, bounds, work)
        if options.replay is not None:
            print(OUTCOMES[fuzzer.replay(options.replay)])
            return 0
        started = time.monotonic()
        num_done = fuzzer.run(options.executions, options.seconds)
        print(report(fuzzer, num_done, time.monotonic() - started))
        return 1 if fuzzer.undeclared else 0


if __name__ == "__main__":
    sys.exit(main())
