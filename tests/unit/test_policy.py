"""The policy network: what it makes of a window, its shapes, gradients and first preferences."""

import pytest
import torch

from patchscout.networks.policy import NUM_STATISTICS, Policy

BRIGHTNESS, ERROR, VISITS, STRUCTURE, INSIDE = range(5)


@pytest.fixture
def observation():
    seen = torch.rand(2, 5, 64, 64, generator=torch.Generator().manual_seed(0))
    seen[:, INSIDE] = 1
    return seen


def test_shapes_and_gradients(observation):
    torch.manual_seed(0)
    network = Policy(64, 32, 16)
    logits, values = network(network.encode(observation))
    assert logits.shape == (2, 9)
    assert values.shape == (2,)
    (logits * torch.randn_like(logits)).sum().backward(retain_graph=True)
    values.sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_value_head_sends_no_gradient_into_the_trunk(observation):
    network = Policy(64, 32, 16)
    _, values = network(network.encode(observation))
    values.sum().backward()
    assert all(parameter.grad is None for parameter in network.trunk.parameters())
    assert all(parameter.grad is not None for parameter in network.value_head.parameters())


def test_one_walker_and_many_see_the_same(observation):
    network = Policy(64, 32, 16)
    together = network(network.encode(observation))
    for index, result in enumerate(together):
        apart = [network(network.encode(one[None]))[index] for one in observation]
        torch.testing.assert_close(result, torch.cat(apart))


def test_it_sees_where_each_action_leads(observation):
    network = Policy(64, 32, 8)
    encoded = network.encode(observation)
    assert encoded.shape == (2, 9, 3 * NUM_STATISTICS + 9)
    assert torch.equal(encoded[0, :, 3 * NUM_STATISTICS :], torch.eye(9))
    # The patch is in the middle, rows and columns 16 to 48. Action 2 moves it up and right by 8.
    for action, rows, columns in ((0, (16, 48), (16, 48)), (2, (8, 40), (24, 56))):
        patch = observation[1, :, slice(*rows), slice(*columns)]
        expected = [
            patch[BRIGHTNESS].std(correction=0),
            patch[ERROR].mean().log1p(),
            patch[VISITS].log1p().mean(),
            2 * patch[STRUCTURE].mean(),
            torch.tensor(0.0),  # nothing is outside
        ]
        torch.testing.assert_close(
            encoded[1, action, :NUM_STATISTICS], torch.stack(expected), atol=1e-4, rtol=1e-4
        )
        here = encoded[1, action, 2 * NUM_STATISTICS : 3 * NUM_STATISTICS]
        torch.testing.assert_close(here, encoded[1, 0, :NUM_STATISTICS])
    corner = observation[1, ERROR, :16, 48:].mean().log1p()  # beyond the patch, up and right
    torch.testing.assert_close(encoded[1, 2, NUM_STATISTICS + 1], corner, atol=1e-5, rtol=1e-5)


def test_it_sees_the_border(observation):
    observation[..., :16, :] = 0  # outside the image
    network = Policy(64, 32, 16)
    outside = network.encode(observation)[0, :, NUM_STATISTICS - 1]
    torch.testing.assert_close(outside, torch.tensor([0, 0.5, 0.5, 0, 0, 0, 0, 0, 0.5]))


def test_a_new_one_has_no_favorite_direction():
    torch.manual_seed(0)
    network = Policy(64, 32, 16)
    logits, _ = network(network.encode(torch.full((1, 5, 64, 64), 0.3)))
    torch.testing.assert_close(logits, logits[:, :1].expand(1, 9), atol=1e-3, rtol=0.0)
