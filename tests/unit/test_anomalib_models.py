"""anomalib's models as baselines: what is missing is said, and each trains on a tiny sample.

The second part needs anomalib; it runs on random weights, so that it needs no network access.
"""

import sys

import numpy as np
import pytest
import torch

from patchscout.benchmark import anomalib_models, anomalib_recipes
from patchscout.benchmark.anomalib_models import MODELS, MapNetwork, fit_anomalib
from patchscout.benchmark.anomalib_recipes import Clock, as_is, normalized
from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.config import preset_config
from patchscout.data.images import read_image
from patchscout.data.mvtec import read_mvtec
from patchscout.data.split import draw_split
from patchscout.monitor import Monitor

CPU = torch.device("cpu")


def split_and_config(root, side_px=64):
    split = draw_split(read_mvtec(root), labeled_per_type=1, seed=1)
    size = (side_px, side_px)
    return split, preset_config(data={"image_size": size}, sampler={"patch_px": 16}, seed=1)


def fit(model, root, budget_s=0.0, side_px=64):
    split, config = split_and_config(root, side_px)
    return fit_anomalib(model, split, config, CPU, Monitor(), budget_s=budget_s)


def test_an_unknown_model_is_refused(sample_data):
    with pytest.raises(InputValueError, match=r"must be one of draem.*did you mean 'patchcore'"):
        fit("patchcor", sample_data)


def test_an_image_too_small_for_the_model_is_refused(sample_data):
    with pytest.raises(InputValueError, match="at least 256 x 256 for 'efficientad'; got"):
        fit("efficientad", sample_data, side_px=128)


def test_without_anomalib_the_package_to_install_is_named(sample_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "anomalib", None)
    monkeypatch.delitem(sys.modules, "anomalib.models", raising=False)
    with pytest.raises(InputValueError, match=r"anomalib.*pip install patchscout\[anomalib\]") as e:
        fit("stfpm", sample_data)
    assert "\n" not in str(e.value)


def test_an_anomalib_that_does_not_load_is_told_apart(sample_data, monkeypatch):
    def fails(name):
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr(anomalib_models.importlib, "import_module", fails)
    with pytest.raises(InputValueError, match="does not load: operator torchvision::nms does not"):
        fit("stfpm", sample_data)


def test_bounded_scores_keep_their_order():
    class Distance(torch.nn.Module):
        def forward(self, images):
            return type("Batch", (), {"anomaly_map": 50 * images[:, :1]})

    mapper = MapNetwork(Distance(), as_is)
    mapper.bounds = (10.0, 12.0)
    scores = torch.tensor([0.0, 0.2, 0.24, 0.26, 20.0])
    maps = mapper(scores.view(1, 1, 1, 5).expand(1, 3, 1, 5))
    # z = (50 s - 12) / 2: -6, -1, 0, 0.5, 494
    expected = [1 / 14, 1 / 4, 1 / 2, 2 / 3, (1 + 494 / 495) / 2]
    np.testing.assert_allclose(maps.flatten(), expected, rtol=1e-4)


