"""The run folder: config.json and model.safetensors in, a trained model out. Nothing is pickled.

config.json names the model and the split by their digests and carries its own. It is the first
file to take its place when a run is replaced, and from then on the run is the new one: what it
names is in the folder, or still on its way there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, StrictBool, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from patchscout.build import build
from patchscout.checks import InputError, InputNotFoundError, InputValueError
from patchscout.config import Config
from patchscout.data.json_files import Text
from patchscout.decision import Count, Decision, ImageScores
from patchscout.drift import NormalRange
from patchscout.exported import SUFFIXES
from patchscout.files.atomic import json_text, write_new
from patchscout.files.output_folder import OutputFolder, recover, staged
from patchscout.files.seal import BLANK_SEAL, check_seal, seal_of, sealed, sha256
from patchscout.paper.segmenter import blank_segmenter
from patchscout.presets import parse_config

FORMAT_VERSION = 10
"""Of the run folder; any other is refused."""

CONFIG_FILE = "config.json"
MODEL_FILE = "model.safetensors"
SPLIT_FILE = "split.json"
METRICS_FILE = "metrics.json"
LOG_FILE = "metrics.jsonl"
CARD_FILE = "README.md"
PICTURE_FILE = "examples.png"
DECISIONS_FILE, ROC_FILE, ROC_PICTURE_FILE = "decisions.csv", "roc.csv", "roc.png"
ODD_MASKS_FILE = "masks-to-check.png"
RUN_FILES = (
    CONFIG_FILE,
    MODEL_FILE,
    SPLIT_FILE,
    METRICS_FILE,
    LOG_FILE,
    CARD_FILE,
    PICTURE_FILE,
    DECISIONS_FILE,
    ROC_FILE,
    ROC_PICTURE_FILE,
    ODD_MASKS_FILE,
)
"""All that training and evaluation may write to a run folder, but for what TensorBoard reads."""

TENSORBOARD_FOLDER = "tensorboard"
CARD_START = "# PatchScout model"

EXPORTED_FILES = tuple(f"model{suffix}" for suffix in (*SUFFIXES.values(), ".bin"))
"""What `patchscout export` writes there unless told otherwise."""


@dataclass(frozen=True)
class TrainingRecord:
    """What is known of how a model came about.

    Attributes:
        category: Name of the data set.
        defect_types: The types that it has labeled images of.
        num_normal: Normal training images, those for the thresholds included.
        num_labeled: Labeled training images.
        num_steps: Sampler steps taken.
        seconds: Duration of training.
        is_complete: False if training was interrupted.
        normal_range: Statistics of normal training images; None of fewer than five.
    """

    category: Text
    defect_types: tuple[Text, ...]
    num_normal: Count
    num_labeled: Count
    num_steps: Count
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
    is_complete: StrictBool
    normal_range: NormalRange | None = None


@dataclass(frozen=True)
class Trained:
    """What is known of a trained model.

    Attributes:
        record: How it came about.
        decision: When an image is defective.
        scores: The image scores that the decision was made on.
    """

    record: TrainingRecord
    decision: Decision
    scores: ImageScores


_TRAINED = TypeAdapter(Trained)


class _ConfigFile(BaseModel):
    """What config.json holds."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format_version: int
    config: dict[str, Any]
    trained: dict[str, Any] | None
    files: dict[str, str]
    seal: str


@dataclass(frozen=True)
class RunDescription:
    """What config.json says.

    Attributes:
        config: Every setting.
        trained: What is known of the model; None if training was stopped before there was one.
        digests: The sha256 of the model and the split.
        identity: The digest of config.json, and so of the whole run.
    """

    config: Config
    trained: Trained | None
    digests: dict[str, str]
    identity: str


@dataclass(frozen=True)
class LoadedRun:
    """A run folder that was read at one moment.

    Attributes:
        segmenter: The trained model, in evaluation mode.
        config: Every setting.
        trained: What is known of the model.
        split: The content of split.json; None if it is missing.
        identity: The digest of config.json.
    """

    segmenter: nn.Module
    config: Config
    trained: Trained
    split: bytes | None
    identity: str


