"""One training and test: what it is, and whether its result is there already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from patchscout.benchmark.protocols import Protocol
from patchscout.benchmark.results import Key, Result
from patchscout.benchmark.variants import Variants, variant_config
from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.config import Config
from patchscout.data.layout import read_dataset
from patchscout.presets import merged
from patchscout.text import csv_cell
from patchscout.types import NORMAL


class Job(BaseModel):
    """A category, a variant and a seed, with all that decides their result.

    Attributes:
        category: Name of the folder.
        root: The folder.
        variant: Name of the variant.
        protocol: Which images are trained and measured on.
        settings: What the variant and `--config` set.
        config: Every setting.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: str
    root: Path
    variant: str
    protocol: Protocol
    settings: dict[str, Any]
    config: Config

    @property
    def key(self) -> Key:
        """What its row is found by."""
        held_out = csv_cell(self.config.held_out_type or "")
        return csv_cell(self.category), self.variant, self.config.seed, held_out

    @property
    def name(self) -> str:
        """How it is called on the screen."""
        return "/".join(str(part) for part in self.key if part != "")

    @property
    def digest(self) -> str:
        """The same for two jobs only if all their settings are, but for seed and device."""
        settings = self.config.model_dump(mode="json", exclude={"seed", "device", "held_out_type"})
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def find_categories(data: Sequence[Path]) -> dict[str, Path]:
    """Return the folder of each category, by name.

    Args:
        data: Categories in MVTec AD layout, and folders that hold such.

    Raises:
        InputNotFoundError: If a folder is neither.
        InputValueError: If none is named, or two categories have one name.
    """
    if not data:
        raise InputValueError("`DATA` must be given: categories, or folders that hold some.")
    found: dict[str, Path] = {}
    for folder in data:
        if not folder.is_dir():
            raise InputNotFoundError(f"{folder} is not a folder. Name folders of images.")
        is_category = (folder / "train" / NORMAL).is_dir()
        inner = sorted(path.parent.parent for path in folder.glob(f"*/train/{NORMAL}"))
        if not is_category and not inner:
            raise InputNotFoundError(
                f"{folder} is no category in MVTec AD layout and holds none: looked for"
                f" train/{NORMAL} in it and in its sub-folders. Name another folder."
            )
        for root in [folder] if is_category else inner:
            name = root.resolve().name
            if name in found and found[name].resolve() != root.resolve():
                raise InputValueError(
                    f"two categories are called '{name}': {found[name]} and {root}. Results are"
                    " told apart by that name; rename one."
                )
            found[name] = root
    return found


def plan_jobs(
    categories: Mapping[str, Path],
    variants: Variants,
    seeds: Sequence[int],
    base: dict[str, Any],
    *,
    protocol: Protocol,
    device: str,
) -> list[Job]:
    """Return all jobs, seed by seed, so that a comparison is complete as early as can be.

    Raises:
        InputError: If a variant or a category does not fit.
    """
    types: dict[str, Sequence[str | None]] = {
        category: read_dataset(root).defect_types if protocol == "unseen" else (None,)
        for category, root in categories.items()
    }
    return [
        Job(
            category=category,
            root=root,
            variant=name,
            protocol=protocol,
            settings=(settings := merged(base, own)),
            config=variant_config(settings, name, seed=seed, device=device, held_out_type=held_out),
        )
        for seed in seeds
        for category, root in categories.items()
        for name, own in variants.items()
        for held_out in types[category]
    ]


def is_finished(job: Job, results: Mapping[Key, Result], path: Path) -> bool:
    """Return whether the result of a job is there.

    Args:
        job: The job.
        results: The rows of the file of results.
        path: The file, for errors.

    Raises:
        InputValueError: If the result there is of another protocol or of other settings.
    """
    protocols = {result.protocol for result in results.values()} - {job.protocol}
    if protocols:
        raise InputValueError(
            f"{path} holds results of protocol `{protocols.pop()}`, which no table can mix with"
            f" `{job.protocol}`. Name another file with `--out`."
        )
    found = results.get(job.key)
    if found is None:
        return False
    if found.config != job.digest:
        raise InputValueError(
            f"{path} has a result of {job.name} with other settings, or of a version with other"
            " defaults. Name another file with `--out`, or remove that line to run it again."
        )
    return True
