"""Whatever call fails, and wherever the process dies: the old model loads or the new one does."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from actions import Action, publish, save, undisturbed
from faults import ERRORS, Call, Death, Fault, die_at, record, watched
from models import Pair, listing

from patchscout.checks import InputError

ACTIONS = {"save": save, "publish": publish}
READS = {"stat", "lstat", "read", "listdir", "scandir"}


@pytest.fixture(params=ACTIONS)
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
    number = 0
    while True:
        copy = place.with_name(f"copy-{number}")
        shutil.copytree(place, copy)
        yield copy
        shutil.rmtree(copy, ignore_errors=True)
        number += 1


def problem_after(
    action: Action, pair: Pair, copy: Path, names: set[str], done: bool, told: str = ""
) -> str:
    """Return what is wrong with a run folder after an accident, if anything is.

    Args:
        action: What was done; it is done once more.
        pair: The old model and the new one.
        copy: Where the folder `run` is.
        names: What it should hold in the end.
        done: Whether the action said that it was done.
        told: What the error said: what could not take its place is kept where it says.
    """
    run = copy / "run"
    try:
        found = pair.which(run)
    except (InputError, AssertionError) as error:
        return f"no model: {error}"
    if done and found != "new":
        return "the old model, though it said that it was done"
    try:
        if action(pair, run) != 0:
            return "the next run fails"
    except (InputError, OSError) as error:
        return f"the next run fails: {error}"
    if pair.which(run) != "new":
        return "the old model, after the next run"
    kept = {n for n in listing(run) if n.startswith("patchscout-kept-") and n.split("/")[0] in told}
    if listing(run) - kept != names:
        return f"left in the folder: {sorted((listing(run) - kept) ^ names)}"
    if listing(copy) != {"run", *(f"run/{name}" for name in names | kept)}:
        return f"left beside the folder: {sorted(listing(copy))}"
    return ""


def problem_after_fault(
    action: Action, pair: Pair, copy: Path, names: set[str], number: int, error: int
) -> str:
    """Let one call fail and return what is wrong afterwards."""
    fault = Fault(number, error)
    done, told = False, ""
    try:
        with watched(copy, fault):
            status = action(pair, copy / "run")
        done = status == 0
        if status not in (0, 2):
            return f"exit code {status}"
    except (InputError, OSError) as raised:
        told = str(raised)
    except Exception as undeclared:  # noqa: BLE001 - any other is what is looked for
        return f"{type(undeclared).__name__}: {undeclared}"
    if fault.hit is None:
        return ""  # the failure of an earlier call, in cleaning up, made the way shorter
    return problem_after(action, pair, copy, names, done, told)


def check_faults(action, pair, place, names, errors) -> int:
    """Let each call fail with each error; return how many times one did."""
    calls = calls_of(action, pair, place)
    points = [(call, error) for call in calls for error in errors(call)]
    problems = []
    for (call, error), copy in zip(points, copies(place), strict=False):
        problem = problem_after_fault(action, pair, copy, names, call.number, error)
        if problem:
            problems.append(f"{errno.errorcode[error]} in {call}: {problem}")
    assert not problems, f"{len(problems)} of {len(points)}:\n" + "\n".join(problems)
    return len(points)


def check_deaths(action, pair, place, names) -> int:
    """Die before each call that changes something; return how many times."""
    calls = [call for call in calls_of(action, pair, place) if call.name not in READS]
    problems = []
    for call, copy in zip(calls, copies(place), strict=False):
        status = die_at(call.number, copy, lambda copy=copy: action(pair, copy / "run"))
        assert status == Death.STATUS, f"{call}: the process ended with {status}"
        if problem := problem_after(action, pair, copy, names, done=False):
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
    number = next(call.number for call in calls if call.name == "write")
    with pytest.raises(OSError, match="No space left"), watched(tmp_path, Fault(number, 28)):
        write()
    assert (tmp_path / "new" / "a.txt").read_text() == "1234", "half of it, as on a full disk"
    shutil.rmtree(tmp_path / "new")
    number = next(call.number for call in calls if call.name == "replace")
    assert die_at(number, tmp_path, write) == Death.STATUS
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
    with pytest.raises(AssertionError, match="no model"):
        check_deaths(careless, pair, place, names)
