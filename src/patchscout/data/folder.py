"""Any folder described by three paths: normal images, defective images, masks."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.annotation_file import AnnotatedMask, annotation_path, read_annotation_file
from patchscout.data.annotations import LINE_WIDTH_PX
from patchscout.data.mask_folder import (
    FLAT_TYPE,
    MaskFolder,
    label_images,
    left_out_of_defective,
    masks_missing,
)
from patchscout.data.mask_images import MaskTypes
from patchscout.data.photos import (
    check_has_images,
    defect_type_of,
    find_photos,
    joined,
    left_out_of_normal,
)
from patchscout.data.walk import status_of
from patchscout.text import shown
from patchscout.types import NORMAL, Dataset, LeftOut, Sample

TEST_FRACTION = 0.2
"""Share of the normal images that are kept for testing."""


def read_folders(
    root: Path,
    normal: str | Path,
    defective: str | Path | None = None,
    masks: str | Path | None = None,
    *,
    seed: int = 42,
    needs_labels: bool = True,
    line_width_px: float = LINE_WIDTH_PX,
    types: MaskTypes = (),
) -> Dataset:
    """List the images of three paths, or of normal ones alone.

    Args:
        root: The folder that the other paths, and those of a saved split, are relative to.
        normal: Folder of normal images, of which `seed` draws a fifth for testing; at least one
            is left on each side, where there are two.
        defective: Folder of defective images, in one sub-folder per defect type, or all in it.
        masks: Folder of mask images or of annotations for one image each, see `MaskFolder`; or one
            file of annotations for all, by whose largest one images in no sub-folder get their
            defect type, else `defect`; unset: masks lie beside the images.
        seed: Decides which normal images are kept for testing.
        needs_labels: Whether it is an error that `masks` has none that fits.
        line_width_px: How wide annotated lines and points are.
        types: What the values or colors of mask images stand for.

    Raises:
        InputNotFoundError: A path is missing, or all masks are where a path to them is given.
        InputValueError: A folder holds no images, or something else does not fit.
    """
    given = {"normal": normal, "defective": defective, "masks": masks}
    paths = {field: root / path for field, path in given.items() if path is not None}
    for field, path in paths.items():
        if status_of(path) is None:
            raise InputNotFoundError(
                f"`{field}`: {path} does not exist. Give a path that is absolute or within {root}."
            )
    ok = find_photos(paths["normal"], apart_from=paths.values())
    check_has_images(ok, f"`normal`: {paths['normal']}", "Expected normal images to train on")
    anomalous, looked_in, left_out = (), "", {}
    layout = f"normal images in {normal}"
    if defective is not None:
        anomalous, looked_in, left_out = _defective(paths, line_width_px, types)
        beside = f"masks in {masks}" if masks is not None else "masks beside them"
        layout += f", defective ones in {defective}, {beside}"
    if masks is not None and needs_labels and not any(sample.mask for sample in anomalous):
        raise masks_missing(anomalous, looked_in)
    return Dataset(
        root.resolve().name,
        root,
        *_divide(ok.images, seed),
        anomalous,
        layout,
        joined(left_out_of_normal(ok), left_out),
        looked_in,
    )


def _divide(images: list[Path], seed: int) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Divide normal images into training and test."""
    num_test = min(max(round(TEST_FRACTION * len(images)), 1), len(images) - 1)
    drawn = set(np.random.default_rng(seed).permutation(len(images))[:num_test].tolist())
    train = tuple(Sample(path) for i, path in enumerate(images) if i not in drawn)
    return train, tuple(Sample(images[i]) for i in sorted(drawn))


def _defective(
    paths: dict[str, Path], line_width_px: float, types: MaskTypes
) -> tuple[tuple[Sample, ...], str, LeftOut]:
    """Return the defective images, where masks were looked for in vain, and what is left out."""
    root = paths["defective"]
    found = find_photos(root, apart_from=paths.values())
    images = {path: defect_type_of(path.relative_to(root)) or FLAT_TYPE for path in found.images}
    if NORMAL in images.values():
        raise InputValueError(
            f"`defective`: {root} has a sub-folder `{NORMAL}`. Expected defective images only; "
            "move it to the normal images."
        )
    check_has_images(
        found,
        f"No labeled defects: `defective`: {root}",
        "Expected images in it or in one sub-folder per defect type",
    )
    masks_path = paths.get("masks", root)
    file = annotation_path(masks_path) if "masks" in paths else None
    if file is None:
        folder = MaskFolder(masks_path, found.images, line_width_px, types)
        return label_images(images, root, [folder], found)
    samples, looked_in = _label_from_file(images, root, file, line_width_px)
    return samples, looked_in, left_out_of_defective(found, {masks_path})


def _label_from_file(
    images: dict[Path, str], folder: Path, annotations_path: Path, line_width_px: float
) -> tuple[tuple[Sample, ...], str]:
    """Return the images with their masks in one file, and what was looked for in vain."""
    annotations = read_annotation_file(annotations_path)
    if "" in annotations.images:
        raise InputValueError(
            f"{annotations_path} annotates one image, which it does not name. Give the folder that "
            "it lies in, and name it after its image."
        )
    samples, looked_in = [], ""
    claimed: dict[str, Path] = {}
    for image_path, folder_type in images.items():
        relative = image_path.relative_to(folder)
        key = annotations.find(PurePosixPath(relative.as_posix()))
        if key is None:
            samples.append(Sample(image_path, folder_type))
            looked_in = looked_in or (
                f"{annotations_path} for annotations of an image with the name "
                f"{relative.as_posix()}"
            )
            continue
        if (other := claimed.setdefault(key, image_path)) != image_path:
            raise InputValueError(
                f"{other} and {image_path} both fit one image of {annotations_path}, {shown(key)}. "
                "Expected one for each; give the names in it with the folder that the image lies "
                "in."
            )
        is_flat = defect_type_of(relative) is None
        defect_type = annotations.defect_type(key) if is_flat else folder_type
        mask = AnnotatedMask(annotations_path, key, line_width_px)
        samples.append(Sample(image_path, defect_type, mask))
    return tuple(samples), looked_in
