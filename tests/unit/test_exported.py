"""Exported models as files: what is damaged, foreign, older or dangerous. The graphs are small."""

import json
import random
import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnx.compose
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from patchscout import exported
from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.export import for_older_runtimes
from patchscout.exported import (
    METADATA_KEY,
    OLDEST_VERSIONS,
    SUFFIXES,
    ExportedModel,
    library,
)
from patchscout.files.seal import BLANK_SEAL, sealed, sha256

DECISION = {"image_threshold": 0.7, "pixel_threshold": 0.5}
FACTS = {
    "category": "bottle",
    "decision": DECISION,
    "image_size": [64, 96],
    "pixel_type": "uint8",
    "format_version": 3,
    "seal": BLANK_SEAL,
    "weights_sha256": None,
}
UNSEALED = FACTS | {"seal": ""}
IMAGE = np.random.default_rng(0).random((30, 40, 3), np.float32)
FORMATS = ["onnx", "openvino"]
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
SIDES = ["batch", "height", "width"]


def graph(scale=255.0, pixels=TensorProto.UINT8, renamed=False):
    """An ONNX model whose anomaly map is the mean color of each pixel, by `scale`."""
    constants = {
        "scale": np.float32(scale),
        "threshold": np.float32(0.5),
        "colors": np.array([3]),
        "sides": np.array([1, 2]),
        "some": np.zeros((17, 5), np.float32),  # so that there are weights
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "colors"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "scale"], ["scaled"]),
        helper.make_node("ReduceSum", ["some"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["scaled", "nothing"], ["anomaly_map"]),
        helper.make_node("GreaterOrEqual", ["anomaly_map", "threshold"], ["pred_mask"]),
        helper.make_node("ReduceMax", ["anomaly_map", "sides"], ["image_score"], keepdims=0),
    ]
    outputs = [
        helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, SIDES),
        helper.make_tensor_value_info("pred_mask", TensorProto.BOOL, SIDES),
        helper.make_tensor_value_info("image_score", TensorProto.FLOAT, ["batch"]),
    ]
    image = helper.make_tensor_value_info("image", pixels, [*SIDES, 3])
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "graph", [image], outputs, initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.compose.add_prefix(model, "other_") if renamed else model


def write(path, facts=FACTS, model=None):
    """Write a model in the format of the file's name, with these facts or this text for them."""
    model = model or graph()
    if path.suffix == ".onnx":
        text = facts if isinstance(facts, str) else json.dumps(facts)
        helper.set_model_props(model, {METADATA_KEY: text})
        content = model.SerializeToString()
    else:
        del model.metadata_props[:]
        converted = openvino.Core().read_model(model=model.SerializeToString())
        openvino.save_model(converted, path, compress_to_fp16=False)
        if isinstance(facts, dict) and "weights_sha256" in facts:
            facts = facts | {"weights_sha256": sha256(path.with_suffix(".bin").read_bytes())}
        text = facts if isinstance(facts, str) else json.dumps(facts)
        converted.set_rt_info(text, METADATA_KEY)
        openvino.save_model(converted, path, compress_to_fp16=False)
        content = path.read_bytes()
    path.write_bytes(sealed(content) if BLANK_SEAL.encode() in content else content)
    return path


@pytest.fixture(params=FORMATS)
def path(request, tmp_path):
    """Where a model of each format goes."""
    return tmp_path / f"model{SUFFIXES[request.param]}"


def test_the_graph_of_these_tests_is_read_and_scores(path):
    model = ExportedModel.load(write(path), num_threads=1)
    found = model.predict(IMAGE)
    expected = np.rint(IMAGE * 255).mean(axis=2) / 255
    np.testing.assert_allclose(found.anomaly_map, expected, atol=1e-6)
    np.testing.assert_array_equal(found.pred_mask, found.anomaly_map >= 0.5)
    assert found.image_score == found.anomaly_map.max()
    assert found.is_anomalous == (found.image_score >= 0.7)
    assert model.facts.image_size == (64, 96)


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".bin"])
def test_every_flipped_bit_is_noticed(tmp_path, suffix):
    path = write(tmp_path / f"model{'.onnx' if suffix == '.onnx' else '.xml'}")
    damaged = path.with_suffix(suffix)
    content, rng = damaged.read_bytes(), random.Random(0)
    for _ in range(40):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        damaged.write_bytes(changed)
        with pytest.raises(InputValueError, match=re.escape(str(damaged))):
            ExportedModel.load(path)
    damaged.write_bytes(content[:-1])
    with pytest.raises(InputValueError, match=re.escape(str(damaged))):
        ExportedModel.load(path)


