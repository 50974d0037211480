"""One training and test: what it is, where its result lies, and whether it is done already."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from patchscout.benchmark.variants import Method, Protocol, Variant
from patchscout.checks import InputError, InputNotFoundError, InputValueError
from patchscout.config import BEFORE, Config, merged
from patchscout.data.json_files import read_json_object, refuse_newer
from patchscout.data.layout import read_dataset
from patchscout.data.split import cross_size_split, draw_split, validation_split
from patchscout.text import short_name
from patchscout.types import NORMAL, Dataset, Split

FORMAT_VERSION = 1
"""Of the result files; a newer one is refused."""

TestPart = Literal["test", "validation"]
MeasuredSize = Literal["256", "native"]


class Job(BaseModel):
    """A category, a variant and a seed, with all that decides their result.

    Attributes:
        category: Name of the folder.
        root: The folder.
        variant: Name of the variant.
        method: How it is trained.
        model: The model of anomalib, if it is one.
        protocol: What is trained on.
        held_out_type: The defect type left out, for `unseen`.
        on: Measured on the test images, or on some that are kept from training.
        size: Measured at 256 x 256 px, or at each image's own size too.
        config: Every setting.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: str
    root: Path
    variant: str
    method: Method
    model: str | None
    protocol: Protocol
    held_out_type: str | None
    on: TestPart
    size: MeasuredSize
    config: Config

    @property
    def key(self) -> str:
        """The name of its result within category and variant: the seed, and the type left out."""
        seed = str(self.config.seed)
        return seed if self.held_out_type is None else f"{seed}-{self.held_out_type}"

    @property
    def name(self) -> str:
        """How it is called on the screen."""
        return f"{self.category}/{self.variant}/{self.key}"

    def path(self, out: Path, suffix: str = ".json") -> Path:
        """Return where a file of it lies below the folder of results."""
        return out / self.category / self.variant / f"{short_name(self.key)}{suffix}"

    def description(self) -> dict[str, Any]:
        """Return what a result is compared by; the folder of the images may move."""
        return self.model_dump(mode="json", exclude={"root"})

    def split(self, dataset: Dataset) -> Split:
        """Draw its images.

        Raises:
            InputValueError: If they do not allow it.
        """
        config, is_unseen = self.config, self.protocol == "unseen"
        settings: dict[str, Any] = {
            "labeled_per_type": config.labeled_per_type,
            "seed": config.seed,
            "max_normal": config.max_normal,
        }
        if self.protocol == "cross_size":
            split = cross_size_split(dataset, **settings)
        else:
            held_out = self.held_out_type if self.on == "test" else None
            split = draw_split(dataset, held_out_type=held_out, **settings)
        if self.on == "test":
            return split
        # An unseen type is validated on with its labeled images, which then are not trained on.
        left_out = [s for s in split.labeled if is_unseen and s.defect_type == self.held_out_type]
        kept = tuple(sample for sample in split.labeled if sample not in left_out)
        inner = validation_split(Split(split.train_normal, kept, split.test), config.seed)
        if not is_unseen:
            return inner
        normal = tuple(sample for sample in inner.test if not sample.is_anomalous)
        return Split(inner.train_normal, kept, (*normal, *left_out))


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
                    f"two categories are called '{name}': {found[name]} and {root}. Results lie"
                    " in folders of that name; rename one."
                )
            found[name] = root
    return found


def plan_jobs(
    categories: dict[str, Path],
    variants: dict[str, Variant],
    seeds: Sequence[int],
    base: dict[str, Any],
    *,
    on: TestPart,
    size: MeasuredSize,
    device: str,
) -> tuple[list[Job], list[str]]:
    """Return all jobs, seed by seed, and a line for each protocol that a category has no use for.

    Raises:
        InputError: If a variant or a category does not fit.
    """
    shared: dict[str, Any] = {"on": on, "size": size}
    jobs: list[Job] = []
    notes: list[str] = []
    datasets = {name: read_dataset(root) for name, root in categories.items()}
    for seed in seeds:
        for category, dataset in datasets.items():
            for name, variant in variants.items():
                config = variant.config({**base, "seed": seed, "device": device}, f"'{name}'")
                types = dataset.defect_types if variant.protocol == "unseen" else (None,)
                planned = [
                    Job(
                        category=category,
                        root=dataset.root,
                        variant=name,
                        method=variant.method,
                        model=variant.model,
                        protocol=variant.protocol,
                        held_out_type=held_out,
                        config=config.model_copy(update={"held_out_type": held_out}),
                        **shared,
                    )
                    for held_out in types
                ]
                try:
                    planned[0].split(dataset)
                except InputError as error:
                    if variant.protocol == "seen":
                        raise
                    notes.append(f"no job {category}/{name}/{seed}: {error}")
                else:
                    jobs += planned
    return jobs, notes


def is_finished(job: Job, out: Path) -> bool:
    """Return whether the result of a job is there.

    Raises:
        InputValueError: If the result there is of another job, or cannot be read.
    """
    path = job.path(out)
    if not (path.is_file() and job.path(out, ".npz").is_file()):
        return False
    result = read_result(path)
    old, new = (_flat(description) for description in (result["job"], job.description()))
    if old.get("size") == "native":  # 256 is measured too
        new["size"] = "native"
    defaults = _flat({"config": merged(Config().model_dump(mode="json"), BEFORE)})
    for name in sorted(old.keys() | new.keys()):
        # A setting that is newer than the result was not there to be changed.
        before = old.get(name, defaults.get(name))
        if before != new.get(name):
            raise InputValueError(
                f"{path} is the result of another job: `{name}` was {json.dumps(before)} and is"
                f" {json.dumps(new.get(name))} now. Name another folder with `--out`, or remove"
                " that file to run the job again."
            )
    return True


def read_result(path: Path) -> dict[str, Any]:
    """Read a result file.

    Raises:
        InputValueError: If it is damaged or of a newer format.
    """
    result = read_json_object(path, "a result of `patchscout benchmark`")
    version = result.get("format_version")
    refuse_newer(version, FORMAT_VERSION, path)
    if version != FORMAT_VERSION or not {"job", "metrics"} <= result.keys():
        raise InputValueError(f"{path} is no result of `patchscout benchmark`. Move it away.")
    return result


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one, with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        flat |= inner if inner else {prefix + name: value}
    return flat
