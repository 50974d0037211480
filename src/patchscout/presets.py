"""Where settings come from: a preset, a file on top of it, keyword arguments on top of both.

`fast` and `paper` are two sets of defaults. A setting is looked up in this order: the command
line (or keyword arguments), the file given with `--config`, the preset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from patchscout.checks import InputValueError, nearest
from patchscout.config import Config, Preset
from patchscout.data.yaml_files import read_yaml
from patchscout.decision import DecisionSettings
from patchscout.files.seal import check_seal
from patchscout.text import short_repr, shown

PRESETS: dict[Preset, dict[str, Any]] = {
    "fast": {},
    "paper": {"data": {"image_size": (256, 256)}},
}
"""Where a preset differs from the defaults above."""


def preset_config(preset: Preset = "fast", **overrides: Any) -> Config:
    """Return the settings of a preset, with `overrides` (nested dicts or plain values) on top.

    Raises:
        InputValueError: If a setting is unknown or out of range; the message names it.

    Example:
        >>> preset_config("fast", predictor={"updates": 300}).predictor.updates
        300
    """
    return _from_preset(preset, overrides, "the settings")


def file_config(path: Path, preset: Preset | None = None) -> Config:
    """Return the settings in a file on top of a preset: the one given, else the one it names.

    Args:
        path: A YAML or JSON file, such as the config.json of a run.
        preset: The set of defaults for what the file leaves out.

    Raises:
        InputNotFoundError: If the file is not there.
        InputValueError: If it is not YAML, or a setting is unknown or out of range.
    """
    settings = read_config_file(path)
    return _from_preset(preset or settings.get("preset", "fast"), settings, str(path))


def _from_preset(preset: Any, overrides: dict[str, Any], source: str) -> Config:
    if preset not in get_args(Preset):
        hint = nearest(shown(preset), get_args(Preset)) if isinstance(preset, str) else ""
        raise InputValueError(
            f"`preset` must be one of {', '.join(get_args(Preset))}; got {short_repr(preset)}"
            f"{hint or '.'}"
        )
    return parse_config({**merged(PRESETS[preset], overrides), "preset": preset}, source)


def parse_config(data: Any, source: str = "the settings") -> Config:
    """Return the settings in `data`, plain nested dicts such as JSON or YAML gives.

    Args:
        data: Settings; those left out have their `fast` default.
        source: What to name in an error, such as the file they came from.

    Raises:
        InputValueError: If a setting is unknown or out of range; the message names it.
    """
    if not isinstance(data, dict):
        raise InputValueError(
            f"{source} must hold settings by name; got {type(data).__name__}."
            " Write for example `predictor: {updates: 300}`."
        )
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise InputValueError(f"{first_problem(error)} (in {source})") from None


def changed_settings(asked: DecisionSettings, **given: Any) -> DecisionSettings:
    """Return the settings of a decision with others that are given; None leaves one as it is.

    Raises:
        InputValueError: If one is out of range; the message names it.
    """
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return DecisionSettings.model_validate(asked.model_dump() | given)
    except ValidationError as error:
        raise InputValueError(f"{first_problem(error)}.") from None


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the settings in a YAML or JSON file as nested dicts, not yet validated.

    Raises:
        InputNotFoundError: If the file is not there.
        InputValueError: If it is not YAML.
    """
    data = read_yaml(path, "--config")
    if isinstance(data, dict) and "format_version" in data:  # a run's config.json
        if "seal" in data and not check_seal(path.read_bytes(), path):
            raise InputValueError(
                f"{path} is damaged. Copy it again, or give settings of your own without `seal`."
            )
        data = data.get("config")
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InputValueError(f"{path} must hold settings by name, such as `seed: 1`.")
    return data


def merged(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Return nested dict `base` with `top` laid over it."""
    result = dict(base)
    for key, value in top.items():
        old = result.get(key)
        result[key] = (
            merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return result


def setting_names(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Return the dotted name of every setting."""
    names = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += setting_names(field.annotation, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def first_problem(error: ValidationError, group: str = "") -> str:
    """Word the first problem of a validation error in one line.

    Args:
        error: What pydantic found.
        group: Dotted name of the group of settings that was validated, if not all were.
    """
    problem = error.errors(include_url=False)[0]
    parts = (*([group] if group else []), *problem["loc"])
    name = shown(".".join(shown(str(part)) for part in parts), 200)
    if problem["type"] == "extra_forbidden":
        return f"unknown setting `{name}`{nearest(name, setting_names())}"
    message = shown(problem["msg"].removeprefix("Value error, "), 400)
    message = message[0].lower() + message[1:]
    if not name:
        return message
    if problem["type"] == "value_error":
        return f"`{name}` {message}"
    return f"`{name}`: {message}; got {short_repr(problem['input'])}"