def test_weights_of_another_export_are_refused(tmp_path):
    one, other = write(tmp_path / "one.xml"), write(tmp_path / "other.xml", model=graph(510))
    shutil.copy(other.with_suffix(".bin"), one.with_suffix(".bin"))
    with pytest.raises(InputValueError, match=r"one.bin does not hold the weights of .*one.xml"):
        ExportedModel.load(one)
    one.with_suffix(".bin").unlink()
    with pytest.raises(InputNotFoundError, match=r"one.bin is not there, .* weights of .*one.xml"):
        ExportedModel.load(one)


def test_a_digest_that_was_taken_out_is_missed(path):
    with pytest.raises(InputValueError, match="its digest is missing"):
        ExportedModel.load(write(path, UNSEALED))


@pytest.mark.parametrize(("version", "remedy"), [(2, "Export it again"), (4, "Update it")])
def test_another_format_is_told(path, version, remedy):
    write(path, FACTS | {"format_version": version, "more": 1})
    with pytest.raises(InputValueError, match=f"has format {version}; .* reads 3. {remedy}"):
        ExportedModel.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("decision", text) for text in ("null", "0.5", "{}", '{"image_threshold": 0.5}')),
        *(
            ("decision", f'{{"image_threshold": 0.5, "pixel_threshold": {text}}}')
            for text in ("NaN", "1e999", "true", '"0.5"', "-0.01", "1.01", "[]")
        ),
        ("decision", '{"image_threshold": 1.1, "pixel_threshold": 0.5}'),
        ("decision", '{"image_threshold": 0.5, "pixel_threshold": 0.5, "asked": {"min_area": 3}}'),
        *(("image_size", text) for text in ("[63,64]", "[64]", "[64,4097]", "[64,96.5]", "null")),
        *(("image_size", text) for text in ("[true,64]", '["64",64]', "[1e99,64]")),
        *(("category", text) for text in ("3", "null", '["a"]')),
        *(("pixel_type", text) for text in ('"float32"', "8")),
        *(("format_version", text) for text in ("true", '"2"', "2.5", "null")),
        ("anything", "1"),
    ],
)
@pytest.mark.parametrize("file_format", FORMATS)
def test_facts_are_of_their_types_and_ranges(tmp_path, file_format, name, value):
    text = json.dumps(FACTS | {name: "HERE"}).replace('"HERE"', value)
    path = write(tmp_path / f"model{SUFFIXES[file_format]}", text)
    with pytest.raises(InputValueError, match=rf"not say what it was trained for \(`{name}"):
        ExportedModel.load(path)


@pytest.mark.parametrize(
    "text", ["", "nothing", "[]", "[" * 100_000, "1" * 5000, '{"category": "\\ud800"}']
)
def test_facts_that_are_none(path, text):
    write(path, text)
    with pytest.raises(InputValueError, match="does not say what it was trained for"):
        ExportedModel.load(path)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (graph(pixels=TensorProto.UINT16), "`image`"),
        (graph(renamed=True), "`image`"),
    ],
)
def test_another_graph_under_our_facts_is_refused(path, model, names):
    write(path, model=model)
    with pytest.raises(InputValueError, match=f"is no model of PatchScout: .*{names}"):
        ExportedModel.load(path)


@pytest.mark.parametrize(
    ("scale", "says"), [(0.0, "not finite"), (100.0, r"from 0\.\d+ to 2\.\d+ where probabilities")]
)
def test_a_map_that_is_none_is_an_error(path, scale, says):
    model = ExportedModel.load(write(path, model=graph(scale)))
    with pytest.raises(InputValueError, match=says):
        model.predict(IMAGE)


def test_a_threshold_that_is_not_the_one_in_the_graph_is_noticed(path):
    model = ExportedModel.load(
        write(path, FACTS | {"decision": DECISION | {"pixel_threshold": 0.9}})
    )
    with pytest.raises(
        InputValueError, match=r"a mask that is not that of its anomaly map at the threshold 0\.9"
    ):
        model.predict(IMAGE)


def test_what_the_library_cannot_run_is_told_in_one_line(path):
    model = graph()
    model.graph.initializer[-1].CopyFrom(numpy_helper.from_array(np.zeros(7, np.float32), "some"))
    model.graph.node[3].CopyFrom(helper.make_node("Identity", ["some"], ["nothing"]))
    with pytest.raises(InputValueError, match="cannot score an image of 30 by 40 pixels"):
        ExportedModel.load(write(path, model=model)).predict(IMAGE)


