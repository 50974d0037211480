"""The one place where a model is put together: for training, for loading, for benchmarks."""

from __future__ import annotations

from pathlib import Path

import torch

from patchscout.backbones import make_backbone
from patchscout.config import Config
from patchscout.networks.autoencoder import FeatureAutoencoder
from patchscout.networks.loss_profile import LossProfile
from patchscout.networks.segmenter import IMAGE_CHANNELS, Observer, Segmenter
from patchscout.networks.unet import UNet


def build(config: Config, *, pretrained: bool) -> Segmenter:
    """Return a model of the default method, in evaluation mode.

    Args:
        config: Every setting.
        pretrained: Whether the backbone gets its published weights, to train the rest; otherwise
            all weights are to be loaded.

    Raises:
        InputError: If the backbone is unknown or its weights cannot be had.
    """
    settings = config.backbone
    backbone = make_backbone(
        settings.name,
        None if settings.weights is None else Path(settings.weights),
        pretrained=pretrained,
        may_download=settings.may_download,
    )
    inputs, num_snapshots = config.predictor.sees, len(config.profile.snapshots)
    height, width = config.data.working_size
    snapshots = [FeatureAutoencoder(backbone.channels) for _ in range(num_snapshots)]
    sizes = [(-(-height // stride), -(-width // stride)) for stride in backbone.strides]
    side_channels = {
        stride: sum(num_snapshots if name == "errors" else count for name in inputs)
        for stride, count in zip(backbone.strides, backbone.channels, strict=True)
        if inputs
    }
    segmenter = Segmenter(
        Observer(backbone, inputs, torch.zeros(3), torch.ones(3)),
        LossProfile(snapshots, backbone.channels, sizes),
        UNet(IMAGE_CHANNELS, side_channels, config.predictor.base_channels),
        flip_tta=config.predictor.flip_tta
        and "horizontal_flip" not in (config.views.limited or ()),
        novelty_weight=config.predictor.novelty_weight or 0.0,
        region=torch.ones(config.data.working_size).bool() if config.data.has_region else None,
    )
    # Channels last: faster on a CPU, and what is loaded answers exactly as what was saved.
    return segmenter.to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
