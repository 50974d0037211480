"""PatchScout outlines defects in images, from many normal images and a handful of labeled ones."""

from patchscout.config import Config, preset_config
from patchscout.detector import PatchScout
from patchscout.types import Prediction

__all__ = ["Config", "PatchScout", "Prediction", "preset_config"]
