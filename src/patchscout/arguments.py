"""Command-line arguments: what each command takes, and one line for whatever does not fit."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import MISSING, dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import tyro
from pydantic import ValidationError

from patchscout.checks import InputValueError, nearest
from patchscout.config import Config, Preset
from patchscout.decision import DecisionSettings, as_share
from patchscout.exported import ExportFormat, PixelType
from patchscout.limits import Limits, set_limits
from patchscout.presets import file_config, first_problem, preset_config, setting_names

Arguments = TypeVar("Arguments")
SHARES = ("decision.max-false-alarms", "decision.min-detected")
"""Settings that may be given in percent."""

Flag = tyro.conf.FlagCreatePairsOff[bool]
SettingsArgument = Annotated[Config, tyro.conf.arg(name="")]
"""Every setting as an option of its own name."""


@dataclass(frozen=True, kw_only=True)
class _Limited:
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class _Quiet:
    quiet: Flag = False
    """No progress bars."""


@dataclass(frozen=True, kw_only=True)
class _OnDevice:
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `mps`."""


@dataclass(frozen=True, kw_only=True)
class TrainArguments(_Quiet, _Limited):
    """Learn to outline defects from a folder of images."""

    data: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="DATA")]]
    """Images in MVTec AD layout; any other needs --data.normal, --data.defective, --data.masks.
    Folders are searched with their sub-folders, links to folders are followed, and hidden files are
    left out."""
    out: Path
    """Folder to write the run to."""
    overwrite: Flag = False
    """Replace an earlier run in that folder."""
    config: Path | None = None
    """YAML or JSON file of settings (a run's config.json too); what is given here wins over it."""
    settings: SettingsArgument = field(default_factory=Config)


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments(_OnDevice, _Quiet, _Limited):
    """Measure a trained model on the test images of its split."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder."""
    data: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="DATA")]]
    """The folder of images that it was trained on."""
    out: Path | None = None
    """Folder for metrics.json and the picture; the run folder unless given."""
    overwrite: Flag = False
    """Replace earlier output in that folder."""
    size: Literal["working", "native"] = "working"
    """Compare at the size the model works at, or at each image's own."""


@dataclass(frozen=True, kw_only=True)
class PredictArguments(_OnDevice, _Quiet, _Limited):
    """Write anomaly maps, masks, overlays and a table for images."""

    model: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="MODEL")]]
    """Run folder, or a file that `export` wrote."""
    images: tyro.conf.Positional[tuple[Path, ...]]
    """Image files, or folders, searched as `train` does: with sub-folders and links to folders, but
    without hidden files and masks."""
    out: Path
    """Folder to write to."""
    overwrite: Flag = False
    """Replace earlier output in that folder."""
    score_threshold: float | None = None
    """Another `pred_score` than the stored one from which on an image is defective, in [0, 1]."""
    pixel_threshold: float | None = None
    """Another probability than the stored one from which on a pixel is in the mask, in [0, 1]."""
    pixel_size: str | None = None
    """What a pixel of these images measures, such as 0.02mm; unset: as stored."""


@dataclass(frozen=True, kw_only=True)
class ThresholdArguments(_OnDevice, _Quiet, _Limited):
    """Decide anew when an image is defective, without training; what is not given stays."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder."""
    max_false_alarms: str | None = None
    """Largest share of good parts that may be called defective, such as 1% or 0.01."""
    min_detected: str | None = None
    """Smallest share of defective parts that must be called so, such as 95%."""
    pixel_threshold: float | None = None
    """Probability from which on a pixel is in the mask, in [0, 1]."""
    pixel_size: str | None = None
    """What a pixel of the images measures, such as 0.02mm or 20um."""
    min_area: str | None = None
    """An image is defective only with a region of this area, such as 0.5mm2; 0px: no such rule."""
    min_length: str | None = None
    """An image is defective only with a region of this length, such as 2mm; 0px: no such rule."""
    good: Path | None = None
    """Folder of good images that were not trained on, whose scores replace the stored ones."""
    defective: Path | None = None
    """Folder of defective ones, likewise."""


