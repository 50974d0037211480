"""A small world for the tests of training: images of noise, features that are easy to check."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from patchscout.backbones import Backbone
from patchscout.config import ViewSettings
from patchscout.data.loader import ImageLoader
from patchscout.networks.segmenter import IMAGE_CHANNELS, Observer
from patchscout.networks.unet import UNet
from patchscout.training.feature_cache import FeatureCache
from patchscout.training.profile_trainer import ProfileTrainer
from patchscout.training.views import ViewSource
from patchscout.types import Sample

DEFECT = slice(12, 32), slice(16, 40)
"""Rows and columns of the defect of every labeled image."""


class Noise(ImageLoader):
    """Dark images of noise, each known by its number; the labeled ones with a bright square."""

    def image(self, sample):
        rng = torch.Generator().manual_seed(int(sample.image_path.stem))
        return 0.2 + 0.2 * torch.rand(3, *self.image_size, generator=rng) + 0.6 * self.mask(sample)

    def mask(self, sample):
        mask = torch.zeros(self.image_size, dtype=torch.bool)
        mask[DEFECT] = sample.is_anomalous
        return mask


class Cells(Backbone):
    """Means of cells: of the colors and their squares at stride 4, of the colors at stride 8."""

    def __init__(self):
        super().__init__(channels=(6, 3), strides=(4, 8), receptive_px=0)
        self.num_images = 0

    def levels(self, images):
        self.num_images += len(images)
        return [
            F.avg_pool2d(torch.cat([images, images.square()], dim=1), 4),
            F.avg_pool2d(images, 8),
        ]


@dataclass
class World:
    """Images, and what looks at them."""

    loader: Noise
    normal: list[Sample]
    labeled: list[Sample]
    observer: Observer

    def cache(self, cache_mib=16):
        return FeatureCache(self.normal, self.loader, self.observer, cache_mib)

    def autoencoders(self, steps=(2, 5), seed=0):
        torch.manual_seed(seed)
        return ProfileTrainer(self.cache(), (6, 3), steps)

    def predictor(self, length=2, base_channels=4):
        torch.manual_seed(0)
        of = {"features": (6, 3), "residual": (6, 3), "errors": (length, length)}
        channels = [sum(of[name][level] for name in self.observer.inputs) for level in (0, 1)]
        sides = zip((4, 8), channels, strict=True) if self.observer.inputs else ()
        return UNet(IMAGE_CHANNELS, dict[int, int](sides), base_channels)

    def views(self, **settings):
        numbers = range(len(self.normal))
        settings = ViewSettings(**settings)
        return ViewSource(self.normal, numbers, self.labeled, self.loader, settings, seed=0)


@pytest.fixture(scope="session")
def world():
    """Make a world of so many images of a size."""

    def make(size=(64, 96), *, num_normal=6, inputs=("residual", "errors")):
        normal = [Sample(Path(f"{number}.png")) for number in range(num_normal)]
        labeled = [Sample(Path(f"{number}.png"), "spot") for number in (100, 101)]
        observer = Observer(Cells(), inputs, torch.full((3,), 0.3), torch.full((3,), 0.1)).eval()
        return World(Noise(size, 0), normal, labeled, observer)

    return make
