"""`--preset paper` against the table of numbers in method.md (arXiv 2511.20270 and its code)."""

import pytest
import torch
from torch import nn

from patchscout.config import preset_config
from patchscout.networks import PaperAutoencoder, PaperPolicy, PaperPredictor

PAPER = preset_config("paper")


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def conv(kernel: int, channels_in: int, channels_out: int) -> int:
    """Weights and biases of a convolution."""
    return kernel * kernel * channels_in * channels_out + channels_out


def convolutions(module: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [part for part in module.modules() if isinstance(part, kinds)]


def test_the_networks_of_the_preset_are_the_papers():
    architectures = (PAPER.autoencoder, PAPER.predictor, PAPER.sampler)
    assert [part.architecture for part in architectures] == ["paper"] * 3
    assert PAPER.predictor.inputs == "profile"


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
    assert network.bottleneck_channels == 200


def test_the_predictor_has_channels_10_32_16_8_4_1():
    network = PaperPredictor(PAPER.profile.length)
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
    network = PaperPolicy(PAPER.sampler.window_px)
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
        (PAPER.data.image_size, (256, 256)),
        (PAPER.sampler.window_px, 128),
        (PAPER.sampler.patch_px, 64),
        (PAPER.sampler.stride_px, 24),
        (PAPER.sampler.num_walkers, 32),  # and so a minibatch of 32 patches
        (PAPER.profile.length, 10),  # T
        (PAPER.profile.spacing, "last"),
        (PAPER.profile.error_scale, "linear"),
        (PAPER.profile.diversity, "dropout"),
        (PAPER.training.steps_per_cycle, 20),  # K
        (PAPER.sampler.update_after, 14),  # M
        (PAPER.reward.beta, type(PAPER.reward.beta)(start=1, end=0, steps=5000)),  # L
        (PAPER.training.alpha, type(PAPER.reward.beta)(start=1, end=0, steps=9000)),  # H
        (PAPER.training.num_cycles * PAPER.training.steps_per_cycle, 9000),
        (PAPER.autoencoder.learning_rate, 1e-3),
        (PAPER.predictor.learning_rate, 1e-3),
        (PAPER.predictor.schedule, "constant"),
        (PAPER.predictor.weight_decay, 0.0),  # AdamW without decay is Adam
        (PAPER.predictor.dice_weight, 0.0),
        (PAPER.predictor.member_inputs, ["profile"]),
        (PAPER.predictor.mirrored, False),
        (PAPER.predictor.image_evidence, 0.0),
        (PAPER.training.predictor_updates_per_step, 2),
        (PAPER.predictor.batch_size * PAPER.training.predictor_updates_per_step, 80),
        (PAPER.buffer.capacity, 80),
        (PAPER.sampler.labeled_in_pool, True),
        (PAPER.labeled_per_type, 5),
        ((PAPER.reward.clone, PAPER.reward.cover, PAPER.reward.pred), (True, True, True)),
    ],
)
def test_the_numbers_of_the_table(value, expected):
    assert value == expected
