"""An exported model: runs without PyTorch (ONNX, OpenVINO) or without this program's networks."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, UInt
from pydantic import TypeAdapter, ValidationError

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.types import Image, Prediction

ExportFormat = Literal["onnx", "openvino", "torch"]
PixelType = Literal["uint8", "uint16"]

SUFFIXES: dict[ExportFormat, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
"""What the file of each format ends in; OpenVINO keeps its weights beside it, in a `.bin` file."""

FORMAT_VERSION = 1
METADATA_KEY = "patchscout"
"""Under which a model file holds its facts, as JSON."""

INPUT_NAME = "image"
OUTPUT_NAMES = ("anomaly_map", "pred_mask", "pred_score")

Pixels = UInt[np.ndarray, "batch height width 3"]
Outputs = tuple[
    Float[np.ndarray, "batch height width"],
    Bool[np.ndarray, "batch height width"],
    Float[np.ndarray, " batch"],
]


@dataclass(frozen=True)
class ModelFacts:
    """What a model file says of itself.

    Attributes:
        category: Name of the data set that it was trained on.
        threshold: The decision threshold, in [0, 1].
        image_size: Height and width in pixels that it works at.
        pixel_type: What the values of an image must be.
        format_version: Of these facts.
    """

    category: str
    threshold: float
    image_size: tuple[int, int]
    pixel_type: PixelType = "uint8"
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Return the facts as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str, path: Path) -> ModelFacts:
        """Read facts.

        Raises:
            InputValueError: If they are damaged or of a newer format.
        """
        try:
            facts = TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise _not_ours(path) from error
        if facts.format_version > FORMAT_VERSION:
            raise InputValueError(
                f"{path} has format {facts.format_version}; this PatchScout reads up to"
                f" {FORMAT_VERSION}. Update it."
            )
        return facts


class ExportedModel:
    """Finds defects by a model that `patchscout export` wrote.

    Args:
        run: Computes the outputs for a batch of images.
        facts: What the model file says of itself.

    Attributes:
        facts: Likewise.
    """

    def __init__(self, run: Callable[[Pixels], Outputs], facts: ModelFacts) -> None:
        self.run = run
        self.facts = facts

    @classmethod
    def load(cls, path: str | Path, *, num_threads: int | None = None) -> ExportedModel:
        """Read a model file, by the library that its name asks for.

        Args:
            path: A file ending in `.onnx`, `.xml` or `.pt2`.
            num_threads: Threads to compute with; unset: the library decides. With `.pt2` it is
                always PyTorch that decides.

        Raises:
            InputNotFoundError: If it, or the library, is not there.
            InputValueError: If it is damaged or no model of PatchScout.
        """
        path = Path(path)
        if not path.is_file():
            raise InputNotFoundError(f"Model {path} is not there. Check the path.")
        for name, suffix in SUFFIXES.items():
            if path.suffix.lower() == suffix:
                return cls(*_READERS[name](path, num_threads))
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
        """
        largest = np.iinfo(self.facts.pixel_type).max
        pixels = np.rint(image * largest).astype(self.facts.pixel_type)
        anomaly_map, pred_mask, pred_score = self.run(pixels[None])
        return Prediction(
            anomaly_map=anomaly_map[0],
            pred_mask=pred_mask[0],
            pred_score=float(pred_score[0]),
            threshold=self.facts.threshold,
        )


def _read_onnx(path: Path, num_threads: int | None) -> tuple[Any, ModelFacts]:
    onnxruntime = _library("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if num_threads is not None:
        options.intra_op_num_threads = num_threads
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=onnxruntime.get_available_providers()
        )
    except Exception as error:  # the library raises classes of its own
        raise _damaged(path, error) from error
    facts = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, "")

    def run(pixels: Pixels) -> Outputs:
        return tuple(session.run(list(OUTPUT_NAMES), {INPUT_NAME: pixels}))

    return run, ModelFacts.from_json(facts, path)


def _read_openvino(path: Path, num_threads: int | None) -> tuple[Any, ModelFacts]:
    openvino = _library("openvino", "openvino")
    properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if num_threads is not None:
        properties["INFERENCE_NUM_THREADS"] = num_threads
    try:
        core = openvino.Core()
        model = core.read_model(path)
        facts = str(model.get_rt_info(METADATA_KEY).value) if METADATA_KEY in model.rt_info else ""
        compiled = core.compile_model(model, "CPU", properties)
    except Exception as error:
        raise _damaged(path, error) from error

    def run(pixels: Pixels) -> Outputs:
        results = compiled({INPUT_NAME: pixels})
        anomaly_map, pred_mask, pred_score = (results[name].copy() for name in OUTPUT_NAMES)
        return anomaly_map, pred_mask.astype(bool), pred_score

    return run, ModelFacts.from_json(facts, path)


def _read_torch(path: Path, num_threads: int | None) -> tuple[Any, ModelFacts]:
    torch = _library("torch", "torch")
    facts = {METADATA_KEY: ""}
    try:
        with quiet():
            module = torch.export.load(path, extra_files=facts).module()
    except Exception as error:
        raise _damaged(path, error) from error

    def run(pixels: Pixels) -> Outputs:
        with torch.no_grad():
            return tuple(output.numpy() for output in module(torch.from_numpy(pixels)))

    return run, ModelFacts.from_json(facts[METADATA_KEY], path)


_READERS: dict[ExportFormat, Callable[[Path, int | None], tuple[Any, ModelFacts]]] = {
    "onnx": _read_onnx,
    "openvino": _read_openvino,
    "torch": _read_torch,
}


def _library(name: str, extra: str) -> Any:
    """Return a library that only some model files need."""
    try:
        return __import__(name)
    except ImportError as error:
        raise InputNotFoundError(
            f"This model needs the library {name}, which is not installed."
            f" Install it with `pip install 'patchscout[{extra}]'`."
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep PyTorch from telling about libraries that are not needed and what is an error anyway."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _damaged(path: Path, error: Exception) -> InputValueError:
    return InputValueError(
        f"{path} cannot be read as a model ({type(error).__name__}: {str(error)[:120]})."
        " Export it again."
    )


def _not_ours(path: Path) -> InputValueError:
    return InputValueError(
        f"{path} does not say what it was trained for. Expected a model that `patchscout export`"
        " wrote."
    )
