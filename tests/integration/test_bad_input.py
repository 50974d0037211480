"""Bad input: one line that names file, expectation and remedy, code 2, nothing half-written."""

import json
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from patchscout.checkpoint import RunCompletion
from patchscout.cli import main
from patchscout.data import loader
from patchscout.data.images import read_image
from patchscout.detector import PatchScout
from patchscout.files.output_folder import OutputFolder
from patchscout.files.seal import BLANK_SEAL, sealed, sha256


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def refused(tmp_path, capsys):
    """Run a command that must fail: code 2, one line with the given parts, no file changed."""

    def run(*arguments, says):
        before = contents(tmp_path), set(tmp_path.rglob("*"))
        status = main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        assert status == 2, shown
        assert shown.out == ""
        assert shown.err.count("\n") == 1, shown.err
        assert shown.err.startswith("patchscout: ")
        assert "Traceback" not in shown.err
        assert len(shown.err) < 1100
        for part in says:
            assert part in shown.err
        assert (contents(tmp_path), set(tmp_path.rglob("*"))) == before

    return run


@pytest.fixture
def data(sample_data, tmp_path):
    """A copy of the sample, to be damaged."""
    return Path(shutil.copytree(sample_data, tmp_path / "data"))


@pytest.fixture
def train_refused(refused, data, tiny, tmp_path):
    def run(*arguments, says):
        out = tmp_path / "deep" / "run"
        refused("train", data, "--out", out, "--quiet", *tiny, *arguments, says=says)

    return run


def png_of_size(width, height):
    """A PNG file that claims a size and has hardly any pixels."""

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def draw(path, values):
    PillowImage.fromarray(np.asarray(values, np.uint8)).save(path)


UNREADABLE = {
    "no image": (b"hello", ["is not an image that can be read", "convert it or remove it"]),
    "zero-size": (b"", ["is empty (0 bytes)", "copy the file again or remove it"]),
    "a bomb": (png_of_size(60000, 60000), ["pixels", "allows 64 million pixels", "Cut it"]),
}


@pytest.fixture(params=UNREADABLE)
def unreadable(request):
    """The bytes of a bad image and what must be said about it."""
    return UNREADABLE[request.param]


# Data


def without(*names):
    def damage(data):
        for name in names:
            shutil.rmtree(data / name)

    return damage


def no_masks(data):
    shutil.rmtree(data / "ground_truth")
    (data / "ground_truth").mkdir()


def no_mask(data):
    (data / "ground_truth" / "chip" / "001_mask.png").unlink()


def empty_mask(data):
    draw(data / "ground_truth" / "chip" / "001_mask.png", np.zeros((96, 96)))


def damaged_labelme(data):
    no_mask(data)
    (data / "ground_truth" / "chip" / "001.json").write_text("{")


def damaged_coco(data):
    (data / "coco.json").write_text("[]")


def vanishing_defects(data):
    for path in (data / "ground_truth").rglob("*.png"):
        dot = np.zeros((96, 96), np.uint8)
        dot[40, 40] = 255
        draw(path, dot)


COCO = ["--data.normal", "train/good", "--data.defective", "test/chip", "--data.masks", "coco.json"]


@pytest.mark.parametrize(
    ("damage", "arguments", "says"),
    [
        (without("train"), [], ["no known layout", "Give `normal`, `defective` and `masks`"]),
        (without("test"), [], ["No labeled defects", "/test/<defect type>", "ground_truth"]),
        (no_masks, [], ["masks are missing for all 12", "Looked in", "`labeled_per_type` 0"]),
        (without(), ["--labeled-per-type", "3"], ["`labeled_per_type` = 3", "Lower it or add"]),
        (without(), ["--held-out-type", "scrach"], ["one of chip", "mean 'scratch'?"]),
        (without(), ["--data.normal", "train"], ["`defective` and `masks` must be given too"]),
        (empty_mask, [], ["001_mask.png is empty: it marks no", "outline the defect"]),
        (damaged_labelme, [], ["001.json is not readable JSON", "Expected a LabelMe file"]),
        (damaged_coco, COCO, ["coco.json holds a JSON list", "Read are JSON of COCO", "export it"]),
        (vanishing_defects, [], ["No labeled defect of", "(64, 64)", "raise `data.image_size`"]),
    ],
)
def test_data_that_do_not_fit(train_refused, data, damage, arguments, says):
    damage(data)
    train_refused(*arguments, says=says)


# Images


