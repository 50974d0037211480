"""Training views: image and mask move together, pasted defects are where their mask is."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch.nn.functional import max_pool2d

from patchscout.config import Change, ViewSettings
from patchscout.data.annotations import MaskFile
from patchscout.data.loader import ImageLoader
from patchscout.training import views as module
from patchscout.training.views import (
    FEWEST_SIMULATED,
    LIMITED_SHARE,
    NUM_FOLDS,
    SEAM_PX,
    ViewSource,
    fold_of,
    soft_edge,
    spread_over_types,
)
from patchscout.types import Sample

SIDE = 96
CONSTANTS = {
    "NORMAL_SHARE": 0.0,
    "PASTED_SHARE": 0.0,
    "SIMULATED_SHARE": 0.0,
    "RESAMPLED_SHARE": 1.0,
}
STILL = {"RESAMPLED_SHARE": 0.0, "max_rotation_deg": 0}
"""Views are flipped, and no more."""
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
def source(samples, monkeypatch):
    """Make labeled views alone, all resampled, none lit otherwise, unless told otherwise.

    What is written in capitals is a constant of the module.
    """

    def make(*, seed=0, is_labeled=True, **settings):
        for name, value in CONSTANTS.items():
            monkeypatch.setattr(module, name, settings.pop(name, value))
        normal, labeled = samples
        return ViewSource(
            [normal],
            [0],
            [labeled] if is_labeled else [],
            ImageLoader((SIDE, SIDE), 16),
            ViewSettings(**{"max_lighting_change": 0.0, **settings}),
            seed=seed,
        )

    return make


def level(value):
    return value / 255


def test_a_labeled_view_and_its_mask_move_together(source):
    views, shapes = source(), set()
    middle = level(LABELED_LEVEL + DEFECT_LEVEL) / 2
    for _ in range(10):
        image, mask, _ = views.draw()
        assert (image.shape, mask.shape) == ((3, SIDE, SIDE), (SIDE, SIDE))
        # Bilinear sampling of a two-level image crosses the middle where that of the mask does.
        assert ((image[0] >= middle) != mask).float().mean() < 1e-3
        shapes.add(tuple(mask.nonzero().float().mean(dim=0).round().tolist()))
    assert len(shapes) > 5  # they do move


def test_a_normal_view_has_an_empty_mask(source):
    for image, mask, _ in (source(NORMAL_SHARE=1.0).draw() for _ in range(5)):
        assert not mask.any()
        torch.testing.assert_close(
            image, torch.full_like(image, level(NORMAL_LEVEL)), atol=1e-3, rtol=0
        )


def test_a_pasted_mask_is_what_changed(source):
    image, mask, _ = source(PASTED_SHARE=1.0, **STILL).draw()
    assert mask.sum() == 20 * 36
    changed = (image - level(NORMAL_LEVEL)).abs().amax(dim=0)
    torch.testing.assert_close(
        image[:, mask], torch.full((3, 20 * 36), level(DEFECT_LEVEL)), atol=1e-3, rtol=0
    )
    seam = SEAM_PX - 1  # a seam is grown and then averaged, each by half of its width
    around = max_pool2d(mask[None].float(), 2 * seam + 1, 1, seam)[0] > 0
    assert changed[~around].max() < 1e-3
    # On the seam what is pasted is the labeled image, not the defect.
    assert image[:, around & ~mask].max() <= level(LABELED_LEVEL) + 1e-3


def test_pasted_masks_mark_the_defect_when_everything_moves(source):
    views = source(PASTED_SHARE=1.0)
    middle = level(LABELED_LEVEL + DEFECT_LEVEL) / 2
    for _ in range(10):
        image, mask, _ = views.draw()
        assert mask.any()
        assert ((image[0] >= middle) != mask).float().mean() < 0.01  # moved twice, resampled twice
        assert image.median() == pytest.approx(level(NORMAL_LEVEL), abs=1e-3)


KINDS = ("normal", "pasted", "simulated", "labeled")


@pytest.mark.parametrize(
    ("shares", "is_labeled"),
    [
        ((0.3, 0.2, 0.2), True),
        ((0.5, 0.0, 0.5), True),
        ((0.0, 0.6, 0.0), True),
        ((0.0, 0.0, 0.0), True),
        ((0.3, 0.2, 0.2), False),
        ((0.4, 0.6, 0.0), False),
    ],
)
def test_the_shares_of_views(source, monkeypatch, shares, is_labeled):
    drawn, count = [], 400
    names = ("NORMAL_SHARE", "PASTED_SHARE", "SIMULATED_SHARE")
    views = source(is_labeled=is_labeled, **dict(zip(names, shares, strict=True)))
    blank = torch.zeros(3, 8, 8), torch.zeros(8, 8, dtype=torch.bool)
    for kind in KINDS:
        monkeypatch.setattr(views, f"_{kind}", lambda *_, kind=kind: drawn.append(kind) or blank)
    for _ in range(count):
        views.draw()
    normal, pasted, simulated = shares
    labeled = 1 - sum(shares)
    if not is_labeled:  # simulated defects take the place of both kinds that need labels
        pasted, simulated, labeled = 0, simulated + pasted + labeled, 0
    expected = (normal, pasted, simulated, labeled)
    for kind, share in zip(KINDS, expected, strict=True):
        tolerance = 4 * (0.25 / count) ** 0.5 if 0 < share < 1 else 1e-9  # four deviations at most
        assert drawn.count(kind) / count == pytest.approx(share, abs=tolerance), kind


def moved_share(views, count=300):
    """Return which share of views shows the labeled defect neither where it was nor flipped."""
    still = views.defects(1)[0][1]
    flips = [still, still.flip(0), still.flip(1), still.flip(0, 1)]
    masks = [views.draw()[1] for _ in range(count)]
    return sum(not any(torch.equal(mask, flip) for flip in flips) for mask in masks) / count


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_share_of_views_is_resampled_and_the_others_are_flipped(source, share):
    moved = moved_share(source(RESAMPLED_SHARE=share))
    assert moved == pytest.approx(share, abs=0.12 if 0 < share < 1 else 0)


def test_views_that_are_only_flipped_are_not_blurred(source):
    views = source(RESAMPLED_SHARE=0.0)
    levels = {level(LABELED_LEVEL), level(DEFECT_LEVEL)}
    corners = set()
    for _ in range(20):
        image, mask, _ = views.draw()
        assert image.unique().tolist() == pytest.approx(sorted(levels), abs=1e-3)
        corners.add(tuple(mask.nonzero()[0].tolist()))
    assert corners == {(40, 30), (36, 30)}  # the mask is its own mirror image across


@pytest.mark.parametrize("limited", [None, (), ("vertical_flip", "rotation"), get_args(Change)])
def test_changes_that_are_limited_are_smaller_or_left_out(source, monkeypatch, limited):
    asked = []
    draw = module.draw_augmentation
    monkeypatch.setattr(
        module, "draw_augmentation", lambda rng, **most: asked.append(most) or draw(rng, **most)
    )
    source(limited=limited, max_rotation_deg=40).draw()
    share = {name: LIMITED_SHARE if name in (limited or ()) else 1 for name in get_args(Change)}
    expected = {
        "flips_horizontally": share["horizontal_flip"] == 1,
        "flips_vertically": share["vertical_flip"] == 1,
        "max_rotation_deg": 40 * share["rotation"],
        "max_shear_deg": module.MAX_SHEAR_DEG * share["shear"],
        "max_translation": module.MAX_TRANSLATION * share["translation"],
    }
    assert asked == [expected]


def test_the_light_changes_and_the_mask_does_not(source):
    plain, lit = source(**STILL), source(**STILL, max_lighting_change=0.5)
    brightness = []
    for _ in range(30):
        image, mask, _ = lit.draw()
        assert mask.sum() == 20 * 36
        assert 0 <= image.min() <= image.max() <= 1
        brightness.append(image[:, ~mask].mean().item())
        assert image[:, mask].mean() > brightness[-1]
    assert max(brightness) - min(brightness) > 0.2
    assert plain.draw()[0].min() == pytest.approx(level(LABELED_LEVEL), abs=1e-3)


def test_every_image_comes_once_without_augmentation(source, samples):
    views = source()
    images = list(views.unaugmented())
    assert [bool(mask.any()) for _, mask, _ in images] == [False, True]
    for (image, mask, _), sample in zip(images, samples, strict=True):
        assert torch.equal(image, views.loader.image(sample))
        assert torch.equal(mask, views.loader.mask(sample))


def test_without_labels_simulated_defects_stand_in_and_can_be_seen(source):
    views = source(is_labeled=False)
    normal, *defects = views.unaugmented()
    assert not normal[1].any()
    assert len(defects) == FEWEST_SIMULATED
    assert views.num_unaugmented == 1 + FEWEST_SIMULATED
    for image, mask, *_ in [
        *defects,
        *views.defects(200),
    ]:
        assert mask.any()
        assert (image[:, mask] != normal[0][:, mask]).any()


def test_labeled_images_are_taken_from_each_type_in_turn():
    samples = [
        Sample(Path(f"{kind}{n}"), kind) for kind in "xyz" for n in range({"y": 1}.get(kind, 3))
    ]
    names = [sample.image_path.name for sample in spread_over_types(samples, 6)]
    assert names == ["x0", "y0", "z0", "x1", "z1", "x2"]
    assert len(spread_over_types(samples, 99)) == 7
    assert spread_over_types([], 3) == []


def test_the_seed_decides(source):
    def draws(seed):
        views = source(seed=seed, NORMAL_SHARE=0.25, PASTED_SHARE=0.25, SIMULATED_SHARE=0.25)
        return torch.stack([views.draw()[0] for _ in range(6)])

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


def test_a_view_is_made_of_normal_images_that_may_be_drawn_and_is_of_their_fold(
    source, samples, monkeypatch
):
    views = source(NORMAL_SHARE=1.0)
    views.normal, views.numbers = [samples[0]] * 8, [1, 4, 6]
    drawn = []
    normal = views._normal
    monkeypatch.setattr(views, "_normal", lambda number: drawn.append(number) or normal(number))
    folds = [views.draw().fold for _ in range(30)]
    assert folds == [number % NUM_FOLDS for number in drawn]
    assert set(drawn) == {1, 4, 6}
    drawn.clear()
    assert [view.fold for view in views.unaugmented()] == [1, 0, 0, 0]  # the last one is labeled
    assert drawn == [1, 4, 6]


def test_a_labeled_view_is_shown_through_every_fold(source, samples):
    views = source()
    views.normal, views.numbers = [samples[0]] * 6, list(range(6))
    assert {views.draw().fold for _ in range(30)} == set(range(NUM_FOLDS))


def test_folds_are_told_of_one_number_and_of_many():
    assert [fold_of(number) for number in range(4)] == [0, 1, 0, 1]
    assert torch.equal(fold_of(torch.arange(4)), torch.tensor([0, 1, 0, 1]))


def test_a_part_of_a_view_is_that_part_of_image_and_mask(source):
    view = source().draw()
    part = view.part(slice(8, 40), slice(16, 80))
    assert torch.equal(part.image, view.image[:, 8:40, 16:80])
    assert torch.equal(part.mask, view.mask[8:40, 16:80])
    assert part.fold == view.fold
