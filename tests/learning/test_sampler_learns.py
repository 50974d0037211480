"""The policy learns: what it is paid for, it comes to do; without its update it does not."""

import pytest
import torch
from walks import half_structured_images, make_walk, only

from patchscout.config import SamplerSettings
from patchscout.networks.sampler import LeanPolicy, PaperPolicy
from patchscout.training.policy_gradient import PolicyGradient

NUM_STEPS = 400
LATE_STEPS = 100


def structure_found(*, learns, seed):
    """Return the mean R_clone of late patches, as a share of the way from flat to all texture."""
    images = half_structured_images(16)
    environment, sampler = make_walk(images, only(clone=True), learns=learns, seed=seed)
    clones = [
        sampler.step(environment, is_last=False)["reward_clone"] for _ in range(NUM_STEPS)
    ]
    late = torch.tensor(clones[-LATE_STEPS:]).mean().item()
    textured = environment._blurred_sobel[environment._blurred_sobel > 0.05].mean().sigmoid().item()
    return (late - 0.5) / (textured - 0.5)


def area_covered(*, learns, seed):
    """Return which share of all images is covered in one cycle after learning."""
    images = half_structured_images(16)
    environment, sampler = make_walk(images, only(cover=True), learns=learns, seed=seed)
    cycle = 40
    for _ in range(NUM_STEPS // cycle):
        for step in range(cycle):
            sampler.step(environment, is_last=step == cycle - 1)
        covered = (environment._remembered > 0).float().mean().item()
        sampler.start_cycle(environment)
    return covered


def best_action_probability(policy, *, learns, seed=0):
    """Return how probable the one action that is paid becomes."""
    settings = SamplerSettings(num_walkers=16, learning_rate=3e-3, gamma=0.0)
    gradient = PolicyGradient(policy, settings, seed=seed, learns=learns)
    observation = torch.rand(16, 6, 128, 128, generator=torch.Generator().manual_seed(seed))
    for _ in range(40):
        for _ in range(4):
            actions = gradient.act(observation)
            gradient.note_reward((actions == 5).float())
        gradient.update(None)
    with torch.no_grad():
        logits, _ = policy(policy.encode(observation))
    return logits.softmax(dim=1)[:, 5].mean().item()


@pytest.mark.parametrize("seed", [0, 1])
def test_paid_for_structure_it_looks_at_structure(seed):
    untrained = structure_found(learns=False, seed=seed)
    learned = structure_found(learns=True, seed=seed)
    print('structure',untrained,learned)
    assert learned > 1.5 * untrained


@pytest.mark.parametrize("seed", [0, 1])
def test_paid_for_coverage_it_covers_more(seed):
    untrained = area_covered(learns=False, seed=seed)
    learned = area_covered(learns=True, seed=seed)
    print('cover',untrained,learned)
    assert learned > untrained + 0.1


@pytest.mark.parametrize("network", [LeanPolicy, PaperPolicy])
def test_finds_the_best_arm_of_a_bandit(network):
    torch.manual_seed(0)
    assert best_action_probability(network(), learns=True) > 0.9
    torch.manual_seed(0)
    assert best_action_probability(network(), learns=False) < 0.3


@pytest.mark.parametrize("network", [LeanPolicy, PaperPolicy])
def test_gradients_reach_every_parameter(network):
    torch.manual_seed(0)
    policy = network()
    gradient = PolicyGradient(policy, SamplerSettings(num_walkers=8), seed=0)
    observation = torch.rand(8, 6, 128, 128)
    for _ in range(3):
        gradient.act(observation)
        gradient.note_reward(torch.rand(8))
    gradient.update(observation)
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
