"""A region of interest from the settings to the exported model."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image as PillowImage

from patchscout.cli import main
from patchscout.detector import PatchScout
from patchscout.exported import ExportedModel

HEIGHT, WIDTH, INSIDE = 96, 144, 90
"""Only the first columns are looked at."""


def draw(path, number, spot=None):
    """A textured image, with a spot from a column on."""
    noise = np.random.default_rng(number).integers(-12, 13, (HEIGHT, WIDTH))
    pixels = 120 + 20 * np.sin(np.arange(WIDTH) / 6) + noise
    mask = np.zeros((HEIGHT, WIDTH), bool)
    if spot is not None:
        mask[40:64, spot : spot + 24] = True
        pixels[mask] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels.astype(np.uint8)).save(path)
    if spot is not None:
        mask_path = path.parents[2] / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        mask_path.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(mask.astype(np.uint8) * 255).save(mask_path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images whose spots lie inside, but for one type."""
    root = tmp_path_factory.mktemp("data")
    for number in range(8):
        draw(root / f"train/good/{number}.png", number)
    draw(root / "test/good/0.png", 100)
    for number in range(4):
        draw(root / f"test/inside/{number}.png", 200 + number, 10 + 15 * number)
        draw(root / f"test/outside/{number}.png", 300 + number, 110)
    region = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)
    region[:, : INSIDE // 2] = 255
    PillowImage.fromarray(region).save(root / "roi.png")
    return root


@pytest.fixture(scope="module")
def region_run(data, tiny, tmp_path_factory):
    """A model that looks at the region alone."""
    run = tmp_path_factory.mktemp("run") / "run"
    more = ["--data.roi", "roi.png", "--predictor.novelty-weight", "3"]
    assert main(["train", str(data), "--out", str(run), "--quiet", *tiny, *more]) == 0
    return run


def test_a_defect_inside_is_found_and_outside_is_zero(data, region_run):
    scout = PatchScout.load(region_run)
    for number in range(4):
        found = scout.predict(data / f"test/inside/{number}.png").anomaly_map
        assert found[:, INSIDE:].max() == 0 < found[:, :INSIDE].min()
        spot = np.zeros_like(found, bool)
        spot[40:64, 10 + 15 * number : 34 + 15 * number] = True
        assert found[spot].mean() > found[~spot][found[~spot] > 0].mean() + 0.01
        outside = scout.predict(data / f"test/outside/{number}.png").anomaly_map
        assert outside.max() < 0.6 * found.max()


def test_defects_outside_are_in_no_split_and_the_region_file_is_needed_no_more(data, region_run):
    scout = PatchScout.load(region_run)
    (data / "roi.png").rename(data / "moved.png")
    try:
        test = scout.split_of(data).test
        metrics = scout.evaluate(data)
    finally:
        (data / "moved.png").rename(data / "roi.png")
    assert {sample.defect_type for sample in test} == {"good", "inside"}
    assert (metrics["num_images"], metrics["num_anomalous"]) == (3, 2)


def test_an_export_carries_the_region(data, region_run, tmp_path):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    images = [data / "test/inside/0.png", data / "test/outside/0.png"]
    command = [sys.executable, "-m", "patchscout.cli", "export", region_run, *images, "--out", path]
    made = subprocess.run(command, capture_output=True, text=True, check=False)  # see test_export
    assert made.returncode == 0, made.stderr
    scout, exported = PatchScout.load(region_run), ExportedModel.load(path)
    for size in ((96, 144), (50, 75), (200, 300)):
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3))
        image = (pixels / 255).astype(np.float32)
        expected, found = scout.predict(image), exported.predict(image)
        np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=1e-3)
        np.testing.assert_array_equal(found.anomaly_map == 0, expected.anomaly_map == 0)
        assert abs((found.anomaly_map == 0).mean() - 0.375) < 0.01
        assert found.image_score == pytest.approx(expected.image_score, abs=1e-3)
        assert found.unlike_training == expected.unlike_training
        assert "another shape" not in found.unlike_training
        assert ("larger" in found.unlike_training) == (size[0] == 200)
    inside = np.full((HEIGHT, WIDTH, 3), 0.5, np.float32)
    outside = inside.copy()
    outside[20:70, INSIDE + 8 : INSIDE + 40] = 1
    assert exported.predict(outside).image_score == exported.predict(inside).image_score > 0


def test_training_without_a_region_of_the_right_shape_is_refused(data, tiny, tmp_path, capsys):
    PillowImage.new("L", (64, 64), 255).save(tmp_path / "square.png")
    roi = ["--data.ignore", str(tmp_path / "square.png")]
    assert main(["train", str(data), "--out", str(tmp_path / "run"), "--quiet", *tiny, *roi]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "`data.ignore`:" in said
    assert "64 x 64 pixels (width x height), another shape than" in said
    assert not (tmp_path / "run").exists()