def test_train_on_an_unreadable_image(train_refused, data, unreadable):
    content, says = unreadable
    path = data / "test" / "chip" / "000.png"
    path.write_bytes(content)
    train_refused(says=[str(path), *says])


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_image_that_is_damaged_in_the_middle_of_training(
    refused, data, tiny, trained_run, tmp_path, monkeypatch, overwrite
):
    """The images are fine when training starts; one is cut off after a while."""
    num_reads = 0

    def read(path):
        nonlocal num_reads
        num_reads += 1
        if num_reads == 60 and path.suffix == ".png":
            raise_damaged(path)
        return read_image(path)

    def raise_damaged(path):
        whole = path.read_bytes()
        truncate(path)
        try:
            read_image(path)
        finally:
            path.write_bytes(whole)  # so that `refused` finds the files as they were

    monkeypatch.setattr(loader, "read_image", read)
    out = tmp_path / "deep" / "run"
    if overwrite:
        shutil.copytree(trained_run, out)
    arguments = ["--out", out, "--quiet", *tiny, "--data.cache-mib", 0]
    arguments += ["--overwrite"] if overwrite else []
    refused("train", data, *arguments, says=[".png is truncated or damaged", "copy the file again"])
    assert num_reads == 60
    assert out.exists() == overwrite


# Settings and arguments


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sed", 1], ["unknown argument `--sed`; did you mean '--seed'?", "train --help"]),
        (["--profile.num-cycle", 1], ["unknown setting", "did you mean '--profile.num-cycles'?"]),
        (["--seed", -1], ["`seed`: input should be greater than or equal to 0; got -1"]),
        (["--seed", "many"], ["--seed", "'many'", "train --help"]),
        (
            ["--views.max-lighting-change", 2],
            ["`views.max_lighting_change`", "or equal to 1; got 2"],
        ),
        (["--sampler.kind", "polcy"], ["--sampler.kind", "'policy', 'uniform'", "'polcy'"]),
        (["--preset", "papr"], ["'papr'", "--preset", "'fast', 'paper'"]),
        (["--predictor.crop-px", 72], ["`predictor.crop_px`", "multiple of 16; got 72"]),
        (
            ["--predictor.sees", "erors"],
            ["--predictor.sees", "'features', 'residual', 'errors'", "'erors'"],
        ),
        (["--profile.snapshots", 9, 3], ["`profile.snapshots` must be ascending", "got (9, 3)"]),
        (["--backbone.name", "resnet"], ["There is no backbone 'resnet'", "Choose one of"]),
        (["--backbone.weights", "none.pth"], ["none.pth"]),
        (["--config", "none.yaml"], ["`--config` file none.yaml is not there", "Check the path"]),
        (["--device", "gpu"], ["`device` must be", "got 'gpu'", "Use `auto` or `cpu`"]),
        (["--seed"], ["--seed", "train --help"]),
        (["--data.image-size", 256], ["`--data.image-size` must be None or INT INT; got '256'"]),
        (["more"], ["`more` is one argument too many", "train --help"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value[0], str) else None,
)
def test_settings_that_do_not_fit(train_refused, arguments, says):
    train_refused(*arguments, says=says)


