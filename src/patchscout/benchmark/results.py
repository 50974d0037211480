"""Reads a folder of results: one file a run, with its histograms beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from patchscout.benchmark.histograms import ScoreTable, read_table
from patchscout.benchmark.jobs import read_result
from patchscout.benchmark.variants import DEFAULT
from patchscout.checks import InputValueError


@dataclass(frozen=True)
class Run:
    """One result.

    Attributes:
        path: Its JSON file.
        data: What is in it.
    """

    path: Path
    data: dict[str, Any]

    @property
    def category(self) -> str:
        """The category."""
        return self.data["job"]["category"]

    @property
    def variant(self) -> str:
        """The variant."""
        return self.data["job"]["variant"]

    @property
    def seed(self) -> int:
        """The seed."""
        return self.data["job"]["config"]["seed"]

    @property
    def held_out_type(self) -> str | None:
        """The defect type that was left out, if one was."""
        return self.data["job"]["held_out_type"]

    @cached_property
    def table(self) -> ScoreTable:
        """The histograms of its test images."""
        return read_table(self.path.with_suffix(".npz"))


def read_runs(folder: Path) -> list[Run]:
    """Return all results in a folder, `default` first, then by name.

    Raises:
        InputValueError: If a file is damaged, or some are measured on validation images and
            others on test images.
    """
    paths = [path for path in folder.glob("*/*/*.json") if not path.name.startswith(".")]
    runs = [Run(path, read_result(path)) for path in paths]
    if len({run.data["job"]["on"] for run in runs}) > 1:
        raise InputValueError(
            f"{folder} holds results on test and on validation images, which no table can mix."
            " Name another folder with `--out`."
        )
    return sorted(runs, key=_order)


def failures(folder: Path) -> dict[str, str]:
    """Return what failed in a folder: the line of each job that has no result."""
    return {
        path.relative_to(folder).as_posix().removesuffix(".error.txt"): path.read_text(
            encoding="utf-8"
        ).partition("\n")[0]
        for path in sorted(folder.glob("*/*/*.error.txt"))
    }


def in_order(variants: Iterable[str]) -> list[str]:
    """Return names of variants, each once, `default` first, numbers in them by value.

    Example:
        >>> in_order(["t_10", "t_5", "default"])
        ['default', 't_5', 't_10']
    """
    return sorted(set(variants), key=_variant_order)


def _variant_order(variant: str) -> tuple[bool, list[tuple[bool, int | str]]]:
    parts = re.split(r"(\d+)", variant)
    return variant != DEFAULT, [(True, int(p)) if p.isdigit() else (False, p) for p in parts]


def _order(run: Run) -> tuple[Any, ...]:
    return run.category, _variant_order(run.variant), run.seed, run.held_out_type or ""
