"""What is compared: named settings on top of a preset, read from a YAML file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from patchscout.checks import InputValueError
from patchscout.config import Config
from patchscout.data.yaml_files import read_yaml
from patchscout.presets import merged, preset_config, read_config_file

DEFAULT = "default"
"""The variant that is always there: the preset as it is."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SET_ELSEWHERE = {
    "seed": "`--seeds`",
    "device": "`--device`",
    "held_out_type": "`--protocol unseen`",
}
"""Settings that a variant cannot have, and what sets them."""

Variants = dict[str, dict[str, Any]]
"""Nested settings by the name of the variant."""


def read_variants(path: Path | None) -> Variants:
    """Return the variants in a file, `default` first.

    Args:
        path: A YAML file that maps names to settings; None gives `default` alone.

    Raises:
        InputNotFoundError: If the file is not there.
        InputValueError: If it is not YAML, or a variant does not fit; the message names it.
    """
    variants: Variants = {DEFAULT: {}}
    for name, settings in (_read(path) if path is not None else {}).items():
        if not NAME.fullmatch(name):
            raise InputValueError(
                f"{path}: a variant's name is made of letters, digits, '.', '_' and '-'; got"
                f" '{name}'. Rename it."
            )
        if not isinstance(settings or {}, dict):
            raise InputValueError(f"{path}: variant `{name}` must be a mapping of settings.")
        variants[name] = _checked(settings or {}, f"{path}: variant `{name}`")
    return variants


def read_base(path: Path | None) -> dict[str, Any]:
    """Return the settings in a `--config` file that all variants share.

    Raises:
        InputNotFoundError: If the file is not there.
        InputValueError: If it is not YAML, or holds settings that are set elsewhere.
    """
    return _checked(read_config_file(path), str(path)) if path is not None else {}


def variant_config(settings: dict[str, Any], name: str, **fixed: Any) -> Config:
    """Return every setting of a variant.

    Args:
        settings: Its own settings; `preset` among them names the preset, `fast` unless given.
        name: Its name, for errors.
        **fixed: What is set elsewhere, such as the seed.

    Raises:
        InputValueError: If a setting is unknown or out of range.
    """
    given = merged(settings, fixed)
    try:
        return preset_config(given.pop("preset", "fast"), **given)
    except InputValueError as error:
        message = str(error).removesuffix(" (in the settings)")
        raise InputValueError(f"{message} (in variant '{name}')") from None


def _checked(settings: dict[str, Any], source: str) -> dict[str, Any]:
    """Return settings, none of which is set elsewhere."""
    for name, instead in SET_ELSEWHERE.items():
        if name in settings:
            raise InputValueError(
                f"{source} may not hold `{name}`, which {instead} sets. Leave it out."
            )
    return settings


def _read(path: Path) -> dict[str, Any]:
    data = read_yaml(path, "--variants")
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise InputValueError(
            f"{path} must map names of variants to settings, such as"
            " `few_labels: {labeled_per_type: 2}`."
        )
    return data
