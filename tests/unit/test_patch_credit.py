"""Credit: which patches an autoencoder step on would help the predictor, against the gradients."""

import pytest
import torch

from patchscout.networks import LeanAutoencoder
from patchscout.training.patch_credit import patch_credit


@pytest.fixture
def autoencoder():
    torch.manual_seed(0)
    network = LeanAutoencoder(4, 6)
    with torch.no_grad():
        for _ in range(20):  # gives batch norm some statistics
            network(torch.rand(8, 3, 32, 32))
    return network.eval()


def gradients(network, images):
    loss = (network(images) - images).square().mean()
    return torch.autograd.grad(loss, list(network.parameters()))


def test_it_ranks_patches_as_the_products_of_gradients_do(autoencoder):
    patches = torch.rand(6, 3, 32, 32) * torch.linspace(0.2, 1, 6)[:, None, None, None]
    wanted = gradients(autoencoder, torch.rand(4, 3, 32, 32))
    products = torch.tensor(
        [
            sum(
                (own * other).sum().item()
                for own, other in zip(gradients(autoencoder, patch[None]), wanted, strict=True)
            )
            for patch in patches
        ]
    )
    expected = (products - products.mean()) / products.std(correction=0)
    found = patch_credit(autoencoder, patches, wanted)
    assert torch.corrcoef(torch.stack([found, expected]))[0, 1] > 0.95
    opposite = patch_credit(autoencoder, patches, [-part for part in wanted])
    assert torch.corrcoef(torch.stack([opposite, expected]))[0, 1] < -0.95


def test_it_has_mean_0_and_spread_1_and_changes_no_weight(autoencoder):
    before = [parameter.clone() for parameter in autoencoder.parameters()]
    wanted = gradients(autoencoder, torch.rand(4, 3, 32, 32))
    found = patch_credit(autoencoder, torch.rand(16, 3, 32, 32), wanted)
    assert found.mean().item() == pytest.approx(0, abs=1e-5)
    assert found.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert not found.requires_grad
    assert all(map(torch.equal, before, autoencoder.parameters()))


def test_without_a_slope_or_a_difference_there_is_no_credit(autoencoder):
    patches = torch.rand(1, 3, 32, 32).expand(5, 3, 32, 32).clone()
    nothing = [torch.zeros_like(parameter) for parameter in autoencoder.parameters()]
    assert not patch_credit(autoencoder, torch.rand(5, 3, 32, 32), nothing).any()
    wanted = gradients(autoencoder, torch.rand(4, 3, 32, 32))
    assert not patch_credit(autoencoder, patches, wanted).any()
    assert not patch_credit(autoencoder, patches[:1], wanted).any()


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_patches_that_differ_by_rounding_alone_have_no_credit(autoencoder, level):
    wanted = gradients(autoencoder, torch.rand(4, 3, 32, 32))
    rounding = 1e-7 * torch.randn(8, 3, 32, 32)
    assert not patch_credit(autoencoder, level + rounding, wanted).any()
    one_grey_level = level + torch.linspace(0, 1 / 255, 8)[:, None, None, None]
    flat = one_grey_level.expand(8, 3, 32, 32).contiguous()
    found = patch_credit(autoencoder, flat, wanted)
    assert found.std(correction=0).item() == pytest.approx(1, abs=1e-3)
