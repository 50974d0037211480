"""Every setting, its range and what it does: frozen, with unknown keys forbidden."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from patchscout.checks import InputValueError
from patchscout.data.mask_images import parse_types
from patchscout.decision import DecisionSettings

Preset = Literal["fast", "paper"]
SamplerKind = Literal["policy", "uniform", "error", "ucb"]
SideInput = Literal["features", "residual", "errors"]
Change = Literal["horizontal_flip", "vertical_flip", "rotation", "translation", "shear"]

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]

SHORTEST_PX, LONGEST_PX = 64, 4096
"""Sides of images to work at."""

Side = Annotated[int, Field(ge=SHORTEST_PX, le=LONGEST_PX)]


class Settings(BaseModel):
    """A group of settings: immutable, and strict about names."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class DataSettings(Settings):
    """Where the images are and the size they are worked on at."""

    normal: str | None = None
    """Folder of normal images, absolute or inside DATA; unset: DATA is in MVTec AD layout."""
    defective: str | None = None
    """Folder of defective images; its sub-folders, if any, name the defect types."""
    masks: str | None = None
    """Folder of mask images or of annotations for one image each, or one file of annotations for
    all (COCO, VIA, Label Studio, CVAT); unset: masks lie beside the defective images."""
    line_width_px: Annotated[float, Field(gt=0, le=1000)] = 3.0
    """How wide annotated lines and points are, in pixels of the image as annotated."""
    mask_types: tuple[str, ...] = ()
    """Defect type of each value or color of mask images, such as `1=scratch 250,50,83=dent`, `good`
    for none; unset: all but the background is anomalous."""
    roi: str | None = None
    """Region of interest: a mask image, white inside, or polygons as a LabelMe or COCO file."""
    ignore: str | None = None
    """What is left out of it: a mask image, white where nothing is looked at, or polygons."""
    image_size: tuple[Side, Side] | None = None
    """Height and width in pixels that images are resized to, multiples of 16; unset: chosen from
    the shape of the normal images and the thickness of the labeled defects."""
    cache_mib: Annotated[int, Field(ge=0)] = 2048
    """Size of each of two temporary files, of resized images and of features; what does not fit is
    computed again."""

    @field_validator("mask_types", mode="before")
    @classmethod
    def _as_texts(cls, types: Any) -> Any:
        return [f"{k}={v}" for k, v in types.items()] if isinstance(types, dict) else types

    @field_validator("mask_types")
    @classmethod
    def _names_colors(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        try:
            parse_types(types)
        except InputValueError as error:
            raise ValueError(str(error).removeprefix("`mask_types` ").removesuffix(".")) from error
        return types

    @field_validator("image_size")
    @classmethod
    def _fits_the_networks(cls, size: tuple[int, int] | None) -> tuple[int, int] | None:
        if size is not None and any(side % 16 for side in size):
            suggestion = tuple(max(64, round(side / 16) * 16) for side in size)
            raise ValueError(f"must be multiples of 16; got {size}. Use {suggestion}")
        return size

    @property
    def has_region(self) -> bool:
        """Whether only part of the image is looked at."""
        return self.roi is not None or self.ignore is not None

    @property
    def working_size(self) -> tuple[int, int]:
        """Height and width in pixels, once they are chosen."""
        assert self.image_size is not None, "`image_size` is not chosen yet"
        return self.image_size


class BackboneSettings(Settings):
    """The pretrained network whose features the autoencoder reconstructs; it is never trained."""

    name: str = "efficientnet_lite0"
    """`efficientnet_lite0`, `dinov2_small`, `timm/NAME` (needs the `timm` extra), or `none`: the
    autoencoder reconstructs the pixels."""
    weights: str | None = None
    """File of its weights: safetensors, or a state dict; unset: those of an installed package."""
    may_download: bool = False
    """Whether weights that are not on this machine may be fetched from the internet."""


class ProfileSettings(Settings):
    """The autoencoder and the loss profile that is made of its errors."""

    snapshots: tuple[Count, ...] = (20, 75, 300)
    """Steps of a cycle after which the error is taken down; the last one ends the cycle."""
    num_cycles: Count = 2
    """How often an autoencoder is trained from the start; the last one is kept."""

    @field_validator("snapshots")
    @classmethod
    def _ascending(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if not steps or list(steps) != sorted(set(steps)):
            raise ValueError(
                f"must be ascending numbers, at least one; got {steps}. Use for example (20, 300)"
            )
        return steps


class SamplerSettings(Settings):
    """The neural batch sampler, which picks the patches that the autoencoder is trained on."""

    kind: SamplerKind = "policy"
    """The learned policy, places drawn uniformly or by their error, or an upper-confidence-bound
    rule that balances error and visits."""


class PredictorSettings(Settings):
    """The predictor and how it is trained."""

    sees: tuple[SideInput, ...] = ("features", "residual", "errors")
    """What it sees beside the image: `features` of the backbone, the autoencoder's last `residual`
    and the `errors` of all snapshots, which are the loss profile."""
    base_channels: Annotated[int, Field(ge=4, le=256)] = 12
    """Channels at half resolution."""
    updates: Count = 1000
    """How often it is updated."""
    batch_size: Count = 8
    """Crops of one update."""
    crop_px: Annotated[int, Field(ge=64, multiple_of=16)] = 192
    """Side of a crop in pixels; at most the image."""
    flip_tta: bool = True
    """Whether an image is scored with its mirror image too, and both are averaged, at twice the
    time; not where horizontal flips are limited."""
    novelty_weight: Annotated[float, Field(ge=0)] | None = None
    """Weight of the autoencoder's error beside the predictor's log-odds, whose weight is 1; unset:
    0.35, or 3 without labels, where the predictor knows simulated defects alone."""


class ViewSettings(Settings):
    """The augmented images that the predictor is trained on."""

    max_rotation_deg: Annotated[float, Field(ge=0, le=180)] = 30.0
    """Largest rotation either way, in degrees."""
    max_lighting_change: Fraction = 0.2
    """Largest change of contrast, brightness (half of it) and gamma, as a fraction."""
    limited: tuple[Change, ...] | None = None
    """Changes of place that are kept small, a quarter of what is usual, or left out if they are
    flips; unset: those that make normal images unlike all others of them, and rotation and shear
    if the surface has a direction."""


class PaperSettings(Settings):
    """What `--preset paper` leaves open; everything else is as the paper has it."""

    num_steps: Annotated[int, Field(ge=10)] = 9000
    """Steps in all; the schedules are stretched or shrunk to them."""
    diversity: Literal["dropout", "reset"] = "dropout"
    """Profiles differ by structured dropout, or by re-initializing the autoencoder every 20 steps
    as in the paper's predecessor."""


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
    """The method: `fast` for two CPU cores, `paper` for the paper's own networks and schedule."""
    tensorboard: bool = False
    """Whether to write TensorBoard logs into the run folder too."""
    data: DataSettings = DataSettings()
    backbone: BackboneSettings = BackboneSettings()
    profile: ProfileSettings = ProfileSettings()
    sampler: SamplerSettings = SamplerSettings()
    predictor: PredictorSettings = PredictorSettings()
    views: ViewSettings = ViewSettings()
    decision: DecisionSettings = DecisionSettings()
    paper: PaperSettings = PaperSettings()

    @model_validator(mode="after")
    def _fits_the_paper(self) -> Config:
        if self.preset == "paper" and self.data.has_region:
            raise ValueError(
                "`data.roi` and `data.ignore` are not for `--preset paper`. Leave them out, or use"
                " the `fast` preset"
            )
        if self.preset == "paper" and self.data.image_size not in (None, (256, 256)):
            raise ValueError(
                f"`data.image_size` is (256, 256) with `--preset paper`; got {self.data.image_size}"
            )
        return self
