"""PatchScout outlines defects in images, from many normal images and a handful of labeled ones."""

from typing import TYPE_CHECKING, Any

from patchscout.config import Config, preset_config
from patchscout.types import Prediction

if TYPE_CHECKING:
    from patchscout.detector import PatchScout

__all__ = ["Config", "PatchScout", "Prediction", "preset_config"]


def __getattr__(name: str) -> Any:
    """Import what needs PyTorch only when it is asked for; an exported model does without."""
    if name == "PatchScout":
        from patchscout.detector import PatchScout

        return PatchScout
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
