"""An exported model: runs without PyTorch, by ONNX Runtime or OpenVINO.

A file carries its own digest, and OpenVINO's two files know each other. All of it is read once,
the digest is checked, and these very bytes are then given to the library, which reads nothing else.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, UInt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.decision import Decision
from patchscout.drift import NormalRange, measure
from patchscout.files.seal import BLANK_SEAL, check_seal, sha256
from patchscout.prediction import Prediction, make_prediction
from patchscout.text import shown
from patchscout.types import Image

ExportFormat = Literal["onnx", "openvino"]
PixelType = Literal["uint8", "uint16"]

SUFFIXES: dict[ExportFormat, str] = {"onnx": ".onnx", "openvino": ".xml"}
"""What the file of each format ends in; OpenVINO keeps its weights beside it, in a `.bin` file."""

FORMAT_VERSION = 3
METADATA_KEY = "patchscout"
"""Under which a model file holds its facts, as JSON."""

OLDEST_VERSIONS = {"onnxruntime": "1.19", "openvino": "2025.1"}
"""Of the libraries, as in the package's extras; ONNX Runtime 1.19 is the first for NumPy 2."""

INPUT_NAME = "image"
OUTPUT_NAMES = ("anomaly_map", "pred_mask", "image_score")

Pixels = UInt[np.ndarray, "batch height width 3"]
Outputs = tuple[
    Float[np.ndarray, "batch height width"],
    Bool[np.ndarray, "batch height width"],
    Float[np.ndarray, " batch"],
]
Run = Callable[[Pixels], Outputs]

Side = Annotated[int, Field(ge=64, le=4096)]
Kind = tuple[str, int]
"""Type of the values of an input or output, and number of its dimensions."""
Port = tuple[set[str], Kind]
"""An input or output, with the names that it goes by."""


class ModelFacts(BaseModel):
    """What a model file says of itself.

    Attributes:
        category: Name of the data set that it was trained on.
        decision: Thresholds, rules and probabilities.
        image_size: Height and width in pixels that it works at.
        pixel_type: What the values of an image must be.
        normal_range: Statistics of normal training images, see `drift`.
        format_version: Of these facts.
        seal: The digest of the file that holds them, see `files.seal`.
        weights_sha256: The digest of the file of the weights, where it is another one.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    category: str
    decision: Decision
    image_size: tuple[Side, Side]
    pixel_type: PixelType = "uint8"
    normal_range: NormalRange | None = None
    format_version: Annotated[int, Field(ge=FORMAT_VERSION, le=FORMAT_VERSION)] = FORMAT_VERSION
    seal: str = BLANK_SEAL
    weights_sha256: str | None = None

    @classmethod
    def from_json(cls, text: str, path: Path) -> ModelFacts:
        """Read facts.

        Raises:
            InputValueError: If they are damaged or of a newer format.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise _not_ours(path, text, error) from error


