"""A folder of images as a data set, whichever layout it has."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.annotations import LINE_WIDTH_PX, MaskFile, read_turned_mask
from patchscout.data.folder import read_folders
from patchscout.data.images import find_images
from patchscout.data.mask_folder import MaskFolder
from patchscout.data.mask_images import MaskTypes, types_by_color
from patchscout.data.walk import is_folder, list_folder
from patchscout.monitor import Monitor
from patchscout.types import NORMAL, Dataset, Sample


def read_dataset(
    root: str | Path,
    normal: str | Path | None = None,
    defective: str | Path | None = None,
    masks: str | Path | None = None,
    *,
    seed: int = 42,
    needs_labels: bool = True,
    line_width_px: float = LINE_WIDTH_PX,
    mask_types: Mapping[str, str] | None = None,
) -> Dataset:
    """List the images of a folder; no image is read.

    Args:
        root: A category in MVTec AD layout, or the folder that the three paths are relative to.
        normal: Folder of normal images, where the layout is another one.
        defective: Folder of defective images.
        masks: Folder of masks or LabelMe files, or one COCO or VIA JSON file.
        seed: Decides which normal images of another layout are kept for testing.
        needs_labels: Whether there must be labeled defects; if not, `normal` is enough.
        line_width_px: How wide lines and points in annotations are, in pixels of the images.
        mask_types: The defect type of each value or color of mask images, see `parse_color`.

    Raises:
        InputNotFoundError: Folders or masks are missing.
        InputValueError: The layout is not known, or a folder is empty.
    """
    root = Path(root)
    try:
        with os.scandir(root):
            is_mvtec = (root / "train" / NORMAL).is_dir()
    except NotADirectoryError as error:
        raise InputValueError(
            f"{root} is a file. Expected a folder of images; name its folder."
        ) from error
    except (FileNotFoundError, ValueError) as error:  # ValueError: no path can have such characters
        raise InputNotFoundError(
            f"{root} does not exist. Expected a folder of images; check the path."
        ) from error
    except OSError as error:
        raise InputValueError(
            f"{root} cannot be read ({error.strerror}). Expected a folder of images; check its name"
            " and your rights."
        ) from error
    types = types_by_color(mask_types or {})
    paths = {"normal": normal, "defective": defective, "masks": masks}
    absent = [f"`{field}`" for field, path in paths.items() if path is None]
    if normal is not None and (not absent or (len(absent) == 2 and not needs_labels)):
        return read_folders(
            root, normal, defective, masks, seed=seed, line_width_px=line_width_px, types=types
        )
    if len(absent) < len(paths):
        raise InputValueError(
            f"{' and '.join(absent)} must be given too: a folder that is not in MVTec AD layout is "
            "described by `normal`, `defective` and `masks` together. Add what is missing, or train"
            " without labels: `normal` alone and `labeled_per_type` 0."
        )
    if not is_mvtec:
        raise InputNotFoundError(
            f"{root} has no known layout: looked for {root / 'train' / NORMAL} (MVTec AD). "
            f"{_categories_below(root)}"
        )
    return _read_mvtec(root, needs_labels, line_width_px, types)


def _read_mvtec(root: Path, needs_labels: bool, line_width_px: float, types: MaskTypes) -> Dataset:
    """List the images of one category in MVTec AD layout; no image is read.

    Masks are `ground_truth/<type>/<stem>_mask.png`, `<stem>.png`, or LabelMe's `<stem>.json`.

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
    anomalous = _defective_images(test) if is_folder(test) else {}
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
        anomalous=MaskFolder(root / "ground_truth", line_width_px, types).label(anomalous, test),
    )


def _defective_images(folder: Path) -> dict[Path, str]:
    """Return the images in the sub-folders of `folder` but `good`, with their defect type."""
    return {
        image_path: sub_folder.name
        for sub_folder in list_folder(folder)[0]
        if sub_folder.name != NORMAL and not sub_folder.name.startswith(".")
        for image_path in find_images(sub_folder)
    }


def check_dataset(dataset: Dataset, monitor: Monitor | None = None) -> None:
    """Read every mask and the header of every image, so that what does not fit is told at once.

    Args:
        dataset: All images.
        monitor: Shows progress; silent unless given.

    Raises:
        InputNotFoundError: A file has gone.
        InputValueError: An image or a mask does not fit.
    """
    samples = (*dataset.train_normal, *dataset.test_normal, *dataset.anomalous)
    monitor = monitor or Monitor()
    readings: dict[str, list[Path]] = defaultdict(list)
    turned: list[Path] = []
    unknown: list[Path] = []
    for sample in monitor.track(samples, "checking the images", len(samples), "image"):
        was_turned = read_turned_mask(sample)[1]
        if isinstance(sample.mask, MaskFile) and (reading := sample.mask.reading()):
            readings[reading].append(sample.mask.path)
        if was_turned is None:
            unknown.append(sample.image_path)
        elif was_turned:
            turned.append(sample.image_path)
    for reading, paths in readings.items():
        monitor.say(f"{len(paths)} masks, such as {paths[0]}, {reading}.")
    if turned:
        monitor.say(
            f"{len(turned)} annotations are for the image as it is stored, which EXIF turns, such "
            f"as that of {turned[0]}: turned with it."
        )
    if unknown:
        monitor.say(
            f"{len(unknown)} annotated images, such as {unknown[0]}, are turned or mirrored by EXIF"
            " in a way that leaves their size: taken as annotated upright. If a tool showed them "
            "otherwise, their masks are wrong; save the images without EXIF and annotate those."
        )


def _categories_below(root: Path) -> str:
    """Return the remedy for a folder of unknown layout."""
    names = sorted(path.parent.parent.name for path in root.glob(f"*/train/{NORMAL}"))
    if names:
        return f"It holds several categories; name one of them, such as {root / names[0]}."
    return "Give `normal`, `defective` and `masks` for another layout."
