"""A trained model as one file for other runtimes: the same answers, if need be without PyTorch."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from patchscout.cli import main
from patchscout.config import preset_config
from patchscout.data.images import read_image, to_image
from patchscout.detector import PatchScout
from patchscout.export import compare
from patchscout.exported import SUFFIXES, ExportedModel

TOLERANCE = 1e-4
"""Of maps that use little of their range: nothing here is trained for long."""

FORMATS = ["onnx", "openvino"]
SIZES = [(64, 64), (37, 150), (201, 90)]


def command(*arguments, before=""):
    """Run a command in a process of its own: no exporter traces functions whose types are checked.

    Args:
        arguments: Of `patchscout`.
        before: Python lines to run first.
    """
    script = f"{before}\nimport sys\nfrom patchscout.cli import main\nsys.exit(main(sys.argv[1:]))"
    line = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


TRACED = """
import onnx
from types import SimpleNamespace
import patchscout.export

class Traced:
    def __init__(self, *_):
        self.model = SimpleNamespace(metadata_props={{}})

    @property
    def model_proto(self):
        proto = onnx.load({path!r})
        onnx.helper.set_model_props(proto, self.model.metadata_props)
        return proto

patchscout.export._onnx = Traced
"""
"""Takes the graph of an earlier export, since PyTorch takes most of a minute to trace one."""


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
    """The trained run as a file of each format; made once."""
    folder = tmp_path_factory.mktemp("exported")
    made = {}

    def export(file_format, pixels="uint8"):
        path = folder / f"{pixels}{SUFFIXES[file_format]}"
        if path not in made:
            arguments = ["--format", file_format, "--out", path, "--pixels", pixels]
            traced = "" if file_format == "onnx" else TRACED.format(path=str(export("onnx")))
            made[path] = command("export", trained_run, *arguments, before=traced)
        assert made[path].returncode == 0, made[path].stderr
        return path

    return export


@pytest.fixture
def traced(exported):
    """Python lines by which an export takes the graph of an earlier one."""
    return TRACED.format(path=str(exported("onnx")))


def images(dtype, sizes=SIZES):
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, np.iinfo(dtype).max, (*size, 3), endpoint=True).astype(dtype)
        for size in sizes
    ]


@pytest.mark.parametrize("file_format", FORMATS)
def test_it_finds_what_the_model_finds_in_images_of_any_size(exported, trained_run, file_format):
    scout = PatchScout.load(trained_run)
    model = ExportedModel.load(exported(file_format))
    for image in images(np.uint8):
        expected, found = scout.predict(image), model.predict(to_image(image))
        assert expected.anomaly_map.std() > 0
        np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=TOLERANCE, rtol=0)
        assert found.pred_score == pytest.approx(expected.pred_score, abs=TOLERANCE)
        assert found.threshold == expected.threshold == model.facts.threshold
        differs = found.pred_mask != expected.pred_mask
        assert (abs(expected.anomaly_map[differs] - expected.threshold) < TOLERANCE).all()
        assert found.pred_mask.dtype == bool
    assert model.facts.category == scout.record.category


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_batch_is_answered_as_its_images_are(exported, file_format):
    run = ExportedModel.load(exported(file_format)).run
    batch = np.stack(images(np.uint8, [(50, 70)] * 3))
    together = run(batch)
    for number in range(3):
        for whole, one in zip(together, run(batch[number : number + 1]), strict=True):
            np.testing.assert_allclose(whole[number], one[0], atol=1e-5)
    anomaly_map, pred_mask, pred_score = together
    assert anomaly_map.shape == pred_mask.shape == (3, 50, 70)
    np.testing.assert_allclose(pred_score, anomaly_map.max(axis=(1, 2)))


def test_16_bit_pixels_are_taken_at_their_own_depth(exported, trained_run):
    scout, (image, *_) = PatchScout.load(trained_run), images(np.uint16)
    model = ExportedModel.load(exported("onnx", "uint16"))
    assert model.facts.pixel_type == "uint16"
    found = model.run(image[None])[0][0]
    np.testing.assert_allclose(found, scout.predict(image).anomaly_map, atol=TOLERANCE, rtol=0)


def test_parity_is_told_and_the_file_lies_in_the_run_folder(run, traced):
    shown = command("export", run, before=traced).stdout
    assert (run / "model.onnx").is_file()
    assert "on 10 images anomaly maps differ by at most" in shown  # every other one of the split's
    assert f"patchscout predict {run / 'model.onnx'}" in shown
    assert command("export", run, before=traced).returncode == 0  # it may replace its own


UPSIDE_DOWN = """
from patchscout.exported import ExportedModel
whole = ExportedModel.predict
ExportedModel.predict = lambda self, image: whole(self, image[::-1])
"""


def test_a_file_that_would_answer_otherwise_is_not_written(trained_run, tmp_path, traced):
    path = tmp_path / "wrong.onnx"
    before = traced + UPSIDE_DOWN
    refused = command("export", trained_run, "--out", path, before=before)
    assert refused.returncode == 2
    assert "The exported model is not the trained one" in refused.stderr
    assert re.search(r"at x \d+, y \d+: [\d.]+ where [\d.]+ is expected", refused.stderr)
    assert not list(tmp_path.iterdir())


def test_predict_writes_the_same_with_a_model_file_as_with_the_run(
    exported, trained_run, sample_data, tmp_path
):
    tables = []
    for model in (trained_run, exported("onnx")):
        out = tmp_path / model.name
        arguments = [str(sample_data / "test" / "stain"), "--out", str(out), "--quiet"]
        assert main(["predict", str(model), *arguments, "--threshold", "0.25"]) == 0
        tables.append(json.loads((out / "predictions.json").read_text()))
    for of_run, of_file in zip(*tables, strict=True):
        assert of_file["pred_score"] == pytest.approx(of_run["pred_score"], abs=TOLERANCE)
        assert of_file["threshold"] == of_run["threshold"] == 0.25
        assert of_file["path"] == of_run["path"]


NO_PYTORCH = """
import sys

