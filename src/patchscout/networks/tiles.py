"""Scoring an image of any size in tiles, with the result of scoring it whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from patchscout.networks.backbone import STRIDES_PX
from patchscout.networks.resampling import resized_to
from patchscout.networks.segmenter import (
    Context,
    Lighting,
    Segmenter,
    measure_lighting,
    standardized,
)

TILE_PX = 1024
"""Side of a tile, without its margin; smaller images are scored whole."""

MARGIN_PX = 320
"""How far around a tile the networks are run too. Pixels farther away have no influence, but for
what is measured over the whole image: its lighting, and the mean of the coarsest level."""

LARGEST_WHOLE_PX = TILE_PX + 2 * MARGIN_PX
"""Longest side of an image that is scored whole."""


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

    @property
    def outer(self) -> slice:
        """What the networks are run on."""
        return slice(self.first, self.last)

    def place(self, step: int = 1) -> slice:
        """Where the result belongs in the whole image, counted in steps."""
        return slice(self.begin // step, -(-self.end // step))

    def inner(self, step: int = 1) -> slice:
        """What is kept of it, counted from its start in steps."""
        return slice((self.begin - self.first) // step, -(-(self.end - self.first) // step))


@torch.no_grad()
def segment(
    segmenter: Segmenter,
    images: Float[Tensor, "batch 3 height width"],
    tile_px: int = TILE_PX,
    margin_px: int = MARGIN_PX,
) -> Float[Tensor, "batch height width"]:
    """Return what `segmenter(images)` returns, in memory that does not grow with large images.

    Large ones are scored in tiles. The networks run twice: at first for the mean of the coarsest
    level over the whole image, which each tile needs.

    Args:
        segmenter: The trained model.
        images: In [0, 1].
        tile_px: Side of a tile, a multiple of what the coarsest level's places cover.
        margin_px: Width of its margin, likewise.
    """
    if max(images.shape[-2:]) <= tile_px + 2 * margin_px:
        return segmenter(images)
    rows, columns = (_spans(side, tile_px, margin_px) for side in images.shape[-2:])
    tiles = list(product(rows, columns))
    lighting, normality = measure_lighting(images), segmenter.features.normality
    maps = images[:, :0] if normality is None else normality.small_maps(images)
    probability = _segment(segmenter, images, Context(lighting, maps), tiles, mirrored=False)
    if segmenter.mirrored:
        flipped = Context(lighting, maps.flip(-1))
        mirror_image = _segment(segmenter, images.flip(-1), flipped, tiles, mirrored=True)
        probability = (probability + mirror_image.flip(-1)) / 2
    looks = segmenter.novelty is not None
    general = _general(segmenter, images, lighting, tiles) if looks else []
    return segmenter.concluded(probability, general)


def _general(
    segmenter: Segmenter,
    images: Float[Tensor, "batch 3 height width"],
    lighting: Lighting,
    tiles: list[tuple[Span, Span]],
) -> list[Float[Tensor, "batch channels rows columns"]]:
    """Return what the backbone finds in whole images, looking at one tile after the other."""
    backbone = segmenter.predictor.backbone
    assert backbone is not None, "novelty is measured on what a backbone finds"
    found: list[Tensor] = []
    for rows, columns in tiles:
        part = backbone(standardized(images[..., rows.outer, columns.outer], lighting))
        if not found:
            found = [
                one.new_empty(*one.shape[:2], *(-(-side // step) for side in images.shape[-2:]))
                for one, step in zip(part, STRIDES_PX, strict=True)
            ]
        for whole, one, step in zip(found, part, STRIDES_PX, strict=True):
            kept = one[..., rows.inner(step), columns.inner(step)]
            whole[..., rows.place(step), columns.place(step)] = kept
    return found


def _segment(
    segmenter: Segmenter,
    images: Float[Tensor, "batch 3 height width"],
    whole: Context,
    tiles: list[tuple[Span, Span]],
    *,
    mirrored: bool,
) -> Float[Tensor, "batch height width"]:
    """Score images, or their mirror images, tile by tile; deviations are small maps."""
    size = images.shape[-2], images.shape[-1]

    def features(rows: Span, columns: Span) -> Tensor:
        part = images[..., rows.outer, columns.outer]
        deviations = resized_to(whole.deviations, size, rows.outer, columns.outer)
        if mirrored:  # profiles are always those of the image as it is
            context = Context(whole.lighting, deviations.flip(-1))
            return segmenter.features(part.flip(-1), context).flip(-1)
        return segmenter.features(part, Context(whole.lighting, deviations))

    predictor = segmenter.predictor
    step = predictor.coarsest_px
    total, num_places = torch.zeros((), device=images.device), 0
    for rows, columns in tiles:
        coarsest = predictor.coarsest(features(rows, columns))
        coarsest = coarsest[..., rows.inner(step), columns.inner(step)]
        total = total + coarsest.sum(dim=(2, 3))
        num_places += coarsest.shape[2] * coarsest.shape[3]
    probability = images.new_empty(len(images), *images.shape[-2:])
    for rows, columns in tiles:
        found = predictor(features(rows, columns), total / num_places).sigmoid()
        probability[..., rows.place(), columns.place()] = found[..., rows.inner(), columns.inner()]
    return probability


def _spans(side_px: int, tile_px: int, margin_px: int) -> Iterator[Span]:
    """Yield the tiles along a side."""
    for begin in range(0, side_px, tile_px):
        end = min(begin + tile_px, side_px)
        yield Span(max(begin - margin_px, 0), min(end + margin_px, side_px), begin, end)
