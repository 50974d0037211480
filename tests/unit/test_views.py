"""Training views: image and mask move together, pasted defects are where their mask is."""

import numpy as np
import pytest
import torch
from patchscout.data.views import SEAM_PX, ViewSource, soft_edge
from PIL import Image as PillowImage

from patchscout.data import views as module
from patchscout.data.annotations import MaskFile
from patchscout.data.augment import Augmentation
from patchscout.data.loader import ImageLoader
from patchscout.types import Sample

SIDE = 96
NORMAL_LEVEL, LABELED_LEVEL, DEFECT_LEVEL = 51, 127, 230


@pytest.fixture
def samples(tmp_path):
    """Grey images; the labeled one is lighter and has a bright defect."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[40:60, 30:66] = 255
    levels = np.where(mask, DEFECT_LEVEL, LABELED_LEVEL).astype(np.uint8)
    for name, pixels in {
        "normal": np.full_like(mask, NORMAL_LEVEL),
        "labeled": levels,
        "mask": mask,
    }.items():
        PillowImage.fromarray(pixels).save(tmp_path / f"{name}.png")
    labeled = Sample(tmp_path / "labeled.png", "dent", MaskFile(tmp_path / "mask.png"))
    return Sample(tmp_path / "normal.png"), labeled


@pytest.fixture
def source(samples):
    def make(normal_fraction=0.0, paste_fraction=0.0, seed=0):
        normal, labeled = samples
        return ViewSource(
            [normal],
            [labeled],
            ImageLoader((SIDE, SIDE), 16),
            normal_fraction=normal_fraction,
            paste_fraction=paste_fraction,
            seed=seed,
        )

    return make


def level(value):
    return value / 255


def test_a_labeled_view_and_its_mask_move_together(source):
    views, shapes = source(), set()
    middle = level(LABELED_LEVEL + DEFECT_LEVEL) / 2
    for _ in range(10):
        image, mask = views.draw()
        assert (image.shape, mask.shape) == ((3, SIDE, SIDE), (SIDE, SIDE))
        # Bilinear sampling of a two-level image crosses the middle where that of the mask does.
        assert ((image[0] >= middle) != mask).float().mean() < 1e-3
        shapes.add(tuple(mask.nonzero().float().mean(dim=0).round().tolist()))
    assert len(shapes) > 5  # they do move


def test_a_normal_view_has_an_empty_mask(source):
    for image, mask in (source(normal_fraction=1.0).draw() for _ in range(5)):
        assert not mask.any()
        torch.testing.assert_close(
            image, torch.full_like(image, level(NORMAL_LEVEL)), atol=1e-3, rtol=0
        )


def test_a_pasted_mask_is_what_changed(source, monkeypatch):
    monkeypatch.setattr(module, "draw_augmentation", lambda rng: Augmentation.identity())
    image, mask = source(paste_fraction=1.0).draw()
    assert mask.sum() == 20 * 36
    changed = (image - level(NORMAL_LEVEL)).abs().amax(dim=0)
    torch.testing.assert_close(
        image[:, mask], torch.full((3, 20 * 36), level(DEFECT_LEVEL)), atol=1e-3, rtol=0
    )
    seam = SEAM_PX - 1  # a seam is grown and then averaged, each by half of its width
    around = torch.zeros_like(mask)
    around[40 - seam : 60 + seam, 30 - seam : 66 + seam] = True
    assert changed[~around].max() < 1e-3
    # On the seam what is pasted is the labeled image, not the defect.
    assert image[:, around & ~mask].max() <= level(LABELED_LEVEL) + 1e-3


def test_pasted_masks_mark_the_defect_when_everything_moves(source):
    views = source(paste_fraction=1.0)
    middle = level(LABELED_LEVEL + DEFECT_LEVEL) / 2
    for _ in range(10):
        image, mask = views.draw()
        assert mask.any()
        assert ((image[0] >= middle) != mask).float().mean() < 0.01  # moved twice, resampled twice
        assert image.median() == pytest.approx(level(NORMAL_LEVEL), abs=1e-3)


@pytest.mark.parametrize(("normal", "paste"), [(0.3, 0.3), (0.5, 0.0), (0.0, 0.6)])
def test_the_shares_of_views(source, monkeypatch, normal, paste):
    monkeypatch.setattr(module, "draw_augmentation", lambda rng: Augmentation.identity())
    views, count = source(normal, paste), 400
    drawn = [views.draw() for _ in range(count)]
    num_normal = sum(not mask.any() for _, mask in drawn)
    is_dark = [image.median() < level(NORMAL_LEVEL + LABELED_LEVEL) / 2 for image, _ in drawn]
    num_pasted = sum(is_dark) - num_normal
    tolerance = 4 * (0.25 / count) ** 0.5  # four standard deviations at most
    assert num_normal / count == pytest.approx(normal, abs=tolerance if normal else 0)
    assert num_pasted / count == pytest.approx(paste, abs=tolerance if paste else 0)


def test_the_seed_decides(source):
    def draws(seed):
        views = source(0.3, 0.3, seed)
        return torch.stack([views.draw()[0] for _ in range(4)])

    assert torch.equal(draws(1), draws(1))
    assert not torch.equal(draws(1), draws(2))


def test_a_soft_edge_is_1_inside_and_0_far_away():
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[12:20, 12:20] = True
    opacity = soft_edge(mask)
    assert (opacity[mask] == 1).all()
    row = opacity[16, :12]
    # grown by 2 px, then averaged over 5: 1 up to the mask's edge, 4/5 .. 1/5 beyond, then 0
    torch.testing.assert_close(row[-5:], torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8]))
    assert (row[:-4] == 0).all()


def test_a_soft_edge_at_the_border_does_not_fade():
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:, :6] = True
    assert (soft_edge(mask)[mask] == 1).all()
    assert (soft_edge(torch.zeros(16, 16, dtype=torch.bool)) == 0).all()