class ExportedModel:
    """Finds defects by a model that `patchscout export` wrote.

    Args:
        run: Computes the outputs for a batch of images.
        facts: What the model file says of itself.
    """

    def __init__(self, run: Run, facts: ModelFacts) -> None:
        self.run = run
        self.facts = facts

    @classmethod
    def load(cls, path: str | Path, *, num_threads: int | None = None) -> ExportedModel:
        """Read a model file, by the library that its name asks for.

        Args:
            path: A file ending in `.onnx` or `.xml`.
            num_threads: Threads to compute with; unset: the library decides.

        Raises:
            InputNotFoundError: If it, its weights or the library are not there.
            InputValueError: If it is damaged, does not belong to its weights or is no model of
                PatchScout.
        """
        path = Path(path)
        if not path.is_file():
            raise InputNotFoundError(f"Model {path} is not there. Check the path.")
        for name, suffix in SUFFIXES.items():
            if path.suffix.lower() == suffix:
                content = path.read_bytes()
                is_sealed = check_seal(content, path)
                run, facts = _READERS[name](path, content, num_threads)
                if not is_sealed:
                    raise InputValueError(
                        f"{path} is damaged or was changed: its digest is missing. Copy it again"
                        " from where it was made, or export it again."
                    )
                return cls(run, facts)
        raise InputValueError(
            f"{path} is no exported model. Expected a file ending in"
            f" {', '.join(SUFFIXES.values())}, or a run folder."
        )

    def predict(self, image: Image) -> Prediction:
        """Find defects in one image.

        Args:
            image: (height, width, 3) float32 in [0, 1].

        Returns:
            A prediction at the image's own size.

        Raises:
            InputValueError: If the model cannot be run, or its map is none.
        """
        largest = np.iinfo(self.facts.pixel_type).max
        pixels = np.rint(image * largest).astype(self.facts.pixel_type)
        height, width = image.shape[:2]
        try:
            anomaly_map, pred_mask, image_score = self.run(pixels[None])
        except Exception as error:  # the libraries raise classes of their own
            raise InputValueError(
                f"The exported model cannot score an image of {height} by {width} pixels"
                f" ({_reason(error)}). Export it again, or score smaller images."
            ) from error
        if anomaly_map.shape != (1, height, width):
            raise InputValueError(
                f"The exported model gives a map of shape {anomaly_map.shape} where"
                f" {(1, height, width)} is expected. Export it again."
            )
        found = make_prediction(anomaly_map[0], float(image_score[0]), self.facts.decision)
        if not np.array_equal(pred_mask[0], found.pred_mask):
            raise InputValueError(
                "The exported model gives a mask that is not that of its anomaly map at the"
                f" threshold {found.decision.pixel_threshold:g}: it was changed. Export it again."
            )
        known = self.facts.normal_range
        if known is None:
            return found
        measured = measure(image, self.facts.image_size, found.anomaly_map > 0)
        return replace(found, unlike_training=known.changes(measured))


_LOCATION = re.compile(rb"[\0\x08]location")
"""The key under which ONNX names a file of weights, after its length as Protobuf encodes it."""


def _read_onnx(path: Path, content: bytes, num_threads: int | None) -> tuple[Run, ModelFacts]:
    onnxruntime = library("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if num_threads is not None:
        options.intra_op_num_threads = num_threads
    # Threads that wait leave their cores to others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # no other is checked
    if _LOCATION.search(content):
        raise InputValueError(
            f"{path} keeps weights in other files, which are not read. Expected a model that"
            " `patchscout export` wrote."
        )
    try:
        session = onnxruntime.InferenceSession(
            content, options, providers=onnxruntime.get_available_providers()
        )
        text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, "")
        inputs, outputs = (
            [({port.name}, (port.type, len(port.shape))) for port in ports]
            for ports in (session.get_inputs(), session.get_outputs())
        )
    except Exception as error:  # the library raises classes of its own
        raise _refused(path, onnxruntime, error) from error
    facts = ModelFacts.from_json(text, path)
    _check_graph(path, facts, inputs, outputs)

    def run(pixels: Pixels) -> Outputs:
        return tuple(session.run(list(OUTPUT_NAMES), {INPUT_NAME: pixels}))

    return run, facts


def _read_openvino(path: Path, content: bytes, num_threads: int | None) -> tuple[Run, ModelFacts]:
    openvino = library("openvino", "openvino")
    # Read before OpenVINO reads anything: they say which weights belong to the file.
    found = re.findall(rb'<patchscout value="([^"]*)"', content)
    text = html.unescape(found[0].decode("utf-8", "replace")) if len(found) == 1 else ""
    facts = ModelFacts.from_json(text, path)
    weights = _weights_of(path, facts)
    properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if num_threads is not None:
        properties["INFERENCE_NUM_THREADS"] = num_threads
    try:
        model = openvino.Core().read_model(model=content, weights=weights)
        compiled = openvino.Core().compile_model(model, "CPU", properties)
        inputs, outputs = (
            [
                (
                    set(port.get_names()),
                    (port.get_element_type().get_type_name(), len(port.get_partial_shape())),
                )
                for port in ports
            ]
            for ports in (compiled.inputs, compiled.outputs)
        )
    except Exception as error:
        raise _refused(path, openvino, error) from error
    _check_graph(path, facts, inputs, outputs)

    def run(pixels: Pixels) -> Outputs:
        results = compiled.create_infer_request().infer({INPUT_NAME: pixels})
        anomaly_map, pred_mask, image_score = (results[name].copy() for name in OUTPUT_NAMES)
        return anomaly_map, pred_mask.astype(bool), image_score

    return run, facts