class NoPyTorch:
    def find_spec(self, name, *_):
        if name == "torch":
            raise ModuleNotFoundError("there is no PyTorch here")

sys.meta_path.insert(0, NoPyTorch())
"""


@pytest.mark.parametrize("file_format", ["onnx", "openvino"])
def test_a_model_file_needs_no_pytorch(exported, sample_data, tmp_path, file_format):
    image = sample_data / "test" / "stain" / "000.png"
    out = tmp_path / "found"
    arguments = [exported(file_format), image, "--out", out, "--quiet"]
    done = command("predict", *arguments, before=NO_PYTORCH)
    assert done.returncode == 0, done.stderr
    assert (out / "predictions.csv").is_file()


def test_the_example_scores_with_onnx_runtime_alone(exported, sample_data, tmp_path):
    image = shutil.copy(sample_data / "test" / "stain" / "000.png", tmp_path / "image.png")
    example = Path(__file__).parents[2] / "examples" / "score_onnx.py"
    assert len(example.read_text().splitlines()) <= 32
    line = [sys.executable, str(example), str(exported("onnx")), str(image)]
    shown = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    found = ExportedModel.load(exported("onnx")).predict(to_image(image))
    assert f"score {found.pred_score:.3f}, {found.pred_mask.sum()} px" in shown
    np.testing.assert_array_equal(PillowImage.open(f"{image}.mask.png"), found.pred_mask)


def test_the_example_turns_images_and_refuses_more_than_8_bits(exported, sample_data, tmp_path):
    example = Path(__file__).parents[2] / "examples" / "score_onnx.py"
    line = [sys.executable, str(example), str(exported("onnx"))]
    image = PillowImage.open(sample_data / "test" / "stain" / "000.png").crop((0, 0, 128, 100))
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    turned, deep = tmp_path / "turned.png", tmp_path / "deep.png"
    image.save(turned, exif=exif)
    PillowImage.fromarray(np.full((100, 128), 40_000, np.uint16)).save(deep)
    subprocess.run([*line, str(turned)], check=True)
    assert PillowImage.open(f"{turned}.mask.png").size == (100, 128)
    done = subprocess.run([*line, str(deep)], capture_output=True, text=True, check=False)
    assert (done.returncode, "--pixels uint16" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--format", "onnx", "--out", "model.xml"], "`--out` must end in .onnx"),
        (["--format", "openvino", "--out", "model.XML"], "`--out` must end in .xml"),
        (["--out", "nowhere/model.onnx"], "is not there. Make it first"),
        (["--format", "torch"], "torch"),
        (["missing.png"], "missing.png is not there"),
    ],
)
def test_what_cannot_be_exported(run, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_without_the_images_of_the_split_some_must_be_named(run, capsys, monkeypatch):
    monkeypatch.setattr(PatchScout, "images_of_split", lambda _: [])  # they are gone
    assert main(["export", str(run)]) == 2
    assert "Name image files or folders" in capsys.readouterr().err


def test_a_file_is_replaced_only_if_asked_for(run, tmp_path, capsys):
    mine = tmp_path / "mine.onnx"
    mine.write_text("mine")
    assert main(["export", str(run), "--out", str(mine)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert mine.read_text() == "mine"


FULL_DISK = {
    "onnx": """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
