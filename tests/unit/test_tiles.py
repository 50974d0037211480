"""Scoring in tiles: the same map as that of the whole image."""

import pytest
import torch

from patchscout.networks import Backbone, make_autoencoder, make_predictor
from patchscout.networks.loss_profile import ProfileExtractor
from patchscout.networks.normality import NormalityModel
from patchscout.networks.novelty import NoveltyModel
from patchscout.networks.segmenter import FeatureExtractor, Segmenter
from patchscout.networks.tiles import MARGIN_PX, TILE_PX, segment


def make_segmenter(
    kind="lean",
    members=1,
    mirrored=True,
    error="signed",
    backbone=False,
    seen_as_normal=None,
    image_evidence=0.0,
):
    torch.manual_seed(0)
    autoencoders = [make_autoencoder("lean", 4, 8) for _ in range(2)]
    channels = 2 * (3 if error == "signed" else 1) + 6
    normality = None
    if seen_as_normal is not None:
        ranks = (1, 3)
        normality = NormalityModel.blank(seen_as_normal, ranks)
        channels += 2 * len(ranks)
        for subspace in normality.subspaces:
            torch.nn.init.normal_(subspace.get_buffer("components"), std=0.02)
            torch.nn.init.uniform_(subspace.get_buffer("mean"))
    predictor = make_predictor(
        kind, [channels] * members, 4, Backbone.pretrained() if backbone else None
    )
    for module in predictor.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # so that depth does not dampen what is far
            torch.nn.init.constant_(module.get_buffer("running_var"), 0.1)
    profiles = ProfileExtractor(autoencoders, None, "log", 2, error)
    features = FeatureExtractor(profiles, "both", torch.full((3,), 0.4), torch.full((3,), 0.2))
    features.normality = normality
    novelty = None
    if backbone and seen_as_normal is not None:
        novelty = NoveltyModel.blank(seen_as_normal, rank=2)
        novelty.weight.fill_(0.5)
        novelty.limits.fill_(0.5)
        for subspace in novelty.subspaces:
            torch.nn.init.normal_(subspace.get_buffer("components"), std=0.002)
            torch.nn.init.uniform_(subspace.get_buffer("mean"))
    return Segmenter(
        features, predictor, novelty, mirrored=mirrored, image_evidence=image_evidence
    ).eval()


def images(height, width):
    """Two images whose halves differ, so that what is measured over the whole matters."""
    noise = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    return noise * torch.linspace(0.2, 1, width)


CASES = [
    {},
    {"mirrored": False},
    {"members": 2},
    {"backbone": True},
    {"image_evidence": 0.5},
    {"kind": "paper", "error": "absolute"},
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [(64, 1328), (1328, 80)])
def test_tiles_give_what_the_whole_image_gives(case, size):
    segmenter, batch = make_segmenter(**case, seen_as_normal=size), images(*size)
    with torch.no_grad():
        whole = segmenter(batch)
    assert whole.std() > 0.01
    tiled = segment(segmenter, batch, tile_px=256)
    torch.testing.assert_close(tiled, whole, atol=2e-5, rtol=0)


def test_a_margin_that_is_too_narrow_shows():
    segmenter, batch = make_segmenter(), images(64, 1328)
    with torch.no_grad():
        whole = segmenter(batch)
    tiled = segment(segmenter, batch, tile_px=256, margin_px=32)
    assert (tiled - whole).abs().max() > 1e-4


def test_an_image_that_fits_is_scored_whole():
    segmenter, batch = make_segmenter(), images(64, 96)
    seen = []
    segmenter.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape))
    segment(segmenter, batch)
    assert seen == [batch.shape]
    assert TILE_PX % 64 == MARGIN_PX % 64 == 0
