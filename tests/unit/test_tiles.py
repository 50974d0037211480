"""Scoring in tiles: the same map as that of the whole image."""

import pytest
import torch

from patchscout.build import build
from patchscout.networks.tiles import CELL_PX, MARGIN_PX, TILE_PX, segment
from patchscout.presets import preset_config


def make_segmenter(size, **settings):
    """A model of an image size with random weights that let through what is far away."""
    torch.manual_seed(0)
    config = preset_config(
        "fast",
        data={"image_size": size},
        profile={"snapshots": (1, 2)},
        predictor={"base_channels": 4, "novelty_weight": 0.5, **settings},
    )
    segmenter = build(config, pretrained=True)
    for module in segmenter.predictor.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # so that depth does not dampen what is far
            torch.nn.init.constant_(module.get_buffer("running_var"), 0.1)
    for usual in segmenter.profile.usual_errors:
        usual.copy_(2 + torch.rand(usual.shape))
    return segmenter


def images(height, width):
    """Two images whose halves differ, so that what is measured over the whole matters."""
    noise = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    return noise * torch.linspace(0.2, 1, width)


@pytest.mark.parametrize("flip_tta", [False, True])
@pytest.mark.parametrize("size", [(64, 1328), (1328, 80)])
def test_tiles_give_what_the_whole_image_gives(flip_tta, size):
    segmenter, batch = make_segmenter(size, flip_tta=flip_tta), images(*size)
    with torch.no_grad():
        whole = segmenter(batch)
    assert whole.std() > 0.01
    tiled = segment(segmenter, batch, tile_px=256)
    torch.testing.assert_close(tiled, whole, atol=2e-5, rtol=0)


def test_a_margin_that_is_too_narrow_shows():
    segmenter, batch = make_segmenter((64, 1328)), images(64, 1328)
    with torch.no_grad():
        whole = segmenter(batch)
    tiled = segment(segmenter, batch, tile_px=256, margin_px=32)
    assert (tiled - whole).abs().max() > 1e-4


def test_an_image_that_fits_is_scored_whole():
    segmenter, batch = make_segmenter((64, 96)), images(64, 96)
    seen = []
    segmenter.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape))
    segment(segmenter, batch)
    assert seen == [batch.shape]
    assert TILE_PX % CELL_PX == MARGIN_PX % CELL_PX == 0
