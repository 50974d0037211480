"""The one table of an experiment: mean and spread over seeds, in Markdown."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence

from patchscout.benchmark.results import Result
from patchscout.text import markdown_name, markdown_text

COLUMNS = {
    "f1_max": "F1_max",
    "ap": "AP",
    "auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "image_auroc": "image AUROC",
    "seconds": "seconds",
}
"""What is shown of a row, and how it is called."""

MEAN = "mean"
"""What the row over all categories is called."""

BySeed = dict[int, float]


def results_table(results: Iterable[Result]) -> str:
    """Return a row for each category and variant, and for each variant one of their mean.

    The figure of a seed is that of its training, or the mean over the types left out. Over
    categories, their mean is taken for each seed that all have; a variant that lacks a category
    has no such row.

    Args:
        results: In the order to show them in.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.category, result.variant), []).append(result)
    categories = list(dict.fromkeys(category for category, _ in groups))
    figures = {
        key: {name: by_seed(group, name) for name in COLUMNS} for key, group in groups.items()
    }
    lines = [
        [markdown_text(category), markdown_name(variant), *_cells(found)]
        for (category, variant), found in figures.items()
    ]
    for variant in dict.fromkeys(variant for _, variant in groups):
        found = [figures[c, variant] for c in categories if (c, variant) in figures]
        if len(found) == len(categories) > 1:
            mean = {name: over_categories([one[name] for one in found]) for name in COLUMNS}
            lines.append([f"**{MEAN}**", markdown_name(variant), *_cells(mean)])
    return markdown_table(["category", "variant", "seeds", *COLUMNS.values()], lines)


def budgets_table(results: Iterable[Result]) -> str:
    """Return what budgets for false alarms came to: a row for each category, variant and budget.

    Shares are the mean over trainings, in percent; what is promised, rejected and detected is that
    of `evaluation.budgets`.
    """
    groups: dict[tuple[str, str, float], list[dict[str, float]]] = {}
    for result in results:
        for row in json.loads(result.budgets or "[]"):
            groups.setdefault((result.category, result.variant, row["budget"]), []).append(row)
    lines = [
        [
            markdown_text(category),
            markdown_name(variant),
            f"{100 * budget:g} %",
            *(
                mean_and_spread([100 * row[name] for row in rows], 1)
                for name in ("promised", "rejected", "detected")
            ),
        ]
        for (category, variant, budget), rows in groups.items()
    ]
    header = ["category", "variant", "budget", "promised at most, %", "rejected, %", "detected, %"]
    return markdown_table(header, lines)


def caption(results: Iterable[Result]) -> str:
    """Return in a sentence or two what the figures are and what they were made with."""
    found = list(results)

    def listed(values: Iterable[object]) -> str:
        return markdown_text(", ".join(sorted({str(value) or "unknown" for value in values})))

    return (
        f"Protocol `{found[0].protocol}`; mean ± standard deviation over seeds; at 256 x 256 px."
        f" Machine: {listed(f'{one.machine}' for one in found)}; threads"
        f" {listed(one.threads for one in found)}, jobs side by side"
        f" {listed(one.parallel_jobs for one in found)}; commits"
        f" {listed(one.commit for one in found)}; {listed(one.date[:10] for one in found)}."
    )


def by_seed(results: Iterable[Result], name: str) -> BySeed:
    """Return a figure for each seed, the mean over its rows; where one is undefined, none.

    Args:
        results: Of one category and one variant.
        name: A key of `COLUMNS`.
    """
    found: dict[int, list[float]] = {}
    for result in results:
        found.setdefault(result.seed, []).append(getattr(result, name))
    means = {seed: statistics.fmean(values) for seed, values in sorted(found.items())}
    return {seed: mean for seed, mean in means.items() if not math.isnan(mean)}


def over_categories(figures: Sequence[BySeed]) -> BySeed:
    """Return the mean over categories for each seed that all of them have.

    Example:
        >>> over_categories([{42: 0.5, 43: 0.7}, {42: 0.25}])
        {42: 0.375}
    """
    common = set.intersection(*map(set, figures))
    return {seed: statistics.fmean(one[seed] for one in figures) for seed in sorted(common)}


def mean_and_spread(values: Sequence[float], digits: int = 3) -> str:
    """Return mean ± standard deviation of a sample, which one value does not have.

    Example:
        >>> mean_and_spread([0.5, 0.7]), mean_and_spread([0.5]), mean_and_spread([])
        ('0.600 ± 0.141', '0.500', '-')
    """
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, its columns aligned so that it is read as text too."""
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    rows = [header, ["-" * width for width in widths], *lines]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)


def _cells(figures: dict[str, BySeed]) -> list[str]:
    seeds = ", ".join(map(str, figures["seconds"]))
    shown = [
        mean_and_spread(list(values.values()), 0 if name == "seconds" else 3)
        for name, values in figures.items()
    ]
    return [seeds, *shown]
