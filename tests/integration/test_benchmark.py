"""`patchscout benchmark`, end to end: runs, resumes, stops, reports."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from patchscout.benchmark.results import read_results
from patchscout.cli import main

TINY = {
    "labeled_per_type": 2,
    "data": {"image_size": [64, 64]},
    "profile": {"snapshots": [3, 6], "num_cycles": 1},
    "predictor": {"updates": 4, "batch_size": 2, "base_channels": 4, "crop_px": 64},
}
"""Settings that train in a moment."""


@pytest.fixture(scope="module")
def benchmark(sample_data, tmp_path_factory):
    """Return the arguments of a benchmark into a file."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    # With one labeled image of a type `validation` has none to measure on: its jobs fail at once.
    (folder / "variants.yaml").write_text("one_label: {labeled_per_type: 1}\n")

    def arguments(out, *more):
        given = ["--variants", folder / "variants.yaml", "--config", folder / "tiny.yaml"]
        words = ["benchmark", sample_data.parent, *given, "--out", out, "--device", "cpu", *more]
        return [str(word) for word in words]

    return arguments


def test_results_are_kept_shown_and_not_made_twice(benchmark, tmp_path, capsys):
    out = tmp_path / "new" / "results.csv"
    command = benchmark(out, "--seeds", "1", "--protocol", "validation", "--jobs", "1", "--quiet")
    assert main(command) == 1
    shown = capsys.readouterr().out
    assert "| brick_wall | `default` | 1 " in shown
    assert "brick_wall/one_label/1: FAILED: `--protocol validation` needs two labeled" in shown
    assert "InputValueError" in (out.parent / "results.errors.txt").read_text()
    (result,) = read_results(out).values()
    assert result.key == ("brick_wall", "default", 1, "")
    assert 0 <= result.f1_max <= 1
    assert result.seconds > 0
    before = out.read_bytes()
    assert main([*command, "--dry-run"]) == 0
    assert "1 finished, 1 to run" in capsys.readouterr().out
    assert main(command) == 1, "what failed is tried again"
    assert "1 of 2 jobs are finished." in capsys.readouterr().out
    assert out.read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
def test_a_stop_leaves_no_half_result_and_the_command_goes_on(benchmark, tmp_path):
    out = tmp_path / "results.csv"
    command = [sys.executable, "-m", "patchscout.cli", *benchmark(out, "--seeds", "1,2")]
    process = subprocess.Popen(
        [*command, "--jobs", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 300
    while not out.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "Stopped. The same command goes on" in said
    assert "Traceback" not in errors
    assert 1 <= len(read_results(out)) < 4
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"], "half a file was left"