@dataclass(frozen=True, kw_only=True)
class ExportArguments(_Limited):
    """Write a trained model as one file that runs without the training code."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder."""
    images: tyro.conf.Positional[tuple[Path, ...]]
    """Image files or folders, on 16 of which the file is checked; unset: those of the split."""
    format: ExportFormat = "onnx"
    """`onnx` for ONNX Runtime, or `openvino` (.xml and .bin)."""
    out: Path | None = None
    """File to write; unset: `model`, with the ending of the format, in the run folder."""
    pixels: PixelType = "uint8"
    """What the values of images will be: `uint8`, or `uint16` for cameras of more than 8 bits."""
    tolerance: float | None = None
    """What maps and scores may differ by from PyTorch's; unset: what rounding comes to."""
    overwrite: Flag = False
    """Replace the file that `--out` names."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkArguments(_OnDevice, _Quiet, _Limited):
    """Train and test variants on categories with several seeds, and compare them."""

    data: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DATA...")]]
    """Categories in MVTec AD layout, or folders that hold categories."""
    out: Path
    """CSV file of results; one that holds results is gone on with."""
    seeds: str = "42,43,44"
    """Seeds with commas between them."""
    variants: Path | None = None
    """YAML file of settings by name, compared with the defaults; unset: the defaults alone."""
    config: Path | None = None
    """YAML or JSON file of settings that all variants share."""
    protocol: Literal["seen", "unseen", "ten", "validation"] = "seen"
    """Train on every defect type; leave out each in turn; train on ten labeled images in all; or
    measure on training images alone."""
    jobs: int | None = None
    """Jobs side by side; unset: one for each core, or as many as `--threads` leaves room for."""
    threads: int | None = None
    """Threads of each job; unset: the cores divided by `--jobs`."""
    dry_run: Flag = False
    """Only list what would run and what is finished."""


@dataclass(frozen=True, kw_only=True)
class DemoArguments(_Quiet):
    """Train, evaluate and predict on a sample made by the program itself."""

    out: Path = Path("demo")
    """Folder to write to."""
    overwrite: Flag = False
    """Replace an earlier demo in that folder."""


@dataclass(frozen=True, kw_only=True)
class InfoArguments(_Limited):
    """Describe a run or an exported model, or check a folder of images: all masks are read."""

    path: tyro.conf.Positional[Path]
    """Run folder, model file (.onnx, .xml), or folder of images; one that is not in MVTec AD layout
    needs the three options."""
    normal: str | None = None
    """Folder of normal images, as `train` takes it with `--data.normal`."""
    defective: str | None = None
    """Folder of defective images."""
    masks: str | None = None
    """Folder of masks or annotations, or one file of annotations; unset: beside the images."""


def parse_train(arguments: list[str]) -> TrainArguments:
    """Parse the arguments of `train`: preset, then configuration file, then what is given."""
    check_words(arguments, "patchscout train")
    arguments = _whole_names(arguments)
    set_limits(_limits(arguments))  # before the file is read
    # A subclass that differs by the default of `settings`: the others stay without one.
    settings = ("settings", SettingsArgument, field(default=_defaults(arguments)))
    with_defaults = make_dataclass(
        "TrainArguments",
        [settings],
        bases=(TrainArguments,),
        namespace={"__doc__": TrainArguments.__doc__},
        frozen=True,
        kw_only=True,
    )
    return parse(with_defaults, arguments, "patchscout train")


def _whole_names(arguments: list[str]) -> list[str]:
    """Return arguments with `--decision.` before its settings, and shares such as 1% as numbers.

    Example:
        >>> _whole_names(["data", "--max-false-alarms", "1%"])
        ['data', '--decision.max-false-alarms', '0.01']
    """
    names = [name.replace("_", "-") for name in DecisionSettings.model_fields]
    option, words = "", []
    for word in (before := before_dashes(arguments)):
        if not word.startswith("--"):
            words.append(str(as_share(word)) if option in SHARES else word)
            continue
        option, equals, value = word.partition("=")
        option = option.removeprefix("--").replace("_", "-")
        if option in names:
            option = f"decision.{option}"
        words.append(f"--{option}{equals}{as_share(value) if option in SHARES else value}")
    return words + arguments[len(before) :]


def parse(kind: type[Arguments], arguments: list[str], program: str) -> Arguments:
    """Return the arguments of a command, and let the limits among them hold from here on.

    Raises:
        InputValueError: If something is unknown, missing or out of range.
    """
    if any(argument in ("-h", "--help") for argument in before_dashes(arguments)):
        tyro.cli(kind, args=["--help"], prog=program)
    see = f"See `{program} --help`."
    check_words(arguments, program)
    _check_options(kind, arguments, see)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
            parsed: Any
            parsed, unknown = tyro.cli(kind, args=arguments, prog=program, return_unknown_args=True)
    except SystemExit as error:
        raise InputValueError(f"{_problem(error, printed.getvalue(), kind)}. {see}") from None
    except ValidationError as error:
        raise InputValueError(f"{first_problem(error)}. {see}") from None
    if unknown:
        raise InputValueError(f"`{unknown[0]}` is {_surplus(unknown[0], arguments)}. {see}")
    set_limits(getattr(parsed, "limits", Limits()))
    return parsed


def check_words(arguments: list[str], program: str) -> None:
    """Refuse empty words, which would stand for the current folder, and NUL characters.

    Raises:
        InputValueError: If there are any.
    """
    for index, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if not argument or (option.startswith("--") and equals and not value):
            before = option or (arguments[index - 1] if index else program)
            raise InputValueError(
                f"there is an empty argument after `{before}`. Give a value, or leave it out; a"
                " variable of the shell may be unset."
            )
        if "\0" in argument:
            raise InputValueError(f"`{argument}` holds a NUL character. Take it out.")


def before_dashes(arguments: list[str]) -> list[str]:
    """Return the arguments before `--`, after which there are no options."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _surplus(argument: str, arguments: list[str]) -> str:
    """Return what an argument is that the parser has no use for."""
    if argument not in before_dashes(arguments) or not argument.startswith("-"):
        return "one argument too many"
    if argument.startswith("--"):
        return "an unknown argument"
    before = arguments[max(0, arguments.index(argument) - 1)]
    value = f"as a value, write `{before}={argument}`; " if before.startswith("--") else ""
    return f"an unknown argument; {value}a file of that name comes after `--`"


