"""Scoring images of any size in tiles, with the result of scoring them whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patchscout.networks.segmenter import Segmenter, measure_lighting

CELL_PX = 32
"""Side of the coarsest cell of the predictor."""

TILE_PX = 1024
"""Side of a tile, without its margin; a multiple of a cell."""

MARGIN_PX = 320
"""How far around a tile the networks are run too, likewise. Pixels farther away have no influence
but for the lighting of the whole image."""


class Span(NamedTuple):
    """One side of a tile, in pixels from the start of the image; margins are in `first` to `last`.

    Attributes:
        first: Where the networks begin to be run.
        last: Where they end.
        begin: Where the result is taken from.
        end: Where it ends.
    """

    first: int
    last: int
    begin: int
    end: int


@torch.no_grad()
def segment(
    segmenter: nn.Module,
    images: Float[Tensor, "batch 3 height width"],
    tile_px: int = TILE_PX,
    margin_px: int = MARGIN_PX,
) -> Float[Tensor, "batch height width"]:
    """Return what `segmenter(images)` returns, in memory that does not grow with large images.

    Args:
        segmenter: The trained model.
        images: In [0, 1].
        tile_px: Side of a tile; one that a whole image fits into is all there is.
        margin_px: Width of its margin.
    """
    spans = [list(_spans(side, tile_px, margin_px)) for side in images.shape[-2:]]
    if not isinstance(segmenter, Segmenter) or all(len(side) == 1 for side in spans):
        return segmenter(images)
    images = segmenter.painted(images)
    lighting = measure_lighting(images)
    found = images.new_empty(len(images), *images.shape[-2:])
    for rows, columns in product(*spans):
        part = images[..., rows.first : rows.last, columns.first : columns.last]
        inner = segmenter(part, lighting, (rows.first, columns.first))[
            ...,
            rows.begin - rows.first : rows.end - rows.first,
            columns.begin - columns.first : columns.end - columns.first,
        ]
        found[..., rows.begin : rows.end, columns.begin : columns.end] = inner
    return segmenter.limited(found)


def _spans(side_px: int, tile_px: int, margin_px: int) -> Iterator[Span]:
    """Yield the tiles along a side; a side that is little longer than a tile is one."""
    if side_px <= tile_px + 2 * margin_px:
        yield Span(0, side_px, 0, side_px)
        return
    for begin in range(0, side_px, tile_px):
        end = min(begin + tile_px, side_px)
        # Cells begin where those of the whole image do, counted from its other end too: it may be
        # scored with its mirror image.
        last = end + margin_px
        last += (side_px - last) % CELL_PX
        yield Span(max(begin - margin_px, 0), min(last, side_px), begin, end)
