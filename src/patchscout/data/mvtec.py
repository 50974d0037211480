"""The layout of MVTec AD: train/good, test/good, test/<type>, ground_truth/<type>."""

from __future__ import annotations

from pathlib import Path

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.images import find_images
from patchscout.data.mask_folder import MaskFolder
from patchscout.data.walk import is_folder, list_folder
from patchscout.types import NORMAL, Dataset, Sample


def read_mvtec(root: Path, *, needs_labels: bool = True) -> Dataset:
    """List the images of one category in MVTec AD layout; no image is read.

    Masks are `ground_truth/<type>/<stem>_mask.png`, `<stem>.png`, or LabelMe's `<stem>.json`.

    Args:
        root: The folder of the category, such as `mvtec_ad/bottle`.
        needs_labels: Whether there must be labeled defects.

    Raises:
        InputNotFoundError: Folders or masks are missing.
        InputValueError: There are no normal images.
    """
    test = root / "test"
    train_normal = find_images(root / "train" / NORMAL)
    if not train_normal:
        raise InputValueError(
            f"{root / 'train' / NORMAL} has no images. Expected normal images to train on; "
            "put PNG, JPEG, BMP or TIFF files there."
        )
    test_normal = find_images(test / NORMAL) if is_folder(test / NORMAL) else []
    anomalous = defective_images(test) if is_folder(test) else {}
    if needs_labels and not anomalous:
        raise InputNotFoundError(
            f"No labeled defects: {test} has no folder of defective images. Looked for images in "
            f"{test}/<defect type> and masks in {root / 'ground_truth'}/<defect type>; add both,"
            " or train without labels: `labeled_per_type` 0."
        )
    return Dataset(
        name=root.resolve().name,
        root=root,
        train_normal=tuple(map(Sample, train_normal)),
        test_normal=tuple(map(Sample, test_normal)),
        anomalous=MaskFolder(root / "ground_truth").label(anomalous, test),
    )


def defective_images(folder: Path) -> dict[Path, str]:
    """Return the images in the sub-folders of `folder` but `good`, with their defect type."""
    return {
        image_path: sub_folder.name
        for sub_folder in list_folder(folder)[0]
        if sub_folder.name != NORMAL and not sub_folder.name.startswith(".")
        for image_path in find_images(sub_folder)
    }
