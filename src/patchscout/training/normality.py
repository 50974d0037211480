"""Fits the model of normality, and shows training images as if they had not been in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from patchscout.config import NormalitySettings
from patchscout.data.loader import ImageLoader
from patchscout.monitor import Monitor
from patchscout.networks.normality import NormalityModel, Subspace, describe, grids
from patchscout.training.subsets import evenly_chosen
from patchscout.types import Sample

NUM_FOLDS = 8
SPREAD_FLOOR = 0.01
"""A spread is taken for no less, so that noise in what never varies is not blown up."""

NEGLIGIBLE = 1e-6
"""Components weaker than this share of the strongest are zero."""


class CrossFittedNormality:
    """A model of all normal images, and for each fold of them one of the others.

    What is left of an image that took part in finding the components is less than of a new one, by
    which a predictor would know the training images. So it is shown each through a model that the
    image has no part in. Folds are runs of neighbors by name, which are often of one series.

    Args:
        normal: Normal training images.
        loader: Reads them.
        settings: For how many components.
        monitor: Shows progress.
    """

    def __init__(
        self,
        normal: Sequence[Sample],
        loader: ImageLoader,
        settings: NormalitySettings,
        monitor: Monitor,
    ) -> None:
        self.num_normal = len(normal)
        self.num_folds = min(NUM_FOLDS, len(normal))
        chosen = evenly_chosen(range(len(normal)), settings.max_images)
        folds = torch.tensor([self.fold_of(number) for number in chosen])
        fitted = [
            _fit_level(cells, folds, self.num_folds, settings.ranks)
            for cells in _describe_all([normal[number] for number in chosen], loader, monitor)
        ]
        self.model, *self._folds = (
            NormalityModel(subspaces).to(loader.device) for subspaces in zip(*fitted, strict=True)
        )

    def fold_of(self, number: int) -> int:
        """Return the fold of a normal image."""
        return number * self.num_folds // self.num_normal

    def without(self, fold: int) -> NormalityModel:
        """Return the model that the images of a fold have no part in; of a single image, all."""
        return self._folds[fold] if self._folds else self.model


def fit_normality(
    normal: Sequence[Sample], loader: ImageLoader, settings: NormalitySettings, monitor: Monitor
) -> CrossFittedNormality | None:
    """Return the model of normality, or None where the settings want no deviations."""
    return CrossFittedNormality(normal, loader, settings, monitor) if settings.ranks else None


def _describe_all(samples: Sequence[Sample], loader: ImageLoader, monitor: Monitor) -> list[Tensor]:
    """Return the cells of images, (images, traits, rows, columns), on each grid."""
    grid_sizes = grids(*loader.image_size)
    tracked = monitor.track(samples, "learning what is normal", len(samples), "image")
    cells = [describe(loader.image(sample)[None], grid_sizes) for sample in tracked]
    # Fitted in double precision, which not every device has.
    return [torch.cat(level).cpu() for level in zip(*cells, strict=True)]


def _fit_level(
    cells: Float[Tensor, "images traits rows columns"],
    folds: Tensor,
    num_folds: int,
    ranks: Sequence[int],
) -> list[Subspace]:
    """Return the subspace of all images and, of more than one, that without each fold."""
    whole = fit_subspace(cells, ranks)
    if num_folds == 1:
        whole.spread = SPREAD_FLOOR * whole.spread
        return [whole]
    without = [fit_subspace(cells[folds != fold], ranks) for fold in range(num_folds)]
    squares = sum(
        (
            torch.stack(subspace.residuals(cells[folds == fold])).square().sum(dim=1)
            for fold, subspace in enumerate(without)
        ),
        start=torch.zeros(()),
    )
    spread = (squares / len(cells)).sqrt() + SPREAD_FLOOR
    for subspace in (whole, *without):
        subspace.spread = spread
    return [whole, *without]


def fit_subspace(
    cells: Float[Tensor, "images traits rows columns"], ranks: Sequence[int]
) -> Subspace:
    """Return the subspace of images, with a spread of 1.

    With fewer images than components those that are missing are zero.
    """
    mean = cells.mean(dim=0)
    centered = (cells - mean).flatten(1).double()
    strengths, directions = torch.linalg.eigh(centered @ centered.T)
    strongest = strengths.argsort(descending=True)[: max(ranks)]
    strengths, directions = strengths[strongest], directions[:, strongest]
    counts = strengths > NEGLIGIBLE * strengths[0].clamp_min(1e-12)
    weights = torch.where(counts, strengths.clamp_min(1e-12).rsqrt(), 0)
    components = torch.zeros(max(ranks), centered.shape[1])
    components[: len(weights)] = ((directions * weights).T @ centered).float()
    return Subspace(mean, components, torch.ones(len(ranks), *mean.shape), ranks)
