"""Prints metrics as a table that fits a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from patchscout.text import printable

_COLUMNS = {
    "pixel_auroc": "pixel\nAUROC",
    "pixel_ap": "pixel\nAP",
    "pixel_f1_max": "pixel\nF1max",
    "pixel_aupro": "pixel\nAUPRO",
    "pixel_f1_at_threshold": "pixel\nF1@t",
    "image_auroc": "image\nAUROC",
    "image_ap": "image\nAP",
    "image_f1_max": "image\nF1max",
}


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """Return the figures of all images and of each defect type, one row each.

    Args:
        metrics: What `MetricAccumulator.compute` returns, or the same read back from JSON.

    Returns:
        A table of three decimals, with `-` for a figure that is not defined. The second column
        counts the defective images of a row.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        caption=_caption(metrics),
        caption_justify="left",
    )
    table.add_column("\ndefect type")
    for title in ["defect\nimages", *_COLUMNS.values()]:
        widest = max(len(line) for line in title.split("\n"))  # only the first column shrinks
        table.add_column(title, justify="right", no_wrap=True, min_width=widest)
    per_defect_type = metrics.get("per_defect_type", {})
    for defect_type, figures in per_defect_type.items():
        name = Text(printable(defect_type), overflow="ellipsis", no_wrap=True)
        table.add_row(name, *_cells(figures))
    if per_defect_type:
        table.add_section()
    table.add_row(Text("all"), *_cells(metrics), style="bold")
    return table


def decisions(metrics: Mapping[str, Any]) -> str:
    """Return how many images are called defective at the threshold; nothing if that is not known.

    Args:
        metrics: As those of `metrics_table`; older ones do not tell.
    """
    if "num_missed" not in metrics:
        return ""
    num_anomalous = metrics["num_anomalous"]
    return (
        f"{metrics['num_false_alarms']} of {metrics['num_images'] - num_anomalous} normal images"
        f" and {num_anomalous - metrics['num_missed']} of {num_anomalous} defective ones are called"
        " defective"
    )


def _caption(metrics: Mapping[str, Any]) -> str | None:
    if "threshold" not in metrics:
        return None
    lines = [f"F1@t: at the stored threshold {metrics['threshold']:.3f}", decisions(metrics)]
    return ":\n".join(line for line in lines if line)


def _cells(figures: Mapping[str, Any]) -> list[str]:
    """Return the count and the figures of a row as text."""
    count = figures.get("num_anomalous")
    values = [figures.get(name) for name in _COLUMNS]
    return [
        "-" if count is None else str(count),
        *("-" if value is None or value != value else f"{value:.3f}" for value in values),
    ]
