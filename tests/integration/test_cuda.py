"""On a GPU: everything runs there, and finds what the CPU finds."""

import copy

import numpy as np
import pytest
import torch

from patchscout.config import preset_config
from patchscout.detector import PatchScout
from patchscout.inference import Scorer
from patchscout.monitor import Monitor
from patchscout.networks import make_predictor
from patchscout.training.member import MemberInTraining

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TOLERANCE = 1e-4
"""By how much anomaly maps may differ between devices."""


def settings(device, **groups):
    """Return settings that train in seconds."""
    training = {"num_cycles": 2, "steps_per_cycle": 12, "predictor_updates": 30}
    return preset_config(
        groups.pop("preset", "fast"),
        device=device,
        data={"image_size": (96, 128)},
        training=training | groups.pop("training", {}),
        buffer={"capacity": 16},
        **{"labeled_per_type": 2, **groups},
    )


class Figures(Monitor):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__(quiet=True)
        self.losses = []

    def log(self, step, figures):
        self.losses += [figures[name] for name in ("predictor/loss",) if name in figures]


KINDS = {
    "fast": {},
    "members": {"predictor": {"num_members": 3, "image_members": 1}},
    "no labels": {"labeled_per_type": 0},
    "uniform": {"sampler": {"kind": "uniform"}},
    "dropout": {"profile": {"diversity": "dropout", "length": 3}},
    "paper": {
        "preset": "paper",
        "predictor": {"batch_size": 12},
        "sampler": {"num_walkers": 8},
        "training": {"steps_per_cycle": 20, "predictor_updates": 40},
    },
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


def test_a_gpu_learns_what_the_cpu_learns(sample_data):
    losses = {}
    for device in ("cpu", "cuda"):
        figures = Figures()
        # The places of uniform patches, unlike a policy's moves, are drawn alike on all devices.
        config = settings(device, sampler={"kind": "uniform"}, training={"mixed_precision": False})
        PatchScout(config).fit(sample_data, monitor=figures)
        losses[device] = figures.losses
    assert len(losses["cpu"]) > 20
    np.testing.assert_allclose(losses["cuda"][:5], losses["cpu"][:5], rtol=5e-3)
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=0.2)


def test_a_recording_is_replayed_for_each_image(sample_data):
    scout = PatchScout(settings("cuda")).fit(sample_data)
    score = Scorer(scout.segmenter, (96, 128), CUDA)
    images = np.random.default_rng(0).random((3, 96, 128, 3), np.float32)
    first = [score(image) for image in images]
    again = list(score.many(images))
    for image, one, other in zip(images, first, again, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
        on_cpu = Scorer(copy.deepcopy(scout.segmenter).cpu(), (96, 128), CPU)
        assert np.abs(one - on_cpu(image)).max() < TOLERANCE


@pytest.mark.parametrize("mixed", [False, True])
def test_a_recorded_member_learns_as_it_does_unrecorded(mixed):
    torch.manual_seed(0)
    predictor = make_predictor("lean", [6], 8, None).to(CUDA)
    twin = copy.deepcopy(predictor)
    members = [MemberInTraining(one, 0, CUDA, mixed=mixed) for one in (predictor, twin)]
    batches = torch.rand(4, 2, 6, 64, 64, device=CUDA)
    members[0].record(batches[0])
    for buffer, other in zip(predictor.buffers(), twin.buffers(), strict=True):
        assert torch.equal(buffer, other)
    for batch in batches:
        gradients = []
        for network, member in zip((predictor, twin), members, strict=True):
            network.zero_grad()
            member(batch).square().mean().backward()
            gradients.append([parameter.grad for parameter in network.parameters()])
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=0.02, atol=1e-4)
    for buffer, other in zip(predictor.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, rtol=1e-2, atol=1e-4)
