"""Which images are trained on and which only tested on: drawn by seed, kept in a file."""

from __future__ import annotations

import os
import posixpath
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
from pydantic import BaseModel, Field

from patchscout.checks import InputNotFoundError, InputValueError, nearest
from patchscout.data.json_files import (
    Text,
    parse_entry,
    parse_json_object,
)
from patchscout.data.walk import relative_path
from patchscout.files.atomic import json_text
from patchscout.text import shown
from patchscout.types import NORMAL, Dataset, Sample, Split

Item = TypeVar("Item")

FORMAT_VERSION = 1
"""Of the split file; a newer one is refused."""


def draw_split(
    dataset: Dataset,
    *,
    labeled_per_type: int = 5,
    seed: int = 42,
    held_out_type: str | None = None,
    max_normal: int | None = None,
) -> Split:
    """Draw the labeled images of each defect type; the other defective images are for testing.

    Images without a mask are not drawn.

    The draw of one type does not depend on the others, and a larger one contains a smaller one;
    so does the draw of normal images.

    Args:
        dataset: All images.
        labeled_per_type: How many images of each defect type to train on, 0 or more.
        seed: Decides which, 0 or more.
        held_out_type: A defect type that is not trained on at all; the test is then made of all its
            images and the normal ones only.
        max_normal: Train on at most so many normal images, 1 or more; the others are not used.

    Raises:
        InputValueError: A value is out of range, the type is unknown, or nothing is left to test.
    """
    for field, value in (("labeled_per_type", labeled_per_type), ("seed", seed)):
        if value < 0:
            raise InputValueError(f"`{field}` must be 0 or more; got {value}. Try a positive one.")
    if held_out_type is not None and held_out_type not in dataset.defect_types:
        known = ", ".join(dataset.defect_types) or "the defect types, of which there are none"
        raise InputValueError(
            f"`held_out_type` must be one of {known}; got "
            f"'{held_out_type}'{nearest(held_out_type, dataset.defect_types)}."
        )
    labeled: list[Sample] = []
    test: list[Sample] = list(dataset.test_normal)
    for defect_type in dataset.defect_types:
        samples = [s for s in dataset.anomalous if s.defect_type == defect_type]
        if defect_type == held_out_type:
            test += sorted(samples, key=_path)
            continue
        with_mask = [s for s in samples if s.has_mask]
        drawn, others = draw_samples(
            with_mask, labeled_per_type, [seed, number_of_type(defect_type)]
        )
        labeled += drawn
        if held_out_type is None:
            test += sorted([*others, *(s for s in samples if not s.has_mask)], key=_path)
    if held_out_type is not None and labeled_per_type > 0 and len(dataset.defect_types) == 1:
        raise InputValueError(
            f"`held_out_type`: '{held_out_type}' is the only defect type, so that no labeled image "
            "is left to train on. Expected two types or more; leave `held_out_type` out."
        )
    if labeled and not any(sample.is_anomalous for sample in test):
        raise InputValueError(
            f"`labeled_per_type` = {labeled_per_type} leaves no defective image of {dataset.root} "
            f"to test on; there are {len(dataset.anomalous)}. Lower it or add images."
        )
    normal = _draw_normal(dataset.train_normal, max_normal, seed)
    return Split(normal, tuple(labeled), tuple(test))


