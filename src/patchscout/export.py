"""Writes a trained model as one file for other runtimes, and checks that it answers alike."""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.export import Dim

from patchscout.checks import InputValueError, about
from patchscout.decision import image_score
from patchscout.exported import (
    INPUT_NAME,
    METADATA_KEY,
    OUTPUT_NAMES,
    ExportedModel,
    ExportFormat,
    ModelFacts,
    library,
)
from patchscout.files.seal import sealed, sha256
from patchscout.inference import Scorer, resize_map
from patchscout.networks.deployable import DeployableModel
from patchscout.prediction import Prediction, make_prediction
from patchscout.types import AnomalyMap

ImageOfAnySize = Float[np.ndarray, "_ _ 3"]
"""As `Image`, but those of a sequence may differ in size."""

ROUNDINGS = 8192
"""So many roundings of the largest value may come together on the way of an image to its map."""

SMALLEST_RANGE = 0.01
"""Maps that vary by less are taken to vary by this much, of rounding in the layers before."""

OPSET = 18
"""Version of the ONNX operators that PyTorch writes."""

OLDEST_OPSET = 15
"""The first that has all operators of the default model as they are used; ONNX Runtime 1.10 has
it. Older ones lack `Shape` of single sides."""


@dataclass(frozen=True)
class Parity:
    """How far an exported model is from the one it was made of.

    Attributes:
        num_images: How many images were compared.
        tolerance: What maps and scores may differ by.
        largest_difference: Of any pixel of their anomaly maps.
        place: Where that is: image, pixel and both values, in words.
        largest_score_difference: Of any image.
        num_pixels: Pixels of all of them.
        num_other_side: Pixels that are on the other side of the pixel threshold.
        num_other_decisions: Images that only one of the two calls defective, by score and rules.
        num_ties: Those of them that the tolerance added to the map and the score decides.
    """

    num_images: int
    tolerance: float
    largest_difference: float
    place: str
    largest_score_difference: float
    num_pixels: int
    num_other_side: int
    num_other_decisions: int
    num_ties: int

    @property
    def holds(self) -> bool:
        """Whether the two differ by rounding only."""
        return (
            max(self.largest_difference, self.largest_score_difference) <= self.tolerance
            and self.num_other_decisions == self.num_ties
        )

    def __str__(self) -> str:
        return (
            f"on {self.num_images} images anomaly maps differ by at most"
            f" {self.largest_difference:.1e} ({self.place}; the tolerance is {self.tolerance:.1e}),"
            f" scores by {self.largest_score_difference:.1e}, masks in {self.num_other_side} of"
            f" {self.num_pixels} pixels, decisions in {self.num_other_decisions} images, of which"
            f" {self.num_ties} are at a threshold"
        )


def export_model(
    segmenter: nn.Module,
    facts: ModelFacts,
    path: Path,
    file_format: ExportFormat,
    images: Sequence[ImageOfAnySize],
    names: Sequence[str],
    tolerance: float | None = None,
) -> Parity:
    """Write a model file, and check on images that it finds what the model finds.

    Args:
        segmenter: The trained model.
        facts: What the file says of itself.
        path: The file, in a folder that the caller throws away where this is refused.
        file_format: What is written; with `openvino` the weights are beside it, in a `.bin` file.
        images: (height, width, 3) float32 in [0, 1], of any sizes, at least one.
        names: Of the images, for what is told of them.
        tolerance: What anomaly maps and scores may differ by; unset: what rounding can come to, see
            `rounding`.

    Raises:
        InputNotFoundError: If a library that the format needs is not installed.
        InputValueError: If the file's anomaly maps or decisions differ by more, or the model gives
            values that are not finite.
    """
    if tolerance is not None and not (tolerance > 0 and math.isfinite(tolerance)):
        raise InputValueError(f"`--tolerance` must be above 0; got {tolerance}.")
    segmenter = copy.deepcopy(segmenter).cpu().eval()
    largest = int(np.iinfo(facts.pixel_type).max)
    model = DeployableModel(
        segmenter, facts.image_size, facts.decision.pixel_threshold, largest
    ).eval()
    with _quiet():
        _WRITERS[file_format](model, facts, path)
    parity = compare(segmenter, ExportedModel.load(path), images, names, tolerance)
    if not parity.holds:
        raise InputValueError(
            f"The exported model is not the trained one: {parity}. Nothing is written; try another"
            " `--format`, or allow a larger difference by `--tolerance`."
        )
    return parity


