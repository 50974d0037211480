"""`patchscout benchmark`, end to end: runs, resumes, stops, reports."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from patchscout.cli import main

COLUMNS = "category,variant,seeds,pixel_f1_max_mean"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of settings that train in a moment, and one of variants."""
    folder = tmp_path_factory.mktemp("files")
    settings = {
        "labeled_per_type": 2,
        "data": {"image_size": [64, 64]},
        "sampler": {"window_px": 32, "patch_px": 16, "stride_px": 4, "num_walkers": 8},
        "training": {"num_cycles": 1, "steps_per_cycle": 14, "predictor_updates": 4},
        "predictor": {"batch_size": 2, "base_channels": 4},
        "buffer": {"capacity": 6},
        "autoencoder": {"base_channels": 4},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
    (folder / "variants.yaml").write_text("last_error: {method: last_error}\n")
    return folder


@pytest.fixture(scope="module")
def benchmark(sample_data, files):
    """Return the arguments of a benchmark into a folder."""

    def arguments(out, *more, variants="variants.yaml"):
        given = ["--variants", files / variants, "--config", files / "tiny.yaml", "--out", out]
        words = ["benchmark", sample_data.parent, *given, "--device", "cpu", *more]
        return [str(word) for word in words]

    return arguments


@pytest.fixture(scope="module")
def finished(benchmark, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "results"
    assert main(benchmark(out, "--seeds", "1", "--size", "native", "--quiet")) == 0
    return out


def test_results_hold_what_is_promised(finished):
    names = ("default", "last_error")
    paths = [finished / "brick_wall" / name / "1.json" for name in names]
    for name, path in zip(names, paths, strict=True):
        result = json.loads(path.read_text())
        assert result["job"]["variant"] == name
        assert result["job"]["config"]["labeled_per_type"] == 2
        assert result["metrics"]["evaluation_size"] == [256, 256]
        assert result["working_size"] == [64, 64]
        assert result["metrics_native"]["evaluation_size"] == "native"
        assert result["metrics"]["per_defect_type"].keys() == {
            "chip",
            "misprint",
            "scratch",
            "stain",
        }
        assert result["images"] == {"train_normal": 6, "labeled": 8, "test": 6}
        assert result["seconds"]["train"] > 0
        assert result["command"].startswith("patchscout benchmark")
        assert path.with_suffix(".npz").stat().st_size < 50_000


def test_the_page_shows_figures_differences_and_the_command(finished):
    text = (finished / "table.md").read_text()
    for part in ("| brick_wall | `default` | 1 |", "## Differences from `default`", "--seeds 1"):
        assert part in text
    with (finished / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == ["default", "last_error"]
    metrics = json.loads((finished / "brick_wall/default/1.json").read_text())["metrics"]
    shown = float(rows[0]["pixel_f1_max_mean"])
    assert shown == pytest.approx(metrics["pixel_f1_max"], rel=1e-4)
    assert rows[0]["pixel_f1_max_difference"] == ""
    assert rows[1]["pixel_f1_max_difference"] != ""
    pytest.importorskip("matplotlib")
    plots = sorted(path.name for path in (finished / "plots").iterdir())
    assert plots == ["ap.png", "aupro.png", "auroc.png", "differences.png", "f1_max.png"]


def test_nothing_is_run_twice(finished, benchmark, capsys):
    raw = sorted((finished / "brick_wall").rglob("*.*"))
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in raw}
    assert main(benchmark(finished, "--seeds", "1", "--dry-run")) == 0
    assert "2 finished, 0 to run" in capsys.readouterr().out
    assert main(benchmark(finished, "--seeds", "1", "--quiet")) == 0
    assert "2 of 2 jobs are finished." in capsys.readouterr().out
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in raw} == before


def test_other_settings_do_not_pass_for_finished_ones(finished, benchmark, files, capsys):
    (files / "other.yaml").write_text("last_error: {settings: {sampler: {kind: uniform}}}\n")
    assert main(benchmark(finished, "--seeds", "1", variants="other.yaml")) == 2
    shown = capsys.readouterr().err
    assert "is the result of another job" in shown
    assert shown.count("\n") == 1


def test_a_failed_job_is_reported_and_the_others_go_on(benchmark, files, tmp_path, capsys):
    (files / "peer.yaml").write_text("peer: {method: anomalib, model: no_such_model}\n")
    out = tmp_path / "results"
    status = main(benchmark(out, "--seeds", "1", "--jobs", "1", "--quiet", variants="peer.yaml"))
    assert status == 1
    assert "brick_wall/peer/1: FAILED: " in capsys.readouterr().out
    assert (out / "brick_wall" / "default" / "1.json").is_file()
    assert not (out / "brick_wall" / "peer" / "1.json").exists()
    assert (out / "brick_wall" / "peer" / "1.error.txt").read_text()
    assert "- `brick_wall/peer/1`: " in (out / "table.md").read_text()


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
@pytest.mark.parametrize("by", ["SIGINT", "SIGTERM"])
def test_a_stop_leaves_what_is_finished_and_the_command_goes_on(benchmark, tmp_path, by):
    out = tmp_path / "results"
    command = [sys.executable, "-m", "patchscout.cli"]
    command += benchmark(out, "--seeds", "1,2,3", "--jobs", "1")
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # As in a terminal; a shell's background jobs, which the tests may be, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    first = out / "brick_wall" / "default" / "1.json"
    end = time.monotonic() + 120
    while not first.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.Signals[by])
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.Signals[by], errors
    assert "Stopped. The same command goes on" in said
    assert "Traceback" not in errors
    results = sorted(out.glob("*/*/*.json"))
    assert first in results
    assert len(results) < 6
    assert not list(out.glob("*/*/.*")), "half a file was left"
    assert not list(out.glob("*/*/*.error.txt")), "a stopped job did not fail"
    assert (out / "table.md").is_file()
