"""Label Studio's own JSON, full or JSON-MIN: polygons, rectangles, ellipses and brush strokes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from patchscout.checks import InputValueError
from patchscout.data.annotations import (
    AnnotatedImage,
    Annotation,
    Corners,
    check_size,
    image_key,
    united,
    with_annotations,
)
from patchscout.data.clock import Clock
from patchscout.data.drawing import Bitmap, Line, Shape, ellipse, polygon, rectangle
from patchscout.data.json_files import Number, Side, number_array, parse_entry
from patchscout.data.names import is_image_address
from patchscout.limits import current_limits

_EXPECTED = "Expected a JSON or JSON-MIN export of Label Studio; export it again."
_CHANNELS = 4  # red, green, blue and alpha, which alone tells what is marked


def is_label_studio(content: Any) -> bool:
    """Return whether the content of a JSON file is a list of tasks, or one task."""
    task = content[0] if isinstance(content, list) and content else content
    if not isinstance(task, dict):
        return False
    return bool({"annotations", "completions"} & task.keys() and "data" in task) or (
        isinstance(content, list) and any(map(is_image_address, task.values()))
    )


def parse_tasks(content: Any, path: Path) -> dict[str, AnnotatedImage]:
    """Return the images of an export by their key, see `image_key`.

    All annotations of a task count, but for those that were skipped; all tasks of one image too.
    Predictions of models do not.

    Raises:
        InputValueError: It is no such export.
    """
    clock = Clock(path)
    images: dict[str, AnnotatedImage] = {}
    annotations: dict[str, list[Annotation]] = defaultdict(list)
    for where, task in clock.timed(_tasks(path, content)):
        regions = [
            (parse_entry(_Region, value, f"{where}: region {i}", _EXPECTED), label)
            for i, (value, label) in enumerate(clock.timed(_values(task, where)))
        ]
        regions = [(region, label) for region, label in regions if region.is_shape]
        size = next((r.size for r, _ in regions if r.size != (None, None)), (None, None))
        name = _image_name(task, where)
        image, key = AnnotatedImage(name, *size), image_key(name)
        images[key] = united(images.get(key, image), image, f"{where}:")
        annotations[key] += [
            Annotation(f"region {i} ({label or 'no label'})", label or None, None, region.shapes)
            for i, (region, label) in enumerate(regions)
        ]
    return with_annotations(images, annotations)


def task_names(path: Path, content: Any) -> dict[str, str]:
    """Return the name of the image of each task, by the number of the task as text."""
    return {str(task.get("id")): _image_name(task, where) for where, task in _tasks(path, content)}


def decode_brush(rle: list[Any], num_values: int) -> np.ndarray:
    """Return the values behind the run-length encoding of a brush stroke.

    A header gives, in bits from the highest on, the number of values (32), the bits of a value less
    one (5) and four sizes less one (4 each). Then follow runs: a bit that says whether one value is
    repeated, two bits that say which size the length has, the length less one, and the value, or as
    many values as the length says.

    Args:
        rle: Bytes as whole numbers.
        num_values: How many there have to be.

    Returns:
        (num_values,) uint8.

    Raises:
        ValueError: It is no such encoding, gives another number, or has more runs than the limit on
            points.

    References:
        https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack
    """
    numbers = number_array(rle)
    if ((numbers < 0) | (numbers > 255) | (numbers % 1 > 0)).any():
        raise ValueError(
            "has an `rle` that is not of whole numbers from 0 to 255. Export it again."
        )
    data = numbers.astype(np.uint8).tobytes() + bytes(8)
    num_bits, position = 8 * len(rle), 0

    def read(size: int) -> int:
        nonlocal position
        start, position = position, position + size
        if position > num_bits:
            raise ValueError("has an `rle` that ends within a run. Export it again.")
        window = int.from_bytes(data[start >> 3 : (start >> 3) + 5], "big")
        return window >> (40 - (start & 7) - size) & ((1 << size) - 1)

    if (num := read(32)) != num_values:
        raise ValueError(
            f"has an `rle` of {num:,} values for {num_values:,} of the image. Export it again."
        )
    if (value_bits := read(5) + 1) > 8:
        raise ValueError(
            f"has an `rle` of {value_bits}-bit values; at most 8 bits are read. Export it again."
        )
    sizes = [read(4) + 1 for _ in range(4)]
    values = np.zeros(num_values, np.uint8)
    limit, done, num_read = current_limits().points, 0, 0
    while done < num_values:
        is_run = read(1)
        end = done + 1 + read(sizes[read(2)])
        if end > num_values:
            raise ValueError("has an `rle` of more values than the image. Export it again.")
        num_read += 1 if is_run else end - done
        if num_read > limit:
            raise ValueError(
                f"has an `rle` of more than {limit:,} runs. Paint it more coarsely, or raise "
                "`--limits.points`."
            )
        values[done:end] = (
            read(value_bits) if is_run else [read(value_bits) for _ in range(done, end)]
        )
        done = end
    return values


class _Region(BaseModel):
    """One region; lengths in percent of the image, angles in degrees clockwise."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    original_width: Side | None = None
    original_height: Side | None = None
    x: Number | None = None
    y: Number | None = None
    width: Number | None = None
    height: Number | None = None
    rotation: Number | None = None
    radiusX: Number | None = None  # noqa: N815 - Label Studio's own name
    radiusY: Number | None = None  # noqa: N815
    points: Corners | None = None
    rle: list[Any] | None = None
    vertices: Any = None
    imageDataURL: Any = None  # noqa: N815

    @property
    def is_shape(self) -> bool:
        """Whether it lies somewhere in the image; a choice or a text does not."""
        places = (self.x, self.points, self.rle, self.vertices, self.imageDataURL)
        return any(place is not None for place in places)

    @property
    def size(self) -> tuple[int | None, int | None]:
        """(height, width) of the image that it was drawn on, as far as it tells."""
        return self.original_height, self.original_width

    def shapes(self, image_size: tuple[int, int], line_width_px: float) -> list[Shape]:
        """Return what it outlines in an image of `image_size` (height, width).

        Raises:
            ValueError: It cannot be drawn.
        """
        check_size(self.size, image_size, "is one that")
        if self.rle is not None:
            return [self._brush(self.rle, image_size)]
        percent = np.array(image_size[::-1]) / 100
        if self.points is not None:
            return [polygon(self.points * percent)]
        turn = np.deg2rad(self.rotation or 0.0)
        if self.x is not None and self.y is not None:
            x, y = (np.array([self.x, self.y]) * percent).tolist()
            if self.radiusX is not None and self.radiusY is not None:
                across, down = ([self.radiusX, self.radiusY] * percent).tolist()
                return [ellipse((x, y), (across, down), float(turn))]
            if self.width is not None and self.height is not None:  # turned about its first corner
                right, bottom = ([self.width, self.height] * percent + (x, y)).tolist()
                return [rectangle((x, y), (right, bottom), (x, y), float(turn))]
            return [Line(np.array([(x, y)]), line_width_px)]
        raise ValueError(
            "is no polygon, rectangle, ellipse, brush stroke or point, which are read. Draw it anew"
            " as one of these, or remove it."
        )

    def _brush(self, rle: list[Any], image_size: tuple[int, int]) -> Bitmap:
        height, width = image_size
        most = current_limits().megapixels * 1e6
        if height * width > most:
            raise ValueError(f"has {width} x {height} pixels, more than `--limits.megapixels`.")
        values = decode_brush(rle, height * width * _CHANNELS)
        alpha = values.reshape(height, width, _CHANNELS)[:, :, _CHANNELS - 1]
        # Edges of a stroke are soft, and what programs paint has an opacity of its own.
        return Bitmap((alpha > 0) & (alpha >= alpha.max() / 2), (0, 0))


