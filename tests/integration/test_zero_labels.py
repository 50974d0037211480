"""Training without labels, end to end: what is saved, said, refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from patchscout import PatchScout
from patchscout.cli import main
from patchscout.data.layout import read_dataset

NOTHING = "There is nothing to evaluate on"


def read_json(path):
    return json.loads(path.read_text())


@pytest.fixture
def normal_only(sample_data, tmp_path):
    """Normal images in MVTec AD layout, without any defect."""
    root = tmp_path / "normal_only"
    shutil.copytree(sample_data / "train", root / "train")
    return root


@pytest.fixture
def train(tiny, tmp_path):
    """Train without labels; returns the exit code and the run folder."""

    def run(data, *arguments, labeled="0"):
        given = ["train", str(data), "--out", str(tmp_path / "run"), "--quiet", *tiny]
        return main([*given, "--labeled-per-type", labeled, *arguments]), tmp_path / "run"

    return run


def check_nothing_to_evaluate_on(run, data, capsys):
    before = {path: path.read_bytes() for path in run.iterdir()}
    capsys.readouterr()
    assert main(["evaluate", str(run), str(data), "--quiet"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert NOTHING in shown.err
    assert "`labeled_per_type` 0 keeps them all for testing" in shown.err
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_mvtec_layout_without_defects(train, normal_only, sample_data, capsys, tmp_path):
    shutil.copytree(sample_data / "test" / "good", normal_only / "test" / "good")
    status, run = train(normal_only)
    shown = capsys.readouterr().out
    assert status == 0
    assert f"Next: patchscout predict {run} IMAGES --out DIR" in shown
    split = read_json(run / "split.json")
    assert split["labeled"] == []
    assert len(split["train_normal"]) == 6
    assert len(split["test"]) == 2
    trained = read_json(run / "config.json")["trained"]
    training = trained["record"]
    assert (training["num_labeled"], training["defect_types"]) == (0, [])
    assert 0 < trained["decision"]["pixel_threshold"] < 1
    assert trained["scores"]["kind"] == "simulated"
    card = (run / "README.md").read_text()
    assert "Without labels it has learned from simulated defects alone." in card
    assert "simulated defects are detected, which promises nothing for others." in card
    check_nothing_to_evaluate_on(run, normal_only, capsys)
    image = sample_data / "test" / "stain" / "000.png"
    out = tmp_path / "found"
    assert main(["predict", str(run), str(image), "--out", str(out), "--quiet"]) == 0
    assert len(read_json(out / "predictions.json")) == 1


def test_a_folder_of_normal_images(train, normal_only, capsys):
    status, run = train(normal_only, "--data.normal", "train/good")
    assert status == 0
    split = read_json(run / "split.json")
    assert (len(split["train_normal"]), split["labeled"], len(split["test"])) == (5, [], 1)
    check_nothing_to_evaluate_on(run, normal_only, capsys)
    with pytest.raises(ValueError, match=NOTHING):
        PatchScout.load(run).evaluate(normal_only)


def test_labels_that_are_there_are_kept_for_testing(train, sample_data, capsys):
    status, run = train(sample_data)
    assert status == 0
    assert f"Next: patchscout evaluate {run}" in capsys.readouterr().out
    split = read_json(run / "split.json")
    assert split["labeled"] == []
    assert len(split["test"]) == 14  # all twelve defective images, and two normal ones
    assert PatchScout.load(run, device="cpu").segmenter.novelty_weight == 3.0
    assert main(["evaluate", str(run), str(sample_data), "--quiet"]) == 0
    metrics = read_json(run / "metrics.json")
    assert metrics["num_anomalous"] == 12
    assert len(metrics["per_defect_type"]) == 4
    assert 0 <= metrics["pixel_f1_at_threshold"] <= 1


def test_one_normal_image_is_enough(train, normal_only):
    for path in sorted((normal_only / "train" / "good").iterdir())[1:]:
        path.unlink()
    status, run = train(normal_only)
    assert status == 0
    assert 0 < read_json(run / "config.json")["trained"]["decision"]["pixel_threshold"] < 1


def test_without_being_told_so_labels_are_asked_for(train, normal_only, capsys):
    for arguments in ((), ("--data.normal", "train/good")):
        status, run = train(normal_only, *arguments, labeled="2")
        assert status == 2
        assert "train without labels: " in capsys.readouterr().err.replace("or train", "train")
        assert not run.exists()


def test_a_held_out_type_where_there_is_none(train, normal_only, capsys):
    status, _ = train(normal_only, "--held-out-type", "scratch")
    assert status == 2
    assert "must be one of the defect types, of which there are none" in capsys.readouterr().err


def test_the_size_that_was_chosen_is_saved_and_used(sample_data, tiny, tmp_path, normal_only):
    given = tiny.index("--data.image-size")
    settings = [*tiny[:given], *tiny[given + 3 :], "--labeled-per-type", "0"]
    settings += ["--profile.snapshots", "1", "--profile.num-cycles", "1"]
    settings += ["--predictor.updates", "1"]
    run = tmp_path / "run"
    assert main(["train", str(normal_only), "--out", str(run), "--quiet", *settings]) == 0
    config = read_json(run / "config.json")["config"]
    assert config["data"]["image_size"] == [256, 256]
    assert isinstance(config["views"]["limited"], list)
    assert PatchScout.load(run).config.data.working_size == (256, 256)


def test_reading_a_folder_asks_for_labels_unless_told(normal_only):
    with pytest.raises(FileNotFoundError, match="No labeled defects"):
        read_dataset(normal_only)
    for normal in (None, "train/good"):
        dataset = read_dataset(normal_only, normal, needs_labels=False)
        assert dataset.anomalous == ()
        assert all(Path(sample.image_path).is_file() for sample in dataset.train_normal)


def test_defective_images_without_masks_give_image_figures(train, sample_data, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(sample_data, data)
    shutil.rmtree(data / "ground_truth")
    status, run = train(data, labeled="2")  # labels are asked for, and there are none
    assert status == 0
    assert read_json(run / "split.json")["labeled"] == []
    assert main(["evaluate", str(run), str(data), "--quiet"]) == 0
    assert "No defective image has a mask: there are figures of images only" in " ".join(
        capsys.readouterr().out.split()
    )
    metrics = read_json(run / "metrics.json")
    assert (metrics["num_anomalous"], metrics["num_without_mask"]) == (12, 12)
    assert 0 <= metrics["image_auroc"] <= 1
    assert metrics["pixel_auroc"] is None
    assert "No defective image has a mask" in (run / "README.md").read_text()


def test_inverted_masks_are_shown_before_training(sample_data, tiny, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(sample_data, data)
    for path in (data / "ground_truth" / "chip").iterdir():
        mask = np.asarray(PillowImage.open(path).convert("L"))
        PillowImage.fromarray(255 - mask).save(path)
    (data / "ground_truth" / "stain" / "000_mask.png").unlink()
    assert main(["train", str(data), "--out", str(tmp_path / "run"), *tiny]) == 0
    shown = capsys.readouterr().out
    assert (
        "Warning: 3 of 11 masks mark most of their image up to its border (test/chip/000." in shown
    )
    assert "  stain           3 images, 1 without a mask: 2 to train on, 1 to test on" in shown
    assert PillowImage.open(tmp_path / "run" / "masks-to-check.png").height > 600
    labeled = read_json(tmp_path / "run" / "split.json")["labeled"]
    assert "test/stain/000.png" not in labeled
