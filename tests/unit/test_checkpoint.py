"""The run folder: what is saved is what is loaded, and nothing else is loaded as a model."""

import errno
import json
import math
import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from patchscout.build import build
from patchscout.checkpoint import (
    FORMAT_VERSION,
    RunCompletion,
    RunFolder,
    describe_run,
    load_model,
    write_run,
)
from patchscout.checks import InputError, InputNotFoundError, InputValueError
from patchscout.decision import Decision
from patchscout.detector import PatchScout
from patchscout.files.manifest import MANIFEST, digest_of
from patchscout.files.output_folder import LOCK, STAGING
from patchscout.files.seal import BLANK_SEAL, sealed
from patchscout.presets import preset_config

CPU = torch.device("cpu")
DECISION = Decision(image_threshold=0.25, pixel_threshold=0.75)
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def edit_config(run, **changes):
    """Change config.json as PatchScout itself would: with a new seal."""
    data = json.loads((run / "config.json").read_text())
    write_config(run, json.dumps(data | {"seal": BLANK_SEAL} | changes))


def write_config(run, text):
    (run / "config.json").write_bytes(sealed(text.encode()))


def digests(run):
    return {name: digest_of(run / name) for name in ("model.safetensors", "split.json")}


@torch.no_grad()
def test_a_loaded_model_answers_exactly_as_the_saved_one(trained_run, tmp_path):
    torch.manual_seed(0)
    config = preset_config(
        "fast",
        data={"image_size": (64, 64)},
        backbone={"name": "none"},
        profile={"snapshots": (2, 5, 9)},
        predictor={"sees": ("features", "errors"), "flip_tta": True, "novelty_weight": 0.5},
    )
    saved, fresh = (build(config, pretrained=False) for _ in range(2))
    saved.observer.channel_mean.fill_(0.4)
    trained = describe_run(trained_run).trained
    assert trained is not None
    write_run(tmp_path, config, None, (saved, trained))
    run = load_model(tmp_path, CPU)
    assert (run.config, run.trained) == (config, trained)
    assert torch.equal(run.segmenter(IMAGES), saved(IMAGES))
    assert not torch.equal(run.segmenter(IMAGES), fresh(IMAGES))
    assert not any(module.training for module in run.segmenter.modules())
    assert len(run.segmenter.profile.snapshots) == 3  # pyright: ignore
    assert run.segmenter.flip_tta


@pytest.mark.parametrize("version", range(FORMAT_VERSION))
def test_a_run_of_former_networks_asks_for_training_anew(run, version):
    edit_config(run, format_version=version)
    with pytest.raises(InputValueError, match=rf"has format version {version}; .* Train again"):
        load_model(run, CPU)


def test_a_detector_survives_the_folder(trained_run, tmp_path):
    scout = PatchScout.load(trained_run, device="cpu")
    scout.save(tmp_path / "copy")
    copy = PatchScout.load(tmp_path / "copy", device="cpu")
    image = np.random.default_rng(0).random((70, 50, 3), np.float32)
    np.testing.assert_array_equal(copy.predict(image).anomaly_map, scout.predict(image).anomaly_map)
    assert copy.trained == scout.trained
    split = (trained_run / "split.json").read_bytes()
    assert (tmp_path / "copy" / "split.json").read_bytes() == split


def test_what_is_in_the_folder(trained_run):
    assert {path.name for path in trained_run.iterdir()} == {
        ".patchscout-files",
        "README.md",
        "config.json",
        "examples.png",
        "metrics.jsonl",
        "model.safetensors",
        "split.json",
    }
    data = json.loads((trained_run / "config.json").read_text())
    assert data["format_version"] == FORMAT_VERSION
    assert data["config"]["profile"]["snapshots"] == [3, 6]
    assert data["trained"]["record"]["is_complete"] is True
    scores = data["trained"]["scores"]
    assert (len(scores["normal"]), len(scores["defective"])) == (2, 8)


def test_settings_without_a_model(tmp_path):
    write_run(tmp_path, preset_config("paper"), None, None)
    described = describe_run(tmp_path)
    assert (described.config, described.trained) == (preset_config("paper"), None)
    with pytest.raises(InputNotFoundError, match="holds no trained model: training was stopped"):
        load_model(tmp_path, CPU)


