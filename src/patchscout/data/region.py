"""The part of the image that is looked at: a region of interest without what is ignored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from patchscout.checks import InputError, InputValueError
from patchscout.data.annotation_file import ANNOTATION_SUFFIXES, read_annotation_file
from patchscout.data.annotations import LINE_WIDTH_PX, read_mask
from patchscout.data.images import read_image, read_size, resize_nearest
from patchscout.monitor import Monitor
from patchscout.types import Dataset, Mask, Sample, Split

Group = TypeVar("Group", Dataset, Split)

SHAPE_TOLERANCE = 0.01
"""By what share the ratio of the sides of a region and an image may differ."""


def read_region(
    root: Path, roi: str | None, ignore: str | None, samples: Sequence[Sample]
) -> Mask | None:
    """Return what is looked at in every image, at the size of the first; None for all of it.

    Args:
        root: The folder that paths are relative to.
        roi: A mask image that is white inside, or polygons as a LabelMe or COCO file.
        ignore: The same of what is left out.
        samples: All images.

    Raises:
        InputNotFoundError: If a file is not there.
        InputValueError: If one cannot be read or is of another shape than an image, or nothing is
            left to look at.
    """
    given = {"data.roi": roi, "data.ignore": ignore}
    paths = {name: root / path for name, path in given.items() if path is not None}
    if not paths:
        return None
    first_of_size: dict[tuple[int, int], Path] = {}
    for sample in samples:
        first_of_size.setdefault(read_size(sample.image_path), sample.image_path)
    size = next(iter(first_of_size))
    region = np.ones(size, bool)
    for name, path in paths.items():
        try:
            mask = _read(path, size)
        except InputError as error:
            raise type(error)(f"`{name}`: {error}") from error
        for image_size, image_path in first_of_size.items():
            _check_shape(mask.shape, image_size, f"`{name}`: {path}", image_path)
        mask = resize_nearest(mask, size)
        region &= mask if name == "data.roi" else ~mask
    if not region.any():
        raise InputValueError(
            f"Nothing is left to look at inside of {' and '.join(map(str, paths.values()))}. A mask"
            " of `data.roi` is white inside, one of `data.ignore` where nothing is looked at."
        )
    return region


def _read(path: Path, size: tuple[int, int]) -> Mask:
    if path.suffix.lower() in ANNOTATION_SUFFIXES:
        return _polygons(path, size)
    values = read_image(path, background=0.0).max(axis=2)
    if not values.any():
        raise InputValueError(f"{path} is black. Expected an image that is white inside.")
    return values > values.max() / 2


def _polygons(path: Path, size: tuple[int, int]) -> Mask:
    """Return what a file outlines in its only image, whatever the labels are."""
    images = [one for one in read_annotation_file(path).images.values() if one.annotations]
    if len(images) != 1:
        raise InputValueError(
            f"{path} has annotations of {len(images)} images. Expected those of one, which hold for"
            " all images; export that one alone."
        )
    unlabeled = tuple(replace(annotation, label=None) for annotation in images[0].annotations)
    return replace(images[0], annotations=unlabeled).draw(size, LINE_WIDTH_PX, str(path))


def _check_shape(
    shape: tuple[int, ...], image_size: tuple[int, int], region: str, image_path: Path
) -> None:
    height, width = image_size
    if abs(shape[0] * width / (shape[1] * height) - 1) > SHAPE_TOLERANCE:
        raise InputValueError(
            f"{region} has {shape[1]} x {shape[0]} pixels (width x height), another shape"
            f" than {image_path} with {width} x {height}. Draw it on one of the images; all must"
            " have its shape."
        )


def limited(images: Group, region: Mask | None, monitor: Monitor) -> Group:
    """Return images of which only a region is looked at.

    Defective ones whose defects lie outside of it are left out: they are not normal.

    Args:
        images: A data set or a split.
        region: What is looked at, at any size.
        monitor: Says how many are left out, if any.
    """
    if region is None:
        return images
    num_outside = 0
    parts: dict[str, tuple[Sample, ...]] = {}
    for name, part in vars(images).items():
        if not isinstance(part, tuple):
            continue
        inside = [replace(sample, region=region) for sample in part]
        inside = [one for one in inside if one.mask is None or read_mask(one).any()]
        num_outside += len(part) - len(inside)
        parts[name] = tuple(inside)
    if num_outside:
        monitor.say(
            f"{num_outside} defective images are left out, as their defects lie outside of"
            " `data.roi` or in `data.ignore`."
        )
    return replace(images, **parts)
