"""The embedded sample: images with defects and masks, made at run time, for the demo and tests."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from patchscout.checks import InputValueError
from patchscout.data.backgrounds import brick_wall, light
from patchscout.data.defects import chip, misprint, scratch, stain
from patchscout.types import NORMAL, Image, Mask

DEFECTS: dict[str, Callable[[Image, np.random.Generator], tuple[Image, Mask]]] = {
    "chip": chip,
    "misprint": misprint,
    "scratch": scratch,
    "stain": stain,
}
"""The defect types."""

MIN_SIZE_PX = 64


def write_sample(
    folder: str | Path,
    *,
    num_train: int = 40,
    num_test_normal: int = 10,
    num_per_type: int = 12,
    size_px: int = 256,
    seed: int = 0,
) -> Path:
    """Write the category `brick_wall` in MVTec AD layout; the same arguments give the same pixels.

    Each image depends only on the seed, the size and its own name, not on how many there are.

    Args:
        folder: Where to write; the category becomes a folder in it.
        num_train: Normal images to train on.
        num_test_normal: Normal images to test on.
        num_per_type: Images of each of the types in `DEFECTS`.
        size_px: Side length of the images in pixels, 64 or more.
        seed: Where the randomness starts, 0 or more.

    Returns:
        The folder of the category.

    Raises:
        InputValueError: The size is too small.
    """
    if size_px < MIN_SIZE_PX:
        raise InputValueError(f"`size_px` must be {MIN_SIZE_PX} or more; got {size_px}. Try 256.")
    root = Path(folder) / "brick_wall"
    counts = {f"train/{NORMAL}": num_train, f"test/{NORMAL}": num_test_normal}
    counts |= {f"test/{defect_type}": num_per_type for defect_type in DEFECTS}
    for group, count in counts.items():
        defect_type = group.split("/")[1]
        masks = root / "ground_truth" / defect_type
        for place in (root / group, *([masks] if defect_type in DEFECTS else [])):
            place.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            stem = f"{index:03d}"
            rng = np.random.default_rng([seed, zlib.crc32(f"{root.name}/{group}/{stem}".encode())])
            image, mask = draw_sample(defect_type, size_px, rng)
            _write(image, root / group / f"{stem}.png")
            if defect_type in DEFECTS:
                _write(mask.astype(np.float32), masks / f"{stem}_mask.png")
    return root


def draw_sample(defect_type: str, size_px: int, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Draw one image and its mask, empty for the defect type `good`."""
    image, mask = brick_wall(size_px, rng), np.zeros((size_px, size_px), bool)
    if defect_type != NORMAL:
        image, mask = DEFECTS[defect_type](image, rng)
    return light(image, rng), mask


def _write(values: np.ndarray, path: Path) -> None:
    PillowImage.fromarray(np.rint(values * 255).astype(np.uint8)).save(path, compress_level=1)