def evenly_chosen(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Return every item, or `most` of them, as far apart as can be.

    Example:
        >>> evenly_chosen(range(10), 4)
        [0, 2, 5, 7]
    """
    if len(items) <= most:
        return items
    return [items[number * len(items) // most] for number in range(most)]


def draw_samples(
    samples: Sequence[Sample], count: int, seed: Sequence[int]
) -> tuple[list[Sample], list[Sample]]:
    """Return `count` of the samples drawn by a seed and the others, both sorted by path."""
    ordered = sorted(samples, key=_path)
    order = np.random.default_rng(list(seed)).permutation(len(ordered))
    drawn = set(order[:count].tolist())
    return (
        [sample for i, sample in enumerate(ordered) if i in drawn],
        [sample for i, sample in enumerate(ordered) if i not in drawn],
    )


def _draw_normal(
    normal: tuple[Sample, ...], max_normal: int | None, seed: int
) -> tuple[Sample, ...]:
    """Return the normal images to train on."""
    if max_normal is None or max_normal >= len(normal):
        return normal
    return tuple(draw_samples(normal, max_normal, [seed, number_of_type(NORMAL)])[0])


def number_of_type(defect_type: str) -> int:
    """Return the number that makes the draw of a type its own."""
    return zlib.crc32(defect_type.encode(errors="surrogatepass"))


def _path(sample: Sample) -> str:
    return sample.image_path.as_posix()


def split_json(split: Split, dataset_root: Path) -> bytes:
    """Return a split as JSON, with `dataset_root` and the paths of its images relative to it."""

    def names(samples: Iterable[Sample]) -> list[str]:
        return [relative_path(sample.image_path, dataset_root) for sample in samples]

    content = {
        "format_version": FORMAT_VERSION,
        "root": dataset_root.resolve().as_posix(),
        "train_normal": names(split.train_normal),
        "labeled": names(split.labeled),
        "test": names(split.test),
    }
    return (json_text(content) + "\n").encode()


def parse_split(text: bytes, path: Path, dataset: Dataset) -> Split:
    """Read a split of `dataset` that `split_json` made.

    Args:
        text: The content of the split file.
        path: The split file, for errors.
        dataset: All images.

    Raises:
        InputNotFoundError: An image named in it is not there any more.
        InputValueError: The file is damaged, of a newer format, or names an image twice or of the
            wrong kind.
    """
    content = _parse(text, path)
    known = (*dataset.train_normal, *dataset.test_normal, *dataset.anomalous)
    samples = {relative_path(sample.image_path, dataset.root): sample for sample in known}
    for name in content.names:
        if name not in samples:
            raise InputNotFoundError(
                f"{dataset.root / shown(name)} is named in {path} but is not among the images of "
                f"{dataset.root}. Put it back, or train anew on the images there are."
            )
    for field, names, anomalous in (
        ("train_normal", content.train_normal, False),
        ("labeled", content.labeled, True),
    ):
        for name in names:
            if samples[name].is_anomalous != anomalous:
                kind = samples[name].defect_type
                raise _damaged(path, f"`{field}` has {shown(name)}, an image of type {shown(kind)}")
    parts = (content.train_normal, content.labeled, content.test)
    train_normal, labeled, test = (tuple(samples[name] for name in names) for names in parts)
    return Split(train_normal, labeled, test)


def images_of_split(text: bytes, path: Path, *, trained_on: bool = False) -> list[Path]:
    """Return the images of a split that `split_json` made, as far as they are still there.

    Args:
        text: The content of the split file.
        path: The split file, for errors.
        trained_on: Whether those tested on are left out.

    Raises:
        InputValueError: It is damaged, of a newer format, or has a name that `split_json` never
            makes, such as an absolute path.
    """
    content = _parse(text, path)
    root = Path(content.root)
    if not root.is_absolute() or "\0" in content.root:
        raise _damaged(path, f"`root` must be an absolute path; got {shown(content.root)}")
    for name in content.names:
        if "\0" in name or Path(name).anchor or name != posixpath.normpath(name):
            raise _damaged(path, f"{shown(name)} is no path relative to `root` in its short form")
    images = [root / name for name in (content.learned if trained_on else content.names)]
    return [image for image in images if os.path.isfile(image)]  # noqa: PTH113 - never raises


_SPLIT = "Expected a split file as training writes it; copy it again or train anew."


class _SplitFile(BaseModel):
    """A split file of format 1."""

    format_version: Annotated[int, Field(strict=True, ge=FORMAT_VERSION, le=FORMAT_VERSION)]
    root: Text
    labeled: list[Text]
    test: list[Text]
    train_normal: list[Text]

    @property
    def names(self) -> list[str]:
        """All images."""
        return [*self.labeled, *self.test, *self.train_normal]

    @property
    def learned(self) -> list[str]:
        """The images trained on."""
        return [*self.labeled, *self.train_normal]


def _parse(text: bytes, path: Path) -> _SplitFile:
    content = parse_json_object(text, path, "a split file of PatchScout")
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise InputValueError(
            f"{path} has format {shown(version)}; this PatchScout reads up to {FORMAT_VERSION}."
            " Update it."
        )
    split = parse_entry(_SplitFile, content, f"{path} is damaged", _SPLIT)
    twice = [name for name, count in Counter(split.names).items() if count > 1]
    if twice:
        raise _damaged(path, f"{shown(twice[0])} is named twice")
    return split


def _damaged(path: Path, what: str) -> InputValueError:
    return InputValueError(f"{path} is damaged: {what}. {_SPLIT}")
