"""On a GPU: everything runs there, and finds what the CPU finds."""

import copy

import numpy as np
import pytest
import torch

from patchscout import devices
from patchscout.detector import PatchScout
from patchscout.inference import Scorer
from patchscout.monitor import Monitor
from patchscout.presets import merged, preset_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TOLERANCE = 1e-4
"""By how much anomaly maps may differ between devices."""


def settings(device, **groups):
    """Return settings that train in seconds."""
    brief = {
        "data": {"image_size": (96, 128)},
        "profile": {"snapshots": (4, 12), "num_cycles": 2},
        "predictor": {"updates": 30, "crop_px": 64, "batch_size": 4},
        "labeled_per_type": 2,
    }
    return preset_config(groups.pop("preset", "fast"), device=device, **merged(brief, groups))


class Figures(Monitor):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__(quiet=True)
        self.losses = []

    def log(self, step, figures):
        self.losses += [figures[name] for name in ("predictor/loss",) if name in figures]


KINDS = {
    "fast": {},
    "no labels": {"labeled_per_type": 0},
    "uniform": {"sampler": {"kind": "uniform"}},
    "ucb": {"sampler": {"kind": "ucb"}},
    "pixels": {"backbone": {"name": "none"}},
    "flip": {"predictor": {"flip_tta": True, "sees": ("features", "errors")}},
    "paper": {"preset": "paper", "data": {"image_size": (256, 256)}, "paper": {"num_steps": 20}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_gpu_trained_is_the_same_on_the_cpu(kind, sample_data, tmp_path):
    scout = PatchScout(settings("cuda", **KINDS[kind])).fit(sample_data)
    assert next(scout.segmenter.parameters()).device.type == "cuda"
    scout.save(tmp_path / "run")
    on_cpu = PatchScout.load(tmp_path / "run", device="cpu")
    rng = np.random.default_rng(0)
    for size in ((96, 128), (300, 211), (64, 64)):
        image = (255 * rng.random((*size, 3))).astype(np.uint8)
        found, expected = scout.predict(image), on_cpu.predict(image)
        assert np.abs(found.anomaly_map - expected.anomaly_map).max() < TOLERANCE
    here, there = (one.evaluate(sample_data) for one in (scout, on_cpu))
    assert here["pixel_f1_max"] == pytest.approx(there["pixel_f1_max"], abs=1e-3)


def test_a_gpu_learns_what_the_cpu_learns(sample_data, monkeypatch):
    losses = {}
    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda _: False)
    for device in ("cpu", "cuda"):
        figures = Figures()
        # The places of uniform patches, unlike a policy's moves, are drawn alike on all devices.
        # Deleted channels are not.
        config = settings(device, sampler={"kind": "uniform"}, profile={"dropout": 0.0})
        PatchScout(config).fit(sample_data, monitor=figures)
        losses[device] = figures.losses
    assert len(losses["cpu"]) == 30
    np.testing.assert_allclose(losses["cuda"][:5], losses["cpu"][:5], rtol=5e-2)
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=0.2)


def test_images_are_scored_alike_one_by_one_and_together(sample_data):
    scout = PatchScout(settings("cuda")).fit(sample_data)
    score = Scorer(scout.segmenter, (96, 128), CUDA)
    images = np.random.default_rng(0).random((3, 96, 128, 3), np.float32)
    first = [score(image) for image in images]
    again = list(score.many(images))
    for image, one, other in zip(images, first, again, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
        on_cpu = Scorer(copy.deepcopy(scout.segmenter).cpu(), (96, 128), CPU)
        assert np.abs(one - on_cpu(image)).max() < TOLERANCE