def test_a_newer_format_asks_for_an_update(run):
    edit_config(run, format_version=FORMAT_VERSION + 1)
    says = rf"has format version {FORMAT_VERSION + 1}; .* up to {FORMAT_VERSION}. Update"
    with pytest.raises(InputValueError, match=says):
        load_model(run, CPU)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format_version": "one"}',
        '{"format_version": Infinity}',
        '{"format_version": true}',
        "[" * 100_000,
    ],
    ids=lambda content: content[:60] or "nothing",
)
def test_a_damaged_config_is_one_line(run, content):
    (run / "config.json").write_text(content)
    with pytest.raises(InputValueError, match=r"config.json is damaged \(") as error:
        load_model(run, CPU)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("Copy the run folder again or train anew.")


def test_a_config_that_was_changed_is_refused(run):
    path = run / "config.json"
    whole = path.read_bytes()
    for edit in (
        lambda text: text.replace(b'"seed": 42', b'"seed": 43'),
        lambda text: text.replace(b'"pixel_threshold": 0', b'"pixel_threshold": 1'),
        lambda text: text.replace(b"patchscout-sha256:", b"patchscout-sha257:"),
        lambda text: text[:-1],
        lambda text: text + b" ",
    ):
        path.write_bytes(edit(whole))
        assert path.read_bytes() != whole
        with pytest.raises(InputValueError, match=r"config.json is damaged or was changed"):
            load_model(run, CPU)
    path.write_bytes(whole)
    load_model(run, CPU)


@pytest.mark.parametrize("name", ["model.safetensors", "split.json"])
def test_files_of_two_runs_are_not_mixed(run, trained_run, name):
    (run / name).write_bytes((trained_run / name).read_bytes() + b" ")
    with pytest.raises(InputValueError, match=rf"{name} is damaged, was changed or is of another"):
        load_model(run, CPU)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(run, value):
    state = load_file(run / "model.safetensors")
    name = next(name for name, tensor in state.items() if tensor.is_floating_point())
    state[name].view(-1)[0] = value
    save_file(state, run / "model.safetensors")
    edit_config(run, files=digests(run))
    with pytest.raises(InputValueError, match=r"holds weights that are not finite numbers"):
        load_model(run, CPU)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("decision.pixel_threshold", None),
        ("decision.pixel_threshold", "0.5"),
        ("decision.pixel_threshold", True),
        ("decision.pixel_threshold", math.nan),
        ("decision.image_threshold", math.inf),
        ("decision.image_threshold", -0.1),
        ("decision.image_threshold", 1.5),
        ("decision.asked", {"min_area": "1mm2"}),
        ("scores.normal", [math.nan]),
        ("scores.defective", [1.5]),
        ("scores.kind", "old"),
        ("record.defect_types", 3),
        ("record.num_steps", []),
        ("record.num_normal", -1),
    ],
)
def test_a_damaged_record_is_noticed(run, field, value):
    trained = json.loads((run / "config.json").read_text())["trained"]
    part, name = field.split(".")
    trained[part][name] = value
    edit_config(run, trained=trained)
    with pytest.raises(InputValueError, match=r"config.json is damaged"):
        load_model(run, CPU)


def test_a_setting_that_is_not_known_is_named_with_its_file(run):
    edit_config(run, config={"sed": 1})
    with pytest.raises(InputValueError, match=r"unknown setting `sed`; .* \(in .*config.json\)"):
        load_model(run, CPU)


