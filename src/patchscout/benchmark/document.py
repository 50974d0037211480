"""Puts tables made from committed results into pages, between their markers.

A block begins with `<!-- results: NAME -->`, `<!-- results: NAME TABLES -->` or
`<!-- results: NAME TABLES of VARIANTS -->` and ends with `<!-- end -->`. NAME is a folder of
results; TABLES are words of `TABLES` below, `figures` and `differences` unless given; without
VARIANTS all are shown. What was between the markers is replaced.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from patchscout.benchmark.markdown import (
    costs_table,
    differences_table,
    figures_table,
    published_table,
    types_table,
)
from patchscout.benchmark.published import read_published
from patchscout.benchmark.results import Run, read_runs
from patchscout.benchmark.summary import Row, summarize_runs
from patchscout.benchmark.variants import DEFAULT
from patchscout.checks import InputError, InputNotFoundError, InputValueError, nearest
from patchscout.files.atomic import write_text_atomic

BLOCK = re.compile(
    r"^<!-- results: (?P<name>[\w./-]+)(?P<tables>(?: (?!of )\w+)*)"
    r"(?: of (?P<variants>[\w. -]+?))? -->\n.*?^<!-- end -->$",
    re.DOTALL | re.MULTILINE,
)
OPENING = re.compile(r"^<!-- results: .*-->$", re.MULTILINE)

TABLES: dict[str, Callable[[Sequence[Run], Sequence[Row]], str]] = {
    "figures": lambda runs, rows: figures_table(rows),
    "differences": lambda runs, rows: differences_table(rows),
    "types": lambda runs, rows: types_table(runs),
    "costs": lambda runs, rows: costs_table(runs),
    "published": lambda runs, rows: published_table(runs, rows, DEFAULT, read_published()),
}


def fill(text: str, results: Path) -> str:
    """Return a page with its blocks made anew.

    Args:
        text: The page.
        results: The folder that holds the folders of results.

    Raises:
        InputNotFoundError: If a folder of results is not there or is empty.
        InputValueError: If a block does not end, or names a table that there is not.
    """
    if len(OPENING.findall(text)) != len(BLOCK.findall(text)):
        raise InputValueError(
            "a block of results does not end, or its first line is not like"
            " `<!-- results: NAME figures -->`. Add `<!-- end -->`, or mend that line."
        )
    made: dict[tuple[str, ...], tuple[list[Run], list[Row]]] = {}

    def block(match: re.Match[str]) -> str:
        variants = tuple((match["variants"] or "").split())
        key = (match["name"], *variants)
        if key not in made:
            runs = [
                run
                for run in read_runs(results / match["name"])
                if not variants or run.variant in variants
            ]
            if not runs:
                which = f"of {', '.join(variants)}" if variants else ""
                raise InputNotFoundError(
                    f"{results / match['name']} holds no results {which}".rstrip()
                    + ", which a page shows. Run the benchmark with"
                    f" `--out {results / match['name']}`."
                )
            made[key] = runs, summarize_runs(runs)
        words = match["tables"].split() or ["figures", "differences"]
        for word in words:
            if word not in TABLES:
                raise InputValueError(
                    f"unknown table `{word}` of results{nearest(word, TABLES)}. Choose from"
                    f" {', '.join(TABLES)}."
                )
        opening = match[0].partition("\n")[0]
        tables = "\n\n".join(TABLES[word](*made[key]) for word in words)
        return f"{opening}\n\n{tables}\n\n<!-- end -->"

    return BLOCK.sub(block, text)


def main(arguments: Sequence[str]) -> int:
    """Fill pages: their paths, then the folder that holds the folders of results."""
    *pages, results = map(Path, arguments)
    for page in pages:
        try:
            write_text_atomic(page, fill(page.read_text(encoding="utf-8"), results))
        except InputError as error:
            print(f"{page}: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
