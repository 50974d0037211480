"""One contract that every network keeps: shapes, gradients, sizes, weights on disk, evaluation."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from patchscout.networks import (
    Autoencoder,
    LeanAutoencoder,
    LeanPredictor,
    make_autoencoder,
    make_predictor,
)

SMALL = 64


@dataclass(frozen=True)
class Case:
    """A network with the shapes of its input and of what it returns."""

    make: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    output_shapes: tuple[tuple[int, ...], ...]


CASES = {
    "lean autoencoder": Case(lambda: LeanAutoencoder(8, 12), (2, 3, 32, 48), ((2, 3, 32, 48),)),
    "lean predictor": Case(lambda: LeanPredictor(13, 8), (2, 13, 64, 96), ((2, 64, 96),)),
    "predictors": Case(lambda: make_predictor("lean", [9, 6], 8), (2, 9, 64, 96), ((2, 64, 96),)),
}
AUTOENCODERS = {"lean": lambda: LeanAutoencoder(8, 12)}


@pytest.fixture(params=CASES)
def case(request):
    torch.manual_seed(0)
    return CASES[request.param]


def outputs(network, inputs):
    return (network(inputs),)


def trained_a_little(case):
    """A network whose running statistics are no longer those of a new one."""
    network = case.make().train()
    with torch.no_grad():
        for _ in range(3):
            outputs(network, torch.rand(case.input_shape))
    return network


def test_shapes_and_gradients(case):
    # Evaluating: while training, batch norm takes away again what a bias before it adds.
    network = case.make().eval()
    results = outputs(network, torch.rand(case.input_shape))
    assert tuple(result.shape for result in results) == case.output_shapes
    loss = torch.stack([(result * torch.randn_like(result)).sum() for result in results]).sum()
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_evaluation_is_deterministic_and_alike_for_one_and_for_many(case):
    network = trained_a_little(case).eval()
    inputs = torch.rand(case.input_shape)
    with torch.no_grad():
        together, again = outputs(network, inputs), outputs(network, inputs)
        apart = [outputs(network, one[None]) for one in inputs]
    for index, result in enumerate(together):
        assert torch.equal(result, again[index])
        torch.testing.assert_close(result, torch.cat([one[index] for one in apart]))


def test_weights_survive_safetensors(case, tmp_path):
    network = trained_a_little(case).eval()
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    other = case.make().eval()
    inputs = torch.rand(case.input_shape)
    with torch.no_grad():
        expected, before = outputs(network, inputs), outputs(other, inputs)
        other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        loaded = outputs(other, inputs)
    for index, result in enumerate(expected):
        assert not torch.equal(result, before[index])
        assert torch.equal(result, loaded[index])


def test_new_networks_follow_the_seed(case):
    def weights():
        torch.manual_seed(5)
        return torch.cat([parameter.flatten() for parameter in case.make().parameters()])

    assert torch.equal(weights(), weights())


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_folded_reconstructs_as_evaluation_does(name):
    torch.manual_seed(0)
    network = AUTOENCODERS[name]().train()
    images = torch.rand(2, 3, SMALL, SMALL)
    with torch.no_grad():
        for _ in range(5):
            network(torch.rand(2, 3, SMALL, SMALL))
        mask = torch.ones(1, network.bottleneck_channels)
        mask[:, ::3] = 0
        folded, expected = network.folded(), network.eval()(images)
        assert (folded(images) - expected).abs().max() < 1e-5
        assert (folded(images, mask) - network(images, mask)).abs().max() < 1e-5
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_folding_leaves_the_network_as_it_was():
    network = LeanAutoencoder(8, 12).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = network.folded()
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 1.0
    first = next(iter(folded.parameters()))
    assert not torch.equal(first, next(iter(network.parameters())))
    assert before.keys() == network.state_dict().keys()


@pytest.mark.parametrize("name", AUTOENCODERS)
@pytest.mark.parametrize(
    ("height", "width"), [(68, 64), (64, 65), (8, 64), (66, 130)], ids=lambda side: str(side)
)
def test_sizes_that_do_not_fit_say_which_to_use(name, height, width):
    network = AUTOENCODERS[name]().eval()
    smallest = {"lean": 16, "paper": 64}[name]
    with pytest.raises(ValueError, match="`images` must have sides that are multiples of 8") as e:
        network(torch.rand(1, 3, height, width))
    assert f"at least {smallest}; got {height} x {width}. Resize to " in str(e.value)
    suggested = [int(word) for word in str(e.value).split("Resize to ")[1][:-1].split(" x ")]
    with torch.no_grad():
        assert network(torch.rand(1, 3, *suggested)).shape[-2:] == tuple(suggested)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_masked_channel_carries_nothing(name):
    torch.manual_seed(0)
    network = AUTOENCODERS[name]().eval()
    images = torch.rand(2, 3, SMALL, SMALL)
    with torch.no_grad():
        plain = network(images)
        everything = torch.ones(2, network.bottleneck_channels)
        torch.testing.assert_close(network(images, everything), plain)
        code, skip = network.encode(images)
        mask = torch.ones(2, network.bottleneck_channels)
        mask[1, :4] = 0
        masked = network(images, mask)
        code[1, :4] = 0
        torch.testing.assert_close(masked, network.decode(code, skip))
    torch.testing.assert_close(masked[0], plain[0])
    assert not torch.equal(masked[1], plain[1])


@pytest.mark.parametrize("size", [(2, 2), (18, 34), (64, 32)])
def test_the_lean_predictor_takes_even_sides(size):
    network = LeanPredictor(4, 8).eval()
    assert network.size_multiple == 2
    with torch.no_grad():
        assert network(torch.rand(1, 4, *size)).shape == (1, *size)


def test_predictors_answer_with_the_mean_of_their_logits():
    torch.manual_seed(0)
    predictor = make_predictor("lean", [5, 3], 8).eval()
    features = torch.rand(1, 5, 32, 32)
    with torch.no_grad():
        both = predictor.members[0](features)
        last = predictor.members[1](features[:, 2:])  # as many of the last channels as it takes
        together = predictor(features)
    assert not torch.allclose(both, last)
    torch.testing.assert_close(together, (both + last) / 2)


def test_networks_are_made_by_name():
    lean = make_autoencoder("lean", 8, 12)
    assert isinstance(lean, LeanAutoencoder)
    assert isinstance(lean, Autoencoder)
    assert lean.bottleneck_channels == 12
    members = make_predictor("lean", [10, 10, 6], 16).members
    assert [type(member) for member in members] == [LeanPredictor] * 3
    assert [member.in_channels for member in members] == [10, 10, 6]