def damaged_models(path):
    whole = path.read_bytes()
    state = load_file(path)
    yield whole[: len(whole) // 2]
    yield whole[:4]
    yield b""
    yield b"\x00" * 1000
    for change in (
        lambda state: state.popitem(),
        lambda state: state.update(extra=torch.zeros(1)),
        lambda state: state.update({next(iter(state)): torch.zeros(7)}),
    ):
        changed = dict(state)
        change(changed)
        save_file(changed, path)
        yield path.read_bytes()


def test_a_damaged_model_is_one_line(run):
    path = run / "model.safetensors"
    for content in list(damaged_models(path)):
        path.write_bytes(content)
        with pytest.raises(InputValueError, match=r"model.safetensors is damaged, was changed"):
            load_model(run, CPU)
        edit_config(run, files=digests(run))  # as if written so
        with pytest.raises(InputValueError, match=r"model.safetensors is damaged \(") as error:
            load_model(run, CPU)
        assert "\n" not in str(error.value)


def test_a_model_that_is_missing(run):
    (run / "model.safetensors").unlink()
    with pytest.raises(InputNotFoundError, match=r"model.safetensors is missing. Copy"):
        load_model(run, CPU)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"Run folder .*none is not there"):
        load_model(tmp_path / "none", CPU)
    with pytest.raises(InputNotFoundError, match=r"is no run folder: it has no config\.json"):
        load_model(tmp_path, CPU)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("dump", [torch.save, pickle.dump])
def test_a_pickle_is_refused_and_not_run(run, tmp_path, dump):
    sprung = tmp_path / "sprung"
    with (run / "model.safetensors").open("wb") as file:
        dump(Trap(sprung), file)
    with pytest.raises(InputValueError, match=r"model.safetensors is damaged"):
        load_model(run, CPU)
    assert not sprung.exists()


def test_a_run_folder_takes_its_place_when_it_is_done(tmp_path):
    place = tmp_path / "a" / "run"
    with RunFolder(place, overwrite=False) as folder:
        (folder / "config.json").write_text("new")
        (folder / "tensorboard").mkdir()
        (folder / "tensorboard" / "events").touch()
        assert not (place / "config.json").exists()
    assert (place / "config.json").read_text() == "new"
    assert (place / "tensorboard" / "events").is_file()
    names = {MANIFEST, "config.json", "tensorboard"}
    assert {path.name for path in place.iterdir()} == names
    assert [path.name for path in place.parent.iterdir()] == ["run"]


def fail(run_folder, error):
    with run_folder as folder:
        (folder / "config.json").write_text("new")
        raise error


def test_a_run_that_fails_leaves_no_trace(tmp_path):
    with pytest.raises(RuntimeError):
        fail(RunFolder(tmp_path / "a" / "run", overwrite=False), RuntimeError)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_fails_leaves_the_earlier_one(run, error):
    before = contents(run)
    with pytest.raises(error):
        fail(RunFolder(run, overwrite=True), error)
    assert contents(run) == before
    assert [path.name for path in run.parent.iterdir()] == ["run"]


def test_overwriting_replaces_what_a_run_wrote_and_nothing_else(run):
    (run / "notes.txt").write_text("mine")
    with RunFolder(run, overwrite=True) as folder:
        (folder / "config.json").write_text("new")
    del (files := contents(run))[MANIFEST]
    assert files == {"config.json": b"new", "notes.txt": b"mine"}


def test_a_file_that_is_in_the_way_is_told_before_the_work(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputValueError, match=r"README.md is there already and was not written by"):
        RunFolder(tmp_path, overwrite=True).__enter__()
    assert contents(tmp_path) == {"README.md": b"mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_a_run_folder_may_be_a_file_system_of_its_own(run, monkeypatch):
    replace = os.replace

    def replace_within(source, target, **more):
        if Path(source).is_relative_to(run) != Path(target).is_relative_to(run):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(source, target, **more)

    monkeypatch.setattr(os, "replace", replace_within)
    with RunFolder(run, overwrite=True) as folder:
        (folder / "config.json").write_text("new")
    assert {path.name for path in run.iterdir()} == {MANIFEST, "config.json"}
    assert (run / "config.json").read_text() == "new"


def test_a_file_that_gets_in_the_way_costs_no_run(tmp_path):
    def interfere():
        with RunFolder(tmp_path / "run", overwrite=False) as folder:
            (folder / "README.md").write_text("card")
            (tmp_path / "run" / "README.md").write_text("mine")

    with pytest.raises(InputValueError, match=r"not written by PatchScout.*is kept in") as raised:
        interfere()
    assert (tmp_path / "run" / "README.md").read_text() == "mine"
    kept = Path(str(raised.value).rpartition(" ")[2].rstrip("."))
    assert (kept / "README.md").read_text() == "card"
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"README.md", kept.name}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_training_in_the_same_folder_is_refused(tmp_path, overwrite):
    place = tmp_path / "run"
    with RunFolder(place, overwrite=False) as folder:
        (folder / "config.json").write_text("first")
        with pytest.raises(InputValueError, match=r"Another command writes to .*run\. Wait"):
            RunFolder(place, overwrite=overwrite).__enter__()
        assert (folder / "config.json").read_text() == "first"
    assert (place / "config.json").read_text() == "first"


