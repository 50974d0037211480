"""Deviations: what principal components leave of an image; training images seen as new ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from patchscout.config import NormalitySettings, ViewSettings
from patchscout.data.loader import ImageLoader
from patchscout.monitor import Monitor
from patchscout.networks.normality import (
    LOG_FLOOR,
    LOG_SHIFT,
    NormalityModel,
    Subspace,
    describe,
    grids,
)
from patchscout.networks.resampling import resized_to
from patchscout.training.normality import SPREAD_FLOOR, CrossFittedNormality, fit_subspace
from patchscout.training.views import ViewSource
from patchscout.types import Sample

HEIGHT, WIDTH = 64, 96
GRID = (8, 12)


class Waves(ImageLoader):
    """Mixtures of three patterns, with a little noise; image 9 of a series is like image 8."""

    def image(self, sample):
        number = int(sample.image_path.name)
        rng = torch.Generator().manual_seed(number)
        rows, columns = torch.meshgrid(
            torch.linspace(0, 1, HEIGHT), torch.linspace(0, 1, WIDTH), indexing="ij"
        )
        patterns = torch.stack([rows, columns, rows * columns])
        image = 0.3 + (torch.rand(3, 1, 1, generator=rng) * patterns / 3).sum(dim=0)
        return image.expand(3, -1, -1) + 0.02 * torch.rand(3, HEIGHT, WIDTH, generator=rng)


def samples(*numbers):
    return [Sample(Path(str(number))) for number in numbers]


LOADER = Waves((HEIGHT, WIDTH), 0)


def fitted(count=24, **settings):
    normal = samples(*range(count))
    return CrossFittedNormality(normal, LOADER, NormalitySettings(**settings), Monitor())


def new_image(number=1000):
    return LOADER.image(samples(number)[0])


def test_cells_are_described_by_colors_steepness_and_contrast():
    image = torch.zeros(1, 3, 16, 32)
    image[:, 0] = 0.5
    image[:, 1, :8, 16:] = torch.tensor([0.0, 0.6]).repeat(8)  # stripes in one of eight cells
    (cells,) = describe(image, [(2, 4)])
    assert cells.shape == (1, 6, 2, 4)
    torch.testing.assert_close(cells[0, 0], torch.full((2, 4), 0.5))
    torch.testing.assert_close(cells[0, 1, 0], torch.tensor([0.0, 0.0, 0.3, 0.3]))
    assert cells[0, 2].max() == 0
    grey = 0.6 / 3  # the step between neighbors; across each of 8 px but at the right border
    torch.testing.assert_close(cells[0, 3, 0], 4 * grey * torch.tensor([0, 0, 1, 7 / 8]))
    assert cells[0, 3, 1].max() == 0
    torch.testing.assert_close(cells[0, 4, 0], 4 * grey / 2 / 8 * torch.tensor([0, 0, 1.0, 1.0]))
    assert (cells[0, 5, 0, 2:] > 10 * cells[0, 5, 1, :1]).all()


def test_contrast_is_twice_the_spread_of_what_is_finer_than_cells():
    stripes = torch.tensor([0.2, 0.6]).repeat(16).expand(1, 3, 16, 32)
    (cells,) = describe(stripes, [(2, 4)])
    torch.testing.assert_close(cells[0, 5], torch.full((2, 4), 2 * (0.2**2 + 1e-5) ** 0.5))


def test_contrast_of_a_bright_flat_image_is_not_lost_to_rounding():
    noise = 1e-3 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    bright, dark = (describe((level + noise).expand(1, 3, -1, -1), [(8, 8)])[0] for level in (1, 0))
    torch.testing.assert_close(bright[0, 5], dark[0, 5], rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((256, 256), (32, 32)), ((560, 224), (70, 28)), ((512, 512), (45, 45)), ((64, 96), (8, 12))],
)
def test_cells_have_8_px_or_more_if_there_would_be_too_many(size, expected):
    fine, coarse = grids(*size)
    assert fine == expected
    assert coarse == tuple(pytest.approx(side / 2, abs=0.6) for side in fine)


def test_a_subspace_is_that_of_the_singular_vectors():
    cells = torch.randn(20, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    subspace = fit_subspace(cells, (2, 5))
    left = (cells - cells.mean(dim=0)).flatten(1)
    vectors = torch.linalg.svd(left, full_matrices=False)[2]
    for rank, residual in zip((2, 5), subspace.residuals(cells), strict=True):
        expected = left - left @ vectors[:rank].T @ vectors[:rank]
        torch.testing.assert_close(residual.flatten(1), expected, atol=1e-4, rtol=1e-4)


def test_components_that_few_images_do_not_have_are_zero():
    cells = torch.randn(4, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    subspace = fit_subspace(cells, (9,))
    assert subspace.components.shape == (9, 72)
    norms = subspace.components.norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([1.0] * 3 + [0.0] * 6), atol=1e-4, rtol=0)
    assert subspace.residuals(cells)[0].abs().max() < 1e-4
    alike = fit_subspace(cells[:1].expand(4, -1, -1, -1), (9,))
    assert not alike.components.any()


def test_a_deviation_is_how_many_times_its_usual_size_the_residual_is():
    model = fitted(ranks=(2, 4)).model
    image = new_image()[None]
    fine = model.get_submodule("subspaces.0")
    assert isinstance(fine, Subspace)
    residual = fine.residuals(describe(image, [GRID])[0])[1]
    expected = ((residual / fine.spread[1]).square().mean(dim=1).sqrt() + LOG_FLOOR).log()
    torch.testing.assert_close(model.small_maps(image)[:, 1], expected + LOG_SHIFT)
    assert model(image).shape == (1, 4, HEIGHT, WIDTH)
    assert model.small_maps(image).shape == (1, 4, *GRID)


def test_a_defect_deviates_and_what_is_normal_does_not():
    model = fitted().model
    image = new_image()
    usual = model(image[None])
    assert usual.mean().abs() < 1
    image[:, 24:40, 40:56] = image[:, 24:40, 40:56].flip(0) + 0.2
    found = model(image[None])[0]
    assert (found[:, 28:36, 44:52] - usual[0, :, 28:36, 44:52]).mean() > 1.5
    for maps in found:
        assert maps.argmax() // WIDTH in range(16, 48)
        assert maps.argmax() % WIDTH in range(32, 64)


def test_training_images_deviate_as_new_ones_do_when_seen_without_their_fold():
    numbers = range(24)
    crossed = fitted(len(numbers), ranks=(5, 20))
    images = [LOADER.image(sample) for sample in samples(*numbers)]
    own = torch.stack([crossed.model(image[None])[0].mean((1, 2)) for image in images]).mean(0)
    apart = torch.stack(
        [
            crossed.without(crossed.fold_of(number))(images[number][None])[0].mean((1, 2))
            for number in numbers
        ]
    ).mean(0)
    new = torch.stack(
        [crossed.model(new_image(1000 + n)[None])[0].mean((1, 2)) for n in numbers]
    ).mean(0)
    assert ((apart - new).abs() < 0.1).all()
    assert (own < new - 0.2).any()  # what would give the training images away


def test_folds_are_runs_of_neighbors():
    folds = [fitted().fold_of(number) for number in range(24)]
    assert folds == sorted(folds)
    assert np.bincount(folds).tolist() == [3] * 8


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_few_images_do(count):
    crossed = fitted(count)
    for number in range(count):
        found = crossed.without(crossed.fold_of(number))(new_image()[None])
        assert found.isfinite().all()
        assert found.shape == (1, 6, HEIGHT, WIDTH)


def test_what_never_varies_has_the_least_spread():
    class Same(Waves):
        def image(self, sample):
            return super().image(samples(0)[0])

    crossed = CrossFittedNormality(
        samples(*range(5)), Same(LOADER.image_size, 0), SETTINGS, Monitor()
    )
    for subspace in crossed.model.subspaces:
        spread = subspace.get_buffer("spread")
        torch.testing.assert_close(spread, torch.full_like(spread, SPREAD_FLOOR))


SETTINGS = NormalitySettings()


def test_no_more_images_are_read_than_asked_for():
    class Counting(Waves):
        read = 0

        def image(self, sample):
            self.read += 1
            return super().image(sample)

    loader = Counting(LOADER.image_size, 0)
    CrossFittedNormality(samples(*range(30)), loader, NormalitySettings(max_images=10), Monitor())
    assert loader.read == 10


def test_a_part_of_enlarged_maps_is_that_part():
    maps = torch.rand(1, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    whole = resized_to(maps, (40, 50))
    part = resized_to(maps, (40, 50), slice(8, 31), slice(3, 17))
    torch.testing.assert_close(part, whole[..., 8:31, 3:17])
    torch.testing.assert_close(resized_to(maps.flip(-1), (40, 50)), whole.flip(-1))


def test_a_blank_model_takes_the_buffers_of_a_trained_one():
    trained = fitted().model
    loaded = NormalityModel.blank((HEIGHT, WIDTH), SETTINGS.ranks)
    loaded.load_state_dict(trained.state_dict())
    image = new_image()[None]
    assert torch.equal(loaded(image), trained(image))


STILL = {
    "normal_fraction": 1.0,
    "pasted_fraction": 0.0,
    "simulated_fraction": 0.0,
    "max_rotation_deg": 0,
    "max_translation": 0,
    "max_shear_deg": 0,
    "resampled_fraction": 0,
    "max_lighting_change": 0,
}


def test_deviations_of_a_view_move_with_it_and_are_blind_to_its_own_image():
    crossed = fitted()
    normal = samples(*range(24))
    views = ViewSource(
        normal,
        [],
        LOADER,
        ViewSettings.model_validate(STILL),
        seed=0,
        normality=crossed,
    )
    flips = 0
    for _ in range(10):
        image, mask, deviations = views.draw()
        assert not mask.any()
        number, flip = which(image, normal)
        expected = crossed.without(crossed.fold_of(number))(LOADER.image(normal[number])[None])[0]
        torch.testing.assert_close(deviations, expected.flip(flip), atol=1e-4, rtol=1e-4)
        flips += bool(flip)
    assert 0 < flips < 10


def which(image, normal):
    """Return which normal image this is, and along which dimensions it is flipped."""
    for number, sample in enumerate(normal):
        for flip in ((), (1,), (2,), (1, 2)):
            if torch.allclose(LOADER.image(sample).flip(flip), image, atol=1e-6):
                return number, flip
    raise AssertionError("no normal image")
