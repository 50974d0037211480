"""A folder of images as a data set, whichever layout it has."""

from __future__ import annotations

import os
from pathlib import Path

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.annotations import read_mask
from patchscout.data.folder import read_folders, read_normal_folder
from patchscout.data.images import read_size
from patchscout.data.mvtec import read_mvtec
from patchscout.monitor import Monitor
from patchscout.types import NORMAL, Dataset


def read_dataset(
    root: str | Path,
    normal: str | Path | None = None,
    defective: str | Path | None = None,
    masks: str | Path | None = None,
    *,
    seed: int = 42,
    needs_labels: bool = True,
) -> Dataset:
    """List the images of a folder; no image is read.

    Args:
        root: A category in MVTec AD layout, or the folder that the three paths are relative to.
        normal: Folder of normal images, where the layout is another one.
        defective: Folder of defective images.
        masks: Folder of masks or LabelMe files, or one COCO JSON file.
        seed: Decides which normal images of another layout are kept for testing.
        needs_labels: Whether there must be labeled defects; if not, `normal` is enough.

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
    paths = {"normal": normal, "defective": defective, "masks": masks}
    absent = [f"`{field}`" for field, path in paths.items() if path is None]
    if normal is not None and defective is not None and masks is not None:
        return read_folders(root, normal, defective, masks, seed=seed)
    if normal is not None and defective is None and masks is None and not needs_labels:
        return read_normal_folder(root, normal, seed=seed)
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
    return read_mvtec(root, needs_labels=needs_labels)


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
    for sample in monitor.track(samples, "checking the images", len(samples), "image"):
        read_mask(sample, read_size(sample.image_path))


def _categories_below(root: Path) -> str:
    """Return the remedy for a folder of unknown layout."""
    names = sorted(path.parent.parent.name for path in root.glob(f"*/train/{NORMAL}"))
    if names:
        return f"It holds several categories; name one of them, such as {root / names[0]}."
    return "Give `normal`, `defective` and `masks` for another layout."
