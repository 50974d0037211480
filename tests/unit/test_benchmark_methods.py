"""Each method trains, scores in [0, 1] and chooses its threshold by one rule."""

from pathlib import Path

import numpy as np
import pytest
import torch

from patchscout.benchmark.fitted import calibrate
from patchscout.benchmark.jobs import Job
from patchscout.benchmark.methods import fit
from patchscout.benchmark.results import Run
from patchscout.benchmark.worker import Order, run
from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.config import preset_config
from patchscout.data.images import read_image, resize_image
from patchscout.data.layout import read_dataset
from patchscout.data.loader import resized_mask
from patchscout.data.split import draw_split
from patchscout.limits import Limits, current_limits, set_limits
from patchscout.metrics import f1_at_threshold
from patchscout.monitor import Monitor
from patchscout.training.calibration import hold_out
from patchscout.training.views import FEWEST_SIMULATED
from patchscout.types import Split

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config():
    return preset_config(
        "fast",
        labeled_per_type=2,
        seed=1,
        device="cpu",
        data={"image_size": (64, 64)},
        sampler={"window_px": 32, "patch_px": 16, "stride_px": 4, "num_walkers": 8},
        training={"num_cycles": 1, "steps_per_cycle": 14, "predictor_updates": 4},
        predictor={"batch_size": 2, "base_channels": 4},
        buffer={"capacity": 6},
        autoencoder={"base_channels": 4},
    )


@pytest.fixture(scope="module")
def split(sample_data):
    return draw_split(read_dataset(sample_data), labeled_per_type=2, seed=1)


def test_the_last_error_is_a_map_by_itself(split, config):
    fitted = fit("last_error", None, split, config, CPU, Monitor())
    anomaly_map = fitted.score(read_image(split.test[0].image_path))
    assert (anomaly_map.shape, anomaly_map.dtype) == ((64, 64), np.float32)
    assert 0 <= anomaly_map.min() < anomaly_map.max() <= 1
    assert 0 < fitted.threshold <= 1
    assert fitted.seconds > 0
    _, normal = hold_out(split.train_normal, config.seed)
    largest = max(
        fitted.score(read_image(sample.image_path)).max() for sample in (*split.labeled, *normal)
    )
    assert largest == 1  # by which errors are divided


def test_the_threshold_has_the_best_f1_of_the_training_images(split, config):
    def score(image):
        return np.full((64, 64), image.mean(), np.float32)

    threshold = calibrate(score, split, config)
    _, normal = hold_out(split.train_normal, config.seed)
    samples = (*split.labeled, *normal)
    preds = np.concatenate([score(read_image(s.image_path)).ravel() for s in samples])
    target = np.concatenate([resized_mask(s, (64, 64)).ravel() for s in samples])
    best = max(f1_at_threshold(preds, target, float(value)) for value in np.unique(preds))
    assert f1_at_threshold(preds, target, threshold) == best


def test_the_last_error_needs_an_autoencoder(split, config):
    inputs = config.predictor.model_copy(update={"inputs": "image"})
    config = config.model_copy(update={"predictor": inputs})
    with pytest.raises(InputValueError, match=r"`method: last_error` needs an autoencoder"):
        fit("last_error", None, split, config, CPU, Monitor())


def test_without_labels_the_threshold_is_chosen_on_simulated_defects(split, config):
    unlabeled = Split(split.train_normal, (), split.test)
    seen = []

    def score(image):
        resized = resize_image(image, (64, 64))
        seen.append(resized)
        return resized[:, :, 0]

    assert 0 < calibrate(score, unlabeled, config) < 1
    _, normal = hold_out(split.train_normal, config.seed)
    assert len(seen) == len(normal) + FEWEST_SIMULATED


def test_an_unknown_model_of_anomalib_is_refused(split, config):
    with pytest.raises((InputNotFoundError, ValueError)):
        fit("anomalib", "no_such_model", split, config, CPU, Monitor())


@pytest.fixture
def order(sample_data, config, tmp_path):
    job = Job(
        category="brick_wall",
        root=sample_data,
        variant="default",
        method="patchscout",
        model=None,
        protocol="seen",
        held_out_type=None,
        on="test",
        size="256",
        config=config,
    )
    limits = Limits(megapixels=2.0)
    rest = {"command": "", "commit": None, "limits": limits}
    return Order(job=job, out=tmp_path, threads=1, parallel_jobs=1, **rest)


def test_an_order_reaches_the_process_whatever_names_are_in_it(order):
    named = {"category": "\udcff\n日", "held_out_type": "\udcfe"}
    odd = order.model_copy(
        update={"job": order.job.model_copy(update=named), "out": Path("/a\udcff\nb")}
    )
    line = odd.line()
    assert line.isascii()
    assert "\n" not in line
    assert Order.read(line) == odd


def test_a_job_leaves_figures_and_histograms_that_agree(order, tmp_path):
    job = order.job
    try:
        result = run(order)
        assert current_limits() == order.limits
    finally:
        set_limits(Limits())
    table = Run(job.path(tmp_path), result).table
    assert len(table.names) == result["images"]["test"] == result["metrics"]["num_images"]
    # Measured at 256 x 256 whatever the size that was worked on at.
    assert table.normal.sum() + table.anomalous.sum() == 256 * 256 * len(table.names)
    assert result["metrics"]["evaluation_size"] == [256, 256]
    assert result["working_size"] == [64, 64]
    hits = table.anomalous[:, table.threshold_bin :].sum()
    predicted = hits + table.normal[:, table.threshold_bin :].sum()
    f1 = 2 * hits / (predicted + table.anomalous.sum())
    assert f1 == pytest.approx(result["metrics"]["pixel_f1_at_threshold"])
