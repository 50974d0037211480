"""The run folder: config.json and model.safetensors in, a trained model out. Nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from patchscout.channels import predictor_channels
from patchscout.checks import InputError, InputNotFoundError, InputValueError
from patchscout.config import Config, as_it_was, parse_config
from patchscout.exported import SUFFIXES
from patchscout.files.atomic import atomic_path, write_json_atomic
from patchscout.files.output_folder import OutputFolder, adopt
from patchscout.networks import Backbone, make_autoencoder, make_predictor
from patchscout.networks.loss_profile import ProfileExtractor
from patchscout.networks.normality import NormalityModel
from patchscout.networks.novelty import NoveltyModel
from patchscout.networks.segmenter import FeatureExtractor, Segmenter

FORMAT_VERSION = 3
"""Of the run folder; any other is refused: older networks are gone, a newer one is unknown."""

CONFIG_FILE = "config.json"
MODEL_FILE = "model.safetensors"
SPLIT_FILE = "split.json"
METRICS_FILE = "metrics.json"
LOG_FILE = "metrics.jsonl"
CARD_FILE = "README.md"
PICTURE_FILE = "examples.png"
RUN_FILES = (
    CONFIG_FILE,
    MODEL_FILE,
    SPLIT_FILE,
    METRICS_FILE,
    LOG_FILE,
    CARD_FILE,
    PICTURE_FILE,
    "tensorboard/",
)
"""All that training and evaluation may write to a run folder."""

EXPORTED_FILES = tuple(f"model{suffix}" for suffix in (*SUFFIXES.values(), ".bin"))
"""What `patchscout export` writes there unless told otherwise."""


@dataclass(frozen=True)
class TrainingRecord:
    """What is known of how a model came about.

    Attributes:
        category: Name of the data set.
        defect_types: The types that it has labeled images of.
        num_normal: Normal training images, those for the threshold included.
        num_labeled: Labeled training images.
        threshold: The decision threshold.
        threshold_f1: Its pixel F1 on the images that it was chosen on.
        num_steps: Sampler steps taken.
        seconds: Duration of training.
        is_complete: False if training was interrupted.
        num_normal_scored: Normal images that the threshold was chosen on; None in older runs.
        num_false_alarms: How many of these it calls defective; None in older runs.
    """

    category: str
    defect_types: tuple[str, ...]
    num_normal: int
    num_labeled: int
    threshold: float
    threshold_f1: float
    num_steps: int
    seconds: float
    is_complete: bool
    num_normal_scored: int | None = None
    num_false_alarms: int | None = None


_RECORD = TypeAdapter(TrainingRecord)


def save_config(folder: Path, config: Config, record: TrainingRecord | None) -> None:
    """Write config.json; without a record the folder holds no model (yet)."""
    write_json_atomic(
        folder / CONFIG_FILE,
        {
            "format_version": FORMAT_VERSION,
            "config": config.model_dump(mode="json"),
            "training": None if record is None else asdict(record),
        },
    )


def save_model(folder: Path, segmenter: Segmenter, config: Config, record: TrainingRecord) -> None:
    """Write config.json and model.safetensors."""
    state = {name: tensor.contiguous().cpu() for name, tensor in segmenter.state_dict().items()}
    content = save(state, metadata={"format_version": str(FORMAT_VERSION)})
    with atomic_path(folder / MODEL_FILE) as partial:
        partial.write_bytes(content)  # `save_file` lets no other account read it
    save_config(folder, config, record)


def load_config(folder: Path) -> tuple[Config, TrainingRecord | None]:
    """Read config.json.

    Raises:
        InputNotFoundError: If the folder or the file is not there.
        InputValueError: If the file is damaged or of a newer format.
    """
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
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = int(data["format_version"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _damaged(path, error) from None
    if version > FORMAT_VERSION:
        raise InputValueError(
            f"{path} has format version {version}; this PatchScout reads up to {FORMAT_VERSION}."
            " Update PatchScout."
        )
    if version < FORMAT_VERSION:
        raise InputValueError(
            f"{path} has format version {version}, whose networks this PatchScout no longer has."
            f" Train again; `--config {path}` takes the settings over."
        )
    try:
        config = parse_config(as_it_was(data["config"]), str(path))
        return config, _record(data["training"])
    except (KeyError, TypeError, ValueError) as error:
        raise (error if isinstance(error, InputError) else _damaged(path, error)) from None


def load_model(folder: Path, device: torch.device) -> tuple[Segmenter, Config, TrainingRecord]:
    """Read a run folder.

    Raises:
        InputNotFoundError: If it is not there or holds no model.
        InputValueError: If a file is damaged or of a newer format.
    """
    config, record = load_config(folder)
    path = folder / MODEL_FILE
    if record is None:
        raise InputNotFoundError(
            f"{folder} holds no trained model: training was stopped too early. Train again with"
            " `--overwrite`."
        )
    if not path.is_file():
        raise InputNotFoundError(f"{path} is missing. Copy the run folder again or train anew.")
    try:
        state = load_file(path)
        segmenter = build_segmenter(config, state)
        segmenter.load_state_dict(state)
    except (SafetensorError, RuntimeError, KeyError, ValueError, OSError) as error:
        raise _damaged(path, error) from None
    return segmenter.to(device).eval(), config, record


def build_segmenter(config: Config, state: dict[str, Tensor]) -> Segmenter:
    """Return a model of the right shape, its weights not yet loaded."""
    predictor = config.predictor
    profiles = None if predictor.inputs == "image" else _build_profiles(config, state)
    ranks = config.normality.ranks
    normality = NormalityModel.blank(config.data.working_size, ranks) if ranks else None
    colors = torch.zeros(3), torch.ones(3)
    features = FeatureExtractor(profiles, predictor.inputs, *colors, normality)
    network = make_predictor(
        predictor.architecture,
        predictor_channels(config),
        predictor.base_channels,
        Backbone() if predictor.sees_backbone else None,
    )
    # As in training: faster on a CPU, and what is loaded answers exactly as what was saved.
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    novelty = None
    if config.measures_novelty:
        novelty = NoveltyModel.blank(config.data.working_size, config.novelty.rank)
    return Segmenter(
        features,
        network,
        novelty,
        mirrored=predictor.mirrored,
        image_evidence=predictor.image_evidence,
    )


def _build_profiles(config: Config, state: dict[str, Tensor]) -> ProfileExtractor:
    masks = state.get("features.profiles.masks")
    num_autoencoders = config.profile.length if masks is None else 1
    settings = config.autoencoder
    autoencoders = [
        make_autoencoder(
            settings.architecture, settings.base_channels, settings.bottleneck_channels
        ).folded()
        for _ in range(num_autoencoders)
    ]
    profile = config.profile
    return ProfileExtractor(
        autoencoders, masks, profile.error_scale, settings.downscale, profile.error
    )


def _record(data: Any) -> TrainingRecord | None:
    if data is None:
        return None
    return _RECORD.validate_python(data)


def _damaged(path: Path, error: Exception) -> InputValueError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputValueError(
        f"{path} is damaged ({type(error).__name__}: {reason[:120]}). Copy the run folder again or"
        " train anew."
    )


def adopt_run(folder: Path) -> None:
    """Note the files of a run folder as this program's, whose list may be lost in a copy."""
    adopt(folder, (*RUN_FILES, *EXPORTED_FILES))


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
        super().__init__(folder, RUN_FILES, overwrite=overwrite, reads=reads)

    def __enter__(self) -> Path:
        """Return the folder to write to."""
        if self.overwrite:
            with suppress(InputError):  # no run, or a damaged one
                load_config(self.folder)
                adopt_run(self.folder)
        return super().__enter__()
