"""The policy learns: what it is paid for, it comes to do; without its update it does not."""

import pytest
import torch

from patchscout.networks.policy import Policy
from patchscout.paper.networks import PaperPolicy
from patchscout.training.environment import Geometry, PatchEnvironment
from patchscout.training.policy_gradient import PolicyGradient, PolicySettings
from patchscout.training.rewards import IDLE_REWARD
from patchscout.training.samplers import PolicySampler
from patchscout.training.structure import gaussian_blur, sobel_magnitude

SIDE = 64
GEOMETRY = Geometry(window=32, patch=16, stride=8)
NETWORKS = [lambda: Policy(64, 32, 8), lambda: PaperPolicy(64)]
CHANNELS = {Policy: 5, PaperPolicy: 6}


class Quarters:
    """Flat grey images with fine texture in one quarter, which differs from image to image."""

    def __init__(self, count, seed):
        self._rng = torch.Generator().manual_seed(seed)
        half = SIDE // 2
        self.images = torch.full((count, 3, SIDE, SIDE), 0.5)
        for number in range(count):
            top, left = half * (number % 2), half * (number // 2 % 2)
            texture = torch.rand(1, half, half, generator=self._rng)
            self.images[number, :, top : top + half, left : left + half] = texture

    def __len__(self):
        return len(self.images)

    def draw(self, count):
        numbers = torch.randint(len(self.images), (count,), generator=self._rng)
        return numbers, self.images[numbers]


def walk(*, learns, seed):
    """Return an environment whose errors say nothing, and a policy that walks in it."""
    pool = Quarters(GEOMETRY.num_walkers, seed)
    environment = PatchEnvironment(
        pool, GEOMETRY, seed=seed, error_maps=lambda _, images: torch.zeros_like(images[:, 0])
    )
    torch.manual_seed(seed)
    policy = Policy(GEOMETRY.window, GEOMETRY.patch, GEOMETRY.stride)
    sampler = PolicySampler(policy, PolicySettings(), seed=seed, learns=learns)
    sampler.start_cycle(environment)
    return environment, sampler


def structure_found(*, learns, seed):
    """Return R_clone of the last 80 steps: 0 for flat ground, 1 for texture."""
    environment, sampler = walk(learns=learns, seed=seed)
    found = []
    for _ in range(400 if learns else 80):
        picked = sampler.pick(environment)
        own = picked.clone.where(picked.counted, IDLE_REWARD)
        sampler.learn(own, 0.0, environment, is_last=False)
        found.append(picked.clone[picked.counted].mean().item())
    texture = environment.pool.images[0, :1, : SIDE // 2, : SIDE // 2]  # pyright: ignore
    best = sobel_magnitude(gaussian_blur(texture)).mean().sigmoid().item()
    return (sum(found[-80:]) / 80 - 0.5) / (best - 0.5)


def area_covered(*, learns, seed):
    """Return which share of all images the last 8 cycles of 24 steps cover."""
    environment, sampler = walk(learns=learns, seed=seed)
    covered = []
    for _ in range(25 if learns else 8):
        sampler.start_cycle(environment)
        for step in range(24):
            picked = sampler.pick(environment)
            own = picked.cover.where(picked.counted, IDLE_REWARD)
            sampler.learn(own, 0.0, environment, is_last=step == 23)
        covered.append((environment.visits > 0).float().mean().item())
    return sum(covered[-8:]) / 8


def best_action_probability(policy, *, learns):
    """Return how probable the one action that is paid becomes."""
    settings = PolicySettings(learning_rate=3e-3, gamma=0.0)
    gradient = PolicyGradient(policy, settings, seed=0, learns=learns)
    observation = torch.rand(16, CHANNELS[type(policy)], 64, 64)
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


@pytest.mark.parametrize("network", NETWORKS)
def test_finds_the_best_arm_of_a_bandit(network):
    torch.manual_seed(0)
    untrained, trained = network(), network()
    assert best_action_probability(untrained, learns=False) < 0.3
    assert best_action_probability(trained, learns=True) > 0.9


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_reach_every_parameter(network):
    torch.manual_seed(0)
    policy = network()
    before = {name: parameter.clone() for name, parameter in policy.named_parameters()}
    gradient = PolicyGradient(policy, PolicySettings(), seed=0)
    for _ in range(3):
        gradient.act(torch.rand(8, CHANNELS[type(policy)], 64, 64))
        gradient.note_reward(torch.rand(8))
    gradient.update(torch.rand(8, CHANNELS[type(policy)], 64, 64))
    for name, parameter in policy.named_parameters():
        assert not torch.equal(parameter, before[name]), name
