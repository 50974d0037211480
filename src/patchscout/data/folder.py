"""Any folder described by three paths: normal images, defective images, masks."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.annotation_file import AnnotatedMask, annotation_path, read_annotation_file
from patchscout.data.annotations import LINE_WIDTH_PX
from patchscout.data.images import find_images
from patchscout.data.mask_folder import FLAT_TYPE, MASK_ENDING, MaskFolder, masks_missing
from patchscout.data.mask_images import MaskTypes
from patchscout.data.walk import list_folder, status_of
from patchscout.text import shown
from patchscout.types import NORMAL, Dataset, Sample

TEST_FRACTION = 0.2
"""Share of the normal images that are kept for testing."""


def read_folders(
    root: Path,
    normal: str | Path,
    defective: str | Path | None = None,
    masks: str | Path | None = None,
    *,
    seed: int = 42,
    line_width_px: float = LINE_WIDTH_PX,
    types: MaskTypes = (),
) -> Dataset:
    """List the images of three paths, or of normal ones alone; no image is read.

    Args:
        root: The folder that the other paths, and those of a saved split, are relative to.
        normal: Folder of normal images, of which `seed` draws a fifth for testing; at least one
            is left on each side, where there are two.
        defective: Folder of defective images, in one sub-folder per defect type, or all in it.
        masks: Folder of mask images (`<stem>_mask.*` or `<stem>.*`) or LabelMe files, in the same
            sub-folders as the images; or one COCO or VIA JSON file. Of images in no sub-folder,
            the defect type is then that of the largest annotation, else `defect`.
        seed: Decides which normal images are kept for testing.
        line_width_px: How wide annotated lines and points are.
        types: What the values or colors of mask images stand for.

    Raises:
        InputNotFoundError: A path or a mask is missing.
        InputValueError: A folder holds no images, or something else does not fit.
    """
    normal_path = root / normal
    _check_exists("normal", normal_path, root)
    normal_images = find_images(normal_path)
    if not normal_images:
        raise InputValueError(
            f"`normal`: {normal_path} has no images. Expected normal images to train on; put PNG, "
            "JPEG, BMP or TIFF files there."
        )
    anomalous: tuple[Sample, ...] = ()
    if defective is not None and masks is not None:
        defective_path, masks_path = root / defective, root / masks
        _check_exists("defective", defective_path, root)
        _check_exists("masks", masks_path, root)
        images = _defective_images(defective_path, apart_from=(normal_path, masks_path))
        if (file := annotation_path(masks_path)) is None:
            masks_in = MaskFolder(masks_path, line_width_px, types)
            anomalous = masks_in.label(images, defective_path)
        else:
            anomalous = _label_from_file(images, defective_path, file, line_width_px)
    return Dataset(root.resolve().name, root, *_divide(normal_images, seed), anomalous)


def _check_exists(field: str, path: Path, root: Path) -> None:
    if status_of(path) is None:
        raise InputNotFoundError(
            f"`{field}`: {path} does not exist. Give a path that is absolute or within {root}."
        )


def _divide(images: list[Path], seed: int) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Divide normal images into training and test."""
    num_test = min(max(round(TEST_FRACTION * len(images)), 1), len(images) - 1)
    drawn = set(np.random.default_rng(seed).permutation(len(images))[:num_test].tolist())
    train = tuple(Sample(path) for i, path in enumerate(images) if i not in drawn)
    return train, tuple(Sample(images[i]) for i in sorted(drawn))


def _defective_images(folder: Path, apart_from: tuple[Path, ...]) -> dict[Path, str]:
    """Return the images in `folder` and its sub-folders with their defect type, without masks."""
    others = {path.resolve() for path in apart_from}
    images: dict[Path, str] = {}
    for sub_folder in [folder, *list_folder(folder)[0]]:
        is_flat = sub_folder == folder
        if not is_flat and (sub_folder.resolve() in others or sub_folder.name.startswith(".")):
            continue
        found = find_images(sub_folder)
        if found and sub_folder.name == NORMAL and not is_flat:
            raise InputValueError(
                f"`defective`: {folder} has a sub-folder `{NORMAL}`. Expected defective images "
                "only; move it to the normal images."
            )
        mask_stems = {path.stem + MASK_ENDING for path in found}
        defect_type = FLAT_TYPE if is_flat else sub_folder.name
        images |= {path: defect_type for path in found if path.stem not in mask_stems}
    if not images:
        raise InputValueError(
            f"No labeled defects: `defective`: {folder} has no images. Expected images in it or in "
            "one sub-folder per defect type; put PNG, JPEG, BMP or TIFF files there."
        )
    return images


def _label_from_file(
    images: dict[Path, str], folder: Path, annotations_path: Path, line_width_px: float
) -> tuple[Sample, ...]:
    """Return the images with their masks in a file that annotates all of them."""
    annotations = read_annotation_file(annotations_path)
    if "" in annotations.images:
        raise InputValueError(
            f"{annotations_path} annotates one image, which it does not name. Give the folder that "
            "it lies in, and name it after its image."
        )
    samples, missing = [], []
    claimed: dict[str, Path] = {}
    for image_path, folder_type in images.items():
        key = annotations.find(PurePosixPath(image_path.relative_to(folder).as_posix()))
        if key is None:
            missing.append(image_path)
            continue
        if (other := claimed.setdefault(key, image_path)) != image_path:
            raise InputValueError(
                f"{other} and {image_path} both fit one image of {annotations_path}, {shown(key)}. "
                "Expected one for each; give the names in it with the folder that the image lies "
                "in."
            )
        is_flat = image_path.parent == folder
        defect_type = annotations.defect_type(key) if is_flat else folder_type
        mask = AnnotatedMask(annotations_path, key, line_width_px)
        samples.append(Sample(image_path, defect_type, mask))
    if missing:
        name = missing[0].relative_to(folder).as_posix()
        looked_in = f"{annotations_path} for annotations of an image with the name {name}"
        raise masks_missing(missing, len(images), looked_in)
    return tuple(samples)
