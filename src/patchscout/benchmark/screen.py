"""The table of a benchmark for a terminal: our means, and published ones below them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from patchscout.benchmark.markdown import mvtec_categories
from patchscout.benchmark.published import Published
from patchscout.benchmark.results import Run
from patchscout.benchmark.summary import Row
from patchscout.text import printable

COLUMNS = ("f1_max", "ap", "auroc", "aupro")
FEW_CATEGORIES = 3
"""With more, the published figures of single categories are left to table.md."""


def results_table(
    runs: Sequence[Run], rows: Sequence[Row], published: Sequence[Published]
) -> Table:
    """Return mean figures of each category and variant, then what others published.

    Args:
        runs: All results.
        rows: What `summarize_runs` makes of them.
        published: Figures of others; shown where categories are of MVTec AD.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("category", no_wrap=True)
    table.add_column("variant or publication", overflow="ellipsis", no_wrap=True)
    for title in ("F1_max", "AP", "AUROC", "AUPRO", "s to train"):
        width = max(len(title), len("0.000"))  # names are shortened where there is no room
        table.add_column(title, justify="right", no_wrap=True, min_width=width)
    for row in rows:
        means = [row.summary(f"pixel_{name}").mean for name in COLUMNS]
        seconds = f"{row.summary('seconds').mean:.0f}"
        names = (Text(printable(name)) for name in (row.category, row.variant))
        table.add_row(*names, *map(_shown, means), seconds)
    names = mvtec_categories(runs)
    if not names:
        return table
    for place in [*(names if len(names) <= FEW_CATEGORIES else []), "mean of 15"]:
        table.add_section()
        found: dict[tuple[str, str], dict[str, float | None]] = {}
        for one in published:
            value = one.mean if place == "mean of 15" else one.categories.get(place)
            if value is not None:
                found.setdefault((one.method, one.setting), {})[one.metric] = value
        for (method, _), figures in found.items():
            table.add_row(place, method, *(_shown(figures.get(name)) for name in COLUMNS), "")
    return table


def _shown(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
