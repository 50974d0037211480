"""Whatever call fails, and wherever the process dies: the old model loads or the new one does."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from actions import Action, publish, save, undisturbed
from faults import ERRORS, FD_CALLS, PATH_CALLS, Call, Death, Fault, die_at, record, watched
from models import Pair, listing
from power import read_tree

from patchscout.checks import InputError

ACTIONS = {"save": save, "publish": publish}
NAMES = ["save", pytest.param("publish", marks=pytest.mark.slow)]
READS = {"stat", "lstat", "read", "listdir", "scandir"}


@pytest.fixture(params=NAMES)
def action(request) -> Action:
    return ACTIONS[request.param]


@pytest.fixture
def names(action, pair, place, tmp_path) -> set[str]:
    """What a run folder holds after an action that nothing went wrong in."""
    copy = Path(shutil.copytree(place, tmp_path / "undisturbed"))
    return undisturbed(pair, copy / "run", action)


def calls_of(action: Action, pair: Pair, place: Path) -> list[Call]:
    """Return the calls of an action, in a copy of the place."""
    copy = Path(shutil.copytree(place, place.with_name("recorded")))
    return record(copy, lambda: action(pair, copy / "run"))


def copies(place: Path) -> Iterator[Path]:
    """Yield a fresh copy of the place, again and again."""
    copy = place.with_name("copy")
    while True:
        shutil.copytree(place, copy)
        yield copy
        shutil.rmtree(copy)


class Inspector:
    """Says what is wrong with a run folder after an accident; looks only once at what is the same.

    Args:
        action: What was done; it is done once more.
        pair: The old model and the new one.
        names: What the run folder should hold in the end.
    """

    def __init__(self, action: Action, pair: Pair, names: set[str]) -> None:
        self.action = action
        self.pair = pair
        self.names = names
        self._known: dict[frozenset[tuple[str, bytes | None]], tuple[str, str]] = {}

    def problem(self, copy: Path, done: bool) -> str:
        """Return what is wrong with the folder `run` in `copy`, if anything is.

        Args:
            copy: Where it is; its content is another one afterwards.
            done: Whether the action said that it was done.
        """
        key = frozenset(read_tree(copy).items())
        if key not in self._known:
            self._known[key] = self._look(copy)
        found, problem = self._known[key]
        if done and found == "old":
            return "the old model, though it said that it was done"
        return problem

    def _look(self, copy: Path) -> tuple[str, str]:
        """Return which model there is, and what is wrong."""
        run = copy / "run"
        try:
            found = self.pair.which(run)
        except (InputError, AssertionError) as error:
            return "", f"no model: {error}"
        try:
            if self.action(self.pair, run) != 0:
                return found, "the next run fails"
        except (InputError, OSError) as error:
            return found, f"the next run fails: {error}"
        if self.pair.which(run) != "new":
            return found, "the old model, after the next run"
        if listing(run) != self.names:
            return found, f"left in the folder: {sorted(listing(run) ^ self.names)}"
        if listing(copy) != {"run", *(f"run/{name}" for name in self.names)}:
            return found, f"left beside the folder: {sorted(listing(copy))}"
        return found, ""


def problem_after_fault(inspector: Inspector, copy: Path, number: int, error: int) -> str:
    """Let one call fail and return what is wrong afterwards, but for what it says that it keeps."""
    fault = Fault(number, error)
    done, told = False, ""
    try:
        with redirect_stderr(io.StringIO()) as printed, watched(copy, fault):
            status = inspector.action(inspector.pair, copy / "run")
        done, told = status == 0, printed.getvalue()
        if status not in (0, 2):
            return f"exit code {status}"
    except (InputError, OSError) as raised:
        told = str(raised)
    except Exception as undeclared:  # noqa: BLE001 - any other is what is looked for
        return f"{type(undeclared).__name__}: {undeclared}"
    assert fault.hit is not None, f"there is no call {number}"
    for kept in (copy / "run").glob("patchscout-kept-*"):  # what could not take its place
        if kept.name not in told or not kept.joinpath("config.json").is_file():
            return f"{kept.name} is kept, and nothing tells it: {told}"
        shutil.rmtree(kept)
    return inspector.problem(copy, done)


def check_faults(action, pair, place, names, errors) -> int:
    """Let each call fail with each error; return how many times one did."""
    calls = calls_of(action, pair, place)
    points = [(call, error) for call in calls for error in errors(call)]
    inspector = Inspector(action, pair, names)
    problems = []
    for (call, error), copy in zip(points, copies(place), strict=False):
        problem = problem_after_fault(inspector, copy, call.number, error)
        if problem:
            problems.append(f"{errno.errorcode[error]} in {call}: {problem}")
    assert not problems, f"{len(problems)} of {len(points)}:\n" + "\n".join(problems)
    return len(points)


def check_deaths(action, pair, place, names, apart_from=READS) -> int:
    """Die before each call that may change something; return how many times."""
    calls = [call for call in calls_of(action, pair, place) if call.name not in apart_from]
    inspector = Inspector(action, pair, names)
    problems = []
    for call, copy in zip(calls, copies(place), strict=False):
        status = die_at(call.number, copy, lambda copy=copy: action(pair, copy / "run"))
        assert status == Death.STATUS, f"{call}: the process ended with {status}"
        if problem := inspector.problem(copy, done=False):
            problems.append(f"died before {call}: {problem}")
    assert not problems, f"{len(problems)} of {len(calls)}:\n" + "\n".join(problems)
    return len(calls)


def test_every_call_of_save_fails_once(pair, place, tmp_path):
    names = undisturbed(pair, Path(shutil.copytree(place, tmp_path / "other")) / "run", save)
    num_points = check_faults(save, pair, place, names, lambda call: ERRORS[call.number % 3 :][:1])
    assert num_points >= 50


def test_the_process_dies_at_every_call(action, pair, place, names, capsys):
    assert check_deaths(action, pair, place, names) >= 30


@pytest.mark.slow
def test_every_call_fails_with_every_error(action, pair, place, names, capsys):
    num_points = check_faults(action, pair, place, names, lambda _: ERRORS)
    assert num_points >= 150


def test_the_layer_sees_every_call_and_lets_it_fail(tmp_path):
    def write() -> None:
        folder = tmp_path / "new"
        folder.mkdir()
        with (folder / "a.txt").open("w", encoding="utf-8") as file:
            file.write("12345678")
            file.flush()
            os.fsync(file.fileno())
        (folder / "a.txt").replace(folder / "b.txt")
        (tmp_path.parent / "elsewhere").touch()

    calls = record(tmp_path, write)
    seen = [call.name for call in calls if call.name not in READS]
    assert seen == ["mkdir", "open", "write", "fsync", "close", "replace"]
    shutil.rmtree(tmp_path / "new")
    numbers = {call.name: call.number for call in calls}
    with (
        pytest.raises(OSError, match="left on device"),
        watched(tmp_path, Fault(numbers["fsync"], 28)),
    ):
        write()
    assert (tmp_path / "new" / "a.txt").read_text() == "12345678"
    shutil.rmtree(tmp_path / "new")
    assert die_at(numbers["write"], tmp_path, write) == Death.STATUS
    assert (tmp_path / "new" / "a.txt").read_text() == "1234", "half of it"
    shutil.rmtree(tmp_path / "new")
    assert die_at(numbers["replace"], tmp_path, write) == Death.STATUS
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_a_switch_in_two_steps_is_found(pair, place):
    """What the product did before: aside with the old files, then in with the new ones."""

    def careless(pair: Pair, run: Path) -> int:
        new = run.with_name("new")
        shutil.rmtree(new, ignore_errors=True)
        pair.new.save(new)
        for path in new.iterdir():
            path.replace(run / path.name)
        new.rmdir()
        return 0

    names = listing(place / "run")
    others = {*PATH_CALLS, *FD_CALLS, "flock"} - {"replace"}
    with pytest.raises(AssertionError, match="no model"):
        check_deaths(careless, pair, place, names, apart_from=others)