def test_a_config_file_that_does_not_fit(train_refused, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("profile: {num_cycle: 3}")
    train_refused(
        "--config", path, says=["unknown setting", "did you mean 'profile.num_cycles'?", str(path)]
    )
    path.write_text("seed: [")
    train_refused("--config", path, says=[f"{path} is not valid YAML", "Mend the file."])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], ["unknown command 'trian'; did you mean 'train'?", "Choose one of train,"]),
        (["train"], ["`DATA` and `--out` must be given", "patchscout train --help"]),
        (["train", "x"], ["`--out` must be given"]),
        (["train", "x", "--ou", "y"], ["unknown argument `--ou`; did you mean '--out'?"]),
        (["evaluate", "x"], ["`DATA` must be given", "patchscout evaluate --help"]),
        (["predict"], ["`MODEL` and `--out` must be given"]),
        (["export"], ["`RUN` must be given", "patchscout export --help"]),
        (["predict", "x", "--out", "y"], ["no image is named", "Add image files or folders"]),
        (["info"], ["`PATH` must be given"]),
        (["info", "none"], ["none does not exist"]),
        (["demo", "--seed", 1], ["unknown argument `--seed`", "patchscout demo --help"]),
        (["evaluate", "x", "y", "--size", "huge"], ["--size", "'working', 'native'"]),
        (["info", "--", "--help"], ["--help does not exist"]),
        (["predict", "x", "-1.png", "--out", "y"], ["`-1.png`", "comes after `--`"]),
        (["predict", "x", "y", "--out", ""], ["an empty argument after `--out`"]),
        (["info", "\udcff\x1b[2J\r"], [r"\udcff\x1b[2J\r does not exist"]),
        (["info", "a" * 100_000], ["File name too long. Use a shorter name."]),
        (["evaluate", "x", "y", "--size", "x" * 100_000], ["--size"]),
        (["x" * 100_000], ["unknown command 'xxx", "Choose one of train,"]),
        (["benchmark", "x", "--out", "y", "--seeds", "1" * 5000], ["`--seeds` must be whole"]),
        (["benchmark", "x", "--out", "y", "--threads", 9**9], ["`--threads` must be in 1 to 4096"]),
    ],
    ids=lambda value: ascii(" ".join(map(str, value)))[:60] if isinstance(value[0], str) else None,
)
def test_commands_that_do_not_fit(refused, arguments, says, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    refused(*arguments, says=says)


# Output folders


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "demo"])
def test_an_output_folder_that_holds_files(refused, run, data, command):
    arguments = {
        "train": ["train", data],
        "evaluate": ["evaluate", run, data],
        "predict": ["predict", run, data / "test"],
        "demo": ["demo"],
    }[command]
    held = data / "train"
    refused(*arguments, "--out", held, says=[f"{held} holds good", "Name another", "--overwrite"])
    image = data / "test" / "chip" / "000.png"
    refused(*arguments, "--out", image, says=["`--out` must be a folder", "is a file"])


def test_a_file_of_ones_own_is_in_the_way(refused, data, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    refused(
        *("train", data, "--out", tmp_path / "mine", "--overwrite"),
        says=["README.md is there already and was not written by PatchScout", "Move it"],
    )


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        (["evaluate", "run", "found", "--out", "found"], "found/train"),
        (["predict", "run", "data/test", "--out", "run"], "run"),
        (["predict", "run/model.onnx", "data/test", "--out", "run"], "run/model.onnx"),
        (["predict", "run", "found/masks/000.png", "--out", "found"], "found/masks/000.png"),
        (["train", "found", "--out", "found"], "found/train"),
        (["train", "data", "--data.masks", "../found/masks", "--out", "found"], "found/masks"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_a_command_reads_is_not_overwritten(
    refused, run, data, tmp_path, monkeypatch, arguments, read
):
    monkeypatch.chdir(tmp_path)
    with RunCompletion(run, ("model.onnx",), PatchScout.load(run).identity) as folder:
        (folder / "model.onnx").touch()
    with OutputFolder(tmp_path / "found", (), overwrite=False) as folder:
        shutil.copytree(data, folder, dirs_exist_ok=True)
        (folder / "masks").mkdir()
        shutil.copy(data / "ground_truth/chip/000_mask.png", folder / "masks/000.png")
    refused(*arguments, "--overwrite", says=["`--overwrite` would remove", read, "Name another"])


def test_where_figures_cannot_go_is_told_before_the_images_are_scored(
    refused, run, data, tmp_path, monkeypatch
):
    def fail(*_, **__):
        pytest.fail("scored")

    monkeypatch.setattr(PatchScout, "evaluate", fail)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "examples.png").touch()
    out = ["--out", tmp_path / "mine", "--overwrite"]
    refused("evaluate", run, data, *out, says=["examples.png is there already", "Move it"])
    below = tmp_path / "mine" / "examples.png" / "figures"
    refused("evaluate", run, data, "--out", below, says=[f"{below} cannot be made", "Name another"])
    monkeypatch.setattr(os, "access", lambda *_: False)
    refused("evaluate", run, data, says=[f"{run} cannot be written to", "Give another `--out`"])


# Run folders


@pytest.fixture(params=["evaluate", "predict"])
def with_run(request, data, run, refused, tmp_path):
    """Use a run folder that does not fit."""

    def use(*, says):
        images = data if request.param == "evaluate" else data / "test" / "chip"
        refused(request.param, run, images, "--out", tmp_path / "found", "--quiet", says=says)

    return use


def newer(run):
    content = json.loads((run / "config.json").read_text()) | {"format_version": 99}
    content |= {"seal": BLANK_SEAL}
    (run / "config.json").write_bytes(sealed(json.dumps(content).encode()))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (shutil.rmtree, ["Run folder", "run is not there", "Check the path, or train"]),
        (lambda run: (run / "config.json").unlink(), ["is no run folder: it has no config.json"]),
        (newer, ["config.json has format version 99", "reads up to", "Update PatchScout"]),
        (lambda run: truncate(run / "config.json"), ["config.json is damaged", "Copy the run"]),
        (lambda run: truncate(run / "model.safetensors"), ["model.safetensors is damaged"]),
        (lambda run: (run / "model.safetensors").unlink(), ["model.safetensors is missing"]),
    ],
    ids=["gone", "no run", "newer", "config", "model", "no model"],
)
def test_a_run_that_does_not_fit(with_run, run, damage, says):
    damage(run)
    with_run(says=says)