def _weights_of(path: Path, facts: ModelFacts) -> bytes:
    """Return the weights that belong to a file of OpenVINO.

    Raises:
        InputNotFoundError: If they are not there.
        InputValueError: If they are not those that it was written with.
    """
    weights_path = path.with_suffix(".bin")
    if not weights_path.is_file():
        raise InputNotFoundError(
            f"{weights_path} is not there, which holds the weights of {path}. Copy it beside it."
        )
    weights = weights_path.read_bytes()
    if sha256(weights) != facts.weights_sha256:
        raise InputValueError(
            f"{weights_path} does not hold the weights of {path}: it is damaged or of another"
            " export. Copy both files again from where they were made, or export them again."
        )
    return weights


_READERS: dict[ExportFormat, Callable[[Path, bytes, int | None], tuple[Run, ModelFacts]]] = {
    "onnx": _read_onnx,
    "openvino": _read_openvino,
}

_TYPES = {
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(float)": "float32",
    "tensor(bool)": "bool",
    "u8": "uint8",
    "u16": "uint16",
    "f32": "float32",
    "boolean": "bool",
    "char": "bool",
}
"""What NumPy calls the types of ONNX Runtime and of OpenVINO, which has masks as `char`."""


def _check_graph(path: Path, facts: ModelFacts, inputs: list[Port], outputs: list[Port]) -> None:
    """Check that a model takes and gives what its facts say.

    Raises:
        InputValueError: If it does not.
    """
    expected = [
        [(INPUT_NAME, (facts.pixel_type, 4))],
        list(zip(OUTPUT_NAMES, (("float32", 3), ("bool", 3), ("float32", 1)), strict=True)),
    ]
    for wanted, ports in zip(expected, (inputs, outputs), strict=True):
        for name, kind in wanted:
            found = [(_TYPES.get(of, of), rank) for names, (of, rank) in ports if name in names]
            if found != [kind] or len(ports) != len(wanted):
                raise InputValueError(
                    f"{path} is no model of PatchScout: `{name}` must be {kind[0]} of {kind[1]}"
                    f" dimensions, one of {len(wanted)}; got {found or 'none'}, of {len(ports)}."
                    " Expected a model that `patchscout export` wrote."
                )


def library(name: str, extra: str) -> Any:
    """Return a library that only some model files need.

    Raises:
        InputNotFoundError: If it is not installed, too old or does not fit what else is.
    """
    remedy = f"Install it with `pip install -U 'patchscout[{extra}]'`."
    with suppress(PackageNotFoundError):  # builds for other devices have other names
        found, oldest = version(name), OLDEST_VERSIONS.get(name, "0")
        if _numbers(found) < _numbers(oldest):  # loading it can crash
            raise InputNotFoundError(
                f"A model of this format needs the library {name} of version {oldest} or newer;"
                f" {found} is installed. {remedy}"
            )
    try:
        return import_module(name)
    except ImportError as error:
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == name
        state = "is not installed" if is_missing else f"cannot be loaded ({_reason(error)})"
        raise InputNotFoundError(
            f"A model of this format needs the library {name}, which {state}. {remedy}"
        ) from error


def _numbers(of: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", of)[:2]]


def _refused(path: Path, library: Any, error: Exception) -> InputValueError:
    """Return what to say of a file that a library cannot read, with all of its reason."""
    name = library.__name__
    return InputValueError(
        f"{path} cannot be read as a model by {name} {library.__version__} ({_reason(error)})."
        f" PatchScout needs {name} {OLDEST_VERSIONS[name]} or newer: update an older one with"
        f" `pip install -U {name}`. Else export the model again."
    )


def _reason(error: Exception) -> str:
    return shown(f"{type(error).__name__}: {error}", longest=2000)


def _not_ours(path: Path, text: str, error: ValidationError) -> InputValueError:
    first = error.errors(include_input=False, include_url=False)[0]
    try:
        written = json.loads(text)["format_version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        written = FORMAT_VERSION
    if type(written) is int and written != FORMAT_VERSION:
        remedy = "Update it" if written > FORMAT_VERSION else "Export it again"
        return InputValueError(
            f"{path} has format {shown(written)}; this PatchScout reads {FORMAT_VERSION}. {remedy}."
        )
    place = ".".join(map(str, first["loc"]))
    return InputValueError(
        f"{path} does not say what it was trained for"
        f" ({f'`{place}`: ' if place else ''}{first['msg']}). Expected a model that"
        " `patchscout export` wrote."
    )
