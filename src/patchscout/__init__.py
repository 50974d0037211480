"""PatchScout outlines defects in images, from many normal images and a handful of labeled ones."""

from typing import TYPE_CHECKING, Any

from patchscout.waiting import wait_passively

wait_passively()  # before anything loads PyTorch

from patchscout.config import Config  # noqa: E402
from patchscout.presets import preset_config  # noqa: E402

if TYPE_CHECKING:
    from patchscout.detector import PatchScout
    from patchscout.prediction import Prediction

__all__ = ["Config", "PatchScout", "Prediction", "preset_config"]


def __getattr__(name: str) -> Any:
    """Import what needs large libraries only when it is asked for."""
    if name == "PatchScout":
        from patchscout.detector import PatchScout

        return PatchScout
    if name == "Prediction":
        from patchscout.prediction import Prediction

        return Prediction
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
