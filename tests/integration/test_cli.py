"""The command line, end to end: train, evaluate, predict, info, demo, and Ctrl-C."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from patchscout.arguments import parse_train
from patchscout.cli import main
from patchscout.commands import demo
from patchscout.commands.shell import typed
from patchscout.data import loader
from patchscout.data.images import read_image
from patchscout.decision import ImageScores
from patchscout.detector import PatchScout
from patchscout.training.calibration import ScoredPixels
from patchscout.training.predictor_trainer import PredictorTrainer
from patchscout.training.profile_trainer import ProfileTrainer

FIGURES = {
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "pixel_aupro",
    "pixel_f1_at_threshold",
    "image_auroc",
    "image_ap",
    "image_f1_max",
}
COUNTS = {"num_images", "num_anomalous", "num_without_mask"}


def read_json(path):
    return json.loads(path.read_text())


@pytest.fixture
def reads(monkeypatch):
    """The images that training read so far."""
    paths = set()

    def read(path):
        paths.add(path)
        return read_image(path)

    monkeypatch.setattr(loader, "read_image", read)
    return paths


@pytest.fixture
def train(sample_data, tiny, tmp_path):
    """Train on the sample with further arguments; returns the exit code and the run folder."""

    def run(*arguments, out=tmp_path / "new"):
        return main(["train", str(sample_data), "--out", str(out), *tiny, *arguments]), out

    return run


def test_the_same_seed_gives_the_same_model_and_no_bar_when_quiet(train, trained_run, capsys):
    status, run = train("--quiet")
    shown = capsys.readouterr()
    assert status == 0
    assert shown.err == ""
    assert f"The model is in {run}." in shown.out
    for name in ("model.safetensors", "split.json", "metrics.jsonl"):
        assert (run / name).read_bytes() == (trained_run / name).read_bytes(), name
    new, old = (read_json(folder / "config.json")["trained"] for folder in (run, trained_run))
    assert new.pop("record") | {"seconds": 0} == old.pop("record") | {"seconds": 0}
    assert new == old


def test_a_config_file_is_read_and_the_command_line_wins(train, trained_run, tmp_path, capsys):
    path = tmp_path / "settings.yaml"
    path.write_text(
        "seed: 7\nlabeled_per_type: 1\nprofile: {num_cycles: 4}\nviews: {max_rotation_deg: 10}\n"
    )
    status, run = train("--config", str(path), "--sampler.kind", "uniform")
    assert status == 0
    assert "sampling patches and learning" in capsys.readouterr().err
    config = read_json(run / "config.json")["config"]
    assert (config["seed"], config["views"]["max_rotation_deg"]) == (7, 10)
    assert config["sampler"]["kind"] == "uniform"
    # `tiny` gives these on the command line.
    assert (config["labeled_per_type"], config["profile"]["num_cycles"]) == (2, 2)
    model = (run / "model.safetensors").read_bytes()
    assert model != (trained_run / "model.safetensors").read_bytes()


def test_a_held_out_type_is_tested_on_only(train, reads, sample_data, capsys):
    status, run = train("--held-out-type", "stain", "--quiet")
    assert status == 0
    split = read_json(run / "split.json")
    assert {Path(name).parent.name for name in split["test"]} == {"good", "stain"}
    assert {Path(name).parent.name for name in split["labeled"]} == {"chip", "misprint", "scratch"}
    assert reads == {sample_data / name for name in split["train_normal"] + split["labeled"]}
    assert main(["evaluate", str(run), str(sample_data), "--quiet"]) == 0
    assert set(read_json(run / "metrics.json")["per_defect_type"]) == {"stain"}


def test_the_split_has_every_image_once(trained_run, sample_data):
    split = read_json(trained_run / "split.json")
    names = [*split["train_normal"], *split["labeled"], *split["test"]]
    images = {p for part in ("train", "test") for p in (sample_data / part).rglob("*.png")}
    assert {sample_data / name for name in names} == images
    assert len(names) == len(images)
    assert [Path(name).parent.name for name in split["labeled"]] == [
        name for name in ("chip", "misprint", "scratch", "stain") for _ in range(2)
    ]


def test_figures_of_every_step_are_logged(trained_run):
    lines = [json.loads(line) for line in (trained_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(13))  # twelve steps, and one update more
    for line in lines[:12]:
        assert {"autoencoder/loss", "sampler/reward", "sampler/reward_shared"} <= line.keys()
    assert [line["step"] for line in lines if "predictor/loss" in line] == list(range(5, 13))
    assert all(np.isfinite(value) for line in lines for value in line.values())


@pytest.fixture
def evaluated(run, sample_data, capsys):
    assert main(["evaluate", str(run), str(sample_data)]) == 0
    return run, capsys.readouterr()


def test_evaluate_writes_the_figures_that_are_promised(evaluated, sample_data):
    run, _ = evaluated
    metrics = read_json(run / "metrics.json")
    assert metrics.pop("run") == PatchScout.load(run).identity
    extra = {"pixel_threshold", "evaluation_size", "per_defect_type"}
    extra |= {"decisions", "budgets", "reliability"}
    assert metrics.keys() == FIGURES | COUNTS | extra
    assert metrics["per_defect_type"].keys() == {"chip", "misprint", "scratch", "stain"}
    for row in metrics["per_defect_type"].values():
        assert row.keys() == FIGURES | COUNTS
        assert (row["num_images"], row["num_anomalous"]) == (3, 1)
        assert all(0 <= row[name] <= 1 for name in FIGURES)
    assert (metrics["num_images"], metrics["num_anomalous"]) == (6, 4)
    assert metrics["evaluation_size"] == [64, 64]
    scout = PatchScout.load(run)
    assert metrics["pixel_threshold"] == scout.decision.pixel_threshold
    again = scout.evaluate(sample_data)
    listed, curve = again.pop("images"), again.pop("roc")
    assert metrics == again
    with (run / "decisions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [row["path"] for row in listed]
    assert len(rows) == 6
    wrong = [row["outcome"] for row in rows if row["outcome"] in ("missed", "rejected")]
    found = metrics["decisions"]
    assert len(wrong) == found["good"]["num_wrong"] + found["defective"]["num_wrong"]
    predicted = {row["path"]: scout.predict(row["path"]).is_anomalous for row in rows}
    for row in rows:
        assert predicted[row["path"]] == (row["outcome"] in ("detected", "rejected"))
    assert len((run / "roc.csv").read_text().splitlines()) == 1 + len(curve)
    with PillowImage.open(run / "roc.png") as picture:
        assert picture.size == (360, 360)


def test_evaluate_prints_a_table_and_fills_the_card(evaluated):
    run, shown = evaluated
    metrics = read_json(run / "metrics.json")
    assert "misprint" in shown.out
    assert f"{metrics['pixel_auroc']:.3f}" in shown.out
    card = (run / "README.md").read_text()
    assert f"| {metrics['pixel_aupro']:.3f} |" in card
    assert "Shown are test images." in card
    found = metrics["decisions"]["good"]
    line = f"Of 2 good parts {found['num_wrong']} are called defective ("
    assert line in shown.out
    assert line in card


def test_evaluate_elsewhere_and_at_the_images_own_size(run, sample_data, tmp_path):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    out = tmp_path / "figures"
    arguments = ["evaluate", str(run), str(sample_data), "--out", str(out), "--size", "native"]
    assert main([*arguments, "--quiet"]) == 0
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    names = {"examples.png", "metrics.json", "decisions.csv", "roc.csv", "roc.png"}
    assert {path.name for path in out.iterdir()} == {".patchscout-files", *names}
    metrics = read_json(out / "metrics.json")
    assert metrics["evaluation_size"] == "native"
    assert main([*arguments, "--quiet", "--overwrite"]) == 0


@pytest.mark.parametrize("out", [[], ["--out", "run"]])
def test_evaluate_completes_a_run_that_was_copied_without_its_hidden_list(
    run, sample_data, tmp_path, monkeypatch, out
):
    monkeypatch.chdir(tmp_path)
    (run / ".patchscout-files").unlink()
    for _ in range(2):
        assert main(["evaluate", "run", str(sample_data), *out, "--quiet"]) == 0
    assert "Shown are test images." in (run / "README.md").read_text()
    assert (run / "model.safetensors").is_file()


def write_images(folder):
    """Images of many sizes and kinds; returns (width, height) by name."""
    rng = np.random.default_rng(0)
    kinds = {
        "grey.png": ("L", (70, 50)),
        "rgba.png": ("RGBA", (64, 200)),
        "palette.bmp": ("P", (33, 32)),
        "cmyk.tiff": ("CMYK", (90, 41)),
        "rgb.JPG": ("RGB", (300, 97)),
        "deep.png": ("I;16", (48, 64)),
    }
    (folder / "deeper").mkdir(parents=True)
    for name, (mode, (width, height)) in kinds.items():
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        if mode == "I;16":
            picture = PillowImage.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
        else:
            picture = PillowImage.fromarray(pixels).convert(mode)
        picture.save(folder / ("deeper" if name == "deep.png" else "") / name)
    (folder / "notes.txt").write_text("no image")
    return {name.partition(".")[0]: size for name, (_, size) in kinds.items()}


def test_predict_writes_maps_masks_overlays_and_tables(run, tmp_path, capsys):
    sizes = write_images(tmp_path / "images")
    out = tmp_path / "found"
    status = main(["predict", str(run), str(tmp_path / "images"), "--out", str(out), "--quiet"])
    shown = capsys.readouterr()
    assert status == 0
    assert shown.err == ""
    rows = read_json(out / "predictions.json")
    assert len(rows) == len(sizes)
    decision = PatchScout.load(run).decision
    for row in rows:
        width, height = sizes[Path(row["output"]).name]
        anomaly_map = tifffile.imread(out / "anomaly_maps" / f"{row['output']}.tiff")
        mask = PillowImage.open(out / "masks" / f"{row['output']}.png")
        overlay = PillowImage.open(out / "overlays" / f"{row['output']}.png")
        assert (anomaly_map.dtype, anomaly_map.shape) == (np.float32, (height, width))
        assert 0 <= anomaly_map.min() <= anomaly_map.max() <= 1
        assert (mask.mode, mask.size) == ("L", (width, height))
        np.testing.assert_array_equal(
            np.asarray(mask), (anomaly_map >= decision.pixel_threshold) * 255
        )
        assert (overlay.mode, overlay.size) == ("RGB", (width, height))
        assert row["is_anomalous"] == (row["pred_score"] >= row["score_threshold"])
        assert bool(row["area_px"]) == bool(row["regions"])
        assert row["num_regions"] == len(row["regions"])
        assert row["area_px"] == np.count_nonzero(np.asarray(mask))
    assert "deeper/deep" in {row["output"] for row in rows}
    with (out / "predictions.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == [row["path"] for row in rows]
    num_defective = sum(row["is_anomalous"] for row in rows)
    assert f"{num_defective} of {len(rows)} images are defective." in shown.out


def test_predict_with_another_threshold(run, sample_data, tmp_path):
    image = sample_data / "test" / "stain" / "000.png"
    for threshold, is_anomalous in (("0", True), ("1", False)):
        given = ("--score-threshold", threshold, "--pixel-threshold", threshold)
        out = tmp_path / threshold
        arguments = ["predict", str(run), str(image), "--out", str(out)]
        assert main([*arguments, *given, "--pixel-size", "0.5mm", "--quiet"]) == 0
        (row,) = read_json(out / "predictions.json")
        assert (row["pixel_threshold"], row["is_anomalous"]) == (float(threshold), is_anomalous)
        assert row["area_percent"] == (100 if is_anomalous else 0)
        assert row["largest_area_mm2"] == 96 * 96 / 4 * is_anomalous


def test_predict_says_what_is_unlike_the_training_images(run, sample_data, tmp_path, capsys):
    images = tmp_path / "images"
    shutil.copytree(sample_data / "test" / "good", images)
    pixels = read_image(images / "000.png")[..., 0]
    PillowImage.fromarray(np.rint(4095 * pixels).astype(np.uint16)).save(images / "deep.png")
    out = tmp_path / "found"
    arguments = ["predict", str(run), str(images), "--out", str(out), "--pixel-threshold", "0.5"]
    assert main([*arguments, "--quiet"]) == 0
    with (out / "predictions.csv").open() as file:
        found = {row["output"]: row["unlike_training"] for row in csv.DictReader(file)}
    assert found == {"000": "", "001": "", "deep": "12-bit values"}
    said = " ".join(capsys.readouterr().out.split())
    assert "1 of 3 images are unlike the training images: 12-bit values (1). Scale their" in said
    prediction = PatchScout.load(run).predict(images / "deep.png")
    assert prediction.unlike_training == ("12-bit values",)


@pytest.mark.parametrize(
    ("num_images", "normal_score", "is_told"), [(20, 0, 1), (20, 1, 0), (19, 0, 0)]
)
def test_predict_says_that_scores_are_higher(
    run, sample_data, tmp_path, capsys, num_images, normal_score, is_told
):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(num_images):
        shutil.copy(sample_data / "test" / "good" / "000.png", images / f"{number}.png")
    scout = PatchScout.load(run)
    scout._trained = replace(scout.trained, scores=ImageScores(normal=(float(normal_score),) * 5))
    scout.save(tmp_path / "changed")
    words = ["predict", str(tmp_path / "changed"), str(images), "--out", str(tmp_path / "found")]
    assert main([*words, "--quiet"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ("Half of the 20 images score higher than 95 % of the good images" in said) == is_told


def test_predict_does_not_take_its_own_output_for_images(run, tmp_path):
    sizes = write_images(tmp_path / "images")
    arguments = ["predict", str(run), str(tmp_path / "images"), "--quiet", "--overwrite"]
    for _ in range(2):
        assert main([*arguments, "--out", str(tmp_path / "images" / "found")]) == 0
        assert len(read_json(tmp_path / "images" / "found" / "predictions.json")) == len(sizes)


def test_info_describes_a_run_and_a_folder_of_images(trained_run, sample_data, capsys):
    assert main(["info", str(trained_run)]) == 0
    shown = capsys.readouterr().out
    assert "brick_wall" in shown
    assert {"score_threshold", "pixel_threshold"} < set(shown.split())
    assert "of good parts are called defective: " in shown
    assert '"crop_px": 64' in shown
    assert main(["info", str(sample_data)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "normal 8 images" in lines
    assert "scratch 3 images" in lines
    assert any(line.startswith("Warning: `labeled_per_type` = 5 leaves no") for line in lines)


def test_names_are_printed_as_they_are(trained_run, sample_data, tmp_path, capsys):
    strange = tmp_path / "a [bold]long[/x] name, so long that it does not fit into eighty columns"
    strange.mkdir(parents=True)
    (strange / "data").symlink_to(sample_data)
    (strange / "run").symlink_to(trained_run)
    out = tmp_path / "found"
    image = strange / "data" / "test" / "stain" / "000.png"
    assert main(["predict", str(strange / "run"), str(image), "--out", str(out), "--quiet"]) == 0
    assert main(["evaluate", str(trained_run), str(sample_data), "--out", str(strange / "m")]) == 0
    assert f"Written to {strange / 'm' / 'metrics.json'}\n" in capsys.readouterr().out
    assert typed("info", Path("my run")) == "patchscout info 'my run'"


def test_names_need_not_be_utf_8(sample_data, tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the report of a fault goes there
    data = tmp_path / "brick\udcff"
    shutil.copytree(sample_data, data)
    for part in ("test", "ground_truth"):
        (data / part / "chip").rename(data / part / "chip\udcfe")
    image = data / "test" / "chip\udcfe" / "000.png"
    run = tmp_path / "run"
    image.rename(image.with_stem("000\udcfd"))
    mask = data / "ground_truth" / "chip\udcfe" / "000_mask.png"
    mask.rename(mask.with_stem("000\udcfd_mask"))
    for arguments in (
        ["train", data, "--out", run, "--quiet", *tiny],
        ["evaluate", run, data, "--quiet"],
        ["info", data],
        ["info", run],
        ["predict", run, image.parent, "--out", tmp_path / "found", "--quiet"],
    ):
        assert main([str(argument) for argument in arguments]) == 0, capsys.readouterr()
    shown = capsys.readouterr().out
    assert r"chip\udcfe" in shown
    assert r"brick\udcff" in shown
    card = (run / "README.md").read_text(encoding="utf-8")
    assert r"brick&#92;udcff" in card
    assert r"chip&#92;udcfe" in card
    assert any("\udcfd" in row["path"] for row in read_json(tmp_path / "found/predictions.json"))


def test_demo_runs_all_of_it(tiny, tmp_path, monkeypatch, capsys):
    sample = partial(demo.write_sample, num_train=4, num_test_normal=1, num_per_type=3)
    train = demo.train.run
    monkeypatch.setattr(demo, "write_sample", partial(sample, size_px=64))
    monkeypatch.setattr(demo.train, "run", lambda arguments: train([*arguments, *tiny]))
    assert main(["demo", "--out", str(tmp_path / "demo"), "--quiet"]) == 0
    monkeypatch.setattr(demo.train, "run", lambda _: 0)  # the run of before is gone on with
    assert main(["demo", "--out", str(tmp_path / "demo"), "--quiet", "--overwrite"]) == 0
    shown = capsys.readouterr().out
    assert str(tmp_path / "demo" / "run" / "README.md") in shown
    assert "Test results" in (tmp_path / "demo" / "run" / "README.md").read_text()
    assert len(read_json(tmp_path / "demo" / "predictions" / "predictions.json")) == 13


def interrupt_at(monkeypatch, call, function=ProfileTrainer.take_snapshot_if_due):
    """Press Ctrl-C in a call, counted from 1, of what is called once a step, or of another."""
    owner = {ProfileTrainer.take_snapshot_if_due: ProfileTrainer}.get(function, PredictorTrainer)
    calls = []

    def pressed(self, *given):
        calls.append(None)
        if len(calls) == call:
            raise KeyboardInterrupt
        return function(self, *given)

    monkeypatch.setattr(owner, function.__name__, pressed)


def test_ctrl_c_before_there_is_a_model(train, monkeypatch, sample_data, capsys):
    interrupt_at(monkeypatch, 3)
    status, run = train("--quiet")
    shown = capsys.readouterr().out
    assert status == 130
    assert "Stopped before there was a model." in shown
    again = f"patchscout train {sample_data} --config {run / 'config.json'} --out {run} --overwrite"
    assert f"To train to the end: {again}\n" in shown
    assert {p.name for p in run.iterdir()} == {
        ".patchscout-files",
        "config.json",
        "metrics.jsonl",
        "split.json",
    }
    assert main(["info", str(run)]) == 0
    assert main(["evaluate", str(run), str(sample_data)]) == 2
    assert "training was stopped too early" in capsys.readouterr().err
    options = parse_train(again.split()[2:])
    assert options.settings.model_dump(mode="json") == read_json(run / "config.json")["config"]


@pytest.mark.parametrize(
    ("function", "call", "num_steps"),
    [
        (ProfileTrainer.take_snapshot_if_due, 9, 8),
        (PredictorTrainer.update, 2, 6),
        (PredictorTrainer.update, 8, 12),
    ],
    ids=["in a step", "in an update", "in an update after the steps"],
)
def test_ctrl_c_when_there_is_a_model(
    train, monkeypatch, sample_data, capsys, function, call, num_steps
):
    interrupt_at(monkeypatch, call, function)
    status, run = train("--quiet")
    shown = capsys.readouterr().out
    assert status == 130
    assert f"Stopped after {num_steps} steps." in shown
    assert "--overwrite" in shown
    assert read_json(run / "config.json")["trained"]["record"]["is_complete"] is False
    assert "stopped early" in (run / "README.md").read_text()
    assert main(["evaluate", str(run), str(sample_data), "--quiet"]) == 0


def test_labels_that_vanish_are_not_trained_on(sample_data, tiny, tmp_path, capsys):
    data = shutil.copytree(sample_data, tmp_path / "data")
    dot = np.zeros((96, 96), np.uint8)
    dot[40, 40] = 255
    for path in (data / "ground_truth" / "chip").iterdir():
        PillowImage.fromarray(dot).save(path)
    run = tmp_path / "run"
    assert main(["train", str(data), "--out", str(run), *tiny]) == 0
    assert "2 of 8 labeled images are left out" in capsys.readouterr().out
    training = read_json(run / "config.json")["trained"]["record"]
    assert training["num_labeled"] == 6
    assert training["defect_types"] == ["misprint", "scratch", "stain"]
    assert not any("chip" in name for name in read_json(run / "split.json")["labeled"])
    assert main(["evaluate", str(run), str(data), "--quiet"]) == 0


def test_ctrl_c_while_the_threshold_is_chosen(train, monkeypatch, sample_data, capsys):
    choose, presses = ScoredPixels.lowest_good_threshold, iter([True])

    def pressed(scored):
        if next(presses, False):
            raise KeyboardInterrupt
        return choose(scored)

    monkeypatch.setattr(ScoredPixels, "lowest_good_threshold", pressed)
    status, run = train()
    shown = capsys.readouterr().out
    assert status == 130
    assert "Stopped while the threshold was chosen: it is chosen on" in shown
    assert "can be evaluated and used" in shown
    assert read_json(run / "config.json")["trained"]["record"]["is_complete"] is False
    card = (run / "README.md").read_text()
    assert "**Training was stopped early**, after 12 sampler steps" in card
    assert main(["evaluate", str(run), str(sample_data), "--quiet"]) == 0


def test_ctrl_c_in_a_real_terminal(sample_data, tiny, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "patchscout.cli", "train", str(sample_data), "--out", str(run)]
    process = subprocess.Popen(
        [*command, *tiny, "--profile.num-cycles", "9999", "--predictor.updates", "99999"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        # As in a terminal; a shell's background jobs, which the tests may be, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    seen = b""
    while b"sampling patches" not in seen:  # the bar is there, so training is under way
        piece = process.stderr.read1(4096)  # pyright: ignore[reportAttributeAccessIssue]
        assert piece, seen
        seen += piece
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Stopped" in out
    assert b"To train to the end: patchscout train" in out
    assert b"Traceback" not in seen + err
    assert (run / "config.json").is_file()
    assert (run / "split.json").is_file()


def test_decision_settings_are_kept_with_the_run(train):
    rules = ("--pixel-size", "20um", "--min-area=0.5mm2", "--decision.min_length", "3px")
    status, run = train("--quiet", "--max-false-alarms", "10%", *rules)
    assert status == 0
    asked = PatchScout.load(run).decision.asked
    assert (asked.max_false_alarms, asked.pixel_size) == (0.1, "20um")
    assert (asked.min_area_px, asked.min_length_px) == (pytest.approx(1250), 3)
    assert PatchScout.load(run).config.decision == asked


def test_threshold_decides_anew_and_says_what_is_out_of_date(run, capsys):
    before = PatchScout.load(run)
    (run / "model.onnx").write_bytes(b"")
    given = ("--max-false-alarms=1%", "--pixel-threshold", "0.25", "--min-area", "3px")
    assert main(["threshold", str(run), *given]) == 0
    shown = capsys.readouterr().out
    assert "With 2 good images no rate below 78 % can be promised; 299 are needed for 1 %" in shown
    assert f"model.onnx and other exports decide as before. Next: patchscout export {run}" in shown
    after = PatchScout.load(run)
    assert after.identity != before.identity
    assert after.trained.record == before.record
    assert after.trained.scores == before.trained.scores
    assert (after.decision.pixel_threshold, after.decision.asked.min_area) == (0.25, "3px")
    assert after.decision.image_threshold > max(before.trained.scores.normal)
    assert "**0.250**" in (run / "README.md").read_text()
    assert main(["threshold", str(run), "--min-area", "0px"]) == 0  # what is not given stays
    asked = PatchScout.load(run).decision.asked
    assert (asked.max_false_alarms, asked.has_rules) == (0.01, False)


def test_threshold_on_images_that_were_not_trained_on(run, sample_data, capsys):
    folders = {"--good": sample_data / "test" / "good", "--defective": sample_data / "test" / "x"}
    split = read_json(run / "split.json")
    new = [name for name in split["test"] if "good" not in name]
    folders["--defective"] = run.parent / "new"
    folders["--defective"].mkdir()
    for number, name in enumerate(new):
        shutil.copy(sample_data / name, folders["--defective"] / f"{number}.png")
    given = [str(word) for pair in folders.items() for word in pair]
    arguments = ["threshold", str(run), "--quiet", "--min-detected", "50%", *given]
    assert main(arguments) == 0
    scout = PatchScout.load(run)
    scores = scout.trained.scores
    assert (len(scores.normal), len(scores.defective), scores.kind) == (2, 4, "new")
    assert scores.of_test_images
    assert scores.normal[0] == pytest.approx(
        scout.predict(sample_data / "test" / "good" / "000.png").image_score
    )
    # Of 4 images none may be missed to promise anything: the smallest score is the threshold.
    assert scout.decision.image_threshold == min(scores.defective)
    shown = capsys.readouterr().out
    assert "With 95 % confidence at least 47 % of defective parts are" in shown
    assert f"{folders['--good']} holds test images of this run" in shown
    assert "Test images took part in the choice" in (run / "README.md").read_text()
    content = (run / "config.json").read_bytes()
    trained_on = str(sample_data / "train" / "good")
    assert main(["threshold", str(run), "--quiet", "--good", trained_on]) == 2
    assert "was trained on, so its score says nothing" in capsys.readouterr().err
    assert (run / "config.json").read_bytes() == content
