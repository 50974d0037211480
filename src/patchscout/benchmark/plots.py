"""Draws results: bars with a dot for each seed, and differences with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchscout.benchmark.comparison import METRICS
from patchscout.benchmark.results import in_order
from patchscout.benchmark.summary import MEAN, Row
from patchscout.benchmark.variants import DEFAULT
from patchscout.files.atomic import atomic_path
from patchscout.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTTED = ("pixel_f1_max", "pixel_ap", "pixel_auroc", "pixel_aupro")
DIFFERENCES = ("pixel_f1_max", "pixel_ap")

INK, FAINT, GRID = "#22303c", "#6b7785", "#e3e7eb"
BAR, HIGHLIGHT = "#a9c6d9", "#1f77a4"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
"""Told apart with any color vision (Okabe and Ito)."""
MAX_COLORED = len(COLORS)
"""With more categories only their mean is drawn among the differences."""
ROW_IN, DPI = 0.3, 150


def write_plots(rows: Sequence[Row], folder: Path, reference: str = DEFAULT) -> list[Path]:
    """Draw a picture for each metric and one of the differences.

    Args:
        rows: As `summarize_runs` gives them.
        folder: Where to write; made if it is not there.
        reference: The variant that the others are compared with.

    Returns:
        What was written.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    import matplotlib  # first, so that nothing is written where it is missing

    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"text.parse_math": False}):  # a category may be called `$x$`
        return _write_plots(rows, folder, reference)


def _write_plots(rows: Sequence[Row], folder: Path, reference: str) -> list[Path]:
    figures = {name.removeprefix("pixel_"): bars(rows, name, reference) for name in PLOTTED}
    if any(row.differences for row in rows):
        figures["differences"] = forest(rows, reference)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        with atomic_path(paths[-1]) as partial:
            figure.savefig(partial, dpi=DPI, facecolor="white", metadata={"Software": None})
    return paths


def bars(rows: Sequence[Row], metric: str, reference: str = DEFAULT) -> Figure:
    """Return bars of a metric, a panel for each category, the seeds as dots."""
    categories = list(dict.fromkeys(row.category for row in rows))
    variants = in_order(row.variant for row in rows)
    by_place = {(row.category, row.variant): row for row in rows}
    num_columns = min(4, len(categories))
    num_rows = math.ceil(len(categories) / num_columns)
    figure, panels = _panels(num_rows, num_columns, float(len(variants)))
    start = _start([row.values[metric] for row in rows], metric)
    for panel, category in zip(panels, categories, strict=False):
        for place, variant in enumerate(variants):
            row = by_place.get((category, variant))
            if row is None or not row.values[metric]:
                panel.text(start + 0.01, place, "no result", va="center", color=FAINT, fontsize=8)
                continue
            mean = row.summary(metric).mean
            color = HIGHLIGHT if variant == reference else BAR
            panel.barh(place, mean - start, left=start, height=0.68, color=color, zorder=2)
            seeds = list(row.values[metric].values())
            _dots(panel, seeds, place)
            right = max([mean, *seeds])
            panel.text(
                right + 0.024 * (1 - start),
                place,
                f"{mean:.3f}",
                va="center",
                fontsize=8,
                color=INK,
            )
        _dress(panel, variants, printable(category))
        panel.set_xlim(start, start + (1 - start) * 1.16)
        panel.set_xticks([start + (1 - start) * part / 5 for part in range(6)])
    for panel in panels[len(categories) :]:
        panel.set_visible(False)
    figure.suptitle(
        f"Pixel {METRICS[metric]}: mean of the seeds, and each seed", fontsize=12, color=INK
    )
    return figure


def forest(rows: Sequence[Row], reference: str = DEFAULT) -> Figure:
    """Return the paired differences from the reference with their 95 % intervals."""
    compared = [row for row in rows if row.differences]
    variants = in_order(row.variant for row in compared)
    categories = list(dict.fromkeys(row.category for row in compared if row.category != MEAN))
    colored = dict(zip(categories, COLORS, strict=False)) if len(categories) <= MAX_COLORED else {}
    shown = [*colored, MEAN] if any(row.category == MEAN for row in compared) else [*colored]
    height = max(1.0, 0.62 * len(shown))
    figure, panels = _panels(1, len(DIFFERENCES), len(variants) * height, width_in=5.2)
    for panel, metric in zip(panels, DIFFERENCES, strict=True):
        panel.axvline(0, color=INK, linewidth=1, zorder=1)
        for row in compared:
            found = row.differences[metric]
            if row.category not in shown or math.isnan(found.mean):
                continue
            offset = (shown.index(row.category) - (len(shown) - 1) / 2) * 0.8 / len(shown)
            color = colored.get(row.category, INK)
            place = variants.index(row.variant) + offset
            panel.plot(
                [found.low, found.high], [place, place], color=color, linewidth=1.8, zorder=2
            )
            panel.plot(
                found.mean,
                place,
                marker="D" if row.category == MEAN else "o",
                markersize=6,
                color=color if found.is_clear else "white",
                markeredgecolor=color,
                markeredgewidth=1.6,
                zorder=3,
            )
        for place in range(1, len(variants)):
            panel.axhline(place - 0.5, color=GRID, linewidth=0.8, zorder=0)
        _dress(panel, variants, METRICS[metric])
        panel.set_xlabel(f"worse  ←  difference from {reference}  →  better", color=FAINT)
    handles = [
        figure.axes[0].plot(
            [], [], marker="D" if name == MEAN else "o", color=colored.get(name, INK)
        )[0]
        for name in shown
    ]
    names = [printable(name) for name in shown]
    figure.legend(handles, names, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    figure.suptitle(
        "Paired differences, 95 % intervals over seeds and images (filled: zero is outside)",
        fontsize=12,
        color=INK,
    )
    return figure


def _panels(
    num_rows: int, num_columns: int, num_bars: float, width_in: float = 3.4
) -> tuple[Figure, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(
            1.4 + width_in * num_columns,
            0.9 + num_rows * (0.75 + ROW_IN * max(num_bars, 2)),
        ),
        layout="constrained",
    )
    axes = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False)
    return figure, list(axes.ravel())


def _dress(panel: Any, variants: Sequence[str], title: str) -> None:
    """Name the rows from top to bottom and take away what is not read."""
    panel.set_title(title, fontsize=10, color=INK, loc="left", fontweight="bold")
    panel.set_yticks(range(len(variants)), variants)
    panel.set_ylim(len(variants) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    panel.tick_params(axis="x", length=0, labelsize=8, labelcolor=FAINT)
    panel.grid(axis="x", color=GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        panel.spines[side].set_visible(False)


def _dots(panel: Any, values: Sequence[float], place: int) -> None:
    """Draw the seeds, spread over the height of the bar so that equal ones are seen."""
    for number, value in enumerate(values):
        offset = 0.0 if len(values) == 1 else 0.36 * (number / (len(values) - 1) - 0.5)
        panel.plot(
            value,
            place + offset,
            marker="o",
            markersize=4,
            color=INK,
            markeredgecolor="white",
            markeredgewidth=0.6,
            zorder=3,
        )


def _start(values: Sequence[dict[int, float]], metric: str) -> float:
    """Return where bars begin: at 0, or for AUROC at chance unless some are below it."""
    lowest = min((value for one in values for value in one.values()), default=0.0)
    return 0.5 if metric.endswith("auroc") and lowest >= 0.5 else 0.0
