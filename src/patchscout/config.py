"""Every setting, its range and what it does: frozen, with unknown keys forbidden.

`fast` and `paper` are two sets of defaults. A setting is looked up in this order: the command
line (or keyword arguments), the file given with `--config`, the preset.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from patchscout.checks import InputValueError, nearest
from patchscout.data.yaml_files import read_yaml, shown
from patchscout.files.seal import check_seal

Preset = Literal["fast", "paper"]
SamplerKind = Literal["policy", "uniform", "structure", "error"]

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]

SHORTEST_PX, LONGEST_PX = 64, 4096
"""Sides of images to work at."""

Side = Annotated[int, Field(ge=SHORTEST_PX, le=LONGEST_PX)]

MARGIN_PX = 48
"""Width at the cuts of a region of a view, left out again: errors there are unlike those inside."""


class Settings(BaseModel):
    """A group of settings: immutable, and strict about names."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class LinearSchedule(Settings):
    """A value that falls (or rises) linearly over the sampler's steps and then stays."""

    start: Fraction = 1.0
    """Value at the first step."""
    end: Fraction = 0.0
    """Value from step `steps` on."""
    steps: Count = 5000
    """Sampler steps from start to end."""

    def at(self, step: int) -> float:
        """Return the value at `step`, counted from 0 over the whole training."""
        progress = min(step / self.steps, 1.0)
        return self.start + (self.end - self.start) * progress


class DataSettings(Settings):
    """Where the images are and the size they are worked on at."""

    normal: str | None = None
    """Folder of normal images, absolute or inside DATA; unset: DATA is in MVTec AD layout."""
    defective: str | None = None
    """Folder of defective images; its sub-folders, if any, name the defect types."""
    masks: str | None = None
    """Folder of mask images or LabelMe JSON files, or one COCO JSON file."""
    image_size: tuple[Side, Side] | None = None
    """Height and width in pixels that images are resized to, multiples of 16; unset: chosen from
    the shape of the normal images and the thickness of the labeled defects."""
    cache_mib: Annotated[int, Field(ge=0)] = 2048
    """Size of a temporary file of resized images; beyond it they are decoded again."""

    @field_validator("image_size")
    @classmethod
    def _fits_the_networks(cls, size: tuple[int, int] | None) -> tuple[int, int] | None:
        if size is not None and any(side % 16 for side in size):
            suggestion = tuple(max(64, round(side / 16) * 16) for side in size)
            raise ValueError(f"must be multiples of 16; got {size}. Use {suggestion}")
        return size

    @property
    def working_size(self) -> tuple[int, int]:
        """Height and width in pixels, once they are chosen."""
        assert self.image_size is not None, "`image_size` is not chosen yet"
        return self.image_size


class AutoencoderSettings(Settings):
    """The autoencoder that the loss profiles come from."""

    architecture: Literal["lean", "paper"] = "lean"
    """`paper` has 5.95 M parameters, `lean` about 0.1 M."""
    base_channels: Annotated[int, Field(ge=4, le=256)] = 16
    """Channels of the lean one at half the resolution of the shrunk image."""
    downscale: Literal[1, 2] = 2
    """By how much images are shrunk for it, and for the sampler, whose pixels are counted after."""
    bottleneck_channels: Annotated[int, Field(ge=1, le=1024)] = 32
    """Bottleneck channels of the lean one."""
    learning_rate: Positive = 2e-3
    """Adam's step size."""


