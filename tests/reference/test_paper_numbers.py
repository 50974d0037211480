"""The paper's method against the numbers of arXiv 2511.20270 and its authors' code."""

import pytest
import torch
from torch import nn

from patchscout.config import PaperSettings
from patchscout.paper import settings as numbers
from patchscout.paper.networks import PaperAutoencoder, PaperPolicy, PaperPredictor
from patchscout.presets import preset_config
from patchscout.training.rewards import falling


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def conv(kernel: int, channels_in: int, channels_out: int) -> int:
    """Weights and biases of a convolution."""
    return kernel * kernel * channels_in * channels_out + channels_out


def convolutions(module: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [part for part in module.modules() if isinstance(part, kinds)]


def test_the_autoencoder_has_5_95_million_parameters():
    network = PaperAutoencoder()
    encoder = [(4, 3, 64), (3, 64, 64), (4, 64, 128), (3, 128, 128), (4, 128, 256)]
    encoder += [(3, 256, 128), (3, 128, 64), (8, 64, 200)]
    decoder = [(8, 200, 64), (3, 64, 128), (3, 128, 256), (4, 512, 256), (3, 256, 128)]
    decoder += [(4, 128, 128), (3, 128, 64), (4, 64, 3)]
    # Batch norm without affine has no parameters of its own.
    assert num_parameters(network) == sum(conv(*layer) for layer in encoder + decoder) == 5_951_499
    assert round(num_parameters(network) / 1e6, 2) == 5.95
    layers = [
        (part.kernel_size[0], part.in_channels, part.out_channels) for part in convolutions(network)
    ]
    assert layers == encoder + decoder
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.affine for norm in norms)
    slopes = {p.negative_slope for p in network.modules() if isinstance(p, nn.LeakyReLU)}
    assert slopes == {0.2}


def test_the_encoder_alternates_4x4_of_stride_2_and_3x3_of_stride_1():
    kernels = [(part.kernel_size[0], part.stride[0]) for part in convolutions(PaperAutoencoder())]
    assert kernels[:7] == [(4, 2), (3, 1), (4, 2), (3, 1), (4, 2), (3, 1), (3, 1)]
    assert kernels[7] == (8, 1)


@torch.no_grad()
def test_the_bottleneck_and_the_skip_of_the_autoencoder():
    network = PaperAutoencoder().eval()
    for side in (64, 256):
        code, skip = network.encode(torch.rand(1, 3, side, side))
        assert code.shape == (1, 200, side // 8 - 7, side // 8 - 7)  # an 8x8 conv without padding
        assert skip.shape == (1, 256, side // 8, side // 8)
        assert network.decode(code, skip).shape == (1, 3, side, side)


def test_the_predictor_has_channels_10_32_16_8_4_1():
    network = PaperPredictor()
    layers = [
        (part.in_channels, part.out_channels, part.kernel_size[0], part.dilation[0])
        for part in convolutions(network)
    ]
    assert layers == [(10, 32, 3, 1), (32, 16, 3, 2), (16, 8, 3, 4), (8, 4, 3, 8), (4, 1, 1, 1)]
    # 3x3 without bias (batch norm has one), scale and shift of batch norm, 1x1 with bias
    weights = 9 * (10 * 32 + 32 * 16 + 16 * 8 + 8 * 4)
    assert num_parameters(network) == weights + 2 * (32 + 16 + 8 + 4) + 4 + 1 == 9053


def test_the_predictors_receptive_field_is_31_px():
    network = PaperPredictor().double().eval()
    torch.manual_seed(0)
    features = torch.rand(1, 10, 65, 65, dtype=torch.float64, requires_grad=True)
    network(features)[0, 32, 32].backward()
    assert features.grad is not None
    seen = features.grad.abs().sum(dim=(0, 1)) > 0
    rows, columns = seen.any(dim=1).nonzero().squeeze(1), seen.any(dim=0).nonzero().squeeze(1)
    assert (rows.min(), rows.max()) == (32 - 15, 32 + 15)
    assert (columns.min(), columns.max()) == (32 - 15, 32 + 15)
    assert 1 + 2 * (1 + 2 + 4 + 8) == 31


def test_the_policys_layers_and_parameters():
    network = PaperPolicy()
    layers = [(part.in_channels, part.out_channels) for part in convolutions(network)]
    assert layers == [(6, 16), (16, 32), (32, 32), (32, 64), (64, 64)]
    assert {(p.kernel_size[0], p.stride[0]) for p in convolutions(network)} == {(3, 2)}
    linear = [
        (part.in_features, part.out_features)
        for part in network.modules()
        if isinstance(part, nn.Linear)
    ]
    assert linear == [(1024, 256), (256, 9), (256, 1)]
    # conv: 9*6*16+16 = 880; 9*16*32+32 = 4640; 9*32*32+32 = 9248; 9*32*64+64 = 18496;
    #       9*64*64+64 = 36928; together 70192
    # batch norm: 2 * (16 + 32 + 32 + 64 + 64) = 416
    # linear: 1024*256+256 = 262400; 256*9+9 = 2313
    in_the_paper = num_parameters(network.trunk) + num_parameters(network.action_head)
    assert in_the_paper == 70_192 + 416 + 262_400 + 2_313 == 335_321
    assert num_parameters(network.value_head) == 256 + 1  # ours: the source has no baseline
    with torch.no_grad():
        assert isinstance(network.trunk, nn.Sequential)
        assert network.trunk[:-3](torch.rand(2, 6, 128, 128)).shape == (2, 64, 4, 4)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (preset_config("paper").data.image_size, (256, 256)),
        (numbers.GEOMETRY.window, 128),
        (numbers.GEOMETRY.patch, 64),
        (numbers.GEOMETRY.stride, 24),
        (numbers.GEOMETRY.num_walkers, 32),  # and so a minibatch of 32 patches
        (numbers.GEOMETRY.error_refresh_steps, 1),
        (numbers.PROFILE_LENGTH, 10),  # T
        (numbers.CYCLE_STEPS, 20),  # K
        (numbers.POLICY.update_after, 14),  # M
        (numbers.POLICY.update_every, 20),
        (numbers.LEARNING_RATE, 1e-3),
        (numbers.UPDATES_PER_STEP, 2),
        (numbers.NUM_PROFILES, 80),
        (numbers.LABELED_COPIES, 6),
        (numbers.MAX_ROTATION_DEG, 30),
        (numbers.MAX_TRANSLATION, 0.1),
        (numbers.MAX_SHEAR_DEG, 20),
        (PaperSettings().num_steps, 9000),  # H
        (PaperSettings().diversity, "dropout"),
        (numbers.BETA_SHARE * 9000, 5000),  # L
    ],
)
def test_the_numbers_of_the_table(value, expected):
    assert value == expected


def test_alpha_falls_over_9000_steps_and_beta_over_5000():
    assert [falling(step, 9000) for step in (0, 4500, 9000)] == [1, 0.5, 0]
    assert [falling(step, round(numbers.BETA_SHARE * 9000)) for step in (0, 2500, 5000)] == [
        1,
        0.5,
        0,
    ]
