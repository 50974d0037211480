"""A trained model as one file for other runtimes: the same answers, if need be without PyTorch."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch
from PIL import Image as PillowImage

from patchscout import export
from patchscout.cli import main
from patchscout.data.images import read_image, to_image
from patchscout.detector import PatchScout
from patchscout.export import compare
from patchscout.exported import SUFFIXES, ExportedModel
from patchscout.presets import preset_config

TOLERANCE = 1e-4
"""Of maps that use little of their range: nothing here is trained for long."""

FORMATS = ["onnx", "openvino"]
EXAMPLE = Path(__file__).parents[2] / "examples" / "score_onnx.py"


def python(script, *arguments):
    """Run Python lines in a process of their own: no exporter traces what has its types checked."""
    line = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


COMMAND = "import sys\nfrom patchscout.cli import main\nsys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def onnx_file(trained_run, tmp_path_factory):
    """The trained run as ONNX, for which PyTorch takes most of a minute; made once."""
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    made = python(COMMAND, "export", trained_run, "--out", path)
    assert made.returncode == 0, made.stderr
    return path


def reuse(patch, path):
    """Let exports take the graph of an earlier one."""

    def traced(*_):
        model = onnx.load(path)
        del model.metadata_props[:]
        return model

    patch.setattr(export, "_onnx", traced)


@pytest.fixture
def traced(onnx_file, monkeypatch):
    """Lets exports take the graph of `onnx_file`."""
    reuse(monkeypatch, onnx_file)


@pytest.fixture(scope="module", params=FORMATS)
def model_file(request, onnx_file, trained_run):
    """The trained run as a file of each format."""
    path = onnx_file.with_suffix(SUFFIXES[request.param])
    if path != onnx_file:
        with pytest.MonkeyPatch.context() as patch:
            reuse(patch, onnx_file)
            arguments = ["--format", request.param, "--out", str(path)]
            assert main(["export", str(trained_run), *arguments]) == 0
    return path


def test_it_finds_what_the_model_finds_in_images_of_any_size(model_file, trained_run):
    scout, model = PatchScout.load(trained_run), ExportedModel.load(model_file)
    assert model.facts.category == scout.record.category
    rng = np.random.default_rng(0)
    for size in ((64, 64), (37, 150), (201, 90)):
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        expected, found = scout.predict(image), model.predict(to_image(image))
        assert expected.anomaly_map.std() > 0
        np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=TOLERANCE, rtol=0)
        assert found.image_score == pytest.approx(expected.image_score, abs=TOLERANCE)
        assert found.decision == expected.decision == model.facts.decision
        differs = found.pred_mask != expected.pred_mask
        assert (
            abs(expected.anomaly_map[differs] - expected.decision.pixel_threshold) < TOLERANCE
        ).all()
        assert found.pred_mask.dtype == bool
    batch = rng.integers(0, 256, (3, 50, 70, 3), np.uint8)
    together = model.run(batch)
    for number in range(3):
        for whole, one in zip(together, model.run(batch[number : number + 1]), strict=True):
            np.testing.assert_allclose(whole[number], one[0], atol=1e-5)
    anomaly_map, pred_mask, scores = together
    assert anomaly_map.shape == pred_mask.shape == (3, 50, 70)
    assert scores.shape == (3,)


def test_the_file_asks_for_no_newer_runtime_than_it_needs(onnx_file):
    """Every runtime from ONNX Runtime 1.10 on has these versions of operators and format."""
    model = onnx.load(onnx_file)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 15)]
    assert model.ir_version == 8
    assert not any(node.metadata_props for node in model.graph.node)


DINOV2 = """
import torch
from patchscout.backbones import make_backbone

backbone = make_backbone("dinov2_small", pretrained=False)
sizes = {0: torch.export.Dim("batch"), 2: None, 3: None}
torch.export.export(backbone, (torch.zeros(2, 3, 64, 64),), dynamic_shapes=(sizes,))
"""


def test_a_transformer_is_exported_for_any_number_of_images():
    done = python(DINOV2)
    assert done.returncode == 0, done.stderr


REDS = """
import sys
from pathlib import Path
import numpy as np
import torch
from patchscout.export import export_model
from patchscout.decision import Decision
from patchscout.exported import ModelFacts
from patchscout.networks.segmenter import Segmenter

