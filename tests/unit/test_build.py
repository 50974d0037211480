"""The one builder: whatever the settings say, a model that answers and that can be trained."""

import pytest
import torch

from patchscout import checkpoint
from patchscout.build import build
from patchscout.presets import preset_config
from patchscout.training import loop

SIZE = {"image_size": (64, 80)}
IMAGES = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))
CASES = {
    "default": {},
    "pixels": {"backbone": {"name": "none"}},
    "transformer": {"backbone": {"name": "dinov2_small"}},
    "image alone": {"predictor": {"sees": ()}},
    "all": {"predictor": {"sees": ("features", "residual", "errors"), "flip_tta": True}},
    "one snapshot": {"profile": {"snapshots": (9,)}, "predictor": {"novelty_weight": 0.5}},
}


@pytest.mark.parametrize("name", CASES)
def test_any_model_answers_and_every_weight_of_the_predictor_matters(name):
    torch.manual_seed(0)
    model = build(preset_config("fast", data=SIZE, **CASES[name]), pretrained=False)
    assert not model.training
    found = model(IMAGES)
    assert found.shape == (2, 64, 80)
    assert 0 <= found.min() <= found.max() <= 1
    (found * torch.randn_like(found)).sum().backward()
    for key, parameter in model.predictor.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key
    assert not any(parameter.requires_grad for parameter in model.observer.parameters())


def test_the_settings_decide_what_is_built():
    model = build(
        preset_config(
            "fast",
            data=SIZE,
            backbone={"name": "none"},
            profile={"snapshots": (2, 3, 9)},
            predictor={"flip_tta": True, "novelty_weight": 0.7, "base_channels": 8},
        ),
        pretrained=False,
    )
    assert (model.flip_tta, model.novelty_weight) == (True, 0.7)
    assert len(model.profile.snapshots) == 3
    assert model.predictor.head.in_channels == 8


def test_no_mirror_image_is_scored_that_is_unlike_normal_images():
    limited = preset_config("fast", data=SIZE, views={"limited": ["horizontal_flip"]})
    assert not build(limited, pretrained=False).flip_tta


def test_training_and_loading_build_by_it():
    assert loop.build is checkpoint.build is build


@torch.no_grad()
def test_a_model_loaded_into_another_answers_exactly_alike():
    config = preset_config(
        "fast", data=SIZE, backbone={"name": "none"}, predictor={"novelty_weight": 0.5}
    )
    one, other = (build(config, pretrained=False) for _ in range(2))
    one.observer.channel_mean.fill_(0.4)
    assert not torch.equal(one(IMAGES), other(IMAGES))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(IMAGES), other(IMAGES))
