"""What walkers walk on: images of the pool, shrunk as the autoencoder sees them."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from patchscout.config import RewardSettings, parse_config
from patchscout.data.loader import ImageLoader
from patchscout.monitor import Monitor
from patchscout.training.environment import Channel, PatchEnvironment
from patchscout.training.loop import ImagePool, tell_if_dark
from patchscout.types import Sample

HEIGHT, WIDTH, PATCH = 144, 176, 32
NORMAL = tuple(Sample(Path(f"{number}.png")) for number in range(5))
LABELED = (Sample(Path("7.png"), "hole"),)


class Noise(ImageLoader):
    """Images of noise, each known by its name."""

    def image(self, sample):
        rng = torch.Generator().manual_seed(int(sample.image_path.stem))
        return torch.rand(3, *self.image_size, generator=rng)


class Recorder:
    """A learner that keeps the patches and the sizes of the images it is given."""

    def __init__(self):
        self.patches = []
        self.sizes = set()

    def learn(self, patches):
        self.patches.append(patches)
        return 0.0, torch.zeros(len(patches))

    def error_maps(self, images):
        self.sizes.add(tuple(images.shape[-2:]))
        return images.mean(dim=1)


def make(downscale, **sampler):
    config = parse_config(
        {
            "data": {"image_size": [HEIGHT, WIDTH]},
            "autoencoder": {"downscale": downscale},
            "sampler": {"num_walkers": 6, "patch_px": PATCH, "window_px": 64, **sampler},
        }
    )
    loader = Noise((HEIGHT, WIDTH), 0)
    return config, loader, ImagePool(config, NORMAL, LABELED, loader)


@pytest.mark.parametrize("downscale", [1, 2])
def test_images_are_drawn_as_the_autoencoder_sees_them(downscale):
    _, loader, pool = make(downscale)
    numbers, images = pool.draw(20)
    assert images.shape == (20, 3, HEIGHT // downscale, WIDTH // downscale)
    assert images.is_contiguous()
    assert set(numbers.tolist()) == set(range(len(NORMAL))) == set(range(len(pool)))
    for number, image in zip(numbers, images, strict=True):
        whole = loader.image(NORMAL[number])
        torch.testing.assert_close(image, F.avg_pool2d(whole, downscale))


def test_labeled_images_are_shrunk_too():
    _, _, pool = make(2, labeled_in_pool=True)
    numbers, images = pool.draw(40)
    assert numbers.max() >= len(NORMAL)
    assert images.shape == (40, 3, HEIGHT // 2, WIDTH // 2)


@pytest.mark.parametrize("downscale", [1, 2])
def test_patches_are_cut_from_the_shrunk_images(downscale):
    config, loader, pool = make(downscale)
    learner = Recorder()
    environment = PatchEnvironment(pool, learner, config.sampler, RewardSettings())
    environment.reset()
    assert learner.sizes == {(HEIGHT // downscale, WIDTH // downscale)}
    small = [F.avg_pool2d(loader.image(sample), downscale) for sample in NORMAL]
    numbers = environment._numbers.tolist()
    last = [HEIGHT // downscale - PATCH, WIDTH // downscale - PATCH]
    environment.place(torch.tensor([[0, 0], last, [3, 5]] * 2))
    (patches,) = learner.patches
    assert patches.shape == (6, 3, PATCH, PATCH)
    for patch, number, (top, left) in zip(
        patches, numbers, environment.corners.tolist(), strict=True
    ):
        inside = (..., slice(top, top + PATCH), slice(left, left + PATCH))
        torch.testing.assert_close(patch, small[number][inside])
    assert environment.channel_maps(Channel.VISITS).sum() == 6 * PATCH**2


@pytest.mark.parametrize(("largest", "is_told"), [(1.0, False), (1 / 4, False), (1 / 16, True)])
def test_values_of_12_bits_in_files_of_16_are_told(largest, is_told, capsys):
    pixels = largest * torch.rand(3, 10_000)
    tell_if_dark((pixels.mean(dim=1), pixels.std(dim=1)), Monitor(quiet=False))
    assert ("scale them to all 16" in capsys.readouterr().out) == is_told