def test_learning_rates_fall_at_shares_of_the_schedule(sample_data):
    split, config = split_and_config(sample_data)
    task = anomalib_recipes.Task(
        normal=split.train_normal,
        labeled=(),
        held_out=(),
        loader=anomalib_recipes.ImageLoader(config.data.working_size, 0),
        device=CPU,
        monitor=Monitor(),
        clock=Clock(1e6),
        rng=np.random.default_rng(0),
        prepare=as_is,
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    drops = {0.5: 0.1, 0.9: 0.5}
    rates = [optimizer.param_groups[0]["lr"] for _ in task.steps(optimizer, 10, drops)]
    np.testing.assert_allclose(rates, [1.0] * 5 + [0.1] * 4 + [0.05])


def test_a_spent_budget_ends_training_at_once():
    assert Clock(0.0).share == 1
    assert Clock(1e-9, start=0.0).left_s == 0
    assert Clock(1e6).share < 1e-3


def test_imagenet_colors_are_taken_out():
    gray = torch.full((1, 3, 1, 1), 0.5)
    np.testing.assert_allclose(normalized(gray).flatten(), [0.0655, 0.1964, 0.4178], atol=1e-4)


@pytest.fixture
def random_weights(monkeypatch):
    """anomalib with untrained backbones; skips where it is absent or does not load."""
    try:
        import anomalib.models  # noqa: F401  # pyright: ignore[reportMissingImports]
        import timm  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"anomalib does not load: {str(error).splitlines()[0]}")
    create = timm.create_model

    def untrained(*args, pretrained=False, **settings):
        return create(*args, pretrained=False, **settings)

    monkeypatch.setattr(timm, "create_model", untrained)
    monkeypatch.setattr(anomalib_models, "_require_weights", lambda model, backbone: None)


@pytest.fixture
def anomalib_folders(random_weights, monkeypatch, tmp_path):
    """The folders where anomalib keeps weights and data, empty."""
    paths = pytest.importorskip("anomalib.utils.path")
    monkeypatch.setattr(paths, "get_pretrained_weights_dir", lambda: tmp_path)
    monkeypatch.setattr(paths, "get_datasets_dir", lambda: tmp_path)
    return tmp_path


def check(fitted, root, side_px=64):
    image = read_image(root / "train" / "good" / "002.png")
    anomaly_map = fitted.score(image)
    assert anomaly_map.shape == (side_px, side_px)
    assert anomaly_map.dtype == np.float32
    assert 0 <= anomaly_map.min() <= anomaly_map.max() <= 1
    assert 0 <= fitted.threshold <= 1
    assert fitted.seconds > 0


@pytest.mark.usefixtures("random_weights")
@pytest.mark.parametrize("model", ["patchcore", "stfpm", "supersimplenet"])
def test_models_on_backbones_train_and_score(model, sample_data, monkeypatch):
    steps = []
    learn = anomalib_recipes._learn
    monkeypatch.setattr(
        anomalib_recipes, "_learn", lambda *args, **kw: (steps.append(1), learn(*args, **kw))
    )
    fitted = fit(model, sample_data, budget_s=3.0, side_px=128)
    assert bool(steps) == (model != "patchcore")
    check(fitted, sample_data, 128)


def test_missing_data_and_weights_are_named(sample_data, anomalib_folders):
    with pytest.raises(InputNotFoundError, match=r"dtd.*which are not at"):
        fit("draem", sample_data)
    with pytest.raises(InputNotFoundError, match=r"pretrained_teacher_small.pth.*Unpack https"):
        fit("efficientad", sample_data, side_px=256)


@pytest.mark.slow
def test_draem_pastes_textures(sample_data, anomalib_folders, monkeypatch):
    (anomalib_folders / "dtd").mkdir()
    check(fit("draem", sample_data, budget_s=2.0), sample_data)


@pytest.mark.slow
def test_efficientad_with_a_teacher(sample_data, anomalib_folders):
    from anomalib.models.image.efficient_ad.torch_model import (  # pyright: ignore[reportMissingImports]
        EfficientAdModel,
    )

    weights = anomalib_folders / "efficientad_pretrained_weights" / "pretrained_teacher_small.pth"
    weights.parent.mkdir()
    torch.save(EfficientAdModel().teacher.state_dict(), weights)
    photographs = anomalib_folders / "imagenette"
    photographs.mkdir()
    (photographs / "one.JPEG").write_bytes(
        (sample_data / "train" / "good" / "002.png").read_bytes()
    )
    check(fit("efficientad", sample_data, budget_s=4.0, side_px=256), sample_data, 256)


def test_every_model_has_a_test():
    assert MODELS == ("draem", "efficientad", "patchcore", "stfpm", "supersimplenet")