class _Annotation(BaseModel):
    """What one person drew for a task; nothing where they skipped it."""

    result: list[dict[str, Any]] | None = None
    was_cancelled: bool | None = None
    skipped: bool | None = None


def _tasks(path: Path, content: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where each task is, for messages, and the task."""
    for i, task in enumerate(content if isinstance(content, list) else [content]):
        where = f"{path}: `[{i}]`"
        if not isinstance(task, dict):
            raise InputValueError(f"{where} is no task. {_EXPECTED}")
        yield where, task


def _values(task: dict[str, Any], where: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the value of each region of a task, with the size of the image, and its label."""
    drawn = task.get("annotations", task.get("completions"))
    results: list[tuple[int, dict[str, Any]]] = []
    if drawn is None:  # JSON-MIN: lists of values by the name of the tag in the labeling setup
        for values in task.values():
            if isinstance(values, list):
                results += [(0, {"value": value}) for value in values]
    for i, value in enumerate(drawn if isinstance(drawn, list) else [drawn] if drawn else []):
        annotation = parse_entry(_Annotation, value, f"{where}: `annotations[{i}]`", _EXPECTED)
        if not (annotation.was_cancelled or annotation.skipped):
            results += [(i, result) for result in annotation.result or ()]
    regions: dict[Any, dict[str, Any]] = {}
    for number, (i, result) in enumerate(results):
        if isinstance(value := result.get("value"), dict):
            size = {k: result[k] for k in ("original_width", "original_height") if k in result}
            # What several tags say of a region has one `id`, and repeats its outline.
            regions.setdefault((i, str(result.get("id", number))), {}).update(value, **size)
    for value in regions.values():
        labels = [v for k, v in value.items() if k.endswith("labels") and isinstance(v, list)]
        yield value, next((text for texts in labels for text in texts if isinstance(text, str)), "")


def _image_name(task: dict[str, Any], where: str) -> str:
    """Return the path or address of a task's image."""
    data = task.get("data")
    fields = data if isinstance(data, dict) else task
    found = [value for value in fields.values() if is_image_address(value)]
    for name in (fields.get("image"), *(found if len(found) == 1 else ()), task.get("file_upload")):
        if isinstance(name, str):
            return name
    raise InputValueError(f"{where}: {len(found)} fields of `data` name an image. {_EXPECTED}")
