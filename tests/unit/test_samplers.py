"""The samplers behind their one interface: where they put patches, when the policy learns."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from patchscout.config import RewardSettings, SamplerSettings
from patchscout.training.environment import Channel, PatchEnvironment
from patchscout.training.samplers import PolicySampler, Sampler, make_sampler
from patchscout.training.structure import grey, sobel_magnitude

HEIGHT, WIDTH, PATCH, GRID = 64, 80, 16, 8
KINDS = ["policy", "uniform", "structure", "error"]
PLACING = KINDS[1:]


class Recorder:
    """A learner that keeps what it is given; its error is the brightness."""

    def __init__(self):
        self.patches = []

    def learn(self, patches):
        self.patches.append(patches)
        return -0.5, torch.zeros(len(patches))

    def error_maps(self, images):
        return images.mean(dim=1)


def random_images(count):
    return torch.rand(count, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def make(image_pool):
    def make(kind, images, num_walkers=64, *, seed=0, **settings) -> tuple[Any, Any]:
        sampler_settings = SamplerSettings(
            kind=kind, num_walkers=num_walkers, window_px=32, patch_px=PATCH, **settings
        )
        environment = PatchEnvironment(
            image_pool(images), Recorder(), sampler_settings, RewardSettings()
        )
        sampler = make_sampler(sampler_settings, seed=seed, device=torch.device("cpu"))
        sampler.start_cycle(environment)
        return sampler, environment

    return make


def places(make, kind, images, num_steps, **settings):
    """Corners of all patches of so many steps, on whatever image."""
    sampler, environment = make(kind, images, **{"max_steps_per_image": 1000, **settings})
    corners = []
    for _ in range(num_steps):
        sampler.step(environment, is_last=False)
        corners.append(environment.corners.clone())
    return torch.cat(corners)


@pytest.mark.parametrize("kind", KINDS)
def test_all_have_one_interface(make, kind):
    torch.manual_seed(0)
    sampler, environment = make(kind, random_images(5), 8)
    assert isinstance(sampler, Sampler)
    for step in range(4):
        figures = sampler.step(environment, is_last=step == 3)
        assert {"reward", "reward_clone", "reward_cover", "reward_pred", "beta"} <= set(figures)
        assert all(isinstance(figure, float) for figure in figures.values())
        corners = environment.corners
        assert (corners >= 0).all()
        assert (corners <= torch.tensor([HEIGHT - PATCH, WIDTH - PATCH])).all()
    assert len(environment.learner.patches) == 4
    assert environment.num_steps == 4
    drawn = environment.pool.num_drawn
    sampler.start_cycle(environment)
    assert environment.pool.num_drawn == drawn + 8
    assert not environment.channel_maps(Channel.VISITS).any()


@pytest.mark.parametrize("kind", PLACING)
def test_places_are_drawn_in_proportion_to_what_is_in_them(make, kind):
    # Brighter and rougher to the right, never so smooth that a place is next to impossible.
    image = random_images(1) * torch.linspace(0.4, 1.0, WIDTH)
    energy = {
        "uniform": torch.ones(HEIGHT, WIDTH),
        "structure": sobel_magnitude(grey(image))[0].square(),
        "error": image.mean(dim=(0, 1)),
    }[kind].numpy()
    rows, columns = ((side - PATCH) // GRID + 1 for side in (HEIGHT, WIDTH))
    expected = np.empty((rows, columns))
    for row in range(rows):
        for column in range(columns):
            top, left = GRID * row, GRID * column
            expected[row, column] = energy[top : top + PATCH, left : left + PATCH].mean()

    corners = places(make, kind, image, 60)
    assert (corners % GRID == 0).all()
    counts = np.zeros((rows, columns))
    np.add.at(counts, tuple((corners // GRID).T.numpy()), 1)
    expected *= counts.sum() / expected.sum()
    assert expected.min() > 5
    assert stats.chisquare(counts.ravel(), expected.ravel()).pvalue > 0.01
    if kind != "uniform":  # and so many draws do tell the kinds apart
        assert stats.chisquare(counts.ravel()).pvalue < 1e-6


def share_in_corner(make, kind, images):
    """Share of patches that lie wholly within the 40 px in the bottom right-hand corner."""
    corners = places(make, kind, images, 30)
    return ((corners[:, 0] >= HEIGHT - 40) & (corners[:, 1] >= WIDTH - 40)).float().mean().item()


def test_patches_lie_where_structure_or_error_is(make):
    rough, bright = torch.full((1, 3, HEIGHT, WIDTH), 0.5), torch.zeros(1, 3, HEIGHT, WIDTH)
    rough[..., -32:, -32:] = random_images(1)[..., -32:, -32:]
    bright[..., -32:, -32:] = 1.0
    assert share_in_corner(make, "uniform", rough) < 0.35  # 16 of 63 places
    assert share_in_corner(make, "structure", rough) > 0.95
    assert share_in_corner(make, "error", bright) > 0.95
    assert (
        share_in_corner(make, "structure", torch.full_like(rough, 0.5)) < 0.35
    )  # nothing anywhere
    assert share_in_corner(make, "error", torch.zeros_like(bright)) < 0.35


@pytest.mark.parametrize("kind", PLACING)
def test_one_in_nine_goes_to_a_new_image(make, kind):
    sampler, environment = make(kind, random_images(3), max_steps_per_image=1000)
    before = environment.pool.num_drawn
    for _ in range(60):
        sampler.step(environment, is_last=False)
    rate = (environment.pool.num_drawn - before) / (60 * 64)
    assert rate == pytest.approx(1 / 9, abs=0.02)  # four standard deviations


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_the_places(make, kind):
    def walk(seed):
        torch.manual_seed(7)  # the policy's weights
        return places(make, kind, random_images(3), 6, num_walkers=8, seed=seed)

    assert torch.equal(walk(0), walk(0))
    assert not torch.equal(walk(0), walk(1))


def updates_of_a_cycle(make, monkeypatch, num_steps, **settings):
    """When the policy was updated: (step, first step learned from, whether another follows)."""
    sampler, environment = make("policy", random_images(3), 4, **settings)
    assert isinstance(sampler, PolicySampler)
    seen, original = [], sampler.learner.update

    def update(next_observation, skip=0):
        first = step - len(sampler.learner.rollout) + 1 + skip
        seen.append((step, first, next_observation is not None))
        return original(next_observation, skip)

    monkeypatch.setattr(sampler.learner, "update", update)
    for step in range(1, num_steps + 1):
        before = [parameter.clone() for parameter in sampler.learner.policy.parameters()]
        figures = sampler.step(environment, is_last=step == num_steps)
        after = sampler.learner.policy.parameters()
        has_learned = not all(map(torch.equal, before, after))
        assert has_learned == ("policy_loss" in figures)
        assert has_learned == bool(seen and seen[-1][0] == step >= seen[-1][1])
    return seen


def test_the_policy_is_updated_every_few_steps_and_at_the_end_of_a_cycle(make, monkeypatch):
    seen = updates_of_a_cycle(make, monkeypatch, 8, update_every=3)
    assert seen == [(3, 1, True), (6, 4, True), (8, 7, False)]


def test_the_policy_does_not_learn_from_the_first_steps_of_a_cycle(make, monkeypatch):
    seen = updates_of_a_cycle(make, monkeypatch, 8, update_every=3, update_after=4)
    assert seen == [(3, 5, True), (6, 5, True), (8, 7, False)]  # nothing, from the fifth, all


def test_the_policy_is_paid_each_walkers_own_and_the_shared_part(make, monkeypatch):
    sampler, environment = make("policy", random_images(3), 4)
    assert isinstance(sampler, PolicySampler)
    environment.num_steps = environment.reward.beta.steps // 2  # beta is 1/2
    noted, taken = [], []
    monkeypatch.setattr(sampler.learner, "note_reward", lambda *paid: noted.append(paid))
    step = environment.step
    monkeypatch.setattr(
        environment, "step", lambda actions: taken.append(step(actions)) or taken[0]
    )
    sampler.step(environment, is_last=False)
    ((own, shared),), ((_, rewards, _, _, info),) = noted, taken
    assert shared == pytest.approx(0.5 * -0.5)
    torch.testing.assert_close(own + shared, rewards)
    counted = info["counted"]
    terms = 0.5 * (info["reward_clone"] + info["reward_cover"])
    torch.testing.assert_close(own[counted], terms[counted])
    assert counted.any()