def write_run(
    folder: Path,
    config: Config,
    split: bytes | None,
    model: tuple[nn.Module, Trained] | None,
) -> None:
    """Write config.json and, as far as they are given, split.json and model.safetensors.

    Args:
        folder: A folder that holds none of these yet.
        config: Every setting.
        split: The content of split.json.
        model: The model and what is known of it; None if training was stopped too early.
    """
    files: dict[str, bytes] = {}
    if model is not None:
        state = {name: value.contiguous().cpu() for name, value in model[0].state_dict().items()}
        files[MODEL_FILE] = save(state, metadata={"format_version": str(FORMAT_VERSION)})
    if split is not None:
        files[SPLIT_FILE] = split
    for name, content in files.items():
        write_new(folder / name, content)
    digests = {name: sha256(content) for name, content in files.items()}
    write_config(folder, config, None if model is None else model[1], digests)


def write_config(
    folder: Path, config: Config, trained: Trained | None, digests: dict[str, str]
) -> None:
    """Write config.json, see `RunDescription`."""
    description = {
        "format_version": FORMAT_VERSION,
        "config": config.model_dump(mode="json"),
        "trained": None if trained is None else _TRAINED.dump_python(trained, mode="json"),
        "files": digests,
        "seal": BLANK_SEAL,
    }
    write_new(folder / CONFIG_FILE, sealed((json_text(description) + "\n").encode()))


def describe_run(folder: Path) -> RunDescription:
    """Read config.json.

    Raises:
        InputNotFoundError: If the folder or the file is not there.
        InputValueError: If the file is damaged, was changed, or is of another format.
    """
    return _described(_read_config(folder), folder / CONFIG_FILE)


def _read_config(folder: Path) -> bytes:
    if not folder.is_dir():
        raise InputNotFoundError(
            f"Run folder {folder} is not there. Check the path, or train with"
            f" `patchscout train DATA --out {folder}`."
        )
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise InputNotFoundError(
            f"{folder} is no run folder: it has no {CONFIG_FILE}. Name the folder that"
            " `patchscout train` was given with `--out`."
        )
    return path.read_bytes()


def _described(content: bytes, path: Path) -> RunDescription:
    is_sealed = check_seal(content, path)
    try:
        data = json.loads(content)
        version = data["format_version"]
        if type(version) is not int:
            raise TypeError(f"`format_version` is {str(version)[:20]}")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _damaged(path, error) from None
    if version > FORMAT_VERSION:
        raise InputValueError(
            f"{path} has format version {version}; this PatchScout reads up to {FORMAT_VERSION}."
            " Update PatchScout."
        )
    if version < FORMAT_VERSION:
        raise InputValueError(
            f"{path} has format version {version}; this PatchScout reads {FORMAT_VERSION} alone."
            " Train again."
        )
    if not is_sealed:
        raise InputValueError(
            f"{path} is damaged or was changed: its digest is missing. Copy the run folder again"
            " or train anew."
        )
    try:
        data = _ConfigFile.model_validate(data)
        config = parse_config(data.config, str(path))
        trained = None
        if data.trained is not None:
            trained = _TRAINED.validate_python(data.trained)
            if config.data.image_size is None:
                raise ValueError("`data.image_size` is missing")
    except (RecursionError, ValueError) as error:
        raise (error if isinstance(error, InputError) else _damaged(path, error)) from None
    return RunDescription(config, trained, data.files, seal_of(content))


def load_model(folder: Path, device: torch.device) -> LoadedRun:
    """Read a run folder, as it was at one moment even if it is replaced meanwhile.

    Raises:
        InputNotFoundError: If it is not there or holds no model.
        InputValueError: If a file is damaged, was changed, or is of another format or run.
    """
    recover(folder)
    content = _read_config(folder)
    while True:
        described = _described(content, folder / CONFIG_FILE)
        try:
            return _load(folder, device, described)
        except InputError:
            latest = _read_config(folder)
            if latest == content:
                raise
            content = latest  # the run was replaced meanwhile


