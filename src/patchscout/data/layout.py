"""A folder of images as a data set, whichever layout it has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.annotations import LINE_WIDTH_PX
from patchscout.data.folder import read_folders
from patchscout.data.mask_folder import MaskFolder, label_images, masks_missing
from patchscout.data.mask_images import MaskTypes, parse_types
from patchscout.data.photos import (
    check_has_images,
    defect_type_of,
    find_photos,
    joined,
    left_out_of_normal,
)
from patchscout.data.walk import is_folder
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
    mask_types: Sequence[str] = (),
) -> Dataset:
    """List the images of a folder; of them only those are read whose names leave it open.

    Args:
        root: A category in MVTec AD layout, or the folder that the three paths are relative to.
        normal: Folder of normal images, where the layout is another one.
        defective: Folder of defective images.
        masks: Folder of mask images or of annotations for one image each, or one file of
            annotations for all; unset: masks lie beside the images.
        seed: Decides which normal images of another layout are kept for testing.
        needs_labels: Whether there must be labeled defects; if not, `normal` is enough.
        line_width_px: How wide lines and points in annotations are, in pixels of the images.
        mask_types: The defect type of each value or color of mask images, such as `1=scratch`.

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
    types = parse_types(mask_types)
    if normal is not None and (defective is not None or (masks is None and not needs_labels)):
        return read_folders(
            root,
            normal,
            defective,
            masks,
            seed=seed,
            needs_labels=needs_labels,
            line_width_px=line_width_px,
            types=types,
        )
    paths = {"normal": normal, "defective": defective, "masks": masks}
    absent = [f"`{field}`" for field, path in paths.items() if path is None]
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


def _read_mvtec(
    root: Path, needs_labels: bool, line_width_px: float, mask_types: MaskTypes
) -> Dataset:
    """List the images of one category in MVTec AD layout.

    Masks are in `ground_truth`, or beside the images; see `MaskFolder`.

    Raises:
        InputNotFoundError: There are no defective images, or all masks in `ground_truth` are
            missing.
        InputValueError: There are no normal images.
    """
    test, ground_truth = root / "test", root / "ground_truth"
    train_ok = find_photos(root / "train" / NORMAL)
    check_has_images(train_ok, str(root / "train" / NORMAL), "Expected normal images to train on")
    parts = [left_out_of_normal(train_ok)]
    test_ok: list[Path] = []
    if is_folder(test / NORMAL):
        found = find_photos(test / NORMAL)
        parts.append(left_out_of_normal(found))
        test_ok = found.images
    anomalous, looked_in = (), ""
    if is_folder(test):
        found = find_photos(test, apart_from=[test / NORMAL])
        types = {path: defect_type_of(path.relative_to(test)) for path in found.images}
        images = {path: name for path, name in types.items() if name is not None}
        folders = [
            MaskFolder(ground_truth, (), line_width_px, mask_types),
            MaskFolder(test, found.images, line_width_px, mask_types),
        ]
        anomalous, looked_in, left_out = label_images(images, test, folders, found)
        parts += [left_out, {"in no folder of a defect type": [*(types.keys() - images.keys())]}]
    if needs_labels and not anomalous:
        raise InputNotFoundError(
            f"No labeled defects: {test} has no folder of defective images. Looked for images in "
            f"{test}/<defect type> and masks in {ground_truth}/<defect type>; add both,"
            " or train without labels: `labeled_per_type` 0."
        )
    if needs_labels and is_folder(ground_truth) and not any(s.mask for s in anomalous):
        raise masks_missing(anomalous, looked_in)
    return Dataset(
        name=root.resolve().name,
        root=root,
        train_normal=tuple(map(Sample, train_ok.images)),
        test_normal=tuple(map(Sample, test_ok)),
        anomalous=anomalous,
        layout="MVTec AD layout",
        left_out=joined(*parts),
        looked_in=looked_in,
    )


def _categories_below(root: Path) -> str:
    """Return the remedy for a folder of unknown layout."""
    names = sorted(path.parent.parent.name for path in root.glob(f"*/train/{NORMAL}"))
    if names:
        return f"It holds several categories; name one of them, such as {root / names[0]}."
    return "Give `normal`, `defective` and `masks` for another layout."
