"""Frozen networks that know pictures in general; `make_backbone` is the only way to get one.

A model of a few dozen defects cannot learn what textures and edges there are in the world. These
networks learned it from a million photographs and more, and are not trained further.
"""

from __future__ import annotations

from pathlib import Path

from patchscout.backbones.base import Backbone
from patchscout.backbones.dinov2 import load_dinov2_small
from patchscout.backbones.efficientnet_lite0 import load_efficientnet_lite0
from patchscout.backbones.identity import Identity
from patchscout.backbones.timm_models import PREFIX, load_timm
from patchscout.checks import InputValueError, nearest

__all__ = ["NAMES", "Backbone", "make_backbone"]

NAMES = ("efficientnet_lite0", "dinov2_small", "none")
"""Beside these, `timm/` and the name of a model of timm."""


def make_backbone(
    name: str,
    weights: Path | None = None,
    *,
    pretrained: bool = True,
    may_download: bool = False,
) -> Backbone:
    """Return a frozen backbone.

    Args:
        name: One of `NAMES`, or `timm/<name>`.
        weights: A .safetensors file, or a state dict that `torch.save` wrote. None takes them from
            an installed package or from what was downloaded before.
        pretrained: False leaves the weights to `load_state_dict`; no file is read.
        may_download: Fetch weights that are not on this machine.

    Raises:
        InputNotFoundError: If the weights, or a package, are not there.
        InputValueError: If there is no such backbone, or the weights are of another network.
    """
    if name == "efficientnet_lite0":
        backbone = load_efficientnet_lite0(weights, pretrained=pretrained)
    elif name == "dinov2_small":
        backbone = load_dinov2_small(weights, pretrained=pretrained, may_download=may_download)
    elif name == "none":
        backbone = Identity()
    elif name.startswith(PREFIX):
        backbone = load_timm(name, weights, pretrained=pretrained, may_download=may_download)
    else:
        raise InputValueError(
            f"There is no backbone '{name}'{nearest(name, NAMES)}. Choose one of"
            f" {', '.join(NAMES)}, or {PREFIX}<name of a model of timm>."
        )
    return backbone.requires_grad_(False).eval()
