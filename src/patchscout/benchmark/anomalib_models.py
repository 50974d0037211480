"""Models of anomalib as baselines: same images, labels, size, time budget and threshold rule.

anomalib is optional (`pip install patchscout[anomalib]`) and its models start from weights that
it fetches when they are first used; what is missing is said in one line.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from patchscout.benchmark.anomalib_recipes import RECIPES, Clock, Task
from patchscout.benchmark.fitted import Fitted, calibrate
from patchscout.checks import InputNotFoundError, InputValueError, nearest
from patchscout.config import Config
from patchscout.data.images import resize_image
from patchscout.data.loader import ImageLoader, to_tensor
from patchscout.inference import WorkingMap
from patchscout.monitor import Monitor
from patchscout.training.calibration import hold_out
from patchscout.types import Image, Sample, Split

TIME_BUDGET_S = 360.0
"""Seconds of training that every method of a benchmark has."""

MODELS = tuple(sorted(RECIPES))
"""Names that `fit_anomalib` knows."""


class MapNetwork(nn.Module):
    """A model of anomalib that takes images as ours do and gives anomaly maps in [0, 1].

    Scores without bounds (distances) are brought into [0, 1] by a strictly increasing function
    that is fixed after training, which changes no ranking: with the median m and the 99th
    percentile q of the pixels of held-out normal images, z = (score - q) / (q - m) and the
    result is (1 + z / (1 + |z|)) / 2.

    Args:
        network: The trained model, in evaluation mode.
        prepare: Brings images in [0, 1] to what it expects.
    """

    def __init__(self, network: nn.Module, prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.prepare = prepare
        self.bounds: tuple[float, float] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, height, width) anomaly maps of (batch, 3, height, width) images."""
        maps = self.network(self.prepare(images)).anomaly_map
        maps = maps.reshape(len(images), *images.shape[-2:])
        if self.bounds is None:
            return maps
        median, high = self.bounds
        z = (maps - high) / (high - median)
        return (1 + z / (1 + z.abs())) / 2


def fit_anomalib(
    model: str,
    split: Split,
    config: Config,
    device: torch.device,
    monitor: Monitor,
    budget_s: float = TIME_BUDGET_S,
) -> Fitted:
    """Train a model of anomalib and choose its threshold as ours is chosen.

    Args:
        model: One of `MODELS`.
        split: The images; its test part is not touched. Only `supersimplenet` trains on the
            labeled ones; of the others they choose the threshold.
        config: Image size, seed and memory for images are taken from it.
        device: Where to compute.
        monitor: Shows progress.
        budget_s: Training ends after so many seconds, or when the published schedule ends; the
            learning rate falls at the published shares of whichever comes first.

    Raises:
        InputValueError: If the model is unknown or does not work at this size, or anomalib is not
            there or does not load.
        InputNotFoundError: If weights or data that the model needs are not there.
    """
    if model not in RECIPES:
        raise InputValueError(
            f"`model` must be one of {', '.join(MODELS)}; got '{model}'"
            f"{nearest(model, MODELS) or '.'}"
        )
    recipe = RECIPES[model]
    if min(config.data.working_size) < recipe.min_side_px:
        raise InputValueError(
            f"`data.image_size` must be at least {recipe.min_side_px} x {recipe.min_side_px} for"
            f" '{model}'; got {config.data.working_size}. Make it larger."
        )
    torch.manual_seed(config.seed)
    loader = ImageLoader(config.data.working_size, config.data.cache_mib)
    normal, held_out = hold_out(split.train_normal, config.seed)
    network = _construct(model, supervised=bool(split.labeled)).to(device)
    start = time.monotonic()
    task = Task(
        normal=normal,
        labeled=split.labeled,
        held_out=held_out,
        loader=loader,
        device=device,
        monitor=monitor,
        clock=Clock(budget_s),
        rng=np.random.default_rng([config.seed, 5]),
        prepare=recipe.prepare,
    )
    recipe.train(network, task)
    mapper = MapNetwork(network.eval(), recipe.prepare)
    if not recipe.is_bounded:
        mapper.bounds = _bounds(mapper, held_out, loader, device)

    @torch.no_grad()
    def score(image: Image) -> WorkingMap:
        tensor = to_tensor(resize_image(image, config.data.working_size))[None].to(device)
        return mapper(tensor)[0].float().cpu().numpy()

    threshold = calibrate(score, split, config)
    return Fitted(score, threshold, time.monotonic() - start)


def _construct(model: str, *, supervised: bool) -> nn.Module:
    """Return the untrained model, its backbone with weights."""
    try:
        importlib.import_module("anomalib.models")
    except ModuleNotFoundError as error:
        raise InputValueError(
            f"'{model}' needs the package {error.name}, which is not installed. Run `pip install"
            " patchscout[anomalib]`."
        ) from None
    except (ImportError, OSError, RuntimeError) as error:
        first_line = str(error).partition("\n")[0]
        raise InputValueError(
            f"'{model}' needs anomalib, which does not load: {first_line}. Install builds of"
            f" torch, torchvision and anomalib that fit; torch here is {torch.__version__}."
        ) from None
    recipe = RECIPES[model]
    if recipe.backbone is not None:
        _require_weights(model, recipe.backbone)
    return recipe.construct(supervised)


def _require_weights(model: str, backbone: str) -> None:
    """Fetch the weights of a backbone if they are not in the cache.

    Raises:
        InputNotFoundError: If they are in neither place.
    """
    timm: Any = importlib.import_module("timm.models")
    hub: Any = importlib.import_module("huggingface_hub")
    repository = timm.get_pretrained_cfg(backbone).hf_hub_id
    try:
        hub.hf_hub_download(repository, "model.safetensors")
    except OSError:
        raise InputNotFoundError(
            f"'{model}' needs the ImageNet weights {repository}, which are not on this machine and"
            " could not be fetched. Run it once with access to the Hugging Face Hub, or copy a"
            f" cache that has them to {hub.constants.HF_HUB_CACHE}."
        ) from None


@torch.no_grad()
def _bounds(
    mapper: MapNetwork, normal: tuple[Sample, ...], loader: ImageLoader, device: torch.device
) -> tuple[float, float]:
    """Return the median and the 99th percentile of the scores of normal pixels."""
    scores = [mapper(loader.image(sample)[None].to(device)).cpu().numpy() for sample in normal]
    median, high = np.quantile(np.concatenate(scores), (0.5, 0.99)).tolist()
    return median, max(high, median + 1e-6)
