"""Any model of the package timm that gives feature maps at a stride of 4, 8 or 16 px."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from patchscout.backbones.base import Backbone
from patchscout.backbones.weights import StateDict, check_weights, read_weights
from patchscout.checks import InputNotFoundError, InputValueError, nearest

PREFIX = "timm/"
STRIDES_PX = (4, 8, 16)

WEIGHTS_FILE = "model.safetensors"
"""What timm's repositories on the Hugging Face Hub call it."""

COLOR_SPREAD = 0.225
"""Standard deviation of the colors of a usual photograph, which are between 0 and 1."""

NONE_UNUSED = "(?!)"
"""Matches no tensor's name."""

PROBE_PX = (64, 96)
"""Sides of an image that shows whether a model takes every size."""


class TimmBackbone(Backbone):
    """The last feature map of each stride.

    Args:
        body: Made by timm with `features_only`.
        channels: Of its maps.
        strides: Of its maps, in pixels.
        input_scale: Standard deviation of the colors as it is used to seeing them.
    """

    def __init__(
        self, body: nn.Module, channels: tuple[int, ...], strides: tuple[int, ...], scale: float
    ) -> None:
        super().__init__(channels, strides, receptive_px=None, input_scale=scale)
        self.body = body

    def levels(self, images: Tensor) -> list[Tensor]:
        """Return the maps."""
        return list(self.body(images))


def load_timm(
    name: str, weights: Path | None, *, pretrained: bool, may_download: bool
) -> TimmBackbone:
    """Return a model of timm.

    Args:
        name: `timm/` and timm's name of it.
        weights: Holds timm's names of its tensors. None takes them from the cache of the Hub.
        pretrained: Whether to read any.
        may_download: Whether they may be fetched from the Hub if they are not here yet.

    Raises:
        InputNotFoundError: If timm or the weights are not there.
        InputValueError: If there is no such model, it gives no such maps, or the weights are
            another's.
    """
    timm = _timm()
    model = name.removeprefix(PREFIX)
    if not timm.is_model(model):  # nor is it looked for on the Hub
        raise InputValueError(
            f"timm has no model for the backbone '{name}'{nearest(model, timm.list_models())}."
        )
    try:
        whole = timm.create_model(model, pretrained=False)
        settings = timm.get_pretrained_cfg(model)
    except RuntimeError as error:
        raise InputValueError(f"timm cannot make the backbone '{name}': {error}") from None
    options: dict[str, Any] = {"features_only": True}
    if hasattr(whole, "dynamic_img_size"):  # transformers that can resize their positions
        options["dynamic_img_size"] = True
    levels = _levels(timm, model, options)
    options["out_indices"] = tuple(levels.values())
    if pretrained:
        path = weights or _cached_weights(name, settings, may_download=may_download)
        state = read_weights(path)
        _check(timm, whole, name, state, path)
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(state)}}
    body = timm.create_model(model, **options)
    body.pretrained_cfg = body.default_cfg = {}  # they would keep the weights a second time
    channels = tuple(body.feature_info.channels())
    spread = sum(settings.std) / len(settings.std)
    backbone = TimmBackbone(body, channels, tuple(levels), COLOR_SPREAD / spread)
    _probe(name, backbone)
    return backbone


def _timm() -> Any:
    """Return the package, which the extra `timm` installs."""
    try:
        return importlib.import_module("timm")
    except (ImportError, RuntimeError) as error:
        raise InputNotFoundError(
            f"A backbone of timm needs the packages timm and torchvision: {error}. Run `pip install"
            " 'patchscout[timm]'`, with the build of torchvision that fits that of torch."
        ) from None


def _levels(timm: Any, model: str, options: dict[str, Any]) -> dict[int, int]:
    """Return the number of the last feature map of each stride that is wanted."""
    try:
        info = timm.create_model(model, **options).feature_info
        found = dict(zip(info.reduction(), info.out_indices, strict=True))
    except (AttributeError, RuntimeError, TypeError):  # has no `features_only`
        found = {}
    levels = {stride: found[stride] for stride in STRIDES_PX if stride in found}
    if not levels:
        raise InputValueError(
            f"The backbone '{PREFIX}{model}' gives no feature maps at a stride of 4, 8 or 16 px."
            " Choose another model of timm, such as timm/resnet18."
        )
    return levels


def _cached_weights(name: str, settings: Any, *, may_download: bool) -> Path:
    """Return where the weights lie in the cache of the Hugging Face Hub."""
    hub: Any = importlib.import_module("huggingface_hub")
    repository, file = settings.hf_hub_id, settings.hf_hub_filename or WEIGHTS_FILE
    if not repository:
        raise InputNotFoundError(
            f"timm knows no weights of '{name}' on the Hugging Face Hub. Name a file with"
            " `weights`, or choose another model."
        )
    cached = hub.try_to_load_from_cache(repository, file)
    if isinstance(cached, str):
        return Path(cached)
    if not may_download:
        raise InputNotFoundError(
            f"The weights of '{name}' are not on this machine. Download {file} of {repository} from"
            " the Hugging Face Hub and name the file with `weights`, or allow the download with"
            " `may_download`."
        )
    try:
        return Path(hub.hf_hub_download(repository, file))
    except (OSError, ValueError) as error:
        raise InputNotFoundError(
            f"The weights of '{name}' could not be downloaded from {repository} on the Hugging Face"
            f" Hub: {error}. Download them elsewhere, and name the file with `weights`."
        ) from None


def _check(timm: Any, whole: nn.Module, name: str, state: StateDict, path: Path) -> None:
    """Refuse the weights of another network, which timm ignores where it makes feature maps.

    Args:
        timm: The package.
        whole: The model with its head.
        name: Of the backbone.
        state: The weights.
        path: Where they come from.
    """
    shapes = {key: one.shape for key, one in whole.state_dict().items()}
    try:
        check_weights(state, shapes, NONE_UNUSED, path, name)
    except InputValueError:
        overlay = {"state_dict": dict(state)}
        try:  # timm knows other names of some
            timm.create_model(
                name.removeprefix(PREFIX), pretrained=True, pretrained_cfg_overlay=overlay
            )
            return
        except Exception:  # noqa: BLE001 - whatever one of its many models raises
            pass
        raise


@torch.no_grad()
def _probe(name: str, backbone: TimmBackbone) -> None:
    """Refuse a model that takes images of one size alone, or whose maps are laid out otherwise."""
    expected = [
        (1, channels, *(-(-side // stride) for side in PROBE_PX))
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    try:
        found = [tuple(one.shape) for one in backbone.eval()(torch.zeros(1, 3, *PROBE_PX))]
    except (AssertionError, RuntimeError, ValueError):
        found = []
    if found != expected:
        raise InputValueError(
            f"The backbone '{name}' does not take images of every size. Choose another model of"
            " timm, such as timm/resnet18."
        )
