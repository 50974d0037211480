"""Which images are trained on and which only tested on: drawn by seed, kept in a file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from patchscout.atomic import write_json_atomic
from patchscout.checks import InputNotFoundError, InputValueError, nearest
from patchscout.data.json_files import read_json_object
from patchscout.types import Dataset, Sample, Split

FORMAT_VERSION = 1
"""Of the split file; a newer one is refused."""


def draw_split(
    dataset: Dataset,
    *,
    labeled_per_type: int = 5,
    seed: int = 42,
    held_out_type: str | None = None,
) -> Split:
    """Draw the labeled images of each defect type; the other defective images are for testing.

    The draw of one type does not depend on the others, and a larger one contains a smaller one.

    Args:
        dataset: All images.
        labeled_per_type: How many images of each defect type to train on, 0 or more.
        seed: Decides which, 0 or more.
        held_out_type: A defect type that is not trained on at all; the test is then made of all its
            images and the normal ones only.

    Raises:
        InputValueError: A value is out of range, the type is unknown, or nothing is left to test.
    """
    for field, value in (("labeled_per_type", labeled_per_type), ("seed", seed)):
        if value < 0:
            raise InputValueError(f"`{field}` must be 0 or more; got {value}. Try a positive one.")
    if held_out_type is not None and held_out_type not in dataset.defect_types:
        raise InputValueError(
            f"`held_out_type` must be one of {', '.join(dataset.defect_types)}; got "
            f"'{held_out_type}'{nearest(held_out_type, dataset.defect_types)}."
        )
    labeled: list[Sample] = []
    test: list[Sample] = list(dataset.test_normal)
    for defect_type in dataset.defect_types:
        samples = [s for s in dataset.anomalous if s.defect_type == defect_type]
        samples.sort(key=lambda sample: sample.image_path.as_posix())
        if defect_type == held_out_type:
            test += samples
            continue
        rng = np.random.default_rng([seed, zlib.crc32(defect_type.encode())])
        drawn = set(rng.permutation(len(samples))[:labeled_per_type].tolist())
        labeled += [sample for i, sample in enumerate(samples) if i in drawn]
        if held_out_type is None:
            test += [sample for i, sample in enumerate(samples) if i not in drawn]
    if held_out_type is not None and labeled_per_type > 0 and not labeled:
        raise InputValueError(
            f"`held_out_type`: '{held_out_type}' is the only defect type, so that no labeled image "
            "is left to train on. Expected two types or more; leave `held_out_type` out."
        )
    if labeled_per_type > 0 and not any(sample.is_anomalous for sample in test):
        raise InputValueError(
            f"`labeled_per_type` = {labeled_per_type} leaves no defective image of {dataset.root} "
            f"to test on; there are {len(dataset.anomalous)}. Lower it or add images."
        )
    return Split(dataset.train_normal, tuple(labeled), tuple(test))


def write_split(split: Split, dataset_root: Path, path: Path) -> None:
    """Write a split as JSON, with the paths of its images relative to `dataset_root`."""

    def names(samples: Iterable[Sample]) -> list[str]:
        return [_relative(sample.image_path, dataset_root) for sample in samples]

    content = {
        "format_version": FORMAT_VERSION,
        "train_normal": names(split.train_normal),
        "labeled": names(split.labeled),
        "test": names(split.test),
    }
    write_json_atomic(path, content)


def read_split(path: Path, dataset: Dataset) -> Split:
    """Read a split of `dataset` that `write_split` wrote.

    Raises:
        InputNotFoundError: The file or an image named in it is not there any more.
        InputValueError: The file is damaged, or of a newer format.
    """
    content = read_json_object(path, "a split file of PatchScout")
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise InputValueError(
            f"{path} has format {version}; this PatchScout reads up to {FORMAT_VERSION}. Update it."
        )
    known = (*dataset.train_normal, *dataset.test_normal, *dataset.anomalous)
    samples = {_relative(sample.image_path, dataset.root): sample for sample in known}

    def find(field: str) -> tuple[Sample, ...]:
        names: Any = content.get(field)
        if version != FORMAT_VERSION or not _is_names(names):
            raise InputValueError(
                f"{path} is damaged: `{field}` or `format_version` does not fit. Expected a split "
                "file as training writes it; copy it again or train anew."
            )
        for name in names:
            if name not in samples:
                raise InputNotFoundError(
                    f"{dataset.root / name} is named in {path} but is not among the images of "
                    f"{dataset.root}. Put it back, or train anew on the images there are."
                )
        return tuple(samples[name] for name in names)

    return Split(find("train_normal"), find("labeled"), find("test"))


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _relative(path: Path, root: Path) -> str:
    """Return a path relative to `root` with forward slashes."""
    return Path(os.path.relpath(path, root)).as_posix()
