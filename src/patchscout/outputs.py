"""Writes what was found in images: maps, masks and pictures of each, one table of all."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import PIL.Image
import tifffile

from patchscout.files.atomic import json_text
from patchscout.files.output_folder import OutputFolder
from patchscout.prediction import Prediction, Region
from patchscout.text import csv_cell, short_name
from patchscout.visualize import Drawable, overlay

_TABLES = ("predictions.csv", "predictions.json", "regions.csv")
_PARTIAL_TABLES = ("predictions.partial.csv", "predictions.partial.json", "regions.partial.csv")

_COLUMNS = (
    "path",
    "pred_score",
    "is_anomalous",
    "score_threshold",
    "pixel_threshold",
    "num_regions",
    "area_px",
    "area_percent",
    "largest_area_px",
    "largest_length_px",
    "largest_area_mm2",
    "largest_length_mm",
    "unlike_training",
    "output",
)
_REGION_COLUMNS = (
    *("x", "y", "width", "height"),
    *("area_px", "length_px", "area_mm2", "length_mm", "peak"),
)


class PredictionWriter:
    """Writes predictions to a folder, one image at a time, and a table of all at the end.

    For each image there is a float32 map `anomaly_maps/<output>.tiff`, a 0/255 mask
    `masks/<output>.png` and a picture `overlays/<output>.png`, all at the image's own size,
    where `<output>` is the path of the image without its suffix. `predictions.csv` has a row
    for each image, `regions.csv` one for each region, and `predictions.json` has both. All of it
    takes its place when the block ends, see `OutputFolder`. If the block ends by an error or by
    Ctrl-C after the first image, what is done takes its place, and the tables are called
    `predictions.partial.csv` and so on.
    """

    def __init__(self, folder: Path, overwrite: bool = False, reads: Iterable[Path] = ()) -> None:
        """Prepare to write; nothing is touched before the block starts.

        Args:
            folder: The output folder.
            overwrite: Whether earlier output in it may be replaced.
            reads: Files and folders that are read meanwhile, which must not be replaced.
        """
        names = (*_TABLES, *_PARTIAL_TABLES)
        self._folder = OutputFolder(folder, names, overwrite=overwrite, reads=reads)
        self._rows = Rows()
        self._taken: set[str] = set()

    def __enter__(self) -> PredictionWriter:
        """Reserve the folder; see `OutputFolder` for the errors."""
        self._files = self._folder.__enter__()
        return self

    def write(
        self,
        path: Path,
        image: Drawable,
        prediction: Prediction,
        relative_to: Path | None = None,
    ) -> None:
        """Write the files of one image; they appear together or not at all.

        Args:
            path: Where the image was read from, for the table and the names of its files.
            image: (height, width, 3) RGB, float in [0, 1] or uint8.
            prediction: What was found in it.
            relative_to: The folder in which the image was found; the files keep its path below
                that. Without it they keep a relative path and the name of an absolute one.
                Images whose files would have one name get `-2`, `-3` and so on.
        """
        output = self._free_name(path, relative_to)
        targets = [self._files / name for name in _file_names(output)]
        drawn = overlay(
            image,
            prediction.anomaly_map,
            prediction.pred_mask,
            prediction.decision.pixel_threshold,
        )
        try:
            for target in targets:
                target.parent.mkdir(parents=True, exist_ok=True)
            map_path, mask_path, overlay_path = targets
            tifffile.imwrite(map_path, prediction.anomaly_map.astype(np.float32), metadata=None)
            mask = PIL.Image.fromarray(prediction.pred_mask.astype(np.uint8) * 255)
            mask.save(mask_path, "PNG")
            PIL.Image.fromarray(drawn).save(overlay_path, "PNG", compress_level=1)
        except BaseException:
            for target in targets:
                target.unlink(missing_ok=True)
            raise
        self._taken.add(output.casefold())
        self._rows.append(_row(path, prediction, output))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write the tables; after an error before the first image, leave no trace instead."""
        if kind is not None and not self._rows:
            self._folder.__exit__(kind, error, traceback)
            return
        try:
            images, both, regions = _TABLES if kind is None else _PARTIAL_TABLES
            write_csv(self._files / images, _COLUMNS, self._rows)
            self._rows.write_json(self._files / both)
            of_regions = (
                {"path": row["path"], **region} for row in self._rows for region in row["regions"]
            )
            write_csv(self._files / regions, ("path", *_REGION_COLUMNS), of_regions)
        except BaseException as failure:
            self._folder.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._folder.__exit__(None)

    def _free_name(self, path: Path, relative_to: Path | None) -> str:
        """Return a name for the files of an image that no other file has."""
        if relative_to is not None and path.is_relative_to(relative_to):
            path = path.relative_to(relative_to)
        elif path.is_absolute():
            path = Path(path.name)
        parts = [part for part in path.with_suffix("").parts if part != ".."]
        base = "/".join(map(short_name, parts)) or "image"
        name, count = base, 1
        while name.casefold() in self._taken or not all(
            self._folder.is_free(file_name) for file_name in _file_names(name)
        ):
            count += 1
            name = f"{base}-{count}"
        return name


class Rows:
    """The rows of the table, kept in a temporary file until all are there."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 - as long as this
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, row: dict[str, Any]) -> None:
        """Add a row."""
        self._file.seek(0, io.SEEK_END)
        self._file.write(json.dumps(row) + "\n")
        self._count += 1

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in the order that they were added."""
        self._file.seek(0)
        return map(json.loads, self._file)

    def write_json(self, path: Path) -> None:
        """Write the rows as one JSON list."""
        with path.open("w", encoding="ascii") as file:
            file.write("[")
            for number, row in enumerate(self):
                file.write(",\n" if number else "\n")
                file.write(textwrap.indent(json_text(row), "  "))
            file.write("\n]\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV, safe to open in a spreadsheet; truth values as JSON, None as nothing."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow(_cell(row[name]) for name in columns)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, bool) else csv_cell(value)


def _row(path: Path, found: Prediction, output: str) -> dict[str, Any]:
    """Return the row of one image."""
    decision = found.decision
    pixel_mm = decision.asked.pixel_size_mm
    regions = [_region_row(region, pixel_mm) for region in found.regions]
    area_px = sum(region["area_px"] for region in regions)
    row = {
        "path": str(path),
        "pred_score": found.pred_score,
        "is_anomalous": found.is_anomalous,
        "score_threshold": decision.threshold_probability,
        "pixel_threshold": decision.pixel_threshold,
        "num_regions": len(regions),
        "area_px": area_px,
        "area_percent": round(100 * area_px / found.pred_mask.size, 6),
    }
    for name in ("area_px", "length_px", "area_mm2", "length_mm"):
        is_known = name.endswith("px") or pixel_mm is not None
        largest = max((region[name] for region in regions), default=0) if is_known else None
        row[f"largest_{name}"] = largest
    unlike_training = "; ".join(found.unlike_training)
    return row | {"regions": regions, "unlike_training": unlike_training, "output": output}


def _region_row(region: Region, pixel_mm: float | None) -> dict[str, Any]:
    """Return the row of a region; without the size of a pixel, what is in mm is None."""
    return region._asdict() | {
        "area_mm2": None if pixel_mm is None else region.area_px * pixel_mm**2,
        "length_mm": None if pixel_mm is None else region.length_px * pixel_mm,
    }


def _file_names(output: str) -> tuple[str, str, str]:
    """Return the names of the map, the mask and the overlay of an image."""
    return f"anomaly_maps/{output}.tiff", f"masks/{output}.png", f"overlays/{output}.png"
