"""Figures that others published for the categories of MVTec AD, read from a data file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict

Metric = Literal["f1_max", "ap", "auroc", "aupro"]


class Published(BaseModel):
    """What one publication says of one method and one metric.

    Attributes:
        method: Its name.
        setting: What it was trained with, such as `unsupervised`.
        metric: The pixel figure.
        resolution: At which size it was measured.
        source: Where it is stated.
        categories: The figure of each category.
        mean: The figure over all fifteen, where it is stated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    CATEGORIES: ClassVar[tuple[str, ...]] = (
        *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut"),
        *("pill", "screw", "tile", "toothbrush", "transistor", "wood", "zipper"),
    )
    """The categories of MVTec AD."""

    method: str
    setting: str
    metric: Metric
    resolution: int | str
    source: str
    categories: dict[str, float] = {}
    mean: float | None = None


@cache
def read_published() -> tuple[Published, ...]:
    """Return all published figures, those of the paper that is implemented here first."""
    text = files("patchscout.benchmark").joinpath("published.yaml").read_text(encoding="utf-8")
    found = [Published.model_validate(entry) for entry in yaml.safe_load(text) or []]
    paper = "2511.20270"
    stated = [one for one in found if paper in one.source]
    missing = [one for one in PAPER if one.metric not in {other.metric for other in stated}]
    return (*missing, *stated, *(one for one in found if one not in stated))


def are_of_mvtec(defect_types: Mapping[str, Iterable[str]]) -> list[str]:
    """Return which categories are those of MVTec AD, by their name.

    Tiles are in other data sets too, so that one is known by its defects.

    Args:
        defect_types: The types of each category.
    """
    tiles = TILE_DEFECTS & set(defect_types.get("tile", ()))
    return [
        name for name in defect_types if name in Published.CATEGORIES and (name != "tile" or tiles)
    ]


TILE_DEFECTS = frozenset({"glue_strip", "gray_stroke", "oil", "rough"})
"""Defect types of MVTec AD's tile that other tiles do not have."""


def _of_paper(metric: Metric, mean: float) -> Published:
    return Published(
        method="Khadivi Noghredeh et al., 2025",
        setting="5 labels per type",
        metric=metric,
        resolution=256,
        source="arXiv 2511.20270",
        mean=mean,
    )


PAPER = (_of_paper("auroc", 0.949), _of_paper("f1_max", 0.561))
"""The means over all categories that the paper states."""
