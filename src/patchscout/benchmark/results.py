"""One CSV file an experiment: a row a training, with what it was made with."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from patchscout.benchmark.protocols import Protocol
from patchscout.benchmark.variants import DEFAULT
from patchscout.checks import InputValueError
from patchscout.files.atomic import write_text_atomic
from patchscout.presets import first_problem
from patchscout.text import csv_cell

Key = tuple[str, str, int, str]
"""Category, variant, seed and the type left out (or ""), as a row has them."""

MEASURED = {
    "f1_max": "pixel_f1_max",
    "ap": "pixel_ap",
    "auroc": "pixel_auroc",
    "aupro": "pixel_aupro",
    "image_auroc": "image_auroc",
    "f1_at_threshold": "pixel_f1_at_threshold",
}
"""The figures of a row, and what `evaluate` calls them."""


class Result(BaseModel):
    """A row: one training and test.

    Attributes:
        category: Name of the data set.
        variant: Name of the variant.
        protocol: Which images were trained and measured on.
        seed: The seed.
        held_out_type: The defect type left out of training, for `unseen`; else empty.
        f1_max: Largest pixel F1 over all thresholds.
        ap: Pixel average precision.
        auroc: Pixel AUROC.
        aupro: Area under the per-region overlap up to a false positive rate of 0.3.
        image_auroc: AUROC of images by their scores.
        f1_at_threshold: Pixel F1 at the threshold that the training chose.
        budgets: What `evaluate` says of budgets for false alarms, as JSON; empty if unknown.
        seconds: Duration of the training.
        threads: Threads that it had.
        parallel_jobs: Trainings side by side.
        machine: Processor, cores and system.
        commit: Of the program; empty if unknown.
        date: Of the end.
        settings: What the variant and `--config` set, as JSON.
        config: Digest of every setting but seed and device.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: str
    variant: str
    protocol: Protocol
    seed: int
    held_out_type: str
    f1_max: float = math.nan
    ap: float = math.nan
    auroc: float = math.nan
    aupro: float = math.nan
    image_auroc: float = math.nan
    f1_at_threshold: float = math.nan
    budgets: str = ""
    seconds: float
    threads: int
    parallel_jobs: int
    machine: str
    commit: str
    date: str
    settings: str
    config: str

    @field_validator(*MEASURED, mode="before")
    @classmethod
    def _is_nan_where_undefined(cls, value: Any) -> Any:
        return math.nan if value is None or value == "" else value

    @property
    def key(self) -> Key:
        """What no other row has."""
        return self.category, self.variant, self.seed, self.held_out_type

    def cells(self) -> dict[str, str]:
        """Return what is written, figures to six digits."""
        row = {name: csv_cell(value) for name, value in self}
        for name in MEASURED:
            value = getattr(self, name)
            row[name] = "" if math.isnan(value) else f"{value:.6g}"
        return row


def read_results(path: Path) -> dict[Key, Result]:
    """Return the rows of a file, none if it is not there.

    Raises:
        InputValueError: If it is no file of results, or damaged; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        return {}
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputValueError(f"{path} is no CSV file ({error}). Name another file.") from None
    if list(reader.fieldnames or []) != list(Result.model_fields):
        raise InputValueError(
            f"{path} holds no results of `patchscout benchmark`: its first line differs. Name"
            " another file."
        )
    results: dict[Key, Result] = {}
    for line, row in rows:
        if None in row or None in row.values():
            raise InputValueError(
                f"{path}, line {line} has too many or too few cells. Mend or remove that line."
            )
        try:
            result = Result.model_validate(row)
        except ValidationError as error:
            raise InputValueError(
                f"{path}, line {line}: {first_problem(error)}. Mend or remove that line."
            ) from None
        results[result.key] = result
    return results


def add_result(path: Path, result: Result) -> None:
    """Write a row into a file that other commands may write to at the same time."""
    lock = path.with_name(f".{path.name}.lock")
    with FileLock(lock):
        try:
            _write(path, {**read_results(path), result.key: result})
        finally:
            with suppress(OSError):  # an open file stays on Windows, where it does no harm
                lock.unlink()


def _write(path: Path, results: Mapping[Key, Result]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Result.model_fields), lineterminator="\n")
    writer.writeheader()
    ordered = sorted(results, key=lambda key: (key[0], key[1] != DEFAULT, *key[1:]))
    writer.writerows(results[key].cells() for key in ordered)
    write_text_atomic(path, text.getvalue())
