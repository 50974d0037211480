"""`make bench`: what is counted, and the table made of it."""

import json

import numpy as np
import pytest

from patchscout.benchmark import cost_curves, memory, speed
from patchscout.benchmark.speed_subjects import REFERENCE, SIZE, SUBJECTS, build

FIGURES = {
    "ms_per_image": 20.0,
    "images_per_second": 55.5,
    "peak_memory_mib": 400.2,
    "size_mib": 5.6,
    "parameters": 1460531,
    "gflops": 2.15,
}


def test_a_subject_scores_images_and_counts_its_operations():
    subject = build("fast, not mirrored, PyTorch")
    images = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype(np.uint8)
    assert subject.score(images).shape == (2, *SIZE)
    # Two for each multiplication and sum:
    # two small autoencoders, the backbone and the predictor, once each.
    assert subject.flops == pytest.approx(1.78e9, rel=0.01)
    mirrored = build("fast, PyTorch")
    assert mirrored.flops == pytest.approx(subject.flops + 1.46e9, rel=0.01)  # the latter two again
    assert mirrored.size_bytes == subject.size_bytes
    # Components, which are not parameters: of deviations, and of novelty with mean and spread.
    components = 80 * 6 * (32**2 + 16**2) + (40 + 2) * (40 * 32**2 + 112 * 16**2)
    assert (subject.num_parameters + components) * 4 == pytest.approx(subject.size_bytes, rel=0.03)


def test_the_papers_networks_have_the_papers_size():
    assert build(REFERENCE).num_parameters == pytest.approx(10 * 5.95e6, rel=1e-3)


def test_every_subject_is_in_the_table_with_how_much_faster_it_is(tmp_path, monkeypatch, capsys):
    def measured(name, run, device):
        return FIGURES | {"ms_per_image": 1000.0 if name == REFERENCE else 20.0}

    monkeypatch.setattr(speed, "_in_a_process", measured)
    monkeypatch.setattr(speed, "_is_there", lambda name: "anomalib" not in name)
    monkeypatch.setattr(speed, "peak_flops", lambda device: 2 * 55.5 * 2.15e9)
    speed.main(speed.Arguments(out=tmp_path, no_training=True))
    text = (tmp_path / "speed.md").read_text()
    assert "| fast, ONNX Runtime | 20.0 | 55.5 | 50 | 50 | 400 | 5.6 | 1,460,531 | 2.15 |" in text
    assert f"| {REFERENCE} | 1000.0 | 55.5 | 50 | 1 |" in text
    assert text in capsys.readouterr().out
    result = json.loads((tmp_path / "speed.json").read_text())
    assert list(result["scoring"]) == [name for name in SUBJECTS if "anomalib" not in name]


@pytest.mark.slow
def test_cost_curves_have_a_point_for_each_size_and_number(tmp_path, monkeypatch):
    short = {"num_cycles": 1, "steps_per_cycle": 20, "predictor_updates": 4}
    monkeypatch.setattr(cost_curves, "SHORT", short)
    arguments = cost_curves.Arguments(tmp_path, tmp_path / "cost.png", (128, 256), (8, 12))
    result = cost_curves.main(arguments)
    assert json.loads((tmp_path / "cost_curves.json").read_text()) == result
    assert [point["pixels"] for point in result["scoring"]] == [128**2, 256**2]
    assert [point["normals"] for point in result["training"]] == [8, 12]
    for point in result["scoring"] + result["training"]:
        assert 0 < point["bound"] < point["seconds"]
    few, many = (point["bound"] for point in result["scoring"])
    assert many == pytest.approx(4 * few, rel=0.1)  # operations grow with pixels
    assert (tmp_path / "cost.png").stat().st_size > 10_000


@pytest.mark.slow
def test_memory_is_measured_for_each_command_and_number(tmp_path, monkeypatch, capsys):
    brief = ["--training.steps-per-cycle", "20", "--training.predictor-updates", "4"]
    monkeypatch.setattr(memory, "SETTINGS", [*memory.SETTINGS[:3], *brief])
    result = memory.main(memory.Arguments(numbers=(6, 60), out=tmp_path))
    assert json.loads((tmp_path / "memory.json").read_text()) == result
    assert list(result["peak_mib"]) == ["train", "evaluate", "predict"]
    for peaks in result["peak_mib"].values():
        assert list(peaks) == ["6", "60"]
        assert all(100 < peak < 4000 for peak in peaks.values())
    assert "|  | 6 images | 60 images |" in capsys.readouterr().out
