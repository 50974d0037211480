"""Writes a trained model as one file for other runtimes, and checks that it answers alike."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch.export import Dim, ExportedProgram

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.exported import (
    INPUT_NAME,
    METADATA_KEY,
    OUTPUT_NAMES,
    ExportedModel,
    ExportFormat,
    ModelFacts,
    quiet,
)
from patchscout.inference import Scorer, resize_map
from patchscout.networks.deployable import DeployableModel
from patchscout.networks.segmenter import Segmenter
from patchscout.types import make_prediction

ImageOfAnySize = Float[np.ndarray, "_ _ 3"]
"""As `Image`, but those of a sequence may differ in size."""

TOLERANCE = 1e-4
"""Largest difference of two anomaly maps that is put down to rounding."""

OPSET = 18
"""Version of the ONNX operators."""


@dataclass(frozen=True)
class Parity:
    """How far an exported model is from the one it was made of.

    Attributes:
        num_images: How many images were compared.
        largest_difference: Of any pixel of their anomaly maps.
        num_pixels: Pixels of all of them.
        num_other_side: Pixels that are on the other side of the threshold.
    """

    num_images: int
    largest_difference: float
    num_pixels: int
    num_other_side: int

    def __str__(self) -> str:
        return (
            f"on {self.num_images} images anomaly maps differ by at most"
            f" {self.largest_difference:.1e}, masks in {self.num_other_side} of"
            f" {self.num_pixels} pixels"
        )


def export_model(
    segmenter: Segmenter,
    facts: ModelFacts,
    path: Path,
    file_format: ExportFormat,
    images: Sequence[ImageOfAnySize],
) -> Parity:
    """Write a model file, after checking on images that it finds what the model finds.

    Args:
        segmenter: The trained model.
        facts: What the file says of itself.
        path: The file; its folder is there. One that is there is replaced.
        file_format: What is written; with `openvino` the weights are beside it, in a `.bin` file.
        images: (height, width, 3) float32 in [0, 1], of any sizes, at least one.

    Raises:
        InputNotFoundError: If a library that the format needs is not installed.
        InputValueError: If the file's anomaly maps differ by more than rounding; then there is
            no file.
    """
    segmenter = copy.deepcopy(segmenter).cpu().eval()
    largest = int(np.iinfo(facts.pixel_type).max)
    model = DeployableModel(segmenter, facts.image_size, facts.threshold, largest).eval()
    with quiet():
        _WRITERS[file_format](model, facts, path)
    parity = compare(segmenter, ExportedModel.load(path), images)
    if not parity.largest_difference <= TOLERANCE:
        raise InputValueError(
            f"The exported model is not the trained one: {parity}, where {TOLERANCE:g} is"
            f" expected. {path} is not written; try another `--format`."
        )
    return parity


def compare(
    segmenter: Segmenter, exported: ExportedModel, images: Sequence[ImageOfAnySize]
) -> Parity:
    """Return how far an exported model is from a model on the CPU, given the same pixels."""
    facts = exported.facts
    largest = np.iinfo(facts.pixel_type).max
    score = Scorer(segmenter, facts.image_size, torch.device("cpu"))
    largest_difference, num_pixels, num_other_side = 0.0, 0, 0
    for image in images:
        rounded = (np.rint(image * largest) / largest).astype(np.float32)
        expected_map = resize_map(score(rounded), image.shape[:2])
        expected = make_prediction(expected_map, facts.threshold)
        found = exported.predict(rounded)
        difference = float(np.abs(found.anomaly_map - expected.anomaly_map).max())
        largest_difference = max(largest_difference, difference)
        num_pixels += expected.pred_mask.size
        num_other_side += int((found.pred_mask != expected.pred_mask).sum())
    return Parity(len(images), largest_difference, num_pixels, num_other_side)


def _program(model: DeployableModel, facts: ModelFacts) -> ExportedProgram:
    """Return the graph of a model for any number of images of any size."""
    height, width = (side + 8 for side in facts.image_size)  # sizes of their own: nothing is equal
    example = torch.zeros(2, height, width, 3, dtype=getattr(torch, facts.pixel_type))
    sizes = {0: Dim("batch"), 1: Dim("height"), 2: Dim("width")}
    with torch.no_grad():
        return torch.export.export(model, (example,), dynamic_shapes=(sizes,))


def _write_torch(model: DeployableModel, facts: ModelFacts, path: Path) -> None:
    content = io.BytesIO()  # to a file that cannot be written it would abort the process
    torch.export.save(_program(model, facts), content, extra_files={METADATA_KEY: facts.to_json()})
    path.write_bytes(content.getvalue())


def _write_onnx(model: DeployableModel, facts: ModelFacts, path: Path) -> None:
    _need("onnx", "onnxscript", "onnxruntime", extra="onnx")
    _save_onnx(model, facts, path)


def _save_onnx(model: DeployableModel, facts: ModelFacts, path: Path) -> None:
    program: Any = torch.onnx.export(
        _program(model, facts),
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT_NAME],
        output_names=OUTPUT_NAMES,
        verbose=False,
    )
    program.model.metadata_props[METADATA_KEY] = facts.to_json()
    program.save(path)


def _write_openvino(model: DeployableModel, facts: ModelFacts, path: Path) -> None:
    _need("onnx", "onnxscript", "openvino", extra="openvino")
    import openvino

    onnx_path = path.with_suffix(".onnx")
    _save_onnx(model, facts, onnx_path)
    converted = openvino.Core().read_model(onnx_path)
    converted.set_rt_info(facts.to_json(), METADATA_KEY)
    try:
        openvino.save_model(converted, path, compress_to_fp16=False)
    except RuntimeError as error:  # all that it says of a full disk
        raise OSError(f"{path.name}: {error}") from error
    onnx_path.unlink()


_WRITERS: dict[ExportFormat, Callable[[DeployableModel, ModelFacts, Path], None]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torch": _write_torch,
}


def _need(*libraries: str, extra: str) -> None:
    """Refuse to go on without a library.

    Raises:
        InputNotFoundError: If one is not installed.
    """
    for name in libraries:
        if find_spec(name) is None:
            raise InputNotFoundError(
                f"To export this format the library {name} is needed, which is not installed."
                f" Install it with `pip install 'patchscout[{extra}]'`."
            )
