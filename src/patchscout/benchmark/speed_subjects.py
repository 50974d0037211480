"""What `make bench` times: this program's model by each runtime, the paper's networks, and peers.

Weights are random but for a run that is named: they have no influence on time.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from patchscout.checkpoint import build_segmenter, load_model
from patchscout.config import Config, preset_config
from patchscout.export import export_model
from patchscout.exported import SUFFIXES, ExportedModel, ExportFormat, ModelFacts
from patchscout.inference import Scorer, resize_map
from patchscout.networks import make_autoencoder, make_predictor
from patchscout.networks.loss_profile import ProfileExtractor
from patchscout.networks.segmenter import FeatureExtractor, Segmenter
from patchscout.training.snapshots import draw_dropout_masks

SIZE = (256, 256)
"""Height and width in pixels of the images, and the size that every model works at."""

Batch = UInt[np.ndarray, "batch height width 3"]
Maps = Float[np.ndarray, "batch height width"]

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Subject:
    """Something that scores images.

    Attributes:
        score: Returns the anomaly maps of images, at their own size.
        num_parameters: Of all networks that take part.
        size_bytes: Of the model on disk.
        flops: Floating-point operations to score one image, two for a multiplication and sum.
    """

    score: Callable[[Batch], Maps]
    num_parameters: int
    size_bytes: int
    flops: int


def build(name: str, run: Path | None = None, device: torch.device = CPU) -> Subject:
    """Return a subject by its name in `SUBJECTS`.

    Args:
        name: Its name.
        run: Run folder whose model the `fast` ones are; unset: random weights.
        device: Where those of PyTorch compute.
    """
    return SUBJECTS[name](run, device)


def _eager(segmenter: Segmenter, image_size: tuple[int, int], device: torch.device) -> Subject:
    facts = _facts(segmenter, image_size)
    score = Scorer(segmenter.to(device), image_size, device)

    def score_all(images: Batch) -> Maps:
        pixels = (image.astype(np.float32) / 255 for image in images)
        return np.stack([resize_map(one, images.shape[1:3]) for one in score.many(pixels)])

    return Subject(score_all, *facts)


def _facts(network: nn.Module, image_size: tuple[int, int]) -> tuple[int, int, int]:
    """Return how many parameters a network has, their bytes, and its operations for an image."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    return parameters, size, count_flops(network, torch.zeros(1, 3, *image_size))


@torch.no_grad()
def count_flops(network: Callable[[torch.Tensor], object], inputs: torch.Tensor) -> int:
    """Return the floating-point operations of a forward pass."""
    with FlopCounterMode(display=False) as counter:
        network(inputs)
    return counter.get_total_flops()


def _ours(run: Path | None, *, mirrored: bool) -> tuple[Segmenter, tuple[int, int]]:
    if run is None:
        segmenter, size = untrained(preset_config("fast", data={"image_size": SIZE})), SIZE
    else:
        loaded = load_model(run, CPU)
        segmenter, size = loaded.segmenter, loaded.config.data.working_size
    segmenter.mirrored = segmenter.mirrored and mirrored
    return segmenter, size


def untrained(config: Config) -> Segmenter:
    """Return a model of these settings, working size included, with random weights."""
    profile, settings, state = config.profile, config.autoencoder, {}
    if profile.diversity == "dropout":
        channels = make_autoencoder(
            settings.architecture, settings.base_channels, settings.bottleneck_channels
        ).bottleneck_channels
        masks = draw_dropout_masks(profile.length, channels, profile.dropout_rate, 0)
        state["features.profiles.masks"] = masks
    return build_segmenter(config, state).eval()


def _exported(file_format: ExportFormat, run: Path | None, *, mirrored: bool) -> Subject:
    segmenter, image_size = _ours(run, mirrored=mirrored)
    facts = ModelFacts(category="speed", threshold=0.5, image_size=image_size)
    noise = np.random.default_rng(0).random((*SIZE, 3), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{SUFFIXES[file_format]}"
        export_model(segmenter, facts, path, file_format, [noise], ["noise"])
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        model = ExportedModel.load(path, num_threads=torch.get_num_threads())
    num_parameters, _, flops = _facts(segmenter, image_size)
    return Subject(lambda images: model.run(images)[0], num_parameters, size, flops)


def _papers_networks(run: Path | None, device: torch.device) -> Subject:
    """Return the authors' way: ten autoencoders on the image, one after the other, no folding."""
    autoencoders = [make_autoencoder("paper", 16, 32).eval() for _ in range(10)]
    profiles = ProfileExtractor(autoencoders, None, "linear")
    features = FeatureExtractor(profiles, "profile", torch.zeros(3), torch.ones(3))
    return _eager(Segmenter(features, make_predictor("paper", [10], 16)).eval(), SIZE, device)


def _peer(model: str, device: torch.device) -> Subject:
    """Return a model of anomalib with random weights."""
    module = importlib.import_module(f"anomalib.models.image.{model}.torch_model")
    if model == "patchcore":
        network = module.PatchcoreModel(["layer2", "layer3"], pre_trained=False)
        network.memory_bank = torch.rand(16384, 1536)
    else:
        network = module.STFPMModel(["layer1", "layer2", "layer3"], "resnet18")
    facts = _facts(network.eval(), SIZE)
    network = network.to(device)

    @torch.no_grad()
    def score(images: Batch) -> Maps:
        pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255
        return network(pixels).anomaly_map.reshape(len(images), *SIZE).cpu().numpy()

    return Subject(score, *facts)


SUBJECTS: dict[str, Callable[[Path | None, torch.device], Subject]] = {
    "fast, PyTorch": lambda run, device: _eager(*_ours(run, mirrored=True), device),
    "fast, ONNX Runtime": lambda run, _: _exported("onnx", run, mirrored=True),
    "fast, OpenVINO": lambda run, _: _exported("openvino", run, mirrored=True),
    "fast, not mirrored, PyTorch": lambda run, device: _eager(*_ours(run, mirrored=False), device),
    "fast, not mirrored, ONNX Runtime": lambda run, _: _exported("onnx", run, mirrored=False),
    "fast, not mirrored, OpenVINO": lambda run, _: _exported("openvino", run, mirrored=False),
    "paper preset, PyTorch": lambda _, device: _eager(
        untrained(preset_config("paper", data={"image_size": SIZE})), SIZE, device
    ),
    "the paper's networks, PyTorch": _papers_networks,
    "anomalib PatchCore, PyTorch": lambda _, device: _peer("patchcore", device),
    "anomalib STFPM, PyTorch": lambda _, device: _peer("stfpm", device),
}
"""By name, in the order of the table."""

REFERENCE = "the paper's networks, PyTorch"
"""What the others are compared with."""
