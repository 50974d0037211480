"""Scores of each test image as histograms: small enough to keep, enough to draw images anew.

A bootstrap over images needs the figures of thousands of random sets of images. Counts of
pixels in bins add up, so a drawn set costs one matrix product instead of a pass over pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Int, Shaped

from patchscout.checks import InputValueError
from patchscout.files.atomic import atomic_path
from patchscout.types import Mask

NUM_BINS = 256
SMALLEST = 1e-7
"""Scores are kept this far from 0 and 1, where the logit is infinite."""

Edges = Float[np.ndarray, "edges"]
Counts = Int[np.ndarray, "images bins"]


@dataclass(frozen=True)
class ScoreTable:
    """What is kept of the test images of one job.

    Attributes:
        names: The images, relative to the data set.
        defect_types: The defect type of each.
        image_scores: The score of each as a whole.
        edges: Scores between which the bins lie, ascending; the first bin is below all.
        normal: Normal pixels of each image in each bin.
        anomalous: Anomalous pixels likewise.
        threshold_bin: The first bin whose scores reach the stored threshold.
    """

    names: tuple[str, ...]
    defect_types: tuple[str, ...]
    image_scores: Float[np.ndarray, "images"]
    edges: Edges
    normal: Counts
    anomalous: Counts
    threshold_bin: int

    def rows(self, names: tuple[str, ...]) -> ScoreTable:
        """Return the table of some of its images, in the order given."""
        place = {name: i for i, name in enumerate(self.names)}
        index = [place[name] for name in names]
        return ScoreTable(
            names,
            tuple(self.defect_types[i] for i in index),
            self.image_scores[index],
            self.edges,
            self.normal[index],
            self.anomalous[index],
            self.threshold_bin,
        )


def bin_edges(anomalous_scores: Shaped[np.ndarray, "scores"], threshold: float) -> Edges:
    """Return 255 ascending scores in [0, 1] to count between, the threshold among them.

    Precision and recall turn at anomalous pixels only, so half of the edges are quantiles of
    their scores, wherever these lie. The other half are even in the logit, from the smallest
    anomalous score to the largest, which keeps the resolution near 0 and 1 where scores crowd.

    Args:
        anomalous_scores: Scores of anomalous pixels in [0, 1].
        threshold: The stored decision threshold.
    """
    scores = np.clip(anomalous_scores.astype(np.float64), SMALLEST, 1 - SMALLEST)
    if not len(scores):
        scores = np.array([SMALLEST, 1 - SMALLEST])
    half = NUM_BINS // 2 - 1
    quantiles = np.quantile(scores, np.linspace(0, 1, half), method="lower")
    lowest, highest = (np.log(score / (1 - score)) for score in (scores.min(), scores.max()))
    even = 1 / (1 + np.exp(-np.linspace(lowest, highest, half)))
    return np.sort(np.concatenate([quantiles, even, [threshold]])).astype(np.float32)


def count_pixels(
    anomaly_map: Float[np.ndarray, "height width"], gt_mask: Mask, edges: Edges
) -> tuple[Int[np.ndarray, "bins"], Int[np.ndarray, "bins"]]:
    """Return how many normal and how many anomalous pixels of an image lie in each bin."""
    bins = np.searchsorted(edges, anomaly_map.astype(np.float32), side="right")
    normal = np.bincount(bins[~gt_mask], minlength=len(edges) + 1)
    return normal, np.bincount(bins[gt_mask], minlength=len(edges) + 1)


def write_table(path: Path, table: ScoreTable) -> None:
    """Write a table as compressed npz; counts that are zero take almost no room."""
    with atomic_path(path) as partial:
        arrays: dict[str, Any] = {
            "names": np.array(table.names),
            "defect_types": np.array(table.defect_types),
            "image_scores": table.image_scores.astype(np.float32),
            "edges": table.edges,
            "threshold_bin": np.uint32(table.threshold_bin),
        }
        for name, counts in (("normal", table.normal), ("anomalous", table.anomalous)):
            arrays |= {f"{name}_{part}": array for part, array in _sparse(counts).items()}
        np.savez_compressed(partial, **arrays)


def read_table(path: Path) -> ScoreTable:
    """Read what `write_table` wrote; nothing in it is unpickled.

    Raises:
        InputValueError: If the file is damaged.
    """
    try:
        return _read_table(path)
    except (BadZipFile, EOFError, KeyError, ValueError) as error:
        raise InputValueError(
            f"{path} is damaged ({error}). Remove it and {path.stem}.json to run the job again."
        ) from None


def _read_table(path: Path) -> ScoreTable:
    with np.load(path, allow_pickle=False) as data:
        edges = data["edges"]
        shape = (len(data["names"]), len(edges) + 1)
        counts = {}
        for name in ("normal", "anomalous"):
            dense = np.zeros(shape, dtype=np.int64)
            dense[np.unpackbits(data[f"{name}_where"], count=dense.size).reshape(shape) == 1] = (
                data[f"{name}_low"].astype(np.int64) + 256 * data[f"{name}_high"].astype(np.int64)
            )
            counts[name] = dense
        return ScoreTable(
            tuple(map(str, data["names"])),
            tuple(map(str, data["defect_types"])),
            data["image_scores"],
            edges,
            counts["normal"],
            counts["anomalous"],
            int(data["threshold_bin"]),
        )


def _sparse(counts: Counts) -> dict[str, np.ndarray]:
    """Return which counts are not zero, and their low and higher bytes, which compress apart."""
    values = counts[counts > 0].astype(np.uint32)
    return {
        "where": np.packbits(counts > 0),
        "low": (values & 255).astype(np.uint8),
        "high": (values >> 8).astype(np.uint32),
    }
