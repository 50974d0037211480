"""A damaged model is refused, or nobody notices the damage: it never says something else."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import IMAGE, answers, change_file

from patchscout import PatchScout
from patchscout.checks import InputError

MANY = {"model.safetensors": 120, "config.json": 40, "split.json": 40}
FEW = 10
ABSURD = ["1e999", "-1e999", "NaN", "-1", "2", "1e308", '"0.5"', '"x"', "true", "null", "[]"]
"""Thresholds that none is, as JSON writes them."""


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def silent_changes(path: Path, ask: Callable[[], Any], count: int) -> list[str]:
    """Flip bits of a file, one at a time; return what changed an answer without being refused."""
    content, expected = path.read_bytes(), ask()
    rng = random.Random(f"{path.name} {count}")
    wrong = []
    for bit in rng.sample(range(8 * len(content)), count):
        path.write_bytes(flipped(content, bit))
        with suppress(InputError):
            if ask() != expected:
                wrong.append(f"bit {bit % 8} of byte {bit // 8} of {len(content)}")
    path.write_bytes(content)
    assert ask() == expected
    return wrong


def check_run(run: Path, data: Path, name: str, count: int) -> None:
    wrong = silent_changes(
        run / name, lambda: answers(PatchScout.load(run, device="cpu"), data), count
    )
    assert not wrong, f"{len(wrong)} of {count} flips in {name} give other answers: {wrong}"


@pytest.mark.parametrize("name", MANY)
def test_a_few_flipped_bits_of_a_run(name, place, pair):
    check_run(place / "run", pair.data, name, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", MANY)
def test_many_flipped_bits_of_a_run(name, place, pair):
    check_run(place / "run", pair.data, name, MANY[name])


def with_weight(value: float, number: int) -> Callable[[bytes], bytes]:
    """Return a change of one weight, of the `number`-th tensor of floats, in the middle of it."""

    def change(content: bytes) -> bytes:
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        tensors = [facts for name, facts in header.items() if name != "__metadata__"]
        floats = [facts["data_offsets"] for facts in tensors if facts["dtype"] == "F32"]
        start, end = floats[number % len(floats)]
        at = 8 + size + start + (end - start) // 8 * 4
        return content[:at] + np.float32(value).tobytes() + content[at + 4 :]

    return change


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("number", [0, 7, 23, 40])
def test_a_weight_that_is_no_number_is_refused(value, number, place):
    change_file(place / "run", "model.safetensors", with_weight(value, number))
    with pytest.raises(InputError, match=r"finite|not a number|NaN|nan"):
        PatchScout.load(place / "run", device="cpu").predict(IMAGE)


def with_text(path: list[str], text: str) -> Callable[[bytes], bytes]:
    """Return a change of a value in JSON to what is no JSON number of Python's."""

    def change(content: bytes) -> bytes:
        data = json.loads(content)
        inner = data
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = "PLACE"
        return json.dumps(data).replace('"PLACE"', text).encode()

    return change


@pytest.mark.parametrize("text", ABSURD)
def test_a_threshold_that_is_none_is_refused(text, place):
    change_file(
        place / "run", "config.json", with_text(["trained", "decision", "pixel_threshold"], text)
    )
    with pytest.raises(InputError, match=r"config\.json.*threshold"):
        PatchScout.load(place / "run", device="cpu")


def test_a_file_of_another_run_is_refused(place, pair, tmp_path):
    pair.new.save(tmp_path / "new")
    for name in MANY:
        copy = Path(shutil.copytree(place / "run", tmp_path / name))
        shutil.copy(tmp_path / "new" / name, copy)
        with pytest.raises(InputError, match=str(copy)):
            answers(PatchScout.load(copy, device="cpu"), pair.data)


def test_what_is_sealed_anew_is_read(place, pair):
    """Else the tests above would find no more than a seal that does not fit."""
    before = answers(PatchScout.load(place / "run", device="cpu"), pair.data)
    change_file(
        place / "run", "config.json", with_text(["trained", "record", "category"], '"other"')
    )
    change_file(place / "run", "model.safetensors", with_weight(0.125, 7))
    scout = PatchScout.load(place / "run", device="cpu")
    assert scout.record.category == "other"
    assert answers(scout, pair.data) != before