class Reds(Segmenter):
    def __init__(self):
        torch.nn.Module.__init__(self)

    def forward(self, images, lighting=None):
        return images[:, 0]

decision = Decision(image_threshold=0.5, pixel_threshold=0.5)
facts = ModelFacts(category="reds", decision=decision, image_size=(64, 80), pixel_type="uint16")
image = np.random.default_rng(0).random((64, 80, 3), np.float32)
export_model(Reds(), facts, Path(sys.argv[1]), "onnx", [image], ["image"])
"""
"""Exports a model that answers with the red of images."""


def test_16_bit_pixels_are_taken_at_their_own_depth(tmp_path):
    made = python(REDS, path := tmp_path / "model.onnx")
    assert made.returncode == 0, made.stderr
    model = ExportedModel.load(path)
    image = np.random.default_rng(0).integers(0, 2**16, (1, 64, 80, 3)).astype(np.uint16)
    np.testing.assert_allclose(model.run(image)[0], image[..., 0] / 65535, atol=1e-6)


@pytest.mark.usefixtures("traced")
def test_parity_is_told_and_the_file_lies_in_the_run_folder(run, capsys):
    assert main(["export", str(run)]) == 0
    shown = capsys.readouterr().out
    assert (run / "model.onnx").is_file()
    assert "on 16 images anomaly maps differ by at most" in shown  # of the split's
    assert f"patchscout predict {run / 'model.onnx'}" in shown
    assert main(["export", str(run)]) == 0  # it may replace its own


@pytest.mark.usefixtures("traced")
def test_a_file_that_would_answer_otherwise_is_not_written(
    trained_run, tmp_path, monkeypatch, capsys
):
    whole = ExportedModel.predict
    monkeypatch.setattr(ExportedModel, "predict", lambda self, image: whole(self, image[::-1]))
    assert main(["export", str(trained_run), "--out", str(tmp_path / "wrong.onnx")]) == 2
    shown = capsys.readouterr().err
    assert "The exported model is not the trained one" in shown
    assert re.search(r"at x \d+, y \d+: [\d.]+ where [\d.]+ is expected", shown)
    assert not list(tmp_path.iterdir())


def test_predict_writes_the_same_with_a_model_file_as_with_the_run(
    onnx_file, trained_run, sample_data, tmp_path
):
    tables = []
    for model in (trained_run, onnx_file):
        out = tmp_path / model.name
        arguments = [str(sample_data / "test" / "stain"), "--out", str(out), "--quiet"]
        assert main(["predict", str(model), *arguments, "--pixel-threshold", "0.25"]) == 0
        tables.append(json.loads((out / "predictions.json").read_text()))
    for of_run, of_file in zip(*tables, strict=True):
        assert of_file["pred_score"] == pytest.approx(of_run["pred_score"], abs=TOLERANCE)
        assert of_file["pixel_threshold"] == of_run["pixel_threshold"] == 0.25
        assert of_file["path"] == of_run["path"]


NO_PYTORCH = """
import sys

class NoPyTorch:
    def find_spec(self, name, *_):
        if name == "torch":
            raise ModuleNotFoundError("there is no PyTorch here")

