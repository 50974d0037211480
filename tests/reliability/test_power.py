"""After a power cut the old model loads or the new one does, and what was said to be done is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from actions import Action, predict, publish, save
from models import Pair
from power import Disk, Tree, follow, write_tree

from patchscout.checks import InputError

ACTIONS = {"save": save, "publish": publish}
NAMES = ["save", pytest.param("publish", marks=pytest.mark.slow)]


def check_cuts(pair: Pair, disk: Disk, folder: Path, end: int, *, num_random: int) -> int:
    """Cut the power at every moment and load what is left; return at how many moments.

    Args:
        pair: The old model and the new one.
        disk: What an action was followed by, that put the new model in place of the old one.
        folder: To write what is left to.
        end: The moment when the action said that it was done.
        num_random: States drawn at random a moment.
    """
    problems: list[str] = []
    known: dict[frozenset[tuple[str, bytes | None]], str] = {}
    for moment in range(disk.moment + 1):
        for what, tree in disk.states(moment, num_random):
            key = frozenset(tree.items())
            found = known.get(key) or _model_of(pair, tree, folder / f"{len(known)}")
            known[key] = found
            if found not in ("old", "new"):
                problems.append(f"moment {moment}, {what}: {found}")
            elif moment >= end and found == "old":
                problems.append(f"done at {end}, and yet at {moment}, {what}: the old model")
    assert not problems, f"{len(problems)} of {len(known)} states:\n" + "\n".join(problems)
    return disk.moment + 1


def _model_of(pair: Pair, tree: Tree, place: Path) -> str:
    """Return which model is in a state: `old`, `new`, or what is wrong with it."""
    write_tree(tree, place)
    try:
        found = pair.which(place / "run")
        pair.new.save(place / "run", overwrite=True)
        assert pair.which(place / "run") == "new", "the next save is without effect"
    except (AssertionError, InputError) as error:
        return str(error)
    finally:
        shutil.rmtree(place)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_power_cut_leaves_the_old_model_or_the_new_one(name, pair, place, tmp_path, capsys):
    action: Action = ACTIONS[name]
    disk = follow(place, lambda: action(pair, place / "run"))
    num_moments = check_cuts(
        pair, disk, tmp_path / "states", disk.moment, num_random=3 if name == "save" else 1
    )
    assert num_moments >= 20


def test_a_first_run_is_on_disk_when_it_says_so(pair, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    disk = follow(place, lambda: pair.new.save(place / "below" / "run"))
    for number, (what, tree) in enumerate(disk.states(disk.moment)):
        left = write_tree(tree, tmp_path / f"{number}") / "below" / "run"
        assert left.is_dir(), f"{what}: the folder is not there"
        assert pair.which(left) == "new", what


def test_predictions_are_on_disk_when_it_says_so(pair, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    disk = follow(place, lambda: predict(pair, place / "out"))
    whole = dict(disk.states(disk.moment))["all"]
    for what, tree in disk.states(disk.moment, num_random=20):
        table = tree.get("out/predictions.json")
        assert table, f"{what}: no table"
        rows = json.loads(table)
        assert len(rows) == 3
        for row in rows:
            for kind, suffix in (("anomaly_maps", "tiff"), ("masks", "png"), ("overlays", "png")):
                file = f"out/{kind}/{row['output']}.{suffix}"
                assert whole[file], file
                assert tree.get(file) == whole[file], f"{what}: {file} is not whole"


def write_carefully(place: Path) -> None:
    """Replace `a` as one should, so that a cut leaves the old content or the new one."""
    with (place / "new").open("wb") as file:
        file.write(b"new")
        file.flush()
        os.fsync(file.fileno())
    (place / "new").replace(place / "a")
    folder = os.open(place, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def write_carelessly(place: Path) -> None:
    """Replace `a` without flushing anything."""
    (place / "new").write_bytes(b"new")
    (place / "new").replace(place / "a")


@pytest.mark.parametrize(
    ("write", "during", "after"),
    [
        (write_carefully, {b"old", b"new"}, {b"new"}),
        (write_carelessly, {b"old", b"new", b"", bytes(3)}, {b"old", b"new", b"", bytes(3)}),
    ],
)
def test_the_model_of_durability(tmp_path, write, during, after):
    (tmp_path / "a").write_bytes(b"old")
    disk = follow(tmp_path, lambda: write(tmp_path))
    seen = {tree["a"] for m in range(disk.moment + 1) for _, tree in disk.states(m)}
    assert seen == during
    assert {tree["a"] for _, tree in disk.states(disk.moment, num_random=20)} == after


def test_a_file_written_in_c_is_noticed(tmp_path):
    def write() -> None:
        os.posix_spawn("/bin/touch", ["touch", str(tmp_path / "unseen")], os.environ)
        os.wait()

    with pytest.raises(AssertionError, match="calls were missed"):
        follow(tmp_path, write)


@pytest.mark.parametrize("flushes_folder", [True, False])
def test_names_reach_the_disk_in_order(tmp_path, flushes_folder):
    def write() -> None:
        for name in "ab":
            (tmp_path / name).mkdir()
        if flushes_folder:
            folder = os.open(tmp_path, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        (tmp_path / "c").mkdir()

    disk = follow(tmp_path, write)
    seen = {"".join(sorted(tree)) for _, tree in disk.states(disk.moment, num_random=60)}
    assert seen == ({"ab", "abc"} if flushes_folder else {"", "a", "ab", "abc"})
