"""How each model of anomalib is built and trained: its published recipe, cut to a time budget.

Where this departs from anomalib's own trainer, besides the budget:
1. Learning rates fall at the published shares of the training as it is run, not at fixed epochs.
2. `supersimplenet` is trained with labels as its authors do (anomalib's trainer has no data module
   for that): half of each batch labeled, flips, gradients clipped, Perlin threshold 0.6. Off CUDA
   a batch has 8 images in place of 32, so that the budget holds more than a few steps.
3. `patchcore` keeps a tenth of the patches, or as many as can be picked in the time.
4. Normal images are drawn with replacement; no random crop or resize beyond our own loader's.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from patchscout.checks import InputNotFoundError
from patchscout.data.images import read_image, resize_image
from patchscout.data.loader import ImageLoader, to_tensor
from patchscout.monitor import Monitor
from patchscout.types import Sample

CORESET_SHARE = 0.1
PROJECTED_CHANNELS = 300
"""About as many as anomalib projects patch features to before it picks among them."""
EFFICIENTAD_STEPS = 70_000


def normalized(images: Tensor) -> Tensor:
    """Return images in [0, 1] with the mean and deviation of ImageNet's colors taken out."""
    mean = torch.tensor((0.485, 0.456, 0.406), device=images.device)[:, None, None]
    std = torch.tensor((0.229, 0.224, 0.225), device=images.device)[:, None, None]
    return (images - mean) / std


def as_is(images: Tensor) -> Tensor:
    """Return the images."""
    return images


@dataclass(frozen=True)
class Clock:
    """The time that training may take, running from when it is made."""

    budget_s: float
    start: float = field(default_factory=time.monotonic)

    @property
    def left_s(self) -> float:
        """Seconds left, 0 at least."""
        return max(self.budget_s - (time.monotonic() - self.start), 0.0)

    @property
    def share(self) -> float:
        """Share of the budget that is spent."""
        return 1 - self.left_s / self.budget_s if self.budget_s > 0 else 1.0


