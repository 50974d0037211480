"""Learns from the normal images what is new."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from patchscout.config import NoveltySettings
from patchscout.data.loader import ImageLoader
from patchscout.monitor import Monitor
from patchscout.networks import Backbone
from patchscout.networks.normality import Cells, Subspace
from patchscout.networks.novelty import NoveltyModel, feature_grids, look_at
from patchscout.networks.segmenter import measure_lighting, standardized
from patchscout.training.normality import fit_subspace
from patchscout.training.subsets import evenly_chosen
from patchscout.types import Sample

NUM_FOLDS = 4
USUAL = 0.99
"""Share of the places of normal images that are taken for usual."""

SPREAD_FLOOR = 1e-4
"""Deviations of identical images have no spread of their own."""


@torch.no_grad()
def fit_novelty(
    normal: Sequence[Sample],
    loader: ImageLoader,
    backbone: Backbone,
    settings: NoveltySettings,
    monitor: Monitor,
    *,
    has_labels: bool,
) -> NoveltyModel:
    """Learn the subspaces of normal images.

    What is usual beside them is measured on images that had no part in the subspace, fold by fold.

    Args:
        normal: Normal training images, at least one.
        loader: Reads them, onto the device where the backbone is.
        backbone: Whose features they are seen by.
        settings: How many components, and the weights of novelty.
        monitor: Shows progress.
        has_labels: Whether the predictor learns from labeled images.
    """
    chosen = evenly_chosen(normal, settings.max_images)
    grids = feature_grids(loader.image_size)
    seen: list[list[Cells]] = []
    for sample in monitor.track(chosen, "learning what is new", len(chosen), "image"):
        image = loader.image(sample)[None]
        general = backbone(standardized(image, measure_lighting(image)))
        seen.append([cells.cpu() for cells in look_at(general, grids)])
    fitted = [_fit_level(torch.cat(level), settings.rank) for level in zip(*seen, strict=True)]
    subspaces, limits, spreads = zip(*fitted, strict=True)
    weight = settings.weight if has_labels else settings.weight_without_labels
    novelty = NoveltyModel(subspaces, torch.stack(limits), torch.stack(spreads), weight)
    return novelty.to(loader.device)


def _fit_level(cells: Cells, rank: int) -> tuple[Subspace, Tensor, Tensor]:
    """Return the subspace of images, and limit and spread of what is usual beside it.

    How much is left of a channel at a place counts half by what it usually is there, half by what
    it is anywhere: places differ in how much they vary, but few images tell little of each.
    """
    whole = fit_subspace(cells, (rank,))
    folds = torch.arange(len(cells)) * NUM_FOLDS // len(cells)
    left = [
        fit_subspace(cells[folds != fold], (rank,)).residuals(cells[folds == fold])[0]
        for fold in folds.unique().tolist()
        if len(cells) > 1
    ]
    residuals = torch.cat(left) if left else whole.residuals(cells)[0]
    variance = residuals.square().mean(dim=0)
    anywhere = variance.mean(dim=(1, 2), keepdim=True)
    whole.spread = (variance + anywhere + SPREAD_FLOOR).sqrt()[None]
    deviations = whole.deviations([residuals]).flatten().sort().values
    limit = deviations[math.ceil(USUAL * (len(deviations) - 1))]
    return whole, limit, deviations.std() + SPREAD_FLOOR
