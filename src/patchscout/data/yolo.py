"""Labels of YOLO for segmentation: a text file for each image, an outline a line."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from patchscout.checks import InputValueError
from patchscout.data.annotations import AnnotatedImage, Annotation
from patchscout.data.clock import Clock
from patchscout.data.drawing import Polygon
from patchscout.data.json_files import read_limited
from patchscout.data.walk import status_of
from patchscout.data.yaml_files import read_yaml
from patchscout.limits import current_limits
from patchscout.text import shown

_NAMES_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")
_NUM_FOLDERS = 3  # where names are looked for, from that of the labels on: `labels/train/a.txt`
_FARTHEST = 1.01
"""Coordinates are fractions of the image; so far beyond the edge is rounding."""


def parse_yolo(data: bytes, path: Path) -> AnnotatedImage:
    """Return the image that a file of labels is for.

    Each line has the number of a class, and x and y of each corner as fractions of the image. The
    names of classes are in `data.yaml` or `classes.txt` beside the file or up to two folders above.

    Raises:
        InputValueError: A line is a box or no outline; the message names it.
    """
    limit = current_limits().points
    if sum(map(data.count, (b" ", b"\t"))) > 2 * limit:  # two for a point, before all are read
        raise InputValueError(
            f"{path} has more than {limit:,} points. Outline more coarsely, or raise "
            "`--limits.points`."
        )
    lines = data.decode("utf-8", errors="replace").splitlines()
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    names = _names_of(path) if filled else {}
    annotations = [
        _annotation(line.split(), f"{path}, line {number}", names, number)
        for number, line in Clock(path).timed(filled)
    ]
    return AnnotatedImage("", None, None, tuple(annotations))


def _annotation(words: list[str], where: str, names: dict[int, str], number: int) -> Annotation:
    try:
        values = np.array(words, float)
    except ValueError:
        values = np.array([np.nan])
    if not np.isfinite(values).all() or values[0] % 1 or values[0] < 0:
        raise InputValueError(
            f"{where} is no line of YOLO labels: {shown(' '.join(words[:8]), 60)}. Expected the "
            "number of a class and x and y of each corner."
        )
    if values.size in (5, 6):
        raise InputValueError(
            f"{where} is a box, which is no outline, as most of its pixels may be normal. Expected "
            "a class and the x and y of three corners or more; export it for segmentation."
        )
    if values.size < 7 or values.size % 2 == 0:
        raise InputValueError(
            f"{where} has {values.size} numbers. Expected a class and the x and y of three corners "
            "or more, which is an odd number; export it again."
        )
    fractions = values[1:].reshape(-1, 2)
    if fractions.min() < 1 - _FARTHEST or fractions.max() > _FARTHEST:
        wrong = fractions[(fractions < 1 - _FARTHEST) | (fractions > _FARTHEST)][0]
        raise InputValueError(
            f"{where} has the coordinate {wrong:g}. Expected fractions of the image, from 0 to 1; "
            "divide x by its width and y by its height."
        )
    return Annotation(
        f"line {number}",
        names.get(int(values[0])),
        None,
        partial(_shapes, fractions),
    )


def _shapes(fractions: np.ndarray, image_size: tuple[int, int], _width: float) -> list[Polygon]:
    return [Polygon(fractions * image_size[::-1])]


def _names_of(path: Path) -> dict[int, str]:
    """Return the names of the classes in a file of labels, as far as a file tells them."""
    folders = [path.parent, *path.parent.parents][:_NUM_FOLDERS]
    for file in (folder / name for folder in folders for name in _NAMES_FILES):
        if (status := status_of(file)) is not None:
            return _names(file, status.st_mtime_ns)
    return {}


@lru_cache(maxsize=1)
def _names(path: Path, _mtime_ns: int) -> dict[int, str]:
    """Return the names of classes by number."""
    if path.suffix in (".yaml", ".yml"):
        content = read_yaml(path, "the names of classes")
        names: Any = content.get("names") if isinstance(content, dict) else None
    else:
        text = read_limited(path, "a list of classes").decode("utf-8-sig", errors="replace")
        names = [line.strip() for line in text.splitlines()]
    try:
        pairs = names.items() if isinstance(names, dict) else enumerate(names or [])
        return {int(number): str(name) for number, name in pairs if name}
    except (TypeError, ValueError) as error:
        raise InputValueError(
            f"{path} has `names` that are no names by number. Write for example `names: [scratch]`."
        ) from error
