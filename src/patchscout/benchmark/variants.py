"""What is compared: named variants of method, settings and protocol, read from a YAML file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from patchscout.checks import InputValueError, nearest
from patchscout.config import (
    Config,
    first_problem,
    merged,
    preset_config,
    read_config_file,
    read_yaml,
)

DEFAULT = "default"
"""The variant that is always there; the others are compared with it unless told otherwise."""

Method = Literal["patchscout", "last_error", "anomalib"]
Protocol = Literal["seen", "unseen", "cross_size"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SET_ELSEWHERE = {
    "seed": "`--seeds`",
    "device": "`--device`",
    "held_out_type": "`protocol: unseen`",
}
"""Settings that a variant cannot have, and what sets them."""


class Variant(BaseModel):
    """One way to train and test that is compared with others.

    Attributes:
        method: This program's own; the error map of its autoencoder; or a model of anomalib.
        settings: Nested settings that differ from the preset, as in a `--config` file.
        protocol: Train on every defect type; leave out each in turn and test on it; or train on
            small and test on large images.
        model: Name of the model, for anomalib only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "patchscout"
    settings: dict[str, Any] = {}
    protocol: Protocol = "seen"
    model: str | None = None

    @field_validator("settings")
    @classmethod
    def _are_a_variants_own(cls, settings: dict[str, Any]) -> dict[str, Any]:
        if problem := _set_elsewhere(settings):
            raise ValueError(problem)
        return settings

    @model_validator(mode="after")
    def _names_a_model_or_not(self) -> Variant:
        if (self.method == "anomalib") != (self.model is not None):
            raise ValueError("must name a `model` with `method: anomalib`, and only with that")
        return self

    def config(self, base: dict[str, Any], source: str = "the settings") -> Config:
        """Return every setting: the variant's own on top of `base` on top of the preset."""
        settings = merged(base, self.settings)
        try:
            return preset_config(settings.pop("preset", "fast"), **settings)
        except InputValueError as error:
            message = str(error).removesuffix(" (in the settings)")
            raise InputValueError(f"{message} (in {source})") from None


def read_variants(path: Path | None) -> dict[str, Variant]:
    """Return the variants in a file, `default` first.

    Args:
        path: A YAML file that maps names to variants; None gives `default` alone.

    Raises:
        InputNotFoundError: If the file is not there.
        InputValueError: If it is not YAML, or a variant does not fit; the message names it.
    """
    variants = {DEFAULT: Variant()}
    for name, data in (_read(path) if path is not None else {}).items():
        if not NAME.fullmatch(name):
            raise InputValueError(
                f"{path}: a variant's name is made of letters, digits, '.', '_' and '-', as its"
                f" folder has it; got '{name}'. Rename it."
            )
        try:
            variants[name] = Variant.model_validate(data or {})
        except ValidationError as error:
            raise InputValueError(f"{path}: {_worded(name, error)}.") from None
    return variants


def read_base(path: Path | None) -> dict[str, Any]:
    """Return the settings in a `--config` file that all variants share.

    Raises:
        InputNotFoundError: If the file is not there.
        InputValueError: If it is not YAML, or holds settings that are set elsewhere.
    """
    settings = read_config_file(path) if path is not None else {}
    if problem := _set_elsewhere(settings):
        raise InputValueError(f"{path} {problem}.")
    return settings


def _set_elsewhere(settings: dict[str, Any]) -> str | None:
    """Word the first setting that a variant cannot have, if there is one."""
    for name, instead in SET_ELSEWHERE.items():
        if name in settings:
            return f"may not hold `{name}`, which {instead} sets. Leave it out"
    return None


def _read(path: Path) -> dict[str, Any]:
    data = read_yaml(path, "--variants")
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise InputValueError(
            f"{path} must map names to variants, such as"
            " `uniform: {settings: {sampler: {kind: uniform}}}`."
        )
    return data


def _worded(name: str, error: ValidationError) -> str:
    problem = error.errors()[0]
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        return f"unknown key `{name}.{key}`{nearest(key, Variant.model_fields)}"
    if not problem["loc"]:
        message = problem["msg"].removeprefix("Value error, ")
        message = "must be a mapping" if problem["type"] == "model_type" else message
        return f"variant `{name}` {message}"
    return first_problem(error, name)
