"""The methods that are compared, behind one function: fit.

The U-Net on RGB alone is no method of its own but `patchscout` with `predictor.inputs image`
and no `normality.ranks`.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from patchscout.benchmark.anomalib_models import fit_anomalib
from patchscout.benchmark.fitted import Fitted, calibrate
from patchscout.benchmark.variants import Method
from patchscout.checks import InputValueError
from patchscout.config import Config
from patchscout.data.images import read_image, resize_image
from patchscout.data.loader import to_tensor
from patchscout.inference import Scorer, WorkingMap
from patchscout.monitor import Monitor
from patchscout.networks.loss_profile import ProfileExtractor
from patchscout.training.calibration import hold_out
from patchscout.training.loop import TrainingResult, train
from patchscout.types import Image, Split


def fit(
    method: Method,
    model: str | None,
    split: Split,
    config: Config,
    device: torch.device,
    monitor: Monitor,
) -> Fitted:
    """Train a method.

    Args:
        method: `patchscout`, `last_error` or `anomalib`.
        model: The model, of anomalib only.
        split: The images; the test part is not looked at.
        config: Every setting.
        device: Where to compute.
        monitor: Shows progress.

    Raises:
        InputError: If the method does not fit the settings, or a model of anomalib cannot be had.
    """
    started = time.monotonic()
    if method == "anomalib":
        assert model is not None
        fitted = fit_anomalib(model, split, config, device, monitor)
    elif method == "last_error":
        fitted = _fit_last_error(split, config, device, monitor)
    else:
        result = _trained(split, config, device, monitor)
        score = Scorer(result.segmenter, config.data.working_size, device)
        fitted = Fitted(score, result.choice.threshold, 0.0)
    return replace(fitted, seconds=time.monotonic() - started)


def _trained(
    split: Split, config: Config, device: torch.device, monitor: Monitor
) -> TrainingResult:
    result = train(config, split, device, monitor)
    if result is None or not result.is_complete:
        raise KeyboardInterrupt  # half a training is no result
    return result


def _fit_last_error(split: Split, config: Config, device: torch.device, monitor: Monitor) -> Fitted:
    """Train as the settings say and use only the error map of the last autoencoder.

    Errors are divided by the largest one on the images that the threshold is chosen on.
    """
    if config.predictor.inputs == "image":
        raise InputValueError(
            "`method: last_error` needs an autoencoder, and with `predictor.inputs` image none is"
            " trained. Leave that setting out."
        )
    profiles = _trained(split, config, device, monitor).segmenter.features.profiles
    assert profiles is not None
    autoencoder, mask = profiles.sources[-1]
    last = ProfileExtractor([autoencoder], mask, "linear", profiles.downscale).to(device)
    size = config.data.working_size

    def errors(image: Image) -> WorkingMap:
        images = to_tensor(resize_image(image, size))[None].to(device)
        return last(images)[0, 0].float().cpu().numpy()

    _, normal = hold_out(split.train_normal, config.seed)
    samples = (*split.labeled, *normal)
    largest = max(float(errors(read_image(sample.image_path)).max()) for sample in samples)

    def score(image: Image) -> WorkingMap:
        return np.clip(errors(image) / max(largest, 1e-6), 0, 1, dtype=np.float32)

    return Fitted(score, calibrate(score, split, config), 0.0)