def compare(
    segmenter: nn.Module,
    exported: ExportedModel,
    images: Sequence[ImageOfAnySize],
    names: Sequence[str],
    tolerance: float | None = None,
) -> Parity:
    """Return how far an exported model is from a model on the CPU, given the same pixels.

    Raises:
        InputValueError: If either gives values that are not finite, or the file gives a mask or a
            score that is not of its map.
    """
    facts = exported.facts
    largest = np.iinfo(facts.pixel_type).max
    score = Scorer(segmenter, facts.image_size, torch.device("cpu"))
    differences: list[tuple[float, str]] = []
    score_difference, lowest, highest, num_pixels, num_other_side = 0.0, 1.0, 0.0, 0, 0
    others: list[Prediction] = []
    for image, name in zip(images, names, strict=True):
        rounded = (np.rint(image * largest) / largest).astype(np.float32)
        with about(Path(name)):
            working_map = score(rounded)
            expected_map = resize_map(working_map, image.shape[:2])
            expected = make_prediction(expected_map, image_score(working_map), facts.decision)
            found = exported.predict(rounded)
        differences.append(_largest(expected.anomaly_map, found.anomaly_map, name))
        score_difference = max(score_difference, abs(expected.image_score - found.image_score))
        if expected.is_anomalous != found.is_anomalous:
            others.append(expected)
        lowest = min(lowest, float(expected_map.min()))
        highest = max(highest, float(expected_map.max()))
        num_pixels += expected.pred_mask.size
        num_other_side += int((found.pred_mask != expected.pred_mask).sum())
    if tolerance is None:
        tolerance = rounding(lowest, highest)
    largest_difference, place = max(differences)
    return Parity(
        num_images=len(images),
        tolerance=tolerance,
        largest_difference=largest_difference,
        place=place,
        largest_score_difference=score_difference,
        num_pixels=num_pixels,
        num_other_side=num_other_side,
        num_other_decisions=len(others),
        num_ties=sum(_is_tie(expected, tolerance) for expected in others),
    )


def _is_tie(found: Prediction, tolerance: float) -> bool:
    """Whether what was found is close to a threshold: a larger map has larger regions."""
    lower, higher = (
        make_prediction(
            np.clip(found.anomaly_map + np.float32(shift), 0, 1),
            min(max(found.image_score + shift, 0), 1),
            found.decision,
        ).is_anomalous
        for shift in (-tolerance, tolerance)
    )
    return lower != higher


def rounding(lowest: float, highest: float) -> float:
    """Return by what two anomaly maps may differ if they are computed in another order.

    About 0.001 for maps that use all of [0, 1].

    Args:
        lowest: The smallest value of the maps.
        highest: The largest.
    """
    return ROUNDINGS * float(np.finfo(np.float32).eps) * max(highest - lowest, SMALLEST_RANGE)


def _largest(expected: AnomalyMap, found: AnomalyMap, image: str) -> tuple[float, str]:
    """Return by how much two anomaly maps of an image differ at most, and where."""
    y, x = divmod(int(np.abs(found - expected).argmax()), expected.shape[1])
    values = float(expected[y, x]), float(found[y, x])
    place = f"in {image} at x {x}, y {y}: {values[1]:.6g} where {values[0]:.6g} is expected"
    return abs(values[1] - values[0]), place


def _write_onnx(model: DeployableModel, facts: ModelFacts, path: Path) -> None:
    library("onnxruntime", "onnx")
    proto = _onnx(model, facts)
    library("onnx", "onnx").helper.set_model_props(proto, {METADATA_KEY: facts.model_dump_json()})
    path.write_bytes(sealed(proto.SerializeToString()))


def _onnx(model: DeployableModel, facts: ModelFacts) -> Any:
    """Return a model as ONNX for any number of images of any size, without facts."""
    library("onnx", "onnx")
    library("onnxscript", "onnx")
    height, width = (side + 8 for side in facts.image_size)  # sizes of their own: nothing is equal
    example = torch.zeros(2, height, width, 3, dtype=getattr(torch, facts.pixel_type))
    sizes = {0: Dim("batch"), 1: Dim("height"), 2: Dim("width")}
    with torch.no_grad():
        program = torch.export.export(model, (example,), dynamic_shapes=(sizes,))
    exported = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT_NAME],
        output_names=OUTPUT_NAMES,
        verbose=False,
    )
    assert exported is not None
    return for_older_runtimes(exported.model_proto)


def for_older_runtimes(model: Any) -> Any:
    """Return an ONNX model in the oldest versions of operators and format that can express it.

    What PyTorch says of its own in nodes, which needs a newer format, is left out.
    """
    onnx = library("onnx", "onnx")
    for node in model.graph.node:
        for setting in list(node.attribute):
            # Without effect where axes are given, and in the way of the converter.
            if setting.name == "noop_with_empty_axes" and len(node.input) == 2:
                node.attribute.remove(setting)
    no_operator = (
        RuntimeError,
        onnx.version_converter.ConvertError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    )
    for opset in range(OLDEST_OPSET, OPSET + 1):
        try:
            older = onnx.version_converter.convert_version(model, opset)
            older.ir_version = onnx.helper.find_min_ir_version_for(older.opset_import)
            onnx.checker.check_model(older, full_check=True)
        except no_operator:
            continue
        return older
    raise AssertionError(f"not even ONNX operators of version {OPSET} can express the model")


def _write_openvino(model: DeployableModel, facts: ModelFacts, path: Path) -> None:
    openvino = library("openvino", "openvino")
    onnx_model = _onnx(model, facts).SerializeToString()
    converted = openvino.Core().read_model(model=onnx_model)

    def save() -> None:
        try:
            openvino.save_model(converted, path, compress_to_fp16=False)
        except RuntimeError as error:  # all that it says of a full disk
            raise OSError(f"{path.name}: {error}") from error

    save()  # for the digest of the weights, which does not depend on what is said of them
    weights_sha256 = sha256(path.with_suffix(".bin").read_bytes())
    facts = facts.model_copy(update={"weights_sha256": weights_sha256})
    converted.set_rt_info(facts.model_dump_json(), METADATA_KEY)
    save()
    path.write_bytes(sealed(path.read_bytes()))


_WRITERS: dict[ExportFormat, Callable[[DeployableModel, ModelFacts, Path], None]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
}


@contextmanager
def _quiet() -> Iterator[None]:
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
