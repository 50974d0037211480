"""Settings that are left to the training images: working size, and what augmentation keeps."""

from __future__ import annotations

from typing import Any

from patchscout.config import Config
from patchscout.data.loader import ImageLoader
from patchscout.data.split import evenly_chosen
from patchscout.presets import merged, parse_config
from patchscout.training.colors import color_statistics
from patchscout.training.direction import DIRECTED, anisotropy
from patchscout.training.pose import unlike_changes
from patchscout.training.views import MAX_SHEAR_DEG, MAX_TRANSLATION
from patchscout.training.working_size import choose_image_size
from patchscout.types import Split

LOOKED_AT = 40
"""At most so many normal images, evenly chosen, are looked at."""

NOVELTY_WEIGHT, NOVELTY_WEIGHT_WITHOUT_LABELS = 0.35, 3.0


def adapt(config: Config, split: Split) -> Config:
    """Return the settings with those that are not set chosen by rule from the training images.

    The test part of the split is not looked at.
    """
    if config.data.image_size is None:
        chosen = choose_image_size(split.train_normal, split.labeled)
        config = _with(config, "data", image_size=chosen)
    if config.views.limited is None:
        loader = ImageLoader(config.data.working_size, cache_mib=0)
        if config.data.has_region:
            loader.limit_to(
                split.train_normal[0].region, color_statistics(split.train_normal, loader)[0]
            )
        samples = evenly_chosen(split.train_normal, LOOKED_AT)
        images = map(loader.image, samples)
        limited = {
            *unlike_changes(images, config.views.max_rotation_deg, MAX_TRANSLATION, MAX_SHEAR_DEG)
        }
        if anisotropy(map(loader.image, samples)) > DIRECTED:
            limited |= {"rotation", "shear"}
        config = _with(config, "views", limited=sorted(limited))
    if config.predictor.novelty_weight is None:
        weight = NOVELTY_WEIGHT if split.labeled else NOVELTY_WEIGHT_WITHOUT_LABELS
        config = _with(config, "predictor", novelty_weight=weight)
    return config


def _with(config: Config, group: str, **settings: Any) -> Config:
    """Return the settings with some of a group changed, checked again as a whole."""
    return parse_config(merged(config.model_dump(), {group: settings}))
