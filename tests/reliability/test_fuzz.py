"""Odd and damaged input ends in a declared way; and the fuzzer notices all that does not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest
from fuzz import Bounds, Fuzzer
from fuzz_targets import (
    COCO_SEEDS,
    EXIT_0,
    LABELME_SEEDS,
    REFUSED,
    VALUE,
    YAML_SEEDS,
    Annotations,
    Arguments,
    Case,
    Images,
    Masks,
    Runs,
    UndeclaredError,
)

SECONDS = float(os.environ.get("PATCHSCOUT_FUZZ_SECONDS", "10"))
"""How long all kinds of input together are fuzzed; a minute in CI."""


def test_fuzzed_input_ends_in_a_declared_way(tmp_path):
    """In a process of its own: types are not checked there, and its memory is its own."""
    script = str(Path(__file__).with_name("fuzz.py"))
    options = ["--seed", "1", "--seconds", str(SECONDS), "--limit-s", "20"]
    options += ["--corpus", str(tmp_path / "corpus")]
    options += ["--executions", str(int(SECONDS * 1000))]
    done = subprocess.run(
        [sys.executable, script, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Distinct undeclared outcomes: 0" in done.stdout


NOT_READ = {"int32.tif"}
"""Image files that are whole and yet refused: no camera writes such values."""


def test_what_is_changed_is_read_unchanged(pair, old_run, tmp_path):
    """Else fuzzing would reach no more than the first check."""
    folders = (fresh_folder(tmp_path / f"{number}") for number in count())
    for images in (Images(), Masks()):
        for file, content in images.seeds.items():
            found = images.execute(Case({f"image{Path(file).suffix}": content}), next(folders))
            assert found == (REFUSED if file in NOT_READ else VALUE), file
    for seed in (*LABELME_SEEDS, *COCO_SEEDS):
        file = "masks.json" if seed in COCO_SEEDS else "masks/1.json"
        case = Case({file: json.dumps(seed).encode()}, ("masks",))
        assert Annotations().execute(case, next(folders)) == VALUE, seed
    runs = Runs(pair, tmp_path / "run")
    for name, content in runs.files.items():
        case = Case({name: content}, ("load", "sealed", name))
        assert runs.execute(case, next(folders)) == VALUE, name
    case = Case({"model.onnx": runs.exported}, ("exported",))
    assert runs.execute(case, next(folders)) == VALUE
    arguments = Arguments(pair, Path(shutil.copytree(old_run, tmp_path / "model" / "run")))
    for lines in YAML_SEEDS:
        case = Case({"settings.yaml": "\n".join(lines).encode()}, ("settings",))
        assert arguments.execute(case, next(folders)) == VALUE, lines
    case = Case({"images/a.png": b""}, ("predict", "run", "images/a.png", "--out", "out"))
    assert arguments.execute(case, next(folders)) == EXIT_0


def fresh_folder(path):
    path.mkdir()
    return path


class Misbehaving:
    """Does what no reader should, by the number that it draws."""

    weight = 1.0

    def make(self, rng):
        return Case({"a": b"1"}, (rng.choice(list(self.ends)),))

    def execute(self, case, folder):
        return self.ends[case.arguments[0]]()

    @property
    def ends(self):
        return {
            "value": lambda: VALUE,
            "refused": lambda: REFUSED,
            "error": lambda: {}["a"],
            "odd value": self.raise_undeclared,
            "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
            "exit": lambda: os._exit(3),
            "slow": lambda: time.sleep(30),
            "stuck": self.wait_whatever_comes,
            "memory": lambda: bytearray(2**30) and VALUE,
        }

    def raise_undeclared(self):
        raise UndeclaredError("seven")

    def wait_whatever_comes(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        time.sleep(30)


def test_the_fuzzer_notices_what_is_undeclared(tmp_path, monkeypatch):
    monkeypatch.setattr("fuzz.GRACE_S", 0.2)
    bounds = Bounds(seconds=0.1, gib=0.5)
    fuzzer = Fuzzer({"bad": Misbehaving()}, 3, tmp_path / "corpus", bounds, tmp_path)
    assert fuzzer.run(60) == 60
    drawn = [fuzzer.draw(number)[1].arguments[0] for number in range(60)]
    kinds = {
        "error": "KeyError",
        "odd value": "UndeclaredError: seven",
        "crash": "crash of the process, SIGSEGV",
        "exit": "end of the process with 3",
        "slow": "Overtime",
        "stuck": "takes too long, and does not stop",
        "memory": "MemoryError",
    }
    found = {kind: count for (_, kind), count in fuzzer.undeclared.items()}
    assert found == {kind: drawn.count(what) for what, kind in kinds.items()}
    counts = fuzzer.counts["bad"]
    assert counts["value"] == drawn.count("value")
    assert counts["refused"] == drawn.count("refused")
    assert counts["undeclared"] == sum(found.values())
    kept = list((tmp_path / "corpus").iterdir())
    assert len(kept) == len(kinds)
    assert all((folder / "files" / "a").read_bytes() == b"1" for folder in kept)


@pytest.mark.parametrize("number", [0, 1, 17])
def test_an_execution_is_drawn_by_seed_and_number(number, tmp_path):
    one, same, other = (
        Fuzzer({"bad": Misbehaving()}, seed, tmp_path, Bounds(), tmp_path) for seed in (1, 1, 2)
    )
    assert one.draw(number) == same.draw(number)
    drawn = [[fuzzer.draw(n)[1] for n in range(20)] for fuzzer in (one, other)]
    assert drawn[0] != drawn[1]