class ProfileSettings(Settings):
    """What a loss profile is made of."""

    length: Annotated[int, Field(ge=1, le=64)] = 2
    """T: how many snapshots a profile is made of."""
    spacing: Literal["geometric", "last"] = "geometric"
    """Snapshots at geometrically growing steps of a cycle, or at its last T steps."""
    first_step: Count = 4
    """Step of the first geometric snapshot."""
    error: Literal["absolute", "signed"] = "signed"
    """The mean absolute error over RGB, one channel a snapshot, or the signed error of each color,
    three."""
    error_scale: Literal["log", "linear"] = "log"
    """Error maps as they are, or their logarithm."""
    diversity: Literal["reset", "dropout", "none"] = "reset"
    """Profiles differ by re-initializing the autoencoder each cycle, by structured dropout of
    bottleneck channels (one autoencoder, T fixed masks), or not at all."""
    dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of bottleneck channels that structured dropout deletes."""


class NormalitySettings(Settings):
    """What is usual at each place of an image, learned from the normal images."""

    ranks: tuple[Annotated[int, Field(ge=1, le=512)], ...] = (5, 20, 80)
    """Principal components taken off for each deviation map, ever more; no number: no such maps."""
    max_images: Annotated[int, Field(ge=2)] = 400
    """At most so many normal images, evenly chosen, are learned from."""

    @field_validator("ranks")
    @classmethod
    def _ascending(cls, ranks: tuple[int, ...]) -> tuple[int, ...]:
        if list(ranks) != sorted(set(ranks)):
            raise ValueError(f"must be ascending numbers; got {ranks}. Use {sorted(set(ranks))}")
        return ranks


class NoveltySettings(Settings):
    """What is new to a backbone that has seen the normal images, whatever the predictor says."""

    weight: Annotated[float, Field(ge=0)] = 0.7
    """Weight of novelty beside the predictor's log-odds, whose weight is 1; 0, or a predictor
    without a backbone: it is not measured."""
    weight_without_labels: Annotated[float, Field(ge=0)] = 3.0
    """The same where nothing is labeled, and the predictor knows simulated defects alone."""
    rank: Annotated[int, Field(ge=1, le=512)] = 40
    """Principal components of what the backbone finds in normal images."""
    max_images: Annotated[int, Field(ge=2)] = 256
    """At most so many normal images, evenly chosen, are learned from."""


class PredictorSettings(Settings):
    """The predictor and how it is trained."""

    architecture: Literal["lean", "paper"] = "lean"
    """`paper` has dilated convolutions (31 px receptive field), `lean` is a small U-Net."""
    inputs: Literal["profile", "image", "both"] = "both"
    """What it sees: the loss profile, the RGB image, or both."""
    base_channels: Annotated[int, Field(ge=4, le=256)] = 16
    """Channels of the lean one at half resolution."""
    backbone: Literal["efficientnet_lite0", "none"] = "efficientnet_lite0"
    """A network pretrained on ImageNet whose features the lean one sees too, if it sees the image;
    or none."""
    num_members: Annotated[int, Field(ge=1, le=16)] = 1
    """Predictors that are trained in turn, each update one of them, and averaged."""
    image_members: Annotated[int, Field(ge=0, le=16)] = 0
    """How many of them see the RGB image alone, where `inputs` is both; fewer than all."""
    mirrored: bool = True
    """Whether an image is scored with its mirror image too, and both are averaged."""
    image_evidence: Annotated[float, Field(ge=0)] = 0.5
    """By how much the log-odds of all pixels are lowered for each unit that the largest of the
    image falls short of 2, a probability of 0.88: where nothing is surely a defect."""
    learning_rate: Positive = 2e-3
    """Adam's step size; the largest one with `one_cycle`."""
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    """Whether the step size rises and falls over the training or stays."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """Decoupled weight decay."""
    dice_weight: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the Dice loss beside the cross-entropy."""
    batch_size: Count = 8
    """Profiles of one update."""
    crop_px: Annotated[int, Field(ge=32, multiple_of=16)] = 192
    """Side of the square cut from each profile, a multiple of 16; at most the image."""
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.98
    """Decay of the running average of weights that is kept for scoring; 0 keeps the last."""

    @property
    def sees_backbone(self) -> bool:
        """Whether features of a pretrained network are seen."""
        sees_image = self.architecture == "lean" and self.inputs != "profile"
        return sees_image and self.backbone != "none"

    @property
    def member_inputs(self) -> list[str]:
        """What each member sees: `profile`, `image` or `both`."""
        alone = self.image_members if self.inputs == "both" else 0
        return [self.inputs] * (self.num_members - alone) + ["image"] * alone


class ViewSettings(Settings):
    """The augmented images whose profiles the predictor is trained on."""

    normal_fraction: Fraction = 0.3
    """Share of normal images."""
    pasted_fraction: Fraction = 0.2
    """Share of normal images with a labeled defect pasted in."""
    simulated_fraction: Fraction = 0.2
    """Share of normal images with a simulated defect; the rest are labeled images, or, if there
    are none, more simulated ones."""
    resampled_fraction: Fraction = 0.5
    """Share of views that are rotated, shifted and sheared, which blurs them a little; the others
    are only flipped."""
    max_rotation_deg: Annotated[float, Field(ge=0, le=180)] = 30.0
    """Largest rotation either way, in degrees."""
    max_translation: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Largest shift either way, as a fraction of width and height."""
    max_shear_deg: Annotated[float, Field(ge=0, lt=90)] = 20.0
    """Largest shear either way, in degrees."""
    max_lighting_change: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Largest change of contrast, brightness (half of it) and gamma, as a fraction."""
    keeps_direction: bool | None = None
    """Whether the direction of the surface is kept: a quarter of the rotation and shear, and no
    turns by 90 degrees; unset: if the gradients of the normal images mostly have one direction."""


