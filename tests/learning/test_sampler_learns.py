"""The policy learns: what it is paid for, it comes to do; without its update it does not."""

import pytest
import torch

from patchscout.config import LinearSchedule, RewardSettings, SamplerSettings
from patchscout.networks.sampler import LeanPolicy, PaperPolicy
from patchscout.training.environment import PatchEnvironment
from patchscout.training.policy_gradient import PolicyGradient
from patchscout.training.samplers import PolicySampler
from patchscout.training.structure import gaussian_blur, sobel_magnitude

SIZE_PX = 128
SETTINGS = SamplerSettings(window_px=64, patch_px=32, stride_px=16)


class NoLearner:
    """Learns nothing; its reconstruction is perfect, so that the error channel says nothing."""

    def learn(self, patches):
        return 0.0, torch.zeros(len(patches))

    def error_maps(self, images):
        return torch.zeros(len(images), *images.shape[-2:])


class Quarters:
    """Flat grey images with fine texture in one quarter, which differs from image to image."""

    def __init__(self, count, seed):
        self._rng = torch.Generator().manual_seed(seed)
        half = SIZE_PX // 2
        self.images = torch.full((count, 3, SIZE_PX, SIZE_PX), 0.5)
        for number in range(count):
            top, left = half * (number % 2), half * (number // 2 % 2)
            texture = torch.rand(1, half, half, generator=self._rng)
            self.images[number, :, top : top + half, left : left + half] = texture

    def __len__(self):
        return len(self.images)

    def draw(self, count):
        numbers = torch.randint(len(self.images), (count,), generator=self._rng)
        return numbers, self.images[numbers]


def walk(*, learns, seed, **terms):
    """Return an environment that pays only the given terms, and a policy that walks in it."""
    paid = {"clone": False, "cover": False, "pred": False, **terms}
    reward = RewardSettings(**paid, beta=LinearSchedule(start=1.0, end=1.0))
    pool = Quarters(SETTINGS.num_walkers, seed)
    environment = PatchEnvironment(pool, NoLearner(), SETTINGS, reward, seed=seed)
    torch.manual_seed(seed)
    policy = LeanPolicy(SETTINGS.window_px, SETTINGS.patch_px, SETTINGS.stride_px)
    sampler = PolicySampler(policy, SETTINGS, seed=seed, learns=learns)
    sampler.start_cycle(environment)
    return environment, sampler


def structure_found(*, learns, seed):
    """Return R_clone of late steps: 0 for patches on flat ground, 1 for patches on texture."""
    environment, sampler = walk(learns=learns, seed=seed, clone=True)
    figures = [sampler.step(environment, is_last=False)["reward_clone"] for _ in range(400)]
    assert isinstance(environment.pool, Quarters)
    texture = environment.pool.images[0, :1, :64, :64]
    best = sobel_magnitude(gaussian_blur(texture)).mean().sigmoid().item()
    return (sum(figures[-80:]) / 80 - 0.5) / (best - 0.5)


def area_covered(*, learns, seed):
    """Return which share of all images late cycles of 24 steps cover."""
    environment, sampler = walk(learns=learns, seed=seed, cover=True)
    covered = []
    for _ in range(25):
        sampler.start_cycle(environment)
        for step in range(24):
            sampler.step(environment, is_last=step == 23)
        covered.append((environment.remembered_visits > 0).float().mean().item())
    return sum(covered[-8:]) / 8


def lean_policy():
    return LeanPolicy(128, 64, 16)


def best_action_probability(policy, *, learns):
    """Return how probable the one action that is paid becomes."""
    settings = SamplerSettings(num_walkers=16, learning_rate=3e-3, gamma=0.0)
    gradient = PolicyGradient(policy, settings, seed=0, learns=learns)
    observation = torch.rand(16, 6, 128, 128, generator=torch.Generator().manual_seed(0))
    for _ in range(30):
        for _ in range(4):
            gradient.note_reward((gradient.act(observation) == 5).float())
        gradient.update(None)
    with torch.no_grad():
        logits, _ = policy(policy.encode(observation))
    return logits.softmax(dim=1)[:, 5].mean().item()


@pytest.mark.parametrize("seed", [0, 1])
def test_paid_for_structure_it_looks_at_structure(seed):
    found, by_chance = (structure_found(learns=learns, seed=seed) for learns in (True, False))
    assert found > by_chance + 0.2


@pytest.mark.parametrize("seed", [0, 1])
def test_paid_for_coverage_it_covers_more(seed):
    covered, by_chance = (area_covered(learns=learns, seed=seed) for learns in (True, False))
    assert covered > 1.15 * by_chance


@pytest.mark.parametrize("network", [lean_policy, PaperPolicy])
def test_finds_the_best_arm_of_a_bandit(network):
    torch.manual_seed(0)
    untrained, trained = network(), network()
    assert best_action_probability(untrained, learns=False) < 0.3
    assert best_action_probability(trained, learns=True) > 0.9


@pytest.mark.parametrize("network", [lean_policy, PaperPolicy])
def test_gradients_reach_every_parameter(network):
    torch.manual_seed(0)
    policy = network()
    before = {name: parameter.clone() for name, parameter in policy.named_parameters()}
    gradient = PolicyGradient(policy, SamplerSettings(num_walkers=8), seed=0)
    for _ in range(3):
        gradient.act(torch.rand(8, 6, 128, 128))
        gradient.note_reward(torch.rand(8))
    gradient.update(torch.rand(8, 6, 128, 128))
    for name, parameter in policy.named_parameters():
        assert not torch.equal(parameter, before[name]), name
