"""Any folder described by three paths: normal images, defective images, masks."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.coco import CocoMask, ImageId, read_coco
from patchscout.data.images import find_images
from patchscout.data.mask_folder import MASK_ENDING, MaskFolder, masks_missing
from patchscout.data.walk import is_folder, list_folder, status_of
from patchscout.types import NORMAL, Dataset, Sample

FLAT_TYPE = "defect"
"""The defect type of images that lie in no sub-folder and have no category."""


def read_folders(
    root: Path,
    normal: str | Path,
    defective: str | Path,
    masks: str | Path,
    *,
    test_fraction: float = 0.2,
    seed: int = 42,
) -> Dataset:
    """List the images of three paths; no image is read.

    Args:
        root: The folder that the other paths, and those of a saved split, are relative to.
        normal: Folder of normal images, which are divided by `seed` into training and test.
        defective: Folder of defective images, in one sub-folder per defect type, or all in it.
        masks: Folder of mask images (`<stem>_mask.*` or `<stem>.*`) or LabelMe files, in the same
            sub-folders as the images; or one COCO JSON file. Of images in no sub-folder, the
            defect type is then the category of the largest annotation, else `defect`.
        test_fraction: Share of the normal images kept for testing, in [0, 1); at least one image
            is left on each side, where there are two and the share is above 0.
        seed: Decides which normal images are kept for testing.

    Raises:
        InputNotFoundError: A path or a mask is missing.
        InputValueError: A folder holds no images, or something else does not fit.
    """
    train_normal, test_normal = _read_normal(root, normal, test_fraction, seed)
    normal_path, defective_path, masks_path = root / normal, root / defective, root / masks
    for field, path in (("defective", defective_path), ("masks", masks_path)):
        _check_exists(field, path, root)
    images = _defective_images(defective_path, apart_from=(normal_path, masks_path))
    if not is_folder(masks_path):
        anomalous = _label_from_coco(images, defective_path, masks_path)
    else:
        anomalous = MaskFolder(masks_path).label(images, defective_path)
    return Dataset(root.resolve().name, root, train_normal, test_normal, anomalous)


def read_normal_folder(
    root: Path, normal: str | Path, *, test_fraction: float = 0.2, seed: int = 42
) -> Dataset:
    """List the images of a folder of normal ones, without any defects; see `read_folders`."""
    train_normal, test_normal = _read_normal(root, normal, test_fraction, seed)
    return Dataset(root.resolve().name, root, train_normal, test_normal, anomalous=())


def _read_normal(
    root: Path, normal: str | Path, test_fraction: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Return the normal images to train and to test on."""
    if not 0 <= test_fraction < 1:
        raise InputValueError(f"`test_fraction` must be in [0, 1); got {test_fraction}. Try 0.2.")
    folder = root / normal
    _check_exists("normal", folder, root)
    images = find_images(folder)
    if not images:
        raise InputValueError(
            f"`normal`: {folder} has no images. Expected normal images to train on; put PNG, "
            "JPEG, BMP or TIFF files there."
        )
    return _divide(images, test_fraction, seed)


def _check_exists(field: str, path: Path, root: Path) -> None:
    if status_of(path) is None:
        raise InputNotFoundError(
            f"`{field}`: {path} does not exist. Give a path that is absolute or within {root}."
        )


def _divide(
    images: list[Path], test_fraction: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Divide normal images into training and test."""
    num_test = round(test_fraction * len(images))
    if test_fraction > 0 and len(images) > 1:
        num_test = min(max(num_test, 1), len(images) - 1)
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


def _label_from_coco(images: dict[Path, str], folder: Path, coco_path: Path) -> tuple[Sample, ...]:
    """Return the images with their masks in a COCO file."""
    coco = read_coco(coco_path)
    samples, missing = [], []
    claimed: dict[ImageId, Path] = {}
    for image_path, folder_type in images.items():
        image_id = coco.find(PurePosixPath(image_path.relative_to(folder).as_posix()))
        if image_id is None:
            missing.append(image_path)
            continue
        if (other := claimed.setdefault(image_id, image_path)) != image_path:
            raise InputValueError(
                f"{other} and {image_path} both fit one image of {coco_path}. Expected one for "
                "each; give `file_name` with the folder that the image lies in."
            )
        is_flat = image_path.parent == folder
        defect_type = coco.largest_category(image_id) if is_flat else folder_type
        samples.append(Sample(image_path, defect_type, CocoMask(coco_path, image_id)))
    if missing:
        name = missing[0].relative_to(folder).as_posix()
        looked_in = f"{coco_path} for annotations of an image with `file_name` {name}"
        raise masks_missing(missing, len(images), looked_in)
    return tuple(samples)
