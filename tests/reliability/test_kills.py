"""Real processes that are killed, stopped and raced: what they leave is whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from models import Pair, command_line, labeled_images, listing, settings
from PIL import Image as PillowImage

from patchscout import PatchScout
from patchscout.checks import InputError
from patchscout.outputs import PredictionWriter

NUM_LOADS = 60

PROGRAM = [sys.executable, "-m", "patchscout.cli"]


def start(*words: object) -> subprocess.Popen[str]:
    """Start the program."""
    line = [*PROGRAM, *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True)


def start_training(pair: Pair, run: Path) -> subprocess.Popen[str]:
    """Start training the new model in place of what is in a run folder."""
    return start("train", pair.data, "--out", run, "--overwrite", "--quiet", *command_line(3))


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something holds or the process has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.0005)


def is_later_by(seconds: float) -> Callable[[], bool]:
    """Return what tells whether so much time has gone."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def train_to_the_end(pair: Pair, run: Path) -> float:
    """Train; return after how many seconds it was done."""
    started = time.monotonic()
    process = start_training(pair, run)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return time.monotonic() - started


def test_the_settings_of_the_command_are_those_of_the_model():
    from patchscout.arguments import parse_train

    assert parse_train(["data", "--out", "run", *command_line(3)]).settings == settings(3)


def model_in(run: Path) -> str:
    """Return `old` or `new` by the seed of the settings that the model was trained with."""
    scout = PatchScout.load(run, device="cpu")
    return {1: "old", 3: "new"}[scout.config.seed]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_signals_that_ask_to_end(number, status, share, pair, place, tmp_path):
    run = place / "run"
    seconds = train_to_the_end(pair, tmp_path / "other")
    before = {name: (place / name).stat().st_mtime_ns for name in listing(place)}
    process = start_training(pair, run)
    wait_until(lambda: bool(list(run.glob(".*/*"))), process)  # it has begun
    wait_until(is_later_by(share * seconds / 4), process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    assert listing(place) == set(before)
    assert model_in(run) == "old"
    again = train_to_the_end(pair, run)
    assert again > 0
    assert model_in(run) == "new"


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", [False, True])
def test_one_of_two_predictions_into_one_folder_wins(overwrite, pair, old_run, tmp_path):
    """Both predict images of the same names, so that what is mixed up would show."""
    rng = np.random.default_rng(0)
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        for number in range(40):
            pixels = rng.integers(0, 256, (48 + number, 64, 3), np.uint8)
            PillowImage.fromarray(pixels).save(folder / f"{number:02}.png")
    out = tmp_path / "out"
    options = ["--out", out, "--quiet", *(["--overwrite"] if overwrite else [])]
    both = [start("predict", old_run, folder, *options) for folder in folders]
    said = [process.communicate() for process in both]
    statuses = [process.returncode for process in both]
    if not (overwrite and statuses == [0, 0]):  # one after the other
        assert sorted(statuses) == [0, 2], said
        lost = said[statuses.index(2)][1]
        assert len(lost.splitlines()) == 1
        assert str(out) in lost
    rows = json.loads((out / "predictions.json").read_text())
    won = Path(rows[0]["path"]).parent
    assert statuses[folders.index(won)] == 0
    assert sorted(row["path"] for row in rows) == sorted(map(str, won.iterdir()))
    for row in rows:
        anomaly_map = tifffile.imread(out / "anomaly_maps" / f"{row['output']}.tiff")
        mask = np.asarray(PillowImage.open(out / "masks" / f"{row['output']}.png"))
        expected = pair.old.predict(row["path"])
        np.testing.assert_allclose(anomaly_map, expected.anomaly_map, atol=1e-5)
        assert row["pred_score"] == pytest.approx(expected.pred_score, rel=1e-3)
        np.testing.assert_array_equal(mask > 0, anomaly_map >= row["pixel_threshold"])
        assert row["area_px"] == np.count_nonzero(mask)
    assert not [name for name in listing(out) if "partial" in name]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_has_one_writer(overwrite, tmp_path):
    out = tmp_path / "out"
    ready, finished = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        with suppress(BaseException), PredictionWriter(out, overwrite=overwrite):
            os.write(ready[1], b"1")
            os.read(finished[0], 1)
            status = 0
        os._exit(status)
    try:
        assert os.read(ready[0], 1) == b"1"
        with pytest.raises(InputError, match=f"nother command.*{out}|{out}.*nother command"):
            PredictionWriter(out, overwrite=overwrite).__enter__()
    finally:
        os.write(finished[1], b"1")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_loading_while_a_run_is_replaced(pair, place):
    """Load again and again while another process puts models in place of each other."""
    run = place / "run"
    child = os.fork()
    if child == 0:
        try:
            while True:
                for scout in (pair.new, pair.old):
                    scout.save(run, overwrite=True)
        finally:
            traceback.print_exc()
            os._exit(1)
    try:
        expected = {n: labeled_images(getattr(pair, n), pair.data) for n in ("old", "new")}
        wrong, seen = [], set()
        for number in range(NUM_LOADS):
            try:
                scout = PatchScout.load(run, device="cpu")
                name = pair.name_of(scout)
            except (InputError, AssertionError, OSError) as error:
                wrong.append(f"load {number}: {error}")
                continue
            seen.add(name)
            with suppress(InputError):  # the run may be another one by now
                if labeled_images(scout, pair.data) != expected[name]:
                    wrong.append(f"load {number}: the {name} model with another split")
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the process that saves has ended"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not wrong, f"{len(wrong)} of {NUM_LOADS}:\n" + "\n".join(wrong[:20])
    assert seen == {"old", "new"}, "both models were there"
