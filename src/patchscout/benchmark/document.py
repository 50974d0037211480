"""Puts tables made from committed results into pages, between their markers.

A block begins with `<!-- results: NAME -->` or `<!-- budgets: NAME -->`, see `table`, and ends with
`<!-- end -->`. NAME.csv is a file of results. What was between the markers is replaced.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from patchscout.benchmark.results import read_results
from patchscout.benchmark.table import budgets_table, caption, results_table
from patchscout.checks import InputError, InputNotFoundError, InputValueError
from patchscout.files.atomic import write_text_atomic

BLOCK = re.compile(
    r"^(<!-- (results|budgets): ([\w.-]+) -->)\n.*?^<!-- end -->$", re.DOTALL | re.MULTILINE
)


def fill(text: str, folder: Path) -> str:
    """Return a page with its blocks made anew.

    Args:
        text: The page.
        folder: The folder of the files of results.

    Raises:
        InputNotFoundError: If a file is not there or is empty.
        InputValueError: If a block does not end, or a file is damaged.
    """
    if len(re.findall("<!-- (?:results|budgets):", text)) != len(BLOCK.findall(text)):
        raise InputValueError(
            "a block of results does not end, or its first line is not like"
            " `<!-- results: NAME -->`. Add `<!-- end -->`, or mend that line."
        )

    def block(match: re.Match[str]) -> str:
        path = folder / f"{match[3]}.csv"
        results = list(read_results(path).values())
        if not results:
            raise InputNotFoundError(
                f"{path} holds no results. Make some: `patchscout benchmark DATA --out {path}`."
            )
        table = {"results": results_table, "budgets": budgets_table}[match[2]](results)
        return f"{match[1]}\n\n{table}\n\n{caption(results)}\n\n<!-- end -->"

    return BLOCK.sub(block, text)


def main(arguments: Sequence[str]) -> int:
    """Fill a page: its path, then the folder of the files of results."""
    page, folder = map(Path, arguments)
    try:
        write_text_atomic(page, fill(page.read_text(encoding="utf-8"), folder))
    except InputError as error:
        print(f"{page}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
