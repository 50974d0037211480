"""Command-line arguments: what each command takes, and one line for whatever does not fit."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from pydantic import ValidationError

from patchscout.checks import InputValueError, nearest
from patchscout.config import Config, first_problem, preset_config, read_config_file, setting_names

Arguments = TypeVar("Arguments")


@dataclass(frozen=True)
class TrainArguments:
    """Learn to outline defects from a folder of images."""

    data: tyro.conf.Positional[Path]
    """Images in MVTec AD layout; any other needs --data.normal, --data.defective, --data.masks."""
    out: Path
    """Folder to write the run to."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace an earlier run in that folder."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """No progress bars."""
    config: Path | None = None
    """YAML or JSON file of settings (a run's config.json too); what is given here wins over it."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


@dataclass(frozen=True)
class EvaluateArguments:
    """Measure a trained model on the test images of its split."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    data: tyro.conf.Positional[Path]
    """The folder of images that it was trained on."""
    out: Path | None = None
    """Folder for metrics.json and the picture; the run folder unless given."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace earlier output in that folder."""
    size: Literal["working", "native"] = "working"
    """Compare at the size the model works at, or at each image's own."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `mps`."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """No progress bars."""


@dataclass(frozen=True)
class PredictArguments:
    """Write anomaly maps, masks, overlays and a table for images."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    images: tyro.conf.Positional[tuple[Path, ...]]
    """Image files, or folders of them (searched with their sub-folders)."""
    out: Path
    """Folder to write to."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace earlier output in that folder."""
    threshold: float | None = None
    """Another decision threshold than the stored one, in [0, 1]."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `mps`."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """No progress bars."""


@dataclass(frozen=True)
class DemoArguments:
    """Train, evaluate and predict on a sample made by the program itself."""

    out: Path = Path("demo")
    """Folder to write to."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace an earlier demo in that folder."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """No progress bars."""


@dataclass(frozen=True)
class InfoArguments:
    """Describe a run folder or a folder of images."""

    path: tyro.conf.Positional[Path]
    """Run folder, or folder of images."""


def parse_train(arguments: list[str]) -> TrainArguments:
    """Parse the arguments of `train`: preset, then configuration file, then what is given."""
    defaults = _defaults(arguments)
    missing: Any = tyro.MISSING
    return parse(
        TrainArguments,
        arguments,
        "patchscout train",
        TrainArguments(data=missing, out=missing, settings=defaults),
    )


def parse(
    kind: type[Arguments], arguments: list[str], program: str, default: Arguments | None = None
) -> Arguments:
    """Return the arguments of a command.

    Raises:
        InputValueError: If something is unknown, missing or out of range.
    """
    if any(argument in ("-h", "--help") for argument in arguments):
        tyro.cli(kind, args=["--help"], prog=program, default=default)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
            parsed: Any
            parsed, unknown = tyro.cli(
                kind, args=arguments, prog=program, default=default, return_unknown_args=True
            )
    except SystemExit as error:
        raise InputValueError(f"{_problem(error, printed)} See `{program} --help`.") from None
    except ValidationError as error:
        raise InputValueError(f"{first_problem(error)}. See `{program} --help`.") from None
    if unknown:
        known = [f"--{name.replace('_', '-')}" for name in (*setting_names(), *_fields(kind))]
        option = next((name for name in unknown if name.startswith("-")), unknown[0]).split("=")[0]
        what = "setting" if "." in option else "argument"
        raise InputValueError(
            f"unknown {what} `{option}`{nearest(option, known)} See `{program} --help`."
        )
    return parsed


def _defaults(arguments: list[str]) -> Config:
    """Return the settings that the preset and the configuration file give."""
    file = _value_of("--config", arguments)
    settings = read_config_file(Path(file)) if file else {}
    if "format_version" in settings:  # a run's config.json
        settings = settings.get("config", {})
    preset: Any = _value_of("--preset", arguments) or settings.get("preset", "fast")
    return preset_config(preset, **{k: v for k, v in settings.items() if k != "preset"})


def _value_of(option: str, arguments: list[str]) -> str | None:
    """Return what follows an option, if it is given."""
    for index, argument in enumerate(arguments):
        if argument == option and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return None


def _problem(error: BaseException, printed: io.StringIO) -> str:
    """Return in one line what the parser found wrong."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValidationError):
            return f"{first_problem(cause)}."
        cause = cause.__cause__ or cause.__context__
    lines = [line.strip(" │╭╮╰╯─-|+") for line in printed.getvalue().splitlines()]
    texts = [line for line in lines if line]
    stop = next(
        (i for i, line in enumerate(texts) if line.startswith(("For full", "Argument help"))), None
    )
    return json.dumps(" ".join(texts[1:stop]), ensure_ascii=False).strip('"').replace('\\"', '"')


def _fields(kind: type) -> list[str]:
    return [name for name in kind.__dataclass_fields__ if name != "settings"]