""",
    "openvino": """
import openvino

def fail(*_, **__):
    raise RuntimeError("basic_ios::clear: iostream error")

openvino.save_model = fail
""",
}


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
@pytest.mark.parametrize("file_format", FULL_DISK)
def test_a_full_disk_is_told(trained_run, tmp_path, file_format, traced):
    path = tmp_path / f"model{SUFFIXES[file_format]}"
    arguments = ["--format", file_format, "--out", path]
    full = command("export", trained_run, *arguments, before=traced + FULL_DISK[file_format])
    assert full.returncode == 2, full.stderr
    assert full.stderr.count("\n") == 1
    assert "Check the disk" in full.stderr
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_told_in_one_line(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"nothing")
    damaged = command("predict", path, path, "--out", tmp_path / "out")
    assert damaged.returncode == 2
    assert damaged.stderr.count("\n") == 1, damaged.stderr
    assert "cannot be read as a model" in damaged.stderr


@pytest.mark.parametrize("suffix", SUFFIXES.values())
def test_a_file_that_is_no_model(tmp_path, suffix, capsys):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"nothing")
    assert main(["predict", str(path), str(path), "--out", str(tmp_path / "out")]) == 2
    says = {".onnx": "cannot be read as a model", ".xml": "does not say what it was trained for"}
    assert says[suffix] in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".bin"])
def test_a_flipped_bit_in_an_export_is_told(exported, tmp_path, suffix, capsys):
    made = exported("onnx" if suffix == ".onnx" else "openvino")
    for file in {made, made.with_suffix(suffix)}:
        shutil.copy(file, tmp_path / f"model{file.suffix}")
    content = bytearray((tmp_path / f"model{suffix}").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / f"model{suffix}").write_bytes(content)
    path = str(tmp_path / f"model{made.suffix}")
    assert main(["predict", path, path, "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert f"model{suffix}" in shown
    assert "damaged" in shown
    assert shown.count("\n") == 1


def test_another_file_is_no_model_and_takes_no_device(tmp_path, exported, capsys):
    other = tmp_path / "model.zip"
    other.write_bytes(b"")
    out = ["--out", str(tmp_path / "out")]
    assert main(["predict", str(other), str(other), *out]) == 2
    assert ".onnx" in capsys.readouterr().err
    image = str(Path(exported("onnx")))
    assert main(["predict", image, image, *out, "--device", "cpu"]) == 2
    assert "`--device` is for run folders" in capsys.readouterr().err


@pytest.fixture(
    scope="module", params=["mvtec_ad/bottle", "kolektorsdd/commutator", "magnetic_tile/tile"]
)
def scout(request, real_data):
    """A model of a real category, briefly trained."""
    category = real_data / request.param
    if not category.is_dir():
        pytest.skip(f"no {category}")
    torch.set_num_threads(1)
    brief = {"profile": {"snapshots": (10, 60)}, "predictor": {"updates": 200}}
    return PatchScout(preset_config("fast", device="cpu", **brief)).fit(category)


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["onnx", "openvino"])
def test_anomaly_maps_of_all_real_test_images_agree(scout, file_format, tmp_path):
    run, path = tmp_path / "run", tmp_path / f"model{SUFFIXES[file_format]}"
    scout.save(run)
    made = command("export", run, "--format", file_format, "--out", path)
    assert made.returncode == 0, made.stderr
    test = [read_image(sample.image_path) for sample in scout.split.test]
    names = [sample.image_path.name for sample in scout.split.test]
    parity = compare(scout.segmenter, ExportedModel.load(path), test, names)
    print(f"{scout.record.category}, {file_format}: {parity}")
    assert parity.num_images == len(test)
    assert parity.holds
