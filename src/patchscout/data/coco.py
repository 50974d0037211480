"""Masks from one COCO JSON file: polygons and run-length encodings, compressed or not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from patchscout.checks import InputValueError
from patchscout.data.annotations import check_not_empty, check_size, fill_polygon
from patchscout.data.json_files import read_json_object
from patchscout.types import Mask

ImageId = int | str


@dataclass(frozen=True)
class CocoMask:
    """The union of all annotations of one image in a COCO file.

    Attributes:
        path: The JSON file, parsed once and kept for the next image.
        image_id: The `id` of the image in it.
    """

    path: Path
    image_id: ImageId

    def read(self, image_size: tuple[int, int]) -> Mask:
        """Return the mask of an image of `image_size` (height, width).

        Raises:
            InputNotFoundError: There is no such file.
            InputValueError: It is no COCO file, or does not fit the image, or marks nothing.
        """
        coco = read_coco(self.path)
        entry = coco.images.get(self.image_id, {})
        source = f"{self.path} (image {entry.get('file_name')})"
        size = (entry.get("height"), entry.get("width"))
        if size != (None, None):
            check_size(size, image_size, Path(source))
        mask = np.zeros(image_size, bool)
        for annotation in coco.annotations.get(self.image_id, ()):
            try:
                mask |= segmentation_mask(annotation["segmentation"], image_size)
            except (IndexError, KeyError, TypeError, ValueError) as error:
                raise InputValueError(
                    f"{source} has an annotation that cannot be drawn ({error}). Expected polygons "
                    f"or RLE in `segmentation`; mend annotation {annotation.get('id')}."
                ) from error
        return check_not_empty(mask, source)


@dataclass(frozen=True)
class CocoFile:
    """A parsed COCO file: its images and categories by id, its annotations by image id."""

    images: dict[ImageId, dict[str, Any]]
    annotations: dict[ImageId, list[dict[str, Any]]]
    categories: dict[ImageId, str]

    def find(self, relative_path: PurePosixPath) -> ImageId | None:
        """Return the id of an annotated image, by its relative path, else by its base name.

        Raises:
            InputValueError: Only the base name fits, and it fits several images.
        """
        by_path, by_name = [], []
        for image_id in [image_id for image_id, found in self.annotations.items() if found]:
            name = PurePosixPath(str(self.images[image_id]["file_name"]).replace("\\", "/"))
            if name.parts[-len(relative_path.parts) :] == relative_path.parts:
                by_path.append(image_id)
            if name.name == relative_path.name:
                by_name.append(image_id)
        matches = by_path or by_name
        if len(matches) > 1:
            raise InputValueError(
                f"{relative_path} fits {len(matches)} images of the COCO file. Expected one; give "
                "`file_name` with the folder that the image lies in."
            )
        return matches[0] if matches else None

    def largest_category(self, image_id: ImageId) -> str:
        """Return the category name of the annotation with the largest area, else `defect`."""
        largest = max(self.annotations[image_id], key=_area)
        return self.categories.get(largest.get("category_id", ""), "defect")


def read_coco(path: Path) -> CocoFile:
    """Parse a COCO file; a file that has not changed since is parsed only once.

    Raises:
        InputNotFoundError: There is no such file.
        InputValueError: It is no COCO file.
    """
    return _parse(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=4)
def _parse(path: Path, _mtime_ns: int) -> CocoFile:
    content = read_json_object(path, "a COCO file")
    try:
        images = {image["id"]: image for image in content["images"] if str(image["file_name"])}
        categories = {entry["id"]: str(entry["name"]) for entry in content.get("categories", [])}
        annotations: dict[ImageId, list[dict[str, Any]]] = {image_id: [] for image_id in images}
        for annotation in content["annotations"]:
            annotations[annotation["image_id"]].append(annotation)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputValueError(
            f"{path} is not a COCO file that can be used: {error} is missing or of a wrong type. "
            "Expected `images` and `annotations`; export it again as COCO JSON."
        ) from error
    return CocoFile(images, annotations, categories)


def segmentation_mask(
    segmentation: Any,
    image_size: tuple[int, int],
) -> Mask:
    """Draw the `segmentation` of an annotation on an image of `image_size` (height, width).

    Raises:
        ValueError: It does not fit the image or the format.
    """
    if isinstance(segmentation, dict):
        height, width = segmentation["size"]
        if (height, width) != image_size:
            raise ValueError(f"RLE of {width} x {height} pixels")
        counts = segmentation["counts"]
        runs = decompress_counts(counts) if isinstance(counts, str) else counts
        return decode_runs(runs, image_size)
    mask = np.zeros(image_size, bool)
    for polygon in segmentation:
        points = np.asarray(polygon, float).reshape(-1, 2)
        if len(points) < 3 or not np.isfinite(points).all():
            raise ValueError("a polygon needs three points or more")
        mask |= fill_polygon(points, image_size)
    return mask


def decode_runs(counts: list[int], image_size: tuple[int, int]) -> Mask:
    """Return the mask of alternating runs of normal and anomalous pixels, column by column."""
    height, width = image_size
    runs = np.asarray(counts, int)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"RLE of {runs.sum()} pixels for {height * width}")
    is_anomalous = np.arange(runs.size) % 2 == 1
    return np.repeat(is_anomalous, runs).reshape(width, height).T


def decompress_counts(text: str) -> list[int]:
    """Return the run lengths behind COCO's compressed string.

    Each number is written in groups of 5 bits, lowest first, as the characters from 48 on; bit 6
    says that more follows, bit 5 of the last group is the sign. From the fourth number on, the
    difference to the number two before is written.

    References:
        rleFrString in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise ValueError(f"RLE with the character {character!r}")
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("RLE that ends within a number")
    return counts


def _area(annotation: dict[str, Any]) -> float:
    """Return the area that an annotation states, else that of its box, in square pixels."""
    if "area" in annotation:
        return float(annotation["area"])
    *_, width, height = annotation.get("bbox", (0, 0))
    return float(width) * float(height)