@dataclass(frozen=True)
class Task:
    """What a recipe trains on.

    Attributes:
        normal: Normal images to train on.
        labeled: Anomalous images with masks.
        held_out: Normal images not trained on.
        loader: Reads them.
        device: Where to compute.
        monitor: Shows progress.
        clock: The time budget.
        rng: Draws the images.
        prepare: Brings images in [0, 1] to what the model expects.
    """

    normal: tuple[Sample, ...]
    labeled: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    loader: ImageLoader
    device: torch.device
    monitor: Monitor
    clock: Clock
    rng: np.random.Generator
    prepare: Callable[[Tensor], Tensor]

    def draw(self, samples: tuple[Sample, ...], count: int) -> list[Sample]:
        """Return samples drawn with replacement."""
        return [samples[i] for i in self.rng.integers(len(samples), size=count)]

    def images(self, samples: list[Sample] | tuple[Sample, ...]) -> Tensor:
        """Return the images of samples as the model expects them."""
        return self.prepare(self.loader.images(samples).to(self.device))

    def steps(
        self, optimizer: torch.optim.Optimizer, num_steps: int, drops: Mapping[float, float]
    ) -> Iterator[int]:
        """Count steps until the schedule or the time is over; learning rates fall on the way.

        Args:
            optimizer: Whose learning rates are set before each step.
            num_steps: Length of the published schedule.
            drops: Factor of the learning rate from each share of the training on.
        """
        rates = [group["lr"] for group in optimizer.param_groups]
        for step in self.monitor.track(range(num_steps), "training the baseline", num_steps):
            share = max(step / num_steps, self.clock.share)
            if share >= 1:
                return
            factor = float(np.prod([drop for at, drop in drops.items() if share >= at]))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            yield step

    def epochs(self, count: int, batch_size: int) -> int:
        """Return how many steps a number of passes over the normal images has."""
        return count * -(-len(self.normal) // batch_size)


def _class(name: str) -> Any:
    """Return a class or function of anomalib's image models, such as `stfpm.loss.STFPMLoss`."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(f"anomalib.models.image.{module}"), attribute)


def _learn(optimizer: torch.optim.Optimizer, loss: Tensor, clip: nn.Module | None = None) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
    optimizer.step()


def construct_supersimplenet(supervised: bool) -> nn.Module:
    """Return SuperSimpleNet as its authors set it with labels, or without any."""
    return _class("supersimplenet.torch_model.SupersimplenetModel")(
        perlin_threshold=0.6 if supervised else 0.2, stop_grad=not supervised
    )


def train_supersimplenet(network: Any, task: Task) -> None:
    """Train on labeled images with masks and on normal ones, both with noise in their features.

    References:
        Rolih et al., SuperSimpleNet, ICPR 2024; learning rates and schedule as in anomalib.
    """
    loss = _class("supersimplenet.loss.SSNLoss")()
    size = min(32 if task.device.type == "cuda" else 8, len(task.normal))
    num_labeled = (size + 1) // 2 if task.labeled else 0
    optimizer = torch.optim.AdamW(
        [
            {"params": network.adaptor.parameters(), "lr": 1e-4},
            {"params": network.segdec.parameters(), "lr": 2e-4, "weight_decay": 1e-5},
        ]
    )
    network.train()
    for _ in task.steps(optimizer, task.epochs(300, size), {0.8: 0.4, 0.9: 0.4}):
        samples = task.draw(task.normal, max(size - num_labeled, 1))
        if num_labeled:
            samples += task.draw(task.labeled, num_labeled)
        images = task.images(samples)
        masks = torch.stack([task.loader.mask(sample) for sample in samples]).to(task.device)
        if task.labeled:
            flips = [axis for axis in (-1, -2) if task.rng.random() < 0.5]
            images, masks = images.flip(flips), masks.flip(flips)
        labels = masks.flatten(1).any(1).float()
        maps, scores, targets, labels = network(images, masks, labels)
        value = loss(pred_map=maps, pred_score=scores, target_mask=targets, target_label=labels)
        _learn(optimizer, value, clip=network if task.labeled else None)


def construct_patchcore(_: bool) -> nn.Module:
    """Return PatchCore with anomalib's settings."""
    return _class("patchcore.torch_model.PatchcoreModel")(layers=("layer2", "layer3"))


@torch.no_grad()
def train_patchcore(network: Any, task: Task) -> None:
    """Keep features of patches of normal images that lie far from each other.

    References:
        Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022.
    """
    network.train()
    for sample in task.monitor.track(task.normal, "reading normal images", len(task.normal)):
        network(task.images([sample]))
        if task.clock.share > 0.5:
            task.monitor.say("patchcore: half of the time is spent; the other images are left out")
            break
    patches = torch.cat(network.embedding_store)
    start = time.monotonic()
    some = patches[:, :PROJECTED_CHANNELS]
    torch.linalg.norm(some - some[0], dim=1).max().item()
    seconds_a_pick = max(time.monotonic() - start, 1e-9)
    share = min(CORESET_SHARE, task.clock.left_s / seconds_a_pick / len(patches))
    share = max(share, min(64 / len(patches), 1.0))
    task.monitor.say(f"patchcore: {share:.2%} of {len(patches)} patches are kept")
    network.subsample_embedding(share)


def construct_stfpm(_: bool) -> nn.Module:
    """Return STFPM with anomalib's settings."""
    return _class("stfpm.torch_model.STFPMModel")(layers=["layer1", "layer2", "layer3"])


def train_stfpm(network: Any, task: Task) -> None:
    """Train the student to repeat the teacher's features on normal images.

    References:
        Wang et al., Student-Teacher Feature Pyramid Matching, BMVC 2021.
    """
    loss = _class("stfpm.loss.STFPMLoss")()
    size = min(32, len(task.normal))
    student = network.student_model.parameters()
    optimizer = torch.optim.SGD(student, lr=0.4, momentum=0.9, weight_decay=1e-3)
    network.train()
    for _ in task.steps(optimizer, task.epochs(100, size), {}):
        _learn(optimizer, loss(*network(task.images(task.draw(task.normal, size)))))


def construct_draem(_: bool) -> nn.Module:
    """Return DRAEM; it has no pretrained weights."""
    return _class("draem.torch_model.DraemModel")()


def train_draem(network: Any, task: Task) -> None:
    """Train to restore and to find textures pasted into normal images.

    References:
        Zavrtanik et al., DRAEM, ICCV 2021, with the describable textures (DTD) as there.
    """
    textures = _data_folder("draem", "dtd", _class("draem.lightning_model.DTD_DOWNLOAD_INFO").url)
    generators = importlib.import_module("anomalib.data.utils.generators")
    paste = generators.PerlinAnomalyGenerator(anomaly_source_path=textures, blend_factor=(0.1, 1.0))
    loss = _class("draem.loss.DraemLoss")().to(task.device)
    size = min(8, len(task.normal))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    network.train()
    drops = {400 / 700: 0.1, 600 / 700: 0.1}
    for _ in task.steps(optimizer, task.epochs(700, size), drops):
        images = task.images(task.draw(task.normal, size))
        pasted, masks = paste(images)
        restored, found = network(pasted)
        _learn(optimizer, loss(images, restored, masks, found))


def construct_efficientad(_: bool) -> nn.Module:
    """Return EfficientAD-S with its distilled teacher."""
    network = _class("efficient_ad.torch_model.EfficientAdModel")()
    paths = importlib.import_module("anomalib.utils.path")
    folder = paths.get_pretrained_weights_dir() / "efficientad_pretrained_weights"
    weights = folder / "pretrained_teacher_small.pth"
    if not weights.is_file():
        url = _class("efficient_ad.lightning_model.WEIGHTS_DOWNLOAD_INFO").url
        raise InputNotFoundError(
            f"'efficientad' needs its teacher's weights at {weights}, which is not there. Unpack"
            f" {url} into {folder.parent}."
        )
    network.teacher.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network


def train_efficientad(network: Any, task: Task) -> None:
    """Train student and autoencoder on normal images, held back by photographs of other things.

    References:
        Batzner et al., EfficientAD, WACV 2024, with Imagenette for ImageNet as in anomalib.
    """
    url = _class("efficient_ad.lightning_model.IMAGENETTE_DOWNLOAD_INFO").url
    photographs = sorted(_data_folder("efficientad", "imagenette", url).rglob("*.JPEG"))
    _standardize_teacher(network, task)
    parameters = [*network.student.parameters(), *network.ae.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-4, weight_decay=1e-5)
    network.train()
    for _ in task.steps(optimizer, EFFICIENTAD_STEPS, {0.95: 0.1}):
        photograph = _photograph(photographs[int(task.rng.integers(len(photographs)))], task)
        losses = network(task.images(task.draw(task.normal, 1)), photograph)
        _learn(optimizer, torch.stack(losses).sum())
    network.eval()
    _set_quantiles(network, task)


@torch.no_grad()
def _standardize_teacher(network: Any, task: Task) -> None:
    """Take mean and standard deviation of each of the teacher's channels over normal images."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for sample in task.normal:
        features = network.teacher(task.images([sample])).double()
        count += features[:, 0].numel()
        total = total.to(features) + features.sum((0, 2, 3), keepdim=True)
        squares = squares.to(features) + features.square().sum((0, 2, 3), keepdim=True)
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(1e-12).sqrt()
    network.mean_std.update({"mean": mean.float(), "std": std.float()})


@torch.no_grad()
def _set_quantiles(network: Any, task: Task) -> None:
    """Bring the two kinds of maps to one scale by their quantiles on held-out normal images."""
    maps = [network.get_maps(task.images([sample])) for sample in task.held_out]
    quantiles = {}
    for name, kind in (("st", 0), ("ae", 1)):
        pixels = torch.cat([pair[kind].flatten() for pair in maps]).cpu().numpy()
        low, high = np.quantile(pixels, (0.9, 0.995))
        quantiles |= {f"qa_{name}": torch.tensor(low), f"qb_{name}": torch.tensor(high)}
    network.quantiles.update({key: value.to(task.device) for key, value in quantiles.items()})


def _photograph(path: Path, task: Task) -> Tensor:
    """Return the middle of a photograph at twice the size, one in three of them gray."""
    height, width = task.loader.image_size
    image = to_tensor(resize_image(read_image(path), (2 * height, 2 * width)))
    image = image[:, height // 2 : height // 2 + height, width // 2 : width // 2 + width]
    if task.rng.random() < 0.3:
        image = image.mean(0, keepdim=True).expand(3, -1, -1)
    return image[None].to(task.device)


def _data_folder(model: str, name: str, url: str) -> Path:
    """Return where anomalib keeps a data set that a model needs beside its own images."""
    paths = importlib.import_module("anomalib.utils.path")
    folder = paths.get_datasets_dir() / name
    if not folder.is_dir():
        raise InputNotFoundError(
            f"'{model}' needs the images of {url}, which are not at {folder}. Unpack them there."
        )
    return folder


@dataclass(frozen=True)
class Recipe:
    """One model.

    Attributes:
        construct: Makes it, given whether there are labeled images.
        train: Trains it in place.
        prepare: Brings images in [0, 1] to what it expects.
        is_bounded: Whether its anomaly maps are in [0, 1] already.
        backbone: timm's name of the pretrained network that it starts from, if any.
        min_side_px: The smallest height and width that it works at.
    """

    construct: Callable[[bool], nn.Module]
    train: Callable[[Any, Task], None]
    prepare: Callable[[Tensor], Tensor]
    is_bounded: bool
    backbone: str | None
    min_side_px: int = 64


RECIPES = {
    "draem": Recipe(construct_draem, train_draem, as_is, True, None),
    "efficientad": Recipe(construct_efficientad, train_efficientad, as_is, False, None, 256),
    "patchcore": Recipe(construct_patchcore, train_patchcore, normalized, False, "wide_resnet50_2"),
    "stfpm": Recipe(construct_stfpm, train_stfpm, normalized, False, "resnet18"),
    "supersimplenet": Recipe(
        construct_supersimplenet,
        train_supersimplenet,
        normalized,
        True,
        "wide_resnet50_2.tv_in1k",
        128,
    ),
}
"""Every model, by the name that a variant gives."""