def _load(folder: Path, device: torch.device, described: RunDescription) -> LoadedRun:
    config, trained = described.config, described.trained
    if trained is None:
        raise InputNotFoundError(
            f"{folder} holds no trained model: training was stopped too early. Train again with"
            " `--overwrite`."
        )
    content = _part(folder, MODEL_FILE, described)
    path = folder / MODEL_FILE
    if content is None:
        raise InputNotFoundError(f"{path} is missing. Copy the run folder again or train anew.")
    split = _part(folder, SPLIT_FILE, described)
    try:
        state = load(content)
        is_paper = config.preset == "paper"
        segmenter = blank_segmenter(config.paper) if is_paper else build(config, pretrained=False)
        segmenter.load_state_dict(state)
    except (SafetensorError, RuntimeError, KeyError, ValueError, OSError) as error:
        raise _damaged(path, error) from None
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise InputValueError(
            f"{path} holds weights that are not finite numbers. Copy the run folder again or train"
            " anew."
        )
    segmenter = segmenter.to(device).eval()
    return LoadedRun(segmenter, config, trained, split, described.identity)


def _part(folder: Path, name: str, described: RunDescription) -> bytes | None:
    """Return the content of the file that config.json means; None if there is none.

    Raises:
        InputValueError: If what is there is another file.
    """
    place, is_there = folder / name, False
    for path in (place, staged(folder, name), place):  # it may be moved to its place meanwhile
        try:
            content = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            continue
        is_there = True
        if sha256(content) == described.digests.get(name):
            return content
    if not is_there:
        return None
    raise InputValueError(
        f"{folder / name} is damaged, was changed or is of another run: {CONFIG_FILE} names another"
        " content. Copy the run folder again or train anew."
    )


def _damaged(path: Path, error: Exception) -> InputValueError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, ValidationError):
        problem = error.errors(include_input=False)[0]
        reason = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return InputValueError(
        f"{path} is damaged ({type(error).__name__}: {reason[:120]}). Copy the run folder again or"
        " train anew."
    )


def files_of_run(folder: Path) -> Iterator[str]:
    """Yield the names of this program's files in a run folder, whose list may be lost in a copy.

    That it is a run says config.json; a card of one's own in its place is left out.
    """
    try:
        describe_run(folder)
    except InputError:
        return
    for name in (*RUN_FILES, *EXPORTED_FILES):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            continue
        if name != CARD_FILE or path.read_bytes().startswith(CARD_START.encode()):
            yield name
    for path in sorted((folder / TENSORBOARD_FOLDER).glob("events.out.tfevents.*")):
        yield f"{TENSORBOARD_FOLDER}/{path.name}"


class RunFolder(OutputFolder):
    """Writes a run folder that takes its place only when it is done.

    Args:
        folder: The run folder.
        overwrite: Whether an earlier run in it is replaced.
        reads: Files and folders that training reads, which must not be replaced.

    Raises:
        InputValueError: See `OutputFolder`.
    """

    def __init__(self, folder: Path, *, overwrite: bool, reads: Iterable[Path] = ()) -> None:
        super().__init__(folder, RUN_FILES, overwrite=overwrite, reads=reads, adopts=files_of_run)


class RunCompletion(OutputFolder):
    """Writes more files into a run folder, together.

    Args:
        folder: The run folder.
        names: The files.
        identity: The digest of the run that they were made of, see `LoadedRun`.
        replaces: Whether files of these names may be replaced whoever wrote them.

    Raises:
        InputValueError: See `OutputFolder`; also if the run was replaced meanwhile.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], identity: str | None, *, replaces: bool = False
    ) -> None:
        def adopted(place: Path) -> list[str]:
            return [*files_of_run(place), *(names if replaces else ())]

        super().__init__(folder, names, overwrite=True, adopts=adopted, completes=True)
        self.identity = identity

    def __enter__(self) -> Path:
        """Return the folder to write to."""
        files = super().__enter__()
        try:
            if describe_run(self.folder).identity != self.identity:
                raise InputValueError(
                    f"{self.folder} was replaced by another run meanwhile. Run the command again."
                )
        except InputError as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return files
