"""Which changes of place normal images do not show: those of an object that always lies alike."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from patchscout.config import Change
from patchscout.data.augment import Augmentation
from patchscout.data.simulated import Image
from patchscout.training.structure import grey

UNLIKE = 2.0
"""A change is unlike normal images if it takes them so many times as far from the nearest other one
as they are by themselves."""

THUMBNAIL_PX = 32
"""Images are compared at this side, less a border of an eighth."""

BORDER_PX = THUMBNAIL_PX // 8
"""Not compared: what a change brings in from outside is mirrored there."""

FEWEST_IMAGES = 5
"""Of fewer images nothing can be said."""


def unlike_changes(
    images: Iterable[Image], rotation_deg: float, translation: float, shear_deg: float
) -> tuple[Change, ...]:
    """Return the changes that make normal images unlike all others of them.

    An upside-down transistor is a defect; a piece of fabric upside down is not. The measure is the
    distance of standardized thumbnails to the nearest other image, changed and as it is, and the
    median of the ratio over images and ways to change them.

    Args:
        images: Normal images of one size.
        rotation_deg: The largest rotation of augmentation, in degrees.
        translation: The largest shift, as a fraction of width and height.
        shear_deg: The largest shear, in degrees.
    """
    ways: list[tuple[Change, Augmentation]] = [
        ("horizontal_flip", Augmentation(flip_horizontal=True)),
        ("vertical_flip", Augmentation(flip_vertical=True)),
        *(("rotation", Augmentation(rotation_deg=sign * rotation_deg)) for sign in (-1, 1)),
        *(
            ("translation", Augmentation(translation_fraction=(x * translation, y * translation)))
            for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1))
        ),
        *(("shear", Augmentation(shear_deg=sign * shear_deg)) for sign in (-1, 1)),
    ]
    thumbnails = [
        torch.stack([_thumbnail(image), *(_thumbnail(way.apply(image)) for _, way in ways)])
        for image in images  # one at a time: they may be large
    ]
    if len(thumbnails) < FEWEST_IMAGES:
        return ()
    known, *moved = torch.stack(thumbnails, dim=1)
    usual = _to_nearest(known, known)
    shares: dict[Change, list[float]] = {}
    for (name, _), one in zip(ways, moved, strict=True):
        share = (_to_nearest(one, known) > UNLIKE * usual).float().mean().item()
        shares.setdefault(name, []).append(share)
    return tuple(name for name, found in shares.items() if sum(found) / len(found) > 0.5)


def _thumbnail(image: Image) -> Float[Tensor, " values"]:
    """Return the luma of the inner part in few pixels, with mean 0 and spread 1."""
    small = F.adaptive_avg_pool2d(grey(image[None])[None], THUMBNAIL_PX)[0, 0]
    values = small[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX].flatten()
    return (values - values.mean()) / values.std().clamp_min(1e-4)


def _to_nearest(
    thumbnails: Float[Tensor, "images values"], known: Float[Tensor, "images values"]
) -> Float[Tensor, " images"]:
    """Return the distance of each image to the nearest of the known ones but itself."""
    distances = torch.cdist(thumbnails, known)
    return distances.fill_diagonal_(torch.inf).amin(dim=1)
