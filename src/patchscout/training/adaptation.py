"""Settings that are left to the training images: working size, and what augmentation keeps."""

from __future__ import annotations

from typing import Any

from patchscout.config import Config, merged, parse_config
from patchscout.data.loader import ImageLoader
from patchscout.training.calibration import num_held_out
from patchscout.training.direction import DIRECTED, anisotropy
from patchscout.training.subsets import evenly_chosen
from patchscout.training.working_size import choose_image_size
from patchscout.types import Split

LOOKED_AT = 40
"""At most so many normal images, evenly chosen, are looked at."""

ENOUGH_FOR_DEVIATIONS = 3
"""Of fewer normal images it is not known how much is left of a new one."""

ENOUGH_FOR_NOVELTY = 8
"""Likewise, of features that vary more."""


def adapt(config: Config, split: Split) -> Config:
    """Return the settings with those that are not set chosen by rule from the training images.

    The test part of the split is not looked at.
    """
    if config.data.image_size is None:
        patch_px = config.smallest_px
        chosen = choose_image_size(split.train_normal, split.labeled, patch_px)
        config = _with(config, "data", image_size=chosen)
    if config.views.keeps_direction is None:
        loader = ImageLoader(config.data.working_size, cache_mib=0)
        images = map(loader.image, evenly_chosen(split.train_normal, LOOKED_AT))
        config = _with(config, "views", keeps_direction=anisotropy(images) > DIRECTED)
    num_normal = len(split.train_normal)
    num_trained_on = num_normal - num_held_out(num_normal)
    if num_trained_on < ENOUGH_FOR_NOVELTY:
        config = _with(config, "novelty", weight=0.0)
    if num_trained_on < ENOUGH_FOR_DEVIATIONS:
        config = _with(config, "normality", ranks=())
    return config


def _with(config: Config, group: str, **settings: Any) -> Config:
    """Return the settings with some of a group changed, checked again as a whole."""
    return parse_config(merged(config.model_dump(), {group: settings}))
