"""The metrics table: three decimals, a dash for what is not defined, 80 columns."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Console

from patchscout.tables import metrics_table

FIGURES = {
    "num_images": 30,
    "num_anomalous": 20,
    "pixel_auroc": 0.98765,
    "pixel_ap": 0.5,
    "pixel_f1_max": 0.75049,
    "pixel_aupro": 1.0,
    "pixel_f1_at_threshold": 0.0,
    "image_auroc": 0.111,
    "image_ap": 0.222,
    "image_f1_max": 0.333,
}
SHARED = ["0.750", "1.000", "0.000", "0.111", "0.222", "0.333"]


def _printed(metrics: dict[str, Any], width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(metrics_table(metrics))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_each_row_holds_its_figures_in_order_with_three_decimals() -> None:
    crack = FIGURES | {"num_anomalous": 7, "pixel_auroc": 0.4, "pixel_ap": None}
    lines = _printed(FIGURES | {"per_defect_type": {"crack": crack}})
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert rows["crack"] == ["7", "0.400", "-", *SHARED]
    assert rows["all"] == ["20", "0.988", "0.500", *SHARED]


def test_columns_are_named() -> None:
    header = _printed(FIGURES)[1].split()
    assert header[-8:] == ["AUROC", "AP", "F1max", "AUPRO", "F1@t", "AUROC", "AP", "F1max"]


@pytest.mark.parametrize("missing", [None, math.nan])
def test_what_is_not_defined_is_a_dash(missing: float | None) -> None:
    values = _printed(dict.fromkeys(FIGURES, missing) | {"num_anomalous": 0})[-1].split()
    assert values == ["all", "0", *["-"] * 8]


def test_the_threshold_is_told_where_it_is_known() -> None:
    assert any("0.412" in line for line in _printed(FIGURES | {"threshold": 0.4123}))
    assert not any("threshold" in line for line in _printed(FIGURES))


def test_the_decisions_at_the_threshold_are_told_where_they_are_known() -> None:
    decided = {"threshold": 0.4, "num_false_alarms": 2, "num_missed": 3}
    text = " ".join(_printed(FIGURES | decided))
    assert "at the stored threshold 0.400:" in text
    assert "2 of 10 normal images and 17 of 20 defective ones are called defective" in text
    assert "called" not in " ".join(_printed(FIGURES | {"threshold": 0.4}))


def test_a_long_name_is_cut_rather_than_a_figure() -> None:
    name = "a_defect_type_of_far_too_long_a_name_for_any_terminal"
    lines = _printed(FIGURES | {"per_defect_type": {name: FIGURES}})
    assert max(len(line) for line in lines) <= 80
    row = next(line for line in lines if line.startswith("a_defect"))
    assert row.split()[-8:] == ["0.988", "0.500", *SHARED]


def test_a_name_is_no_markup() -> None:
    lines = _printed(FIGURES | {"per_defect_type": {"[red]odd[/]": FIGURES}})
    assert any(line.startswith("[red]odd[/]") for line in lines)


def test_a_name_moves_no_cursor() -> None:
    lines = _printed(FIGURES | {"per_defect_type": {"a\x1b[2J\r\u202eb": FIGURES}})
    assert any(line.startswith(r"a\x1b[2J\r\u202eb ") for line in lines)
