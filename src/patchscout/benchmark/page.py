"""Writes what a folder of results amounts to: table.md, summary.csv and plots."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from patchscout.benchmark.comparison import RESAMPLES
from patchscout.benchmark.machine import today
from patchscout.benchmark.markdown import (
    costs_table,
    differences_table,
    figures_table,
    published_table,
    summary_csv,
    types_table,
)
from patchscout.benchmark.plots import write_plots
from patchscout.benchmark.published import read_published
from patchscout.benchmark.results import Run, failures, read_runs
from patchscout.benchmark.summary import Row, summarize_runs
from patchscout.benchmark.variants import DEFAULT
from patchscout.checks import InputValueError
from patchscout.data.json_files import read_json_object
from patchscout.files.atomic import remove_partial_files, write_json_atomic, write_text_atomic
from patchscout.text import markdown_block, markdown_name, markdown_text

RECORD_FILE = "benchmark.json"
"""Marks a folder of results, and lists the commands that filled it."""
FORMAT_VERSION = 1

FOR_ORIENTATION = "For orientation only: labels, test images, sizes and pretraining differ."


def open_folder(out: Path, command: str) -> None:
    """Make a folder of results, or go on with one, and note the command.

    What killed commands left in it is removed.

    Raises:
        InputValueError: If the folder holds something else.
    """
    check_folder(out)
    for folder, _, _ in os.walk(out):
        remove_partial_files(Path(folder))
    path = out / RECORD_FILE
    record = {"format_version": FORMAT_VERSION, "commands": []}
    if path.is_file():
        record |= read_json_object(path, "the record of a benchmark")
    if command not in [entry["command"] for entry in record["commands"]]:
        record["commands"] = [*record["commands"], {"command": command, "date": today()}]
        out.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, record)


def check_folder(out: Path) -> None:
    """Refuse a folder that holds something else than results; nothing is touched.

    Raises:
        InputValueError: If it does, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise InputValueError(f"`--out` must be a folder; {out} is a file. Name another path.")
    if out.is_dir() and any(out.iterdir()) and not (out / RECORD_FILE).is_file():
        raise InputValueError(
            f"`--out` must be new, empty or a folder of benchmark results; {out} holds other files"
            f" and no {RECORD_FILE}. Name another folder."
        )


def write_page(out: Path, reference: str = DEFAULT) -> tuple[list[Run], list[Row], list[str]]:
    """Write tables and plots of all results in a folder.

    Returns:
        The results, the rows made of them, and the lines that a person should see: what was
        written and what could not be.
    """
    runs = read_runs(out)
    if not runs:
        return [], [], [f"There is no result in {out} yet."]
    rows = summarize_runs(runs, reference)
    write_text_atomic(out / "summary.csv", summary_csv(rows))
    plots: list[Path] = []
    lines = []
    try:
        plots = write_plots(rows, out / "plots", reference)
    except ImportError:
        lines.append("No plots: matplotlib is missing. Run `pip install patchscout[benchmark]`.")
    write_text_atomic(out / "table.md", page(runs, rows, out, plots, reference))
    return runs, rows, [f"Written to {out / 'table.md'} and {out / 'summary.csv'}.", *lines]


def page(
    runs: Sequence[Run], rows: Sequence[Row], out: Path, plots: Sequence[Path], reference: str
) -> str:
    """Return table.md."""
    on = markdown_text(runs[0].data["job"]["on"])
    sizes = sorted({" x ".join(map(str, run.data["metrics"]["evaluation_size"])) for run in runs})
    parts = [
        "# Benchmark",
        f"Measured on {on} images, pixels of all images of a run together at {', '.join(sizes)}."
        " Figures are means over seeds ± the standard deviation (of a sample); with `unseen`, the"
        " figure of a seed is the mean over the types left out. Over categories, the mean of the"
        " categories is taken for each seed.",
        figures_table(rows),
        f"## Differences from {markdown_name(reference)}",
        "Paired: same seed, same images. In brackets the 95 % interval of a bootstrap over seeds"
        f" and images ({RESAMPLES} draws); in bold where it leaves out zero.",
        differences_table(rows),
        "## Defect types",
        "A type's figures are of its images with all normal ones; means over runs.",
        types_table(runs),
    ]
    if published := published_table(runs, rows, reference, read_published()):
        parts += ["## Published figures", FOR_ORIENTATION, published]
    parts += ["## Cost", costs_table(runs), "## How it was made", *_origin(runs, out)]
    if failed := failures(out):
        told = (f"- {markdown_name(name)}: {markdown_text(line)}" for name, line in failed.items())
        parts += ["## Failed", "\n".join(told)]
    if plots:
        parts += ["## Plots"]
        parts += [f"![{path.stem}]({path.relative_to(out).as_posix()})" for path in plots]
    return "\n\n".join(parts) + "\n"


def _origin(runs: Sequence[Run], out: Path) -> list[str]:
    """Return the commands, machines, versions and commits behind the results."""
    record = read_json_object(out / RECORD_FILE, "the record of a benchmark")
    commands = [entry["command"] for entry in record["commands"]]
    facts = {
        "machine": {run.data["machine"] for run in runs},
        "commit": {run.data["commit"] or "unknown" for run in runs},
        "versions": {
            ", ".join(f"{name} {value}" for name, value in run.data["versions"].items())
            for run in runs
        },
        "dates": {run.data["date"][:10] for run in runs},
    }
    lines = [
        f"- {name}: {markdown_text('; '.join(sorted(values)))}" for name, values in facts.items()
    ]
    return [markdown_block(commands), "\n".join(lines)]