class BufferSettings(Settings):
    """The profiles that the predictor is trained on."""

    capacity: Count = 160
    """How many profiles are kept."""
    fresh_per_update: Annotated[int, Field(ge=0)] = 1
    """How many are replaced by newly computed ones before each predictor update."""
    region_px: Annotated[int, Field(ge=64, multiple_of=16)] = 288
    """Longest side of the part of a view that a profile is computed of."""


class SamplerSettings(Settings):
    """The neural batch sampler and what it is compared with."""

    kind: SamplerKind = "policy"
    """Learned policy, uniform places, or places drawn by Sobel energy or by current error."""
    architecture: Literal["lean", "paper"] = "lean"
    """`paper` is the convolutional policy at full window resolution."""
    num_walkers: Count = 32
    """Walkers, and so patches in an autoencoder minibatch."""
    window_px: Annotated[int, Field(ge=32)] = 96
    """Side of the window that the policy sees."""
    patch_px: Annotated[int, Field(ge=16)] = 48
    """Side of the patch about the window's center; times `autoencoder.downscale` it must fit into
    every image."""
    stride_px: Count = 16
    """Length of a move."""
    max_steps_per_image: Count = 32
    """After so many steps a walker is sent to a new image even if it never stops."""
    error_refresh_steps: Count = 20
    """Steps after which the error channel is computed anew."""
    labeled_in_pool: bool = False
    """Whether augmented labeled images are among those that patches are picked from."""
    learning_rate: Positive = 2e-3
    """Adam's step size."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Discount of later rewards within a cycle."""
    entropy_weight: Annotated[float, Field(ge=0)] = 0.03
    """Weight of the entropy bonus."""
    update_every: Count = 8
    """Steps between policy updates; at the end of a cycle there is always one."""
    update_epochs: Count = 4
    """Gradient steps of an update: 1 is REINFORCE, more are PPO's clipped ones."""
    update_after: Annotated[int, Field(ge=0)] = 0
    """Steps at the start of each cycle that the policy does not learn from."""


class RewardSettings(Settings):
    """R = beta (R_clone + R_cover) + (1 - beta) R_pred."""

    clone: bool = True
    """Whether R_clone, the structure in a patch, counts."""
    cover: bool = True
    """Whether R_cover, the novelty of a patch, counts."""
    pred: bool = True
    """Whether R_pred, the predictor's success, counts."""
    credit: Annotated[float, Field(ge=0)] = 0.1
    """How much R_pred differs between walkers: by this times how much more, in standard
    deviations, the autoencoder's step on a walker's patch helps the predictor; 0: not at all."""
    pred_images: Count = 6
    """Labeled images that R_pred is measured on."""
    beta: LinearSchedule = LinearSchedule(steps=300)
    """From exploration (1) to exploitation (0)."""


class TrainingSettings(Settings):
    """How long everything is trained."""

    num_cycles: Count = 2
    """Autoencoder cycles; with `profile.diversity reset` each starts a new autoencoder."""
    steps_per_cycle: Count = 200
    """Sampler and autoencoder steps of a cycle."""
    predictor_updates_per_step: Annotated[int, Field(ge=0)] = 1
    """Predictor updates after each step, from the first complete profile on."""
    predictor_updates: Count = 3000
    """Predictor updates in all, of all members; those not made beside the steps are made after the
    last cycle."""
    alpha: LinearSchedule = LinearSchedule(steps=9000)
    """Weight of normal pixels in the predictor's cross-entropy."""
    mixed_precision: bool = True
    """Whether the predictor learns in bfloat16 where the hardware is faster at it."""