def _check_options(kind: type, arguments: list[str], see: str) -> None:
    """Refuse an option that the command does not have."""
    positive = {f"--{name}" for name in _options(kind)}
    negated = {f"--{_negated(name)}" for name in _options(kind)}
    known = positive | negated  # the parser knows which are flags
    for argument in before_dashes(arguments):
        option = argument.partition("=")[0].replace("_", "-")
        if option.startswith("--") and option not in known:
            what = "setting" if "." in option else "argument"
            meant = nearest(option, negated if "no-" in option else positive)
            raise InputValueError(f"unknown {what} `{option}`{meant or '.'} {see}")
        if option.startswith("-") and not option.startswith("--") and not _is_number(argument):
            raise InputValueError(f"`{argument}` is {_surplus(argument, arguments)}. {see}")


def _is_number(text: str) -> bool:
    """Whether the parser may take a text for a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _negated(name: str) -> str:
    """Return the name that switches a flag off, such as `reward.no-clone`."""
    group, dot, flag = name.rpartition(".")
    return f"{group}{dot}no-{flag}"


def _options(kind: type) -> list[str]:
    """Return the names of the options of a command, the settings included if it has them."""
    names = [field.name for field in fields(kind) if not _is_positional(field.name, kind)]
    if "settings" in names:
        names.remove("settings")
        names += setting_names()
    if "limits" in names:
        names.remove("limits")
        names += setting_names(Limits, "limits.")
    return [name.replace("_", "-") for name in names]


def _is_positional(name: str, kind: type) -> bool:
    annotations = (vars(base).get("__annotations__", {}) for base in kind.__mro__)
    declared = next(found[name] for found in annotations if name in found)
    return str(declared).startswith("tyro.conf.Positional")


def _defaults(arguments: list[str]) -> Config:
    """Return the settings that the preset and the configuration file give."""
    given: Any = _value_of("--preset", arguments)
    preset = given if given in get_args(Preset) else None  # the parser refuses another
    file = _value_of("--config", arguments)
    return file_config(Path(file), preset) if file else preset_config(preset or "fast")


def _limits(arguments: list[str]) -> Limits:
    """Return the limits that are given."""
    given = {name: _value_of(f"--limits.{name}", arguments) for name in Limits.model_fields}
    try:
        return Limits.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError:
        return Limits()  # the parser refuses what is given


def _value_of(option: str, arguments: list[str]) -> str | None:
    """Return what follows an option, if it is given; if twice, the last, as the parser does."""
    found = None
    words = before_dashes(arguments)
    for index, argument in enumerate(words):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") == option.replace("_", "-"):
            if equals:
                found = value
            elif index + 1 < len(words):
                found = words[index + 1]
    return found


def _problem(error: BaseException, printed: str, kind: type) -> str:
    """Return in one line what the parser found wrong, without a full stop."""
    cause: BaseException | None = error
    group = ""  # of settings, whose own errors do not say where it belongs
    while cause is not None:
        if isinstance(cause, ValidationError):
            return first_problem(cause, group)
        if isinstance(argument := getattr(cause, "arg", None), str):
            group = argument.removeprefix("settings").removeprefix(".")
        cause = cause.__cause__ or cause.__context__
    without_default = [f for f in fields(kind) if f.default is f.default_factory is MISSING]
    required = [f.name for f in without_default]
    shown = [name.upper() if _is_positional(name, kind) else f"--{name}" for name in required]
    if missing := [name for name in shown if re.search(rf"^\W*{name}\b", printed, re.MULTILINE)]:
        return f"{' and '.join(f'`{name}`' for name in missing)} must be given"
    lines = [line.strip(" │╭╮╰╯─-|+") for line in printed.splitlines()]
    texts = [line for line in lines if line]
    stop = next(
        (i for i, line in enumerate(texts) if line.startswith(("For full", "Argument help"))), None
    )
    text = " ".join(texts[1:stop]).rstrip(".")
    several = re.match(
        r"Error parsing (\S+): no type matching (.+) could be .* from \[(.*?)\]", text
    )
    if not several:
        return text
    option, kinds, given = several.groups()
    kinds = re.sub(r"[{}]", "", kinds).replace("|", " or ")
    return f"`{option}` must be {kinds}; got {given or 'nothing'}"
