"""What walkers walk on: normal images at one value a cell."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from patchscout.data.loader import ImageLoader
from patchscout.training.colors import color_statistics
from patchscout.training.loop import ImagePool
from patchscout.types import Sample

HEIGHT, WIDTH = 96, 128
NORMAL = tuple(Sample(Path(f"{number}.png")) for number in range(5))


class Noise(ImageLoader):
    """Images of noise, each known by its name."""

    def image(self, sample):
        rng = torch.Generator().manual_seed(int(sample.image_path.stem))
        return torch.rand(3, *self.image_size, generator=rng)


LOADER = Noise((HEIGHT, WIDTH), 0)


@pytest.mark.parametrize("cell_px", [1, 4])
def test_images_are_drawn_at_one_value_a_cell(cell_px):
    pool = ImagePool(NORMAL, LOADER, cell_px, seed=0)
    numbers, images = pool.draw(20)
    assert images.shape == (20, 3, HEIGHT // cell_px, WIDTH // cell_px)
    assert images.is_contiguous()
    assert set(numbers.tolist()) == set(range(len(NORMAL))) == set(range(len(pool)))
    for number, image in zip(numbers, images, strict=True):
        torch.testing.assert_close(image, F.avg_pool2d(LOADER.image(NORMAL[number]), cell_px))


def test_the_seed_decides_which():
    first, same, other = (ImagePool(NORMAL, LOADER, 4, seed).draw(20)[0] for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_colors_have_the_mean_and_spread_of_all_pixels():
    mean, std = color_statistics(NORMAL, LOADER)
    pixels = LOADER.images(NORMAL).transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean, pixels.mean(dim=1))
    torch.testing.assert_close(std, pixels.std(dim=1, correction=0))