def test_a_run_without_its_split(refused, run, data):
    (run / "split.json").unlink()
    refused("evaluate", run, data, says=["split.json is missing", "what the model was trained on"])


def test_a_damaged_or_newer_split(refused, run, data):
    path = run / "split.json"
    newer = json.loads(path.read_text()) | {"format_version": 2}
    truncate(path)
    refused("evaluate", run, data, says=[f"{path} is damaged, was changed or is of another run"])
    config = json.loads((run / "config.json").read_text()) | {"seal": BLANK_SEAL}
    for content, says in ((path.read_bytes(), "is not readable JSON"), (newer, "has format 2")):
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        path.write_bytes(text)
        config["files"]["split.json"] = sha256(text)
        (run / "config.json").write_bytes(sealed(json.dumps(config).encode()))
        refused("evaluate", run, data, says=[f"{path} {says}"])


def test_an_image_of_the_split_that_has_gone(refused, run, data):
    (data / "train" / "good" / "003.png").unlink()
    refused("evaluate", run, data, says=["train/good/003.png is named in", "Put it back, or train"])


def test_evaluate_with_a_damaged_test_image(refused, run, data):
    path = data / "test" / "good" / "001.png"
    truncate(path)
    refused("evaluate", run, data, "--quiet", says=[f"{path} is truncated or damaged"])


# Images to predict


@pytest.mark.parametrize("earlier", [False, True])
def test_predict_with_one_bad_image_among_good_ones(
    refused, run, data, tmp_path, unreadable, earlier, capsys
):
    """Nothing is written, and with `--overwrite` earlier output stays."""
    out, images = tmp_path / "found", data / "test" / "chip"
    if earlier:
        assert main(["predict", str(run), str(images), "--out", str(out), "--quiet"]) == 0
        capsys.readouterr()
    content, says = unreadable
    (images / "002.png").write_bytes(content)
    arguments = ["predict", run, images, "--out", out, "--quiet", "--overwrite"]
    refused(*arguments, says=[str(images / "002.png"), *says])
    assert out.exists() == earlier


def test_predict_without_images(refused, run, tmp_path):
    out = tmp_path / "found"
    refused("predict", run, tmp_path / "none.png", "--out", out, says=["none.png is not there"])
    (tmp_path / "empty").mkdir()
    refused("predict", run, tmp_path / "empty", "--out", out, says=["empty holds no image", ".png"])


@pytest.mark.parametrize("threshold", ["-0.1", "1.5", "nan"])
@pytest.mark.parametrize("option", ["--score-threshold", "--pixel-threshold"])
def test_a_threshold_out_of_range(refused, run, data, tmp_path, option, threshold):
    arguments = ["predict", run, data, "--out", tmp_path / "found", f"{option}={threshold}"]
    refused(*arguments, says=[f"`{option}` must be in [0, 1]; got", threshold])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--max-false-alarms", "0"], "`max_false_alarms`: input should be greater than 0"),
        (["--min-detected", "110%"], "`min_detected`: input should be less than 1"),
        (["--min-area", "0.5mm2"], "`min_area` 0.5mm2 needs `pixel_size`, such as 0.02mm"),
        (["--pixel-size", "20"], "`pixel_size` must be a number with its unit"),
        (["--pixel-threshold", "2"], "`--pixel-threshold` must be in [0, 1]; got 2.0"),
        (["--good", "none"], "none is not there"),
    ],
)
def test_a_decision_that_cannot_be_made(refused, run, given, says):
    before = (run / "config.json").read_bytes()
    refused("threshold", run, *given, says=[says])
    assert (run / "config.json").read_bytes() == before


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_device_that_is_not_there(refused, run, data, tmp_path, command):
    images = data if command == "evaluate" else data / "test"
    arguments = [command, run, images, "--out", tmp_path / "found", "--device", "cuda:99"]
    refused(*arguments, says=["`device` must be", "got 'cuda:99'", "Use `auto` or `cpu`"])
