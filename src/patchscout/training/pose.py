"""Which changes of place normal images do not show: those of an object that always lies alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from patchscout.config import Change
from patchscout.data.augment import Augmentation
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

Image = Float[Tensor, "3 height width"]


def unlike_changes(
    images: Sequence[Image], rotation_deg: float, translation: float, shear_deg: float
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
    if len(images) < FEWEST_IMAGES:
        return ()
    known = torch.stack([_thumbnail(image) for image in images])
    usual = _to_nearest(known, known)
    changes: dict[Change, list[Augmentation]] = {
        "horizontal_flip": [Augmentation(flip_horizontal=True)],
        "vertical_flip": [Augmentation(flip_vertical=True)],
        "rotation": [Augmentation(rotation_deg=way * rotation_deg) for way in (-1, 1)],
        "translation": [
            Augmentation(translation_fraction=(x * translation, y * translation))
            for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1))
        ],
        "shear": [Augmentation(shear_deg=way * shear_deg) for way in (-1, 1)],
    }
    unlike: list[Change] = []
    for name, ways in changes.items():
        moved = [
            _to_nearest(torch.stack([_thumbnail(way.apply(image)) for image in images]), known)
            for way in ways
        ]
        if (torch.stack(moved) > UNLIKE * usual).float().mean() > 0.5:
            unlike.append(name)
    return tuple(unlike)


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
