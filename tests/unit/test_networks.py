"""One contract that every network keeps: shapes, gradients, sizes, weights on disk, evaluation."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from patchscout.networks.autoencoder import (
    DROPOUT,
    FeatureAutoencoder,
    LevelAutoencoder,
    cosine_error,
    patch_losses,
)
from patchscout.networks.unet import UNet

SIDES = {2: 5, 4: 3, 8: 6, 16: 2, 32: 4}
"""Channels of the side input of every stride but 1."""


@dataclass(frozen=True)
class Case:
    """A network, the shapes of its inputs and those of what it returns."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple]
    output_shapes: tuple[tuple[int, ...], ...]


def noise(*shape):
    return torch.randn(shape)


def unet_inputs(height, width, strides):
    sides = [noise(2, SIDES.get(s, 7), -(-height // s), -(-width // s)) for s in sorted(strides)]
    return noise(2, 6, height, width), sides


CASES = {
    "level": Case(lambda: LevelAutoencoder(24), lambda: (noise(2, 24, 6, 9),), ((2, 24, 6, 9),)),
    "autoencoder": Case(
        lambda: FeatureAutoencoder([3, 40, 112]),
        lambda: ([noise(2, 3, 12, 8), noise(2, 40, 6, 4), noise(2, 112, 3, 2)],),
        ((2, 3, 12, 8), (2, 40, 6, 4), (2, 112, 3, 2)),
    ),
    "unet": Case(lambda: UNet(6, {}, 4), lambda: unet_inputs(64, 96, ()), ((2, 64, 96),)),
    "unet with sides": Case(
        lambda: UNet(6, SIDES, 4), lambda: unet_inputs(64, 96, SIDES), ((2, 64, 96),)
    ),
    "unet in pixel space": Case(
        lambda: UNet(6, {1: 7, 2: 5}, 4), lambda: unet_inputs(64, 96, {1, 2}), ((2, 64, 96),)
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    torch.manual_seed(0)
    return CASES[request.param]


def outputs(network, inputs):
    found = network(*inputs)
    return found if isinstance(found, list) else [found]


def one_of(inputs, number):
    """The inputs of one image of a batch."""
    return tuple(
        [each[number : number + 1] for each in part]
        if isinstance(part, list)
        else part[number : number + 1]
        for part in inputs
    )


def trained_a_little(case):
    """A network whose running statistics are no longer those of a new one."""
    network = case.make().train()
    with torch.no_grad():
        for _ in range(3):
            outputs(network, case.inputs())
    return network


def test_shapes_and_gradients(case):
    # Evaluating: while training, batch norm takes away again what a bias before it adds.
    network = case.make().eval()
    results = outputs(network, case.inputs())
    assert tuple(result.shape for result in results) == case.output_shapes
    torch.stack([(result * torch.randn_like(result)).sum() for result in results]).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
def test_evaluation_is_deterministic_and_alike_for_one_and_for_many(case):
    network, inputs = trained_a_little(case).eval(), case.inputs()
    together, again = outputs(network, inputs), outputs(network, inputs)
    apart = [outputs(network, one_of(inputs, number)) for number in range(2)]
    for index, result in enumerate(together):
        assert torch.equal(result, again[index])
        found = torch.cat([one[index] for one in apart])
        torch.testing.assert_close(result, found, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_weights_survive_safetensors(case, tmp_path):
    network, inputs = trained_a_little(case).eval(), case.inputs()
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    other = case.make().eval()
    expected, before = outputs(network, inputs), outputs(other, inputs)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    for index, result in enumerate(outputs(other, inputs)):
        assert not torch.equal(result, before[index])
        assert torch.equal(result, expected[index])


def test_new_networks_follow_the_seed(case):
    def weights():
        torch.manual_seed(5)
        return torch.cat([parameter.flatten() for parameter in case.make().parameters()])

    assert torch.equal(weights(), weights())


@pytest.mark.parametrize("size", [(16, 16), (48, 80), (112, 16), (208, 64)], ids=str)
@torch.no_grad()
def test_the_predictor_takes_sides_of_any_multiple_of_16(size):
    network = UNet(6, {1: 7, **SIDES}, 4).eval()
    images, sides = unet_inputs(size[0], size[1], {1, *SIDES})
    assert network(images, sides).shape == (2, *size)


@pytest.mark.parametrize("stride", [1, *SIDES])
@torch.no_grad()
def test_a_side_input_matters_where_it_lies(stride):
    """What is new in one corner changes the answer there most."""
    torch.manual_seed(0)
    network = UNet(6, {stride: SIDES.get(stride, 7)}, 8).eval()
    images, (side,) = unet_inputs(128, 128, {stride})
    plain = network(images, [side])
    changed = side.clone()
    changed[..., -(16 // stride or 1) :, : (16 // stride or 1)] += 3.0
    difference = (network(images, [changed]) - plain).abs()
    assert difference[:, -32:, :32].mean() > 3 * difference[:, :96, 32:].mean()


def test_structured_dropout_deletes_whole_bottleneck_channels_in_training_only():
    torch.manual_seed(0)
    network = LevelAutoencoder(24)
    seen = []
    network.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(noise(50, 24, 5, 5))
    network.eval()(noise(50, 24, 5, 5))
    trained, evaluated = ((code.abs().amax(dim=(2, 3)) > 0).float() for code in seen)
    assert trained.mean() == pytest.approx(1 - DROPOUT, abs=0.05)
    assert ((seen[0] != 0).flatten(2).float().mean(dim=2) % 1 == 0).all()  # all of it or nothing
    assert evaluated.all()


@pytest.mark.parametrize(("channels", "narrowest"), [(3, 16), (40, 20), (384, 32)])
def test_the_bottleneck_is_narrow(channels, narrowest):
    network = LevelAutoencoder(channels)
    assert network.encoder(noise(1, channels, 4, 4)).shape[1] == narrowest


def test_the_error_is_one_minus_the_cosine_by_hand():
    features = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 0.0], [0.0, 2.0]]).T[None, :, None]
    reconstructions = torch.tensor([[6.0, 8.0], [-1.0, 0.0], [0.0, 5.0], [2.0, 2.0]]).T[
        None, :, None
    ]
    expected = torch.tensor([[[0.0, 2.0, 1.0, 1 - 0.5**0.5]]])
    torch.testing.assert_close(cosine_error(features, reconstructions), expected)
    nothing = torch.zeros_like(features)
    assert cosine_error(nothing, reconstructions).isfinite().all()


def test_the_loss_of_a_patch_is_the_sum_over_levels_of_its_mean_error():
    levels = [torch.tensor([[[0.1, 0.3]], [[0.0, 0.0]]]), torch.tensor([[[0.5]], [[1.0]]])]
    torch.testing.assert_close(patch_losses(levels), torch.tensor([0.7, 1.0]))