class Config(Settings):
    """Every setting of a training run."""

    labeled_per_type: Annotated[int, Field(ge=0)] = 5
    """Labeled images per defect type that are trained on; with 0, simulated defects alone."""
    max_normal: Count | None = None
    """Train on at most so many normal images, drawn by the seed; unset: on all."""
    held_out_type: str | None = None
    """A defect type kept out of training; it and the good images are the test set."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 42
    """Seed of the split and of every draw in training."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1` or `mps`."""
    preset: Preset = "fast"
    """The set of defaults: `fast` for two CPU cores, `paper` for the paper's own numbers."""
    tensorboard: bool = False
    """Whether to write TensorBoard logs into the run folder too."""
    data: DataSettings = DataSettings()
    autoencoder: AutoencoderSettings = AutoencoderSettings()
    profile: ProfileSettings = ProfileSettings()
    normality: NormalitySettings = NormalitySettings()
    novelty: NoveltySettings = NoveltySettings()
    predictor: PredictorSettings = PredictorSettings()
    views: ViewSettings = ViewSettings()
    buffer: BufferSettings = BufferSettings()
    sampler: SamplerSettings = SamplerSettings()
    reward: RewardSettings = RewardSettings()
    training: TrainingSettings = TrainingSettings()

    @property
    def smallest_px(self) -> int:
        """The shortest side in pixels to work at: shrunk, an image must hold a patch."""
        return self.sampler.patch_px * self.autoencoder.downscale

    @property
    def measures_novelty(self) -> bool:
        """Whether what is new is measured beside what the predictor finds."""
        return self.novelty.weight > 0 and self.predictor.sees_backbone

    @property
    def gives_credit(self) -> bool:
        """Whether a sampler learns from what the patch of each walker did for the predictor."""
        return self.sampler.kind == "policy" and self.reward.pred and self.reward.credit > 0

    @model_validator(mode="after")
    def _leaves_labeled_views(self) -> Config:
        views = self.views
        total = views.normal_fraction + views.pasted_fraction + views.simulated_fraction
        if total > 1 + 1e-9:
            raise ValueError(
                "views.normal_fraction, views.pasted_fraction and views.simulated_fraction must be"
                f" at most 1 together; got {total:g}"
            )
        return self

    @model_validator(mode="after")
    def _has_a_member_that_sees_profiles(self) -> Config:
        predictor = self.predictor
        if predictor.image_members >= predictor.num_members:
            raise ValueError(
                "`predictor.image_members` must be less than `predictor.num_members`"
                f" {predictor.num_members}; got {predictor.image_members}"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        size = self.data.image_size
        if size is not None and self.smallest_px > min(size):
            raise ValueError(
                f"`sampler.patch_px` must fit into `data.image_size` {self.data.image_size}"
                f" shrunk by `autoencoder.downscale` {self.autoencoder.downscale};"
                f" got {self.sampler.patch_px}"
            )
        patch_min_px = 64 if self.autoencoder.architecture == "paper" else 16
        if self.sampler.patch_px % 8 or self.sampler.patch_px < patch_min_px:
            raise ValueError(
                "`sampler.patch_px` must be a multiple of 8, at least"
                f" {patch_min_px} with this autoencoder; got {self.sampler.patch_px}"
            )
        multiple = 32 if self.sampler.architecture == "paper" else 16
        window_px = self.sampler.window_px
        if window_px % multiple or window_px < self.sampler.patch_px:
            raise ValueError(
                f"`sampler.window_px` must be a multiple of {multiple}, no smaller than"
                f" `sampler.patch_px`; got {window_px}"
            )
        return self

    @model_validator(mode="after")
    def _has_room_for_a_move(self) -> Config:
        sampler, size = self.sampler, self.data.image_size
        walks = sampler.kind == "policy" and self.predictor.inputs != "image"
        if size is not None and walks:
            room_px = max(size) // self.autoencoder.downscale - sampler.patch_px
            if room_px < sampler.stride_px:  # every move would end at the border and not count
                raise ValueError(
                    f"`sampler.patch_px` {sampler.patch_px} must leave walkers room for a move of"
                    f" `sampler.stride_px` along the longer side of `data.image_size` {size} shrunk"
                    f" by `autoencoder.downscale` {self.autoencoder.downscale};"
                    f" got {sampler.stride_px} where {room_px} px are left"
                )
        return self

    @model_validator(mode="after")
    def _has_room_for_crops(self) -> Config:
        size, region_px = self.data.image_size, self.buffer.region_px
        is_cut = size is None or max(size) > region_px
        if is_cut and region_px - 2 * MARGIN_PX < self.predictor.crop_px:
            raise ValueError(
                f"`buffer.region_px` must be at least {2 * MARGIN_PX} px more than"
                f" `predictor.crop_px` {self.predictor.crop_px}; got {region_px}"
            )
        return self

    @model_validator(mode="after")
    def _leaves_batch_norm_something(self) -> Config:
        # A crop of 32 px is one place of the lean predictor's coarsest level, of which batch norm
        # has nothing to measure if there is one crop.
        is_single = min(self.predictor.batch_size, self.buffer.capacity) == 1
        if is_single and self.predictor.architecture == "lean" and self.predictor.crop_px == 32:
            raise ValueError(
                "`predictor.crop_px` must be at least 48 where an update is of one profile"
                f" (`predictor.batch_size`, `buffer.capacity`); got {self.predictor.crop_px}"
            )
        return self

    @model_validator(mode="after")
    def _has_room_for_snapshots(self) -> Config:
        if self.profile.spacing == "geometric":
            steps = self.training.steps_per_cycle - self.profile.first_step + 1
            if steps < self.profile.length:
                raise ValueError(
                    f"`training.steps_per_cycle` must leave room for {self.profile.length}"
                    f" snapshots after `profile.first_step` {self.profile.first_step};"
                    f" got {self.training.steps_per_cycle}"
                )
        elif self.training.steps_per_cycle < self.profile.length:
            raise ValueError(
                f"`training.steps_per_cycle` must be at least `profile.length`"
                f" {self.profile.length}; got {self.training.steps_per_cycle}"
            )
        return self


PAPER: dict[str, Any] = {
    "data": {"image_size": (256, 256)},
    "autoencoder": {"architecture": "paper", "downscale": 1, "learning_rate": 1e-3},
    "profile": {
        "length": 10,
        "spacing": "last",
        "error": "absolute",
        "error_scale": "linear",
        "diversity": "dropout",
    },
    "normality": {"ranks": ()},
    "novelty": {"weight": 0.0},
    "predictor": {
        "architecture": "paper",
        "inputs": "profile",
        "backbone": "none",
        "mirrored": False,
        "image_evidence": 0.0,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "weight_decay": 0.0,
        "dice_weight": 0.0,
        "batch_size": 40,
        "crop_px": 256,
        "averaging": 0.0,
    },
    "views": {
        "pasted_fraction": 0.0,
        "simulated_fraction": 0.0,
        "resampled_fraction": 1.0,
        "max_lighting_change": 0.0,
        "keeps_direction": False,
    },
    "buffer": {"capacity": 80, "fresh_per_update": 2},
    "sampler": {
        "architecture": "paper",
        "window_px": 128,
        "patch_px": 64,
        "stride_px": 24,
        "error_refresh_steps": 1,
        "learning_rate": 1e-3,
        "labeled_in_pool": True,
        "update_every": 20,
        "update_epochs": 1,
        "update_after": 14,
    },
    "reward": {"credit": 0.0, "pred_images": 4, "beta": {"steps": 5000}},
    "training": {
        "num_cycles": 450,
        "steps_per_cycle": 20,
        "predictor_updates_per_step": 2,
        "predictor_updates": 18000,
    },
}
"""Where `--preset paper` differs from the defaults above, which are `--preset fast`."""

BEFORE: dict[str, Any] = {
    "autoencoder": {"downscale": 1},
    "profile": {"error": "absolute"},
    "normality": {"ranks": ()},
    "novelty": {"weight": 0.0},
    "predictor": {"backbone": "none", "image_evidence": 0.0},
}
"""What was done before a setting existed, where that is not its default.

A run and a result of the benchmark hold every setting there was, so that one missing is newer.
"""


def preset_config(preset: Preset = "fast", **overrides: Any) -> Config:
    """Return the settings of a preset, with `overrides` (nested dicts or plain values) on top.

    Raises:
        InputValueError: If a setting is unknown or out of range; the message names it.

    Example:
        >>> preset_config("fast", training={"num_cycles": 1}).training.num_cycles
        1
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
            f"`preset` must be one of {', '.join(get_args(Preset))}; got {_SHORT.repr(preset)}"
            f"{hint or '.'}"
        )
    base = PAPER if preset == "paper" else {}
    return parse_config({**merged(base, overrides), "preset": preset}, source)


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
            " Write for example `training: {num_cycles: 2}`."
        )
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise InputValueError(f"{first_problem(error)} (in {source})") from None


def as_it_was(data: Any) -> Any:
    """Return the settings of a run with those that did not exist yet; what is no dict, as it is."""
    return merged(BEFORE, data) if isinstance(data, dict) else data


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
        data = as_it_was(data.get("config"))
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
    return f"`{name}`: {message}; got {_SHORT.repr(problem['input'])}"


class _ShortRepr(reprlib.Repr):
    """Shows the start of a value, without building the text of all of it first."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 3
        self.maxstring = self.maxother = 60

    def repr_int(self, x: int, level: int) -> str:
        """Show a whole number; one of thousands of digits has no `repr`."""
        return repr(x) if x.bit_length() < 128 else f"a number of {x.bit_length()} bits"


_SHORT = _ShortRepr()