@pytest.mark.parametrize("location", ["weights", "../weights", "/etc/hostname"])
def test_no_other_file_is_read(tmp_path, monkeypatch, location):
    model = graph()
    weights = model.graph.initializer[-1]
    (tmp_path / "weights").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    monkeypatch.chdir(tmp_path)
    for path in (Path("model.onnx"), tmp_path / "model.onnx"):
        write(path, model=model)
        with pytest.raises(InputValueError, match=r"model\.onnx keeps weights in other files"):
            ExportedModel.load(path)


@pytest.mark.parametrize(("has_newer_operator", "opset"), [(False, 15), (True, 17)])
def test_operators_and_format_are_the_oldest_that_serve(tmp_path, has_newer_operator, opset):
    model = graph()
    model.ir_version = 10
    mean, total = model.graph.node[1], model.graph.node[3]
    mean.attribute.append(helper.make_attribute("noop_with_empty_axes", 0))
    mean.metadata_props.add(key="stack_trace", value="/home/someone/model.py")
    if has_newer_operator:
        model.graph.initializer.append(numpy_helper.from_array(np.ones(5, np.float32), "ones"))
        total.CopyFrom(helper.make_node("ReduceSum", ["level"], ["nothing"], keepdims=0))
        model.graph.node.insert(
            3, helper.make_node("LayerNormalization", ["some", "ones"], ["level"])
        )
    older = for_older_runtimes(model)
    assert (older.opset_import[0].version, older.ir_version) == (opset, 8)
    assert b"someone" not in older.SerializeToString()
    found, expected = (
        ExportedModel.load(write(tmp_path / f"{number}.onnx", model=one)).predict(IMAGE)
        for number, one in enumerate((older, graph()))
    )
    np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ir_version": 99}, r"\w+: .*Unsupported model IR version: 99, max .* version: \d+"),
        (
            {"opset": 99},
            r"\w+: .*official released onnx opset versions\. Opset 99 .*is till opset",
        ),
    ],
)
def test_a_library_too_old_is_told_with_all_of_its_reason_and_what_to_do(tmp_path, change, reason):
    model = graph()
    model.ir_version = change.get("ir_version", 8)
    model.opset_import[0].version = change.get("opset", 18)
    path, version = write(tmp_path / "model.onnx", model=model), onnxruntime.__version__
    with pytest.raises(InputValueError) as caught:
        ExportedModel.load(path)
    assert re.fullmatch(
        rf"{path} cannot be read as a model by onnxruntime {version} \({reason}.*\)\. PatchScout"
        r" needs onnxruntime 1\.19 or newer: update an older one with `pip install -U"
        r" onnxruntime`\. Else export the model again\.",
        str(caught.value),
    )


def test_a_library_too_old_is_not_even_loaded(tmp_path, monkeypatch):
    path = write(tmp_path / "model.onnx")
    for found in ("1.9.2", "1.18.1", "1.19.0", "2.0"):
        monkeypatch.setattr(exported, "version", lambda _, found=found: found)
        if found in ("1.19.0", "2.0"):
            assert ExportedModel.load(path).facts.decision.pixel_threshold == 0.5
            continue
        monkeypatch.setattr(exported, "import_module", pytest.fail)
        says = rf"onnxruntime of version 1\.19 or newer; {found} is installed\. Install .*\[onnx\]"
        with pytest.raises(InputNotFoundError, match=says):
            ExportedModel.load(path)
        monkeypatch.undo()


def test_the_oldest_versions_are_those_of_the_extras():
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    for name, version in OLDEST_VERSIONS.items():
        assert f"{name}>={version}" in extras[name.removesuffix("runtime")]


def test_a_library_that_does_not_load_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "unfitting.py").write_text("raise ImportError('compiled for NumPy 1')")
    (tmp_path / "lacking.py").write_text("import nothing_of_this_name")
    monkeypatch.syspath_prepend(tmp_path)
    for name, says in (
        ("absent", "which is not installed. Install it with `pip install -U 'patchscout[onnx]'`"),
        ("unfitting", "which cannot be loaded (ImportError: compiled for NumPy 1). Install it"),
        ("lacking", "which cannot be loaded (ModuleNotFoundError: No module named 'nothing_of"),
    ):
        with pytest.raises(
            InputNotFoundError, match=re.escape(f"needs the library {name}, {says}")
        ):
            library(name, "onnx")


def test_threads_of_onnx_runtime_wait_asleep(tmp_path, monkeypatch):
    path, asked = write(tmp_path / "model.onnx"), []
    start = onnxruntime.InferenceSession

    def started(content, options, **settings):
        asked.append(options.get_session_config_entry("session.intra_op.allow_spinning"))
        return start(content, options, **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", started)
    ExportedModel.load(path)
    assert asked == ["0"]
