"""Masks from mask images: of two values, with soft edges, or of several values or colors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from patchscout.checks import InputValueError
from patchscout.data.clock import Clock
from patchscout.data.image_files import decode, open_image, oriented
from patchscout.data.json_files import read_limited
from patchscout.data.walk import status_of
from patchscout.text import shown
from patchscout.types import NORMAL, Mask

Color = tuple[int, ...]
"""One grey value or index of a palette; or red, green and blue; as the file stores them."""

MaskTypes = tuple[tuple[Color, str], ...]
"""The defect type of each value or color; `good` where there is no defect."""

_MOST_CLASSES = 31
"""Grey values up to this are numbers of classes; larger ones may be those of a soft edge."""
_FEW_VALUES = 8
"""Fewer grey values than this may be classes too."""

Reading = tuple[str, str]
"""What is said of masks that have more than two values, and what else can be done."""

SOFT = ("masks have soft edges", "They are cut at half of the largest value")
SEVERAL = (
    "masks have several values or colors",
    "All but the background count as anomalous; `--data.mask-types` tells them apart",
)


class Marked(NamedTuple):
    """What a mask image marks.

    Attributes:
        mask: True on anomalous pixels.
        num_pixels: How many of them each defect type has; empty where no types are told.
        reading: `SOFT` or `SEVERAL`; None where there are two values, or types are told.
    """

    mask: Mask
    num_pixels: Counter[str]
    reading: Reading | None = None


def read_marked(path: Path, types: MaskTypes = ()) -> Marked:
    """Return what a mask image marks.

    Background is black or transparent; in a palette whose black is not used, its first color. Of
    several values or colors, all others are anomalous. Edges that are soft are cut at half of the
    largest value: where there are eight grey values or more, of which few lie in the middle; or
    where all below half lie beside one above.

    Raises:
        InputNotFoundError: There is no such file.
        InputValueError: It is no image, its values are not clear, or `types` lack one of them.
    """
    with open_image(path) as image:
        pixels = decode(image)
        is_palette = image.picture.mode == "P"
        indices = oriented(np.asarray(image.picture), image.orientation) if is_palette else None
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    if pixels.shape[2] in (2, 4):
        pixels = _over_black(pixels)
    levels = pixels.max(axis=2)
    is_color = bool((pixels != pixels[:, :, :1]).any())
    background = levels == 0
    if indices is not None and is_color and not background.any():
        background = indices == 0
    if types:
        return _of_types(pixels, indices, background, types, path)
    marked = pixels[~background]
    if len(marked) == 0 or (marked == marked[0]).all():
        return Marked(~background, Counter())
    if indices is not None and is_color:
        return Marked(~background, Counter(), SEVERAL)
    return Marked(*_of_levels(levels, path))


def _over_black(pixels: np.ndarray) -> np.ndarray:
    """Return (H, W, C) values whose last channel is alpha, laid over black."""
    largest = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    values = pixels[:, :, :-1] * (pixels[:, :, -1:] / np.float32(largest))
    return (np.rint(values) if pixels.dtype.kind == "u" else values).astype(pixels.dtype)


def _of_levels(levels: np.ndarray, path: Path) -> tuple[Mask, Counter[str], Reading]:
    """Return the mask behind three or more grey values, and how they were read."""
    largest = levels.max()
    marked, above = levels > 0, levels >= largest / 2
    if np.issubdtype(levels.dtype, np.integer) and largest <= _MOST_CLASSES:
        return marked, Counter(), SEVERAL
    below = marked & ~above
    values = np.unique(levels)
    if len(values) < _FEW_VALUES:
        beside = cv2.dilate(above.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        is_soft = bool(below.any()) and not (below & ~beside).any()
        return (above, Counter(), SOFT) if is_soft else (marked, Counter(), SEVERAL)
    num_high = np.count_nonzero(levels >= largest * 0.75)
    if 2 * num_high < np.count_nonzero((levels > largest * 0.25) & (levels < largest * 0.75)):
        raise InputValueError(
            f"{path} has {len(values)} grey values (such as {', '.join(map(str, values[1:4]))}), "
            "most of them neither near 0 nor near the largest, so that it is not known what is "
            "anomalous. Save it as PNG with 0 for normal, 255 for anomalous."
        )
    return above, Counter(), SOFT


def _of_types(
    pixels: np.ndarray,
    indices: np.ndarray | None,
    background: np.ndarray,
    types: MaskTypes,
    path: Path,
) -> Marked:
    """Return the pixels of each type; every color but the background must be among the types."""
    mask, left, num_pixels = np.zeros_like(background), ~background, Counter[str]()
    for color, name in Clock(path).timed(types):
        if len(color) == 1 and indices is not None:
            found = indices == color[0]
        elif len(color) == 3 and pixels.shape[2] == 1 and len(set(color)) > 1:
            continue  # no grey
        else:
            found = (pixels == np.array(color[: pixels.shape[2]])).all(axis=2)
        left &= ~found
        if name != NORMAL:
            mask |= found
            num_pixels[name] += int(np.count_nonzero(found))
    if left.any():
        row, column = np.argwhere(left)[0]
        value = indices[row, column] if indices is not None else pixels[row, column]
        raise InputValueError(
            f"{path} has the value {','.join(map(str, np.atleast_1d(value)))} at row {row}, column "
            f"{column}, which stands for no defect type. Add it to `--data.mask-types`, as "
            f"`{NORMAL}` if it is no defect."
        )
    return Marked(mask, +num_pixels)


def parse_color(text: str) -> Color:
    """Return a value or color as a person writes it: `1`, `250,50,83` or `#fa3253`.

    Raises:
        ValueError: It is none of these.
    """
    try:
        is_hex = text.startswith("#") and len(text) == 7
        color = tuple(bytes.fromhex(text[1:])) if is_hex else tuple(map(int, text.split(",")))
    except ValueError:
        color = ()
    if len(color) not in (1, 3) or not all(0 <= value <= 65535 for value in color):
        raise ValueError(
            f"must name values such as 1, or colors such as 250,50,83 or #fa3253; got {shown(text)}"
        )
    return color


def parse_types(names: Iterable[str]) -> MaskTypes:
    """Return the defect type of each value or color, as a person writes them: `1=scratch`.

    Raises:
        InputValueError: One is not of this form.
    """
    types: list[tuple[Color, str]] = []
    for text in names:
        color, is_pair, name = text.partition("=")
        try:
            types.append((parse_color(color.strip()), name.strip()))
        except ValueError as error:
            raise InputValueError(f"`mask_types` {error}. Write for example 1=scratch.") from error
        if not (is_pair and name.strip()):
            raise InputValueError(
                f"`mask_types` must name a type for {shown(color)}. Write for example 1=scratch."
            )
    return tuple(types)


def types_of_folder(folder: Path) -> MaskTypes:
    """Return what CVAT's `labelmap.txt`, in a folder of masks or the one above, says of colors.

    Raises:
        InputValueError: A line is not of its format.
    """
    for path in (folder / "labelmap.txt", folder.parent / "labelmap.txt"):
        if status_of(path) is not None:
            break
    else:
        return ()
    text = read_limited(path, "a list of labels and colors").decode("utf-8-sig", errors="replace")
    types: list[tuple[Color, str]] = []
    for number, line in enumerate(Clock(path).timed(text.splitlines()), 1):
        label, _, rest = line.partition(":")
        color = rest.partition(":")[0]
        if not label.strip() or label.startswith("#") or not color.strip():
            continue  # CVAT lists labels without a color too
        try:
            name = NORMAL if label.strip().casefold() == "background" else label.strip()
            types.append((parse_color(color.replace(" ", "")), name))
        except ValueError as error:
            raise InputValueError(
                f"{path}, line {number}: the color {error}. Expected `label:color:parts:actions`; "
                "export it again."
            ) from error
    return tuple(types)
