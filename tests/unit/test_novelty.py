"""Novelty: what normal images never showed, whatever a predictor says of it."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from patchscout.config import NoveltySettings
from patchscout.data.loader import ImageLoader
from patchscout.monitor import Monitor
from patchscout.networks import Backbone
from patchscout.networks.novelty import LARGEST, LEVELS, NoveltyModel, feature_grids, look_at
from patchscout.networks.segmenter import measure_lighting, standardized
from patchscout.training.novelty import fit_novelty
from patchscout.types import Sample

SIZE = (96, 128)


@pytest.fixture(scope="module")
def backbone():
    return Backbone.pretrained()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty images of one striped surface, each with noise and lighting of its own."""
    folder, rng = tmp_path_factory.mktemp("normal"), np.random.default_rng(0)
    stripes = 0.5 + 0.2 * np.sin(np.arange(SIZE[1]) / 3)[None, :, None]
    for number in range(40):
        image = stripes * rng.uniform(0.8, 1.2) + rng.normal(0, 0.02, (*SIZE, 3))
        PillowImage.fromarray((255 * image.clip(0, 1)).astype(np.uint8)).save(
            folder / f"{number:02d}.png"
        )
    return folder


def samples(folder, numbers):
    return [Sample(folder / f"{number:02d}.png") for number in numbers]


def fit(folder, backbone, numbers: Sequence[int] = range(30), *, has_labels=True, **settings):
    loader = ImageLoader(SIZE, 64)
    settings = NoveltySettings(**{"rank": 4, **settings})
    chosen = samples(folder, numbers)
    monitor = Monitor(quiet=True)
    return fit_novelty(chosen, loader, backbone, settings, monitor, has_labels=has_labels)


def general(backbone, image):
    with torch.no_grad():
        return backbone(standardized(image, measure_lighting(image)))


def unseen(folder):
    loader = ImageLoader(SIZE, 64)
    return torch.stack([loader.image(sample) for sample in samples(folder, range(30, 40))])


def with_square(images):
    """The same images, the stripes of a square turned by a quarter."""
    changed = images.clone()
    turned = changed[..., 32:56, 48:72].transpose(-1, -2)
    changed[..., 32:56, 48:72] = turned
    return changed


def test_what_normal_images_never_showed_is_new(folder, backbone):
    novelty = fit(folder, backbone)
    normal = novelty(general(backbone, unseen(folder)), SIZE)
    new = novelty(general(backbone, with_square(unseen(folder))), SIZE)
    inside = new[:, 36:52, 52:68]
    assert inside.mean() > 2
    assert (normal < 0).float().mean() > 0.97  # 99 % of places, on images it was not fitted to
    assert -4 < normal.mean() < -1.5
    far_away = new[:, :, 112:]
    assert far_away.mean() < inside.mean() - 2


def test_a_predictor_that_is_sure_is_joined_with_what_is_new(folder, backbone):
    found = general(backbone, with_square(unseen(folder)))
    novelty = fit(folder, backbone, weight=0.25)
    probability = torch.rand(10, *SIZE)
    joined = novelty.joined(probability, found)
    odds = (probability / (1 - probability) * (0.25 * novelty(found, SIZE)).exp()) ** 0.8
    torch.testing.assert_close(joined, odds / (1 + odds))


def test_a_predictor_that_is_sure_can_be_wrong(folder, backbone):
    found = general(backbone, with_square(unseen(folder)))
    novelty = fit(folder, backbone, weight=1.0)
    missed = novelty.joined(torch.zeros(10, *SIZE), found)
    assert (missed > 0).all()
    assert missed[:, 36:52, 52:68].mean() > 4 * missed[:, :, 112:].mean()


def test_without_labels_novelty_counts_for_more(folder, backbone):
    assert fit(folder, backbone, weight=0.5, weight_without_labels=2.5).weight == 0.5
    without = fit(folder, backbone, has_labels=False, weight=0.5, weight_without_labels=2.5)
    assert without.weight == 2.5


def test_it_can_be_stored_and_loaded(folder, backbone):
    novelty, found = fit(folder, backbone), general(backbone, unseen(folder))
    loaded = NoveltyModel.blank(SIZE, rank=4)
    loaded.load_state_dict(novelty.state_dict())
    answers = [
        one.joined(torch.rand(10, *SIZE, generator=torch.Generator().manual_seed(0)), found)
        for one in (loaded, novelty)
    ]
    torch.testing.assert_close(*answers, rtol=0, atol=0)


@pytest.mark.parametrize("numbers", [[0], [0, 1], [0, 0, 0, 0, 0], range(7)])
def test_few_and_identical_images_give_finite_novelty(folder, backbone, numbers):
    novelty = fit(folder, backbone, numbers)
    found = novelty(general(backbone, unseen(folder)), SIZE)
    assert found.isfinite().all()
    assert found.abs().max() <= LARGEST


def test_so_many_images_are_looked_at_and_no_more(folder, backbone):
    few = fit(folder, backbone, max_images=10)
    every_third = fit(folder, backbone, numbers=range(0, 30, 3))
    found = general(backbone, unseen(folder))
    torch.testing.assert_close(few(found, SIZE), every_third(found, SIZE), rtol=0, atol=0)


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (272, 240)])
def test_grids_of_usual_images_are_those_of_the_backbone(backbone, size):
    found = general(backbone, torch.rand(1, 3, *size))
    cells = look_at(found, feature_grids(size))
    for level, one in zip(LEVELS, cells, strict=True):
        assert one.shape == found[level.number].shape


def test_large_images_are_looked_at_in_larger_cells(backbone):
    grids = feature_grids((1200, 700))
    for (rows, columns), level in zip(grids, LEVELS, strict=True):
        assert 0.9 * level.max_cells < rows * columns < 1.1 * level.max_cells
        assert rows / columns == pytest.approx(1200 / 700, rel=0.05)
    found = general(backbone, torch.rand(1, 3, 1200, 700))
    assert [tuple(cells.shape[-2:]) for cells in look_at(found, grids)] == grids
