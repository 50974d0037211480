"""Two small trained models that differ in everything, and how to tell which one a run holds."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchscout import Config, PatchScout, preset_config
from patchscout.data.synthetic import write_sample
from patchscout.files.seal import BLANK_SEAL, MARK, NUM_DIGITS, sealed, sha256

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
"""What models are asked about."""

SETTINGS: dict[str, Any] = {
    "labeled_per_type": 1,
    "device": "cpu",
    "data": {"image_size": (64, 64)},
    "backbone": {"name": "none"},
    "profile": {"snapshots": (2,), "num_cycles": 1},
    "predictor": {"updates": 2, "batch_size": 2, "base_channels": 4, "crop_px": 64},
}
"""Trains in a moment, and is read in ten milliseconds."""


def settings(seed: int) -> Config:
    """Return the settings of one of the models."""
    return preset_config("fast", seed=seed, **SETTINGS)


def command_line(seed: int) -> list[str]:
    """Return the same settings as options of `patchscout train`."""
    words = ["--seed", str(seed)]
    for group, value in SETTINGS.items():
        values = value if isinstance(value, dict) else {"": value}
        for name, setting in values.items():
            option = f"--{group}.{name}" if name else f"--{group}"
            items = setting if isinstance(setting, tuple) else (setting,)
            words += [option.replace("_", "-"), *map(str, items)]
    return words


@dataclass(frozen=True)
class Pair:
    """An old model, a new one, and the images that both were trained on."""

    data: Path
    old: PatchScout
    new: PatchScout

    def which(self, folder: Path) -> str:
        """Return `old` or `new` by what a run folder holds: weights, threshold, settings, split.

        Raises:
            AssertionError: If it is neither, or a mixture.
            InputError: If it cannot be loaded.
        """
        loaded = PatchScout.load(folder, device="cpu")
        name = self.name_of(loaded)
        labeled = labeled_images(loaded, self.data)
        expected = labeled_images(self.old if name == "old" else self.new, self.data)
        assert labeled == expected, f"{folder} holds the {name} model with another split"
        return name

    def name_of(self, scout: PatchScout) -> str:
        """Return `old` or `new` by what was loaded, whatever is in the folder by now.

        Raises:
            AssertionError: If it is a mixture.
        """
        found = fingerprint(scout)
        names = [name for name in ("old", "new") if found == fingerprint(getattr(self, name))]
        assert names, f"a mixture: {found}"
        return names[0]


def make_pair(folder: Path) -> Pair:
    """Train the two models."""
    data = write_sample(folder, num_train=4, num_test_normal=1, num_per_type=2, size_px=64)
    old, new = (PatchScout(settings(seed)).fit(data) for seed in (1, 3))
    for name, value in fingerprint(old).items():
        assert value != fingerprint(new)[name], f"the models do not differ in {name}"
    assert labeled_images(old, data) != labeled_images(new, data)
    return Pair(data, old, new)


def fingerprint(scout: PatchScout) -> dict[str, str | float | int]:
    """Return what belongs together in a model: its weights, threshold and settings."""
    content = io.BytesIO()
    for name, tensor in sorted(scout.segmenter.state_dict().items()):
        content.write(name.encode() + tensor.detach().contiguous().cpu().numpy().tobytes())
    return {
        "weights": sha256(content.getvalue()),
        "threshold": scout.decision.pixel_threshold,
        "settings": scout.config.seed,
    }


def labeled_images(scout: PatchScout, data: Path) -> list[str]:
    """Return what a model was trained on that another seed draws otherwise."""
    return sorted(sample.image_path.as_posix() for sample in scout.split_of(data).labeled)


def answers(scout: PatchScout, data: Path) -> tuple[Any, ...]:
    """Return all that a loaded model says, to compare with `==`."""
    found = scout.predict(IMAGE)
    split = scout.split_of(data)
    names = [[str(s.image_path) for s in part] for part in (split.labeled, split.test)]
    return (
        found.anomaly_map.tobytes(),
        found.pred_mask.tobytes(),
        repr(scout.trained),
        scout.config.model_dump_json(),
        names,
    )


def change_file(run: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file of a run and make all digests fit again, as one who knows the format would.

    What is behind the digests is tested so: a run may be made by a program that is wrong.
    """
    path = run / name
    before = path.read_bytes()
    after = change(before)
    path.write_bytes(after)
    config = run / "config.json"
    if name != config.name:
        content = config.read_bytes()
        old, new = (hashlib.sha256(part).hexdigest().encode() for part in (before, after))
        config.write_bytes(content.replace(old, new))
    config.write_bytes(reseal(config.read_bytes()))


def reseal(content: bytes) -> bytes:
    """Return content whose seal, if it has one that can be told, fits again."""
    start = content.find(MARK)
    if start < 0:
        return content
    end = start + len(MARK) + NUM_DIGITS
    blank = content[:start] + BLANK_SEAL.encode() + content[end:]
    return sealed(blank) if blank.count(MARK) == 1 else content


def listing(folder: Path) -> set[str]:
    """Return the names of all that is below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def run_in_one_thread() -> None:
    """Keep PyTorch from starting threads, which a forked process would not have."""
    torch.set_num_threads(1)
