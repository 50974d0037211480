"""Trains the sampler's policy on simulated categories: `python lab/pretrain_policy.py OUT`.

Each category is a surface made of a photograph that scikit-image ships, in changing light, with
simulated defects. The policy goes from one to the next; what it observes is relative to the image,
so that it can be used on products it has never seen. OUT is a .safetensors file, which the package
ships as `src/patchscout/training/policy.safetensors`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage import color, data, transform

from patchscout.config import preset_config
from patchscout.data.backgrounds import light
from patchscout.data.layout import read_dataset
from patchscout.data.split import draw_split
from patchscout.monitor import Monitor
from patchscout.training import loop
from patchscout.training.adaptation import adapt
from patchscout.training.samplers import PolicySampler

TEXTURES = ("brick", "grass", "gravel")
"""Any part of these may be seen."""

OBJECTS = ("coins", "page", "camera", "moon", "clock")
"""Of these always the same part is seen, give or take a few pixels."""

SIZE_PX = 160
NUM_IMAGES = 40
ROUNDS = 1
"""How often the policy sees each category, each time with other images."""


def write_category(folder: Path, name: str, rng: np.random.Generator) -> None:
    """Write normal images of a category."""
    photograph = getattr(data, name)()
    grey = color.rgb2gray(photograph[..., :3]) if photograph.ndim == 3 else photograph
    grey = np.asarray(grey, np.float32) / float(np.max(grey))
    side = min(256, *grey.shape)
    limits = np.array(grey.shape) - side
    fixed, tint = rng.integers(limits + 1), rng.uniform(0.85, 1.0, 3).astype(np.float32)
    (folder / "train" / "good").mkdir(parents=True)
    for number in range(NUM_IMAGES):
        jitter = rng.integers(-4, 5, 2)
        corner = rng.integers(limits + 1) if name in TEXTURES else fixed + jitter
        top, left = np.clip(corner, 0, limits)
        part = transform.resize(grey[top : top + side, left : left + side], (SIZE_PX, SIZE_PX))
        seen = light(np.asarray(part, np.float32)[:, :, None] * tint, rng)
        path = folder / "train" / "good" / f"{number:03}.png"
        Image.fromarray(np.rint(seen * 255).astype(np.uint8)).save(path)


def main(out: Path) -> None:
    """Train and write the policy."""
    torch.set_num_threads(1)
    made, known = loop.make_sampler, []

    def make_sampler(*arguments: object, **options: object) -> object:
        sampler = made(*arguments, **options)  # pyright: ignore
        if not known:
            known.append(sampler)
        return known[0]

    loop.make_sampler = make_sampler  # pyright: ignore
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(ROUNDS):
            for name in rng.permutation(TEXTURES + OBJECTS):
                root = Path(folder) / f"{name}-{turn}"
                write_category(root, name, rng)
                config = preset_config(
                    "fast",
                    labeled_per_type=0,
                    seed=turn,
                    profile={"snapshots": (20, 75, 150)},
                    sampler={"beta_steps": 150},
                    predictor={"updates": 100, "batch_size": 4, "crop_px": 96},
                )
                dataset = read_dataset(root, None, None, None, seed=turn, needs_labels=False)
                split = draw_split(dataset, labeled_per_type=0, seed=turn)
                config = adapt(config, split)
                loop.train(config, split, torch.device("cpu"), Monitor())
                print(turn, name, flush=True)
    sampler = known[0]
    assert isinstance(sampler, PolicySampler)
    save_file(sampler.learner.policy.state_dict(), out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
