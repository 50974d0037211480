"""Resizing as multiplication by matrices: exact for every size, and the same once exported."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

Size = list[Int[Tensor, "_"]]
"""The positions of rows and of columns."""


def positions(side_px: int, device: torch.device) -> Int[Tensor, " side"]:
    """Return 0, 1, 2 and so on: the places along a side, which also tell how long it is."""
    return torch.arange(side_px, device=device)


def resized(
    maps: Float[Tensor, "*stack old_height old_width"],
    old_size: Size,
    new_size: Size,
) -> Float[Tensor, "*stack new_height new_width"]:
    """Resize maps from the positions of one size (rows, columns) to those of another."""
    rows, columns = map(resampling, old_size, new_size)
    return rows @ maps @ columns.T


def nearest(
    old: Int[Tensor, " old_side"], new: Int[Tensor, " new_side"]
) -> Int[Tensor, " new_side"]:
    """Return the old position that the center of each new one lies in."""
    old_px, new_px = old[-1] + 1, new[-1] + 1
    return torch.div((2 * new + 1) * old_px, 2 * new_px, rounding_mode="floor")


def resampling(
    old: Int[Tensor, " old_side"], new: Int[Tensor, " new_side"]
) -> Float[Tensor, "new_side old_side"]:
    """Return the matrix that averages over areas along a side that shrinks, else interpolates.

    Weights are counted in whole numbers up to the last division, so that they are exact for sides
    of any length.
    """
    old_px, new_px = old[-1] + 1, new[-1] + 1
    row, column = new[:, None], old[None]
    # In units of 1 / new_px old pixels, a new pixel covers old_px of them and an old one new_px.
    begin = torch.maximum(row * old_px, column * new_px)
    end = torch.minimum((row + 1) * old_px, (column + 1) * new_px)
    areas = (end - begin).clamp_min(0) / old_px
    # In half such units, from the center of the first old pixel to that of a new one.
    center = ((2 * row + 1) * old_px - new_px).clamp_min(0)
    center = torch.minimum(center, 2 * new_px * (old_px - 1))
    nearness = (1 - (center - 2 * new_px * column).abs() / (2 * new_px)).clamp_min(0)
    return torch.where(old_px > new_px, areas, nearness).float()
