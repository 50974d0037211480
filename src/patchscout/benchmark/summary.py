"""All that is said of a folder of results: a row for each category and variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from patchscout.benchmark.comparison import (
    METRICS,
    PAIRED_METRICS,
    RESAMPLES,
    SECONDS,
    BySeed,
    Difference,
    Summary,
    by_seed,
    difference,
    over_categories,
    paired_replicates,
    summarize,
)
from patchscout.benchmark.results import Run, in_order
from patchscout.benchmark.variants import DEFAULT

MEAN = "mean"
"""What the row over all categories is called."""


@dataclass(frozen=True)
class Row:
    """What is known of a variant on a category, or on the mean over all.

    Attributes:
        category: Its name, or `mean`.
        variant: Its name.
        values: For each metric, and `seconds`, the figure of each seed.
        differences: For each metric that pairs allow, the difference from the reference.
    """

    category: str
    variant: str
    values: dict[str, BySeed]
    differences: dict[str, Difference]

    def summary(self, metric: str) -> Summary:
        """Return mean and spread of a metric over seeds."""
        return summarize(self.values[metric])


def summarize_runs(
    runs: Sequence[Run], reference: str = DEFAULT, resamples: int = RESAMPLES
) -> list[Row]:
    """Return the rows of all categories, and those of the mean where there are several.

    A variant has a row of the mean only if it has results on every category.

    Args:
        runs: As `read_runs` gives them.
        reference: The variant that the others are compared with.
        resamples: Random draws of the bootstrap.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.category, run.variant), []).append(run)
    replicates = {
        (category, variant): paired_replicates(
            group, groups.get((category, reference), []), resamples
        )
        for (category, variant), group in groups.items()
        if variant != reference
    }
    rows = []
    for (category, variant), group in groups.items():
        values = {name: by_seed(group, name) for name in (*METRICS, SECONDS)}
        found = replicates.get((category, variant)) or {}
        differences = {name: difference(drawn) for name, drawn in found.items()}
        rows.append(Row(category, variant, values, differences))
    categories = list(dict.fromkeys(run.category for run in runs))
    if len(categories) > 1:
        for variant in in_order(run.variant for run in runs):
            of_variant = [row for row in rows if row.variant == variant]
            if len(of_variant) == len(categories):
                drawn = [replicates.get((category, variant)) for category in categories]
                rows.append(_mean_row(variant, of_variant, drawn))
    return rows


def _mean_row(
    variant: str, rows: Sequence[Row], replicates: Sequence[dict[str, np.ndarray] | None]
) -> Row:
    """Return the row over categories; replicates of the same number are averaged."""
    values = {
        name: over_categories([row.values[name] for row in rows]) for name in (*METRICS, SECONDS)
    }
    found = [drawn for drawn in replicates if drawn is not None]
    differences = {}
    if found and len(found) == len(replicates):
        differences = {
            name: difference(np.mean([drawn[name] for drawn in found], axis=0))
            for name in PAIRED_METRICS
        }
    return Row(MEAN, variant, values, differences)
