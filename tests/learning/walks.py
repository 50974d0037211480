"""Images and a learner that does nothing, for tests of the sampler alone."""

import torch

from patchscout.config import RewardSettings, SamplerSettings
from patchscout.networks.sampler import LeanPolicy
from patchscout.training.environment import PatchEnvironment
from patchscout.training.samplers import PolicySampler


class NoLearner:
    """Learns nothing; its reconstruction is perfect, so that the error channel says nothing."""

    def learn(self, patches):
        return 0.0

    def error_maps(self, images):
        return torch.zeros(len(images), *images.shape[-2:])


class FixedImages:
    """A pool of given images."""

    def __init__(self, images, seed=0):
        self.images = images
        self._rng = torch.Generator().manual_seed(seed)

    def __len__(self):
        return len(self.images)

    def draw(self, count):
        numbers = torch.randint(len(self.images), (count,), generator=self._rng)
        return numbers, self.images[numbers]


def half_structured_images(count, size_px=192, seed=0):
    """Flat grey images with fine texture in one quarter, which differs from image to image."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.full((count, 3, size_px, size_px), 0.5)
    half = size_px // 2
    for number in range(count):
        top, left = half * (number % 2), half * (number // 2 % 2)
        texture = torch.rand(1, half, half, generator=rng)
        images[number, :, top : top + half, left : left + half] = texture
    return images


def make_walk(images, reward, *, learns, seed=0, **settings):
    """Return an environment and a policy sampler on it, started."""
    sampler_settings = SamplerSettings(**{"num_walkers": 16, "learning_rate": 3e-3, **settings})
    environment = PatchEnvironment(
        FixedImages(images, seed), NoLearner(), sampler_settings, reward, seed=seed
    )
    torch.manual_seed(seed)
    policy = LeanPolicy(sampler_settings.window_px)
    sampler = PolicySampler(policy, sampler_settings, seed=seed, learns=learns)
    sampler.start_cycle(environment)
    return environment, sampler


def only(**terms):
    """Return reward settings with nothing but the given terms, at their full weight."""
    kept = {"clone": False, "cover": False, "pred": False, **terms}
    return RewardSettings(**kept, beta={"start": 1.0, "end": 1.0, "steps": 1})
