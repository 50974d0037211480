"""Trains the predictor's first weights on simulated categories.

`python lab/pretrain_predictor.py OUT`; OUT is a .safetensors file, which the package ships as
`src/patchscout/networks/predictor.safetensors`. Takes about 20 minutes.

Each category is a photograph that scikit-image ships, in changing light, with defects drawn into
it as into the embedded sample. Every update is on another category, so that what is learned is how
anomalies look in residuals and loss profiles, whatever the product.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image as PillowImage
from safetensors.torch import save_file
from skimage import data
from tqdm import tqdm

from patchscout.build import build
from patchscout.data.backgrounds import light
from patchscout.data.layout import read_dataset
from patchscout.data.loader import ImageLoader
from patchscout.data.split import draw_split
from patchscout.data.synthetic import DEFECTS
from patchscout.networks.loss_profile import LossProfile
from patchscout.networks.unet import UNet
from patchscout.presets import preset_config
from patchscout.training.adaptation import adapt
from patchscout.training.colors import color_statistics
from patchscout.training.environment import Geometry, PatchEnvironment
from patchscout.training.feature_cache import FeatureCache
from patchscout.training.loop import ImagePool
from patchscout.training.predictor_trainer import PredictorTrainer
from patchscout.training.profile_buffer import ProfileBuffer
from patchscout.training.profile_trainer import ProfileTrainer
from patchscout.training.samplers import PlacingSampler
from patchscout.training.views import ViewSource
from patchscout.types import NORMAL, Image

TEXTURES = "brick", "grass", "gravel", "immunohistochemistry", "hubble_deep_field", "cell", "text"
"""Any part of these may be seen."""

OBJECTS = (
    *("coins", "page", "camera", "moon", "clock"),
    *("coffee", "chelsea", "astronaut", "rocket", "retina"),
)
"""Of these always the same part is seen, give or take a few pixels."""

SIZE_PX = 256
NUM_NORMAL = 30
NUM_PER_TYPE = 4
NUM_UPDATES = 1500


class Category(NamedTuple):
    """What the predictor is trained on.

    Attributes:
        predictor: Fresh, of the default settings.
        buffer: Observations of the category's images.
        profiles: What they are observed through.
    """

    predictor: UNet
    buffer: ProfileBuffer
    profiles: list[LossProfile]


def main(out: Path) -> None:
    """Train and write the weights, in half precision."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    categories: list[Category] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(tqdm(TEXTURES + OBJECTS, "categories")):
            write_category(Path(folder) / name, name, rng)
            categories.append(prepared(Path(folder) / name, seed))
        trainer = PredictorTrainer(categories[0].predictor, categories[0].buffer, NUM_UPDATES)
        for _ in tqdm(range(NUM_UPDATES), "updates"):
            _, trainer.buffer, profiles = categories[rng.integers(len(categories))]
            trainer.update(profiles)
    weights = trainer.averaged().state_dict()
    save_file({name: values.half().contiguous() for name, values in weights.items()}, out)


def write_category(root: Path, name: str, rng: np.random.Generator) -> None:
    """Write images and masks of a category in MVTec AD layout."""
    draw = surface(name, rng)
    counts = {f"train/{NORMAL}": NUM_NORMAL}
    counts |= {f"test/{defect_type}": NUM_PER_TYPE + 1 for defect_type in DEFECTS}
    counts[f"test/{NORMAL}"] = 1  # a test set is asked for
    for group, count in counts.items():
        defect_type = group.split("/")[1]
        masks = root / "ground_truth" / defect_type
        for folder in (root / group, masks):
            folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = draw()
            if defect_type != NORMAL:
                image, mask = DEFECTS[defect_type](image, rng)
                _write(mask.astype(np.float32), masks / f"{number:03}_mask.png")
            _write(light(image, rng), root / group / f"{number:03}.png")


def surface(name: str, rng: np.random.Generator) -> Callable[[], Image]:
    """Return a function that draws normal images of a category, before light falls on them."""
    photo = getattr(data, name)()
    photo = photo[..., :3] if photo.ndim == 3 else photo[:, :, None].repeat(3, axis=2)
    photo = photo.astype(np.float32) / photo.max()
    if rng.random() < 0.5:
        tint = rng.uniform(0.8, 1, 3) if rng.random() < 0.5 else np.ones(3)
        photo = (photo.mean(axis=2, keepdims=True) * tint).astype(np.float32)
    shortest = min(photo.shape[:2])
    share = rng.uniform(0.4, 0.7) if name in TEXTURES else rng.uniform(0.55, 0.95)
    side = min(max(int(share * shortest), 128), shortest)
    limits = np.array(photo.shape[:2]) - side
    fixed, jitter = rng.integers(limits + 1), int(rng.integers(9))

    def draw() -> Image:
        if name in TEXTURES:
            corner = rng.integers(limits + 1)
        else:
            corner = fixed + rng.integers(-jitter, jitter + 1, 2)
        top, left = np.clip(corner, 0, limits)
        part = photo[top : top + side, left : left + side]
        method = cv2.INTER_AREA if side > SIZE_PX else cv2.INTER_LINEAR
        return cv2.resize(part, (SIZE_PX, SIZE_PX), interpolation=method)

    return draw


def prepared(root: Path, seed: int) -> Category:
    """Train the autoencoders of a category, on uniform patches, and fill nothing yet."""
    config = preset_config(
        labeled_per_type=NUM_PER_TYPE,
        seed=seed,
        data={"image_size": (SIZE_PX, SIZE_PX), "cache_mib": 256},
    )
    dataset = read_dataset(root, None, None, None, seed=seed, needs_labels=True)
    split = draw_split(dataset, labeled_per_type=NUM_PER_TYPE, seed=seed)
    config = adapt(config, split)
    normal = split.train_normal
    loader = ImageLoader(config.data.working_size, config.data.cache_mib)
    views = ViewSource(normal, range(len(normal)), split.labeled, loader, config.views, seed=seed)
    segmenter = build(config, pretrained=True)
    observer = segmenter.observer
    observer.channel_mean, observer.channel_std = color_statistics(normal, loader)
    cache = FeatureCache(normal, loader, observer, config.data.cache_mib)
    autoencoders = ProfileTrainer(
        cache, segmenter.profile.channels, config.profile.snapshots, config.profile.dropout
    )
    pool = ImagePool(normal, loader, observer.backbone.strides[0], seed)
    environment = PatchEnvironment(pool, Geometry(), seed=seed)
    sampler = PlacingSampler("uniform", seed=seed)
    sampler.start_cycle(environment)
    for _ in range(config.profile.snapshots[-1]):
        picked = sampler.pick(environment)
        autoencoders.train(autoencoders.gather(picked.numbers, picked.corners), picked.numbers)
        autoencoders.take_snapshot_if_due()
    buffer = ProfileBuffer(
        views,
        observer,
        crop_px=config.predictor.crop_px,
        batch_size=config.predictor.batch_size,
        seed=seed,
    )
    return Category(segmenter.predictor, buffer, autoencoders.profiles)


def _write(values: np.ndarray, path: Path) -> None:
    PillowImage.fromarray(np.rint(values * 255).astype(np.uint8)).save(path, compress_level=1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