def test_a_command_that_reads_does_not_refuse_one_that_writes(tmp_path):
    """A reader holds the lock for a moment, to see whether a killed command left the folder so."""
    place = tmp_path / "run"
    place.mkdir()

    def write():
        with RunFolder(place, overwrite=True) as folder:
            (folder / "config.json").write_text("new")

    with ThreadPoolExecutor(1) as pool:
        with FileLock(place / LOCK):
            writer = pool.submit(write)
            assert not wait([writer], timeout=0.3).done
        writer.result(timeout=5)
    assert (place / "config.json").read_text() == "new"


def test_a_run_that_was_copied_without_its_hidden_list_is_replaced(run):
    (run / MANIFEST).unlink()
    (run / "model.onnx").touch()
    (run / "notes.txt").write_text("mine")
    with RunFolder(run, overwrite=True) as folder:
        (folder / "config.json").write_text("new")
    del (files := contents(run))[MANIFEST]
    assert files == {"config.json": b"new", "notes.txt": b"mine"}


def test_a_card_of_ones_own_is_not_taken_for_the_runs(run):
    (run / MANIFEST).unlink()
    (run / "README.md").write_text("# My line\n")
    with pytest.raises(InputValueError, match=r"README\.md is there already"):
        RunFolder(run, overwrite=True).__enter__()
    assert (run / "README.md").read_text() == "# My line\n"


def test_a_run_that_is_being_replaced_is_the_old_or_the_new_one(run, tmp_path):
    old = load_model(run, CPU)
    state = {name: tensor + 1 for name, tensor in old.segmenter.state_dict().items()}
    other = build(old.config, pretrained=False)
    other.load_state_dict(state)
    with RunFolder(tmp_path / "other", overwrite=False) as folder:
        write_run(folder, old.config, old.split, (other, replace(old.trained, decision=DECISION)))
    names = ("config.json", "model.safetensors", "split.json")
    staging = run / STAGING / "files"
    staging.mkdir(parents=True)
    for name in names:
        (staging / name).write_bytes((tmp_path / "other" / name).read_bytes())
    (run / STAGING / "journal.json").write_text("{")  # cannot be finished: what is there is read
    assert load_model(run, CPU).trained == old.trained
    for name in names:
        (staging / name).replace(run / name)
        loaded = load_model(run, CPU)
        assert loaded.trained.decision == DECISION
        assert torch.equal(next(loaded.segmenter.parameters()), next(other.parameters()))


def test_a_run_that_was_replaced_meanwhile_is_not_completed(run, trained_run):
    identity = load_model(run, CPU).identity
    edit_config(run, format_version=FORMAT_VERSION, trained=None)
    before = contents(run)
    with pytest.raises(InputValueError, match=r"was replaced by another run meanwhile"):
        RunCompletion(run, ("metrics.json",), identity).__enter__()
    assert contents(run) == before


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions")
def test_who_may_read_the_settings_may_read_the_model(trained_run):
    modes = {path.name: path.stat().st_mode for path in trained_run.iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]


def test_a_full_disk_is_an_ordinary_error(trained_run, tmp_path, file_size_limit):
    scout = PatchScout.load(trained_run, device="cpu")
    with file_size_limit(), pytest.raises(OSError, match="File too large"):
        scout.save(tmp_path / "run")
    assert not any(tmp_path.iterdir())


def test_the_current_folder_is_a_place_too(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    with RunFolder(Path(), overwrite=False) as folder:
        (folder / "config.json").write_text("new")
    assert (tmp_path / "run" / "config.json").read_text() == "new"


def test_every_error_is_a_users(run):
    assert issubclass(InputNotFoundError, InputError)
    (run / "config.json").unlink()
    with pytest.raises(FileNotFoundError):
        describe_run(run)
