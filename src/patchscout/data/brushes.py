"""Label Studio's brush masks as images, `task-1-annotation-2-by-3-tag-stain-0.png`, in a folder."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import partial
from pathlib import Path

from patchscout.checks import InputValueError
from patchscout.data.annotations import AnnotatedImage, Annotation, check_size, image_key
from patchscout.data.drawing import Bitmap
from patchscout.data.json_files import parse_json, read_limited
from patchscout.data.label_studio import is_label_studio, task_names
from patchscout.data.mask_images import read_marked
from patchscout.data.walk import list_folder

_NAME = re.compile(r"task-(\d+)-annotation-\d+-by-.*?(?:-tag)?-(?P<label>[^-].*)-\d+\.png", re.I)


def is_brush_folder(folder: Path) -> bool:
    """Return whether a folder holds such masks."""
    return any(_NAME.fullmatch(path.name) for path in list_folder(folder)[1])


def parse_brushes(folder: Path) -> dict[str, AnnotatedImage]:
    """Return the images of a folder of masks by their key, see `image_key`.

    Which image a task is of is in the JSON export, in the same folder or the one above.

    Raises:
        InputValueError: There is no such export, or a task is missing in it.
    """
    names = _names_of_tasks(folder)
    found = [
        (path, match) for path in list_folder(folder)[1] if (match := _NAME.fullmatch(path.name))
    ]
    labels: dict[str, set[str]] = defaultdict(set)
    for _, match in found:
        labels[match[1]].add(match["label"])
    annotations: dict[str, list[Annotation]] = {}
    for path, match in found:
        if match[1] not in names:
            raise InputValueError(
                f"{path} names task {match[1]} and not its image. Looked for it in JSON files "
                f"of Label Studio in {folder} and {folder.parent}; put its JSON or JSON-MIN export "
                "there."
            )
        area = float(read_marked(path).mask.sum()) if len(labels[match[1]]) > 1 else 0.0
        annotations.setdefault(names[match[1]], []).append(
            Annotation(path.name, match["label"], area, partial(_shapes, path))
        )
    return {
        image_key(name): AnnotatedImage(name, None, None, tuple(of_image))
        for name, of_image in annotations.items()
    }


def _shapes(path: Path, image_size: tuple[int, int], _line_width_px: float) -> list[Bitmap]:
    mask = read_marked(path).mask
    height, width = mask.shape
    check_size((height, width), image_size, "is one that")
    return [Bitmap(mask, (0, 0))]


def _names_of_tasks(folder: Path) -> dict[str, str]:
    """Return the name of the image of each task by its number."""
    for place in (folder, folder.parent):
        names: dict[str, str] = {}
        for path in list_folder(place)[1]:
            if path.suffix.lower() == ".json":
                what = "an export of Label Studio"
                content = parse_json(read_limited(path, what), path, what)
                names |= task_names(path, content) if is_label_studio(content) else {}
        if names:
            return names
    return {}
