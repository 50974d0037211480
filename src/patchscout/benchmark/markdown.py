"""Results as Markdown tables and as one CSV table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from patchscout.benchmark.comparison import METRICS, PAIRED_METRICS, SECONDS, Difference, Summary
from patchscout.benchmark.published import Published, are_of_mvtec
from patchscout.benchmark.results import Run
from patchscout.benchmark.summary import MEAN, Row
from patchscout.text import csv_cell, markdown_name, markdown_text


def figures_table(rows: Sequence[Row]) -> str:
    """Return mean ± standard deviation over seeds of every metric and of the time to train."""
    header = ["category", "variant", "seeds", *METRICS.values(), "s to train"]
    lines = []
    for row in rows:
        seeds = row.summary("pixel_f1_max").seeds
        shown = [_mean_and_std(row.summary(name)) for name in METRICS]
        seconds = _mean_and_std(row.summary(SECONDS), digits=0)
        lines.append([_strong(row), markdown_name(row.variant), _listed(seeds), *shown, seconds])
    return table(header, lines)


def differences_table(rows: Sequence[Row]) -> str:
    """Return the paired differences with their intervals; in bold those that leave out zero."""
    header = ["category", "variant", *(METRICS[name] for name in PAIRED_METRICS)]
    lines = [
        [
            _strong(row),
            markdown_name(row.variant),
            *(_with_interval(row.differences[name]) for name in PAIRED_METRICS),
        ]
        for row in rows
        if row.differences
    ]
    return table(header, lines) if lines else "There is nothing to compare yet."


def types_table(runs: Sequence[Run]) -> str:
    """Return the figures of each defect type, the mean over seeds."""
    groups: dict[tuple[str, str, str], list[dict[str, float | None]]] = {}
    for run in runs:
        for defect_type, figures in run.data["metrics"]["per_defect_type"].items():
            groups.setdefault((run.category, run.variant, defect_type), []).append(figures)
    lines = []
    for (category, variant, defect_type), found in groups.items():
        means = []
        for name in METRICS:
            values = [value for one in found if (value := one.get(name)) is not None]
            means.append(_number(sum(values) / len(values) if values else math.nan))
        names = [markdown_text(category), markdown_name(variant), markdown_text(defect_type)]
        lines.append([*names, str(len(found)), *means])
    return table(["category", "variant", "defect type", "runs", *METRICS.values()], lines)


def costs_table(runs: Sequence[Run]) -> str:
    """Return what the runs of each category and variant took, as means over runs."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.category, run.variant), []).append(run)
    lines = []
    for (category, variant), found in groups.items():
        seconds = [
            f"{sum(run.data['seconds'][name] for run in found) / len(found):.0f}"
            for name in ("train", "train_cpu", "evaluate")
        ]
        memory = [run.data["peak_memory_mib"] or math.nan for run in found]
        threads = sorted({run.data["threads"] for run in found})
        beside = sorted({run.data["parallel_jobs"] for run in found})
        shown = [*seconds, f"{max(memory):.0f}", _listed(threads), _listed(beside)]
        lines.append([markdown_text(category), markdown_name(variant), str(len(found)), *shown])
    header = ["category", "variant", "runs", "s to train", "CPU s to train", "s to test"]
    return table([*header, "peak MiB", "threads", "jobs side by side"], lines)


def published_table(
    runs: Sequence[Run], rows: Sequence[Row], variant: str, published: Sequence[Published]
) -> str:
    """Return a variant's figures beside published ones of the same categories.

    Args:
        runs: All results.
        rows: What `summarize_runs` makes of them.
        variant: The variant to show.
        published: Figures of others.

    Returns:
        Tables and their sources; nothing if no category is of MVTec AD.
    """
    names = mvtec_categories(runs)
    ours = {row.category: row for row in rows if row.variant == variant and row.category in names}
    if not ours:
        return ""
    sources = list(dict.fromkeys(one.source for one in published))
    blocks = []
    for metric in ("f1_max", "ap", "auroc", "aupro"):
        means = {name: row.summary(f"pixel_{metric}").mean for name, row in ours.items()}
        is_complete = len(means) == len(Published.CATEGORIES)
        mean = sum(means.values()) / len(means) if is_complete else None
        lines = [["**PatchScout**", markdown_name(variant), "this run", "-"]]
        lines[0] += [_number(value) for value in [*means.values(), mean]]
        for one in published:
            if one.metric == metric:
                cells = [one.categories.get(name) for name in means]
                about = [one.method, one.setting, str(one.resolution)]
                number = f"[{sources.index(one.source) + 1}]"
                lines.append([*about, number, *map(_number, [*cells, one.mean])])
        header = ["method", "setting", "resolution", "source", *means, "mean of 15"]
        blocks.append(f"Pixel {METRICS[f'pixel_{metric}']}:\n\n{table(header, lines)}")
    listed = "\n".join(f"- [{number}] {source}" for number, source in enumerate(sources, start=1))
    return "\n\n".join([*blocks, f"Sources:\n\n{listed}"])


def mvtec_categories(runs: Sequence[Run]) -> list[str]:
    """Return the categories that are those of MVTec AD."""
    found: dict[str, set[str]] = {}
    for run in runs:
        found.setdefault(run.category, set()).update(run.data["metrics"]["per_defect_type"])
    return are_of_mvtec(found)


def summary_csv(rows: Sequence[Row]) -> str:
    """Return every figure of every row as CSV."""
    names = (*METRICS, SECONDS)
    header = ["category", "variant", "seeds"]
    header += [f"{name}_{part}" for name in names for part in ("mean", "std")]
    header += [
        f"{name}_difference{part}" for name in PAIRED_METRICS for part in ("", "_low", "_high")
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        cells: list[float] = []
        for name in names:
            summary = row.summary(name)
            cells += [summary.mean, summary.std]
        for name in PAIRED_METRICS:
            found = row.differences.get(name)
            cells += [found.mean, found.low, found.high] if found else [math.nan] * 3
        seeds = " ".join(map(str, row.summary("pixel_f1_max").seeds))
        shown = ["" if math.isnan(value) else f"{value:.6g}" for value in cells]
        writer.writerow([csv_cell(row.category), csv_cell(row.variant), seeds, *shown])
    return text.getvalue()


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _strong(row: Row) -> str:
    return f"**{row.category}**" if row.category == MEAN else markdown_text(row.category)


def _listed(numbers: Sequence[int]) -> str:
    """Return numbers with commas, or as a range where they are many and follow each other."""
    if len(numbers) > 3 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}–{numbers[-1]}"
    return ", ".join(map(str, numbers))


def _mean_and_std(summary: Summary, digits: int = 3) -> str:
    if math.isnan(summary.mean):
        return "-"
    if math.isnan(summary.std):
        return f"{summary.mean:.{digits}f}"
    return f"{summary.mean:.{digits}f} ± {summary.std:.{digits}f}"


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _with_interval(found: Difference) -> str:
    if math.isnan(found.mean):
        return "-"
    shown = f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]".replace("-", "−")
    return f"**{shown}**" if found.is_clear else shown