sys.meta_path.insert(0, NoPyTorch())
"""


def test_a_model_file_needs_no_pytorch(model_file, sample_data, tmp_path):
    image, out = sample_data / "test" / "stain" / "000.png", tmp_path / "found"
    done = python(NO_PYTORCH + COMMAND, "predict", model_file, image, "--out", out, "--quiet")
    assert done.returncode == 0, done.stderr
    assert (out / "predictions.csv").is_file()


def test_the_example_scores_upright_images_with_onnx_runtime_alone(
    onnx_file, sample_data, tmp_path
):
    assert len(EXAMPLE.read_text().splitlines()) <= 32
    plain, turned, deep = (tmp_path / f"{name}.png" for name in ("plain", "turned", "deep"))
    image = PillowImage.open(sample_data / "test" / "stain" / "000.png").crop((0, 0, 128, 100))
    image.save(plain)
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    image.save(turned, exif=exif)
    PillowImage.fromarray(np.full((100, 128), 40_000, np.uint16)).save(deep)
    done = {path: python(EXAMPLE.read_text(), onnx_file, path) for path in (plain, turned, deep)}
    assert done[turned].returncode == 0, done[turned].stderr
    found = ExportedModel.load(onnx_file).predict(to_image(plain))
    assert f"score {found.image_score:.3f}, {found.pred_mask.sum()} px" in done[plain].stdout
    np.testing.assert_array_equal(PillowImage.open(f"{plain}.mask.png"), found.pred_mask)
    assert PillowImage.open(f"{turned}.mask.png").size == (100, 128)
    assert (done[deep].returncode, "--pixels uint16" in done[deep].stderr) == (1, True)


def test_info_describes_a_model_file(model_file, trained_run, capsys):
    decision = PatchScout.load(trained_run).decision
    assert main(["info", str(model_file)]) == 0
    shown = capsys.readouterr().out.splitlines()
    facts = dict(line.split(maxsplit=1) for line in shown if line.startswith("  "))
    assert facts["image_size"] == "64, 64"
    assert float(facts["pixel_threshold"]) == pytest.approx(decision.pixel_threshold, rel=1e-5)
    assert float(facts["score_threshold"]) == pytest.approx(
        decision.threshold_probability, rel=1e-5
    )
    assert "good parts are called defective" in " ".join(shown)
    assert "detected" not in " ".join(shown)  # the file does not say on which images


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--format", "onnx", "--out", "model.xml"], "`--out` must end in .onnx"),
        (["--format", "openvino", "--out", "model.XML"], "`--out` must end in .xml"),
        (["--out", "nowhere/model.onnx"], "is not there. Make it first"),
        (["--out", "mine.onnx"], "--overwrite"),
        (["--format", "torch"], "torch"),
        (["missing.png"], "missing.png is not there"),
        ([], "Name image files or folders"),
    ],
)
def test_what_cannot_be_exported(run, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PatchScout, "images_of_split", lambda _: [])  # they are gone
    Path("mine.onnx").write_text("mine")
    assert main(["export", str(run), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"run", "mine.onnx"}
    assert Path("mine.onnx").read_text() == "mine"


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_full_disk_is_told(
    trained_run, tmp_path, file_format, file_size_limit, monkeypatch, capsys
):
    def fail(*_, **__):
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "save_model", fail)
    path = tmp_path / f"model{SUFFIXES[file_format]}"
    with file_size_limit():
        status = main(["export", str(trained_run), "--format", file_format, "--out", str(path)])
    shown = capsys.readouterr().err
    assert (status, shown.count("\n")) == (2, 1), shown
    assert "Check the disk" in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("model.onnx", [], "cannot be read as a model"),
        ("model.xml", [], "does not say what it was trained for"),
        ("model.pt2", [], "Expected a file ending in .onnx, .xml, or a run folder"),
        ("model.onnx", ["--device", "cpu"], "`--device` is for run folders"),
    ],
)
def test_a_file_that_is_no_model_is_told_in_one_line(
    tmp_path, sample_data, name, options, says, capfd
):
    path = tmp_path / name
    path.write_bytes(b"nothing")
    image = str(sample_data / "test" / "stain" / "000.png")
    assert main(["predict", str(path), image, "--out", str(tmp_path / "out"), *options]) == 2
    shown = capfd.readouterr().err
    assert says in shown
    assert shown.count("\n") == 1


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
@pytest.mark.parametrize("file_format", FORMATS)
def test_anomaly_maps_of_all_real_test_images_agree(scout, file_format, tmp_path):
    run, path = tmp_path / "run", tmp_path / f"model{SUFFIXES[file_format]}"
    scout.save(run)
    made = python(COMMAND, "export", run, "--format", file_format, "--out", path)
    assert made.returncode == 0, made.stderr
    test = [read_image(sample.image_path) for sample in scout.split.test]
    names = [sample.image_path.name for sample in scout.split.test]
    parity = compare(scout.segmenter, ExportedModel.load(path), test, names)
    print(f"{scout.record.category}, {file_format}: {parity}")
    assert parity.num_images == len(test)
    assert parity.holds
