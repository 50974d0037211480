"""Credit: which patches an autoencoder step on would help the predictor, against the gradients."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from patchscout.training.patch_credit import patch_credit


@pytest.fixture
def autoencoder():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 4, 2, 1),
        nn.BatchNorm2d(4, affine=False),
        nn.LeakyReLU(0.2),
        nn.Conv2d(4, 6, 3, 1, 1),
        nn.ConvTranspose2d(6, 3, 4, 2, 1),
    )
    with torch.no_grad():
        for _ in range(20):  # gives batch norm some statistics
            network(torch.rand(8, 3, 32, 32))
    return network.eval()


def gradients(network, images):
    weights = dict(network.named_parameters())
    loss = (network(images) - images).square().mean()
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def credit(network, patches, gradient):
    def losses(weights):
        return (functional_call(network, dict(weights), patches) - patches).square().mean((1, 2, 3))

    return patch_credit(losses, dict(network.named_parameters()), gradient)


def test_it_ranks_patches_as_the_products_of_gradients_do(autoencoder):
    patches = torch.rand(6, 3, 32, 32) * torch.linspace(0.2, 1, 6)[:, None, None, None]
    wanted = gradients(autoencoder, torch.rand(4, 3, 32, 32))
    products = torch.tensor(
        [
            sum(
                (own * wanted[name]).sum().item()
                for name, own in gradients(autoencoder, patch[None]).items()
            )
            for patch in patches
        ]
    )
    expected = (products - products.mean()) / products.std(correction=0)
    found = credit(autoencoder, patches, wanted)
    assert torch.corrcoef(torch.stack([found, expected]))[0, 1] > 0.95
    opposite = credit(autoencoder, patches, {name: -part for name, part in wanted.items()})
    assert torch.corrcoef(torch.stack([opposite, expected]))[0, 1] < -0.95


def test_it_has_mean_0_and_spread_1_and_changes_no_weight(autoencoder):
    before = [parameter.clone() for parameter in autoencoder.parameters()]
    wanted = gradients(autoencoder, torch.rand(4, 3, 32, 32))
    found = credit(autoencoder, torch.rand(16, 3, 32, 32), wanted)
    assert found.mean().item() == pytest.approx(0, abs=1e-5)
    assert found.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert not found.requires_grad
    assert all(map(torch.equal, before, autoencoder.parameters()))


def test_without_a_slope_or_a_difference_there_is_no_credit(autoencoder):
    patches = torch.rand(1, 3, 32, 32).expand(5, 3, 32, 32).clone()
    nothing = {name: torch.zeros_like(part) for name, part in autoencoder.named_parameters()}
    assert not credit(autoencoder, torch.rand(5, 3, 32, 32), nothing).any()
    wanted = gradients(autoencoder, torch.rand(4, 3, 32, 32))
    assert not credit(autoencoder, patches, wanted).any()
    assert not credit(autoencoder, patches[:1], wanted).any()


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_patches_that_differ_by_rounding_alone_have_no_credit(autoencoder, level):
    wanted = gradients(autoencoder, torch.rand(4, 3, 32, 32))
    rounding = 1e-7 * torch.randn(8, 3, 32, 32)
    assert not credit(autoencoder, level + rounding, wanted).any()
    one_grey_level = level + torch.linspace(0, 1 / 255, 8)[:, None, None, None]
    flat = one_grey_level.expand(8, 3, 32, 32).contiguous()
    found = credit(autoencoder, flat, wanted)
    assert found.std(correction=0).item() == pytest.approx(1, abs=1e-3)
