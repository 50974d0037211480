"""The samplers behind their one interface: where they put patches, when the policy learns."""

import numpy as np
import pytest
import torch
from scipy import stats

from patchscout.networks.policy import Policy
from patchscout.training.environment import Channel, Geometry, PatchEnvironment
from patchscout.training.policy_gradient import PolicySettings
from patchscout.training.samplers import (
    EXPLORATION,
    PlacingSampler,
    PolicySampler,
    Sampler,
    make_sampler,
    ucb_places,
)

ROWS, COLUMNS, PATCH, GRID = 64, 80, 16, 4
KINDS = ["policy", "uniform", "error", "ucb"]
DRAWING = ["uniform", "error"]


def random_images(count):
    return torch.rand(count, 3, ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def make(image_pool):
    def make(kind, images, num_walkers=64, *, seed=0, most=32, **settings):
        geometry = Geometry(num_walkers, 32, PATCH, 16, most)
        environment = PatchEnvironment(
            image_pool(images), geometry, seed=0, error_maps=lambda _, images: images.mean(dim=1)
        )
        device = torch.device("cpu")
        sampler = make_sampler(kind, geometry, PolicySettings(**settings), seed=seed, device=device)
        sampler.start_cycle(environment)
        return sampler, environment

    return make


def step(sampler, environment, *, is_last=False):
    picked = sampler.pick(environment)
    own = torch.rand(len(picked.counted), generator=torch.Generator().manual_seed(0))
    return picked, sampler.learn(own, -0.5, environment, is_last=is_last)


def places(make, kind, images, num_steps, **settings):
    """Corners of all patches of so many steps, on whatever image."""
    sampler, environment = make(kind, images, **{"most": 1000, **settings})
    return torch.cat([step(sampler, environment)[0].corners for _ in range(num_steps)])


@pytest.mark.parametrize("kind", KINDS)
def test_all_have_one_interface(make, kind):
    torch.manual_seed(0)
    sampler, environment = make(kind, random_images(5), 8)
    assert isinstance(sampler, Sampler)
    for number in range(4):
        picked, figures = step(sampler, environment, is_last=number == 3)
        assert bool(figures) == (kind == "policy" and number == 3)
        assert all(isinstance(figure, float) for figure in figures.values())
        assert (picked.corners >= 0).all()
        assert (picked.corners <= torch.tensor([ROWS - PATCH, COLUMNS - PATCH])).all()
    drawn = environment.pool.num_drawn
    sampler.start_cycle(environment)
    assert environment.pool.num_drawn == drawn + 8
    assert not environment.visits.any()


@pytest.mark.parametrize("kind", DRAWING)
def test_places_are_drawn_in_proportion_to_what_is_in_them(make, kind):
    image = random_images(1) * torch.linspace(0.2, 1.0, COLUMNS)  # brighter to the right
    error = torch.ones(ROWS, COLUMNS) if kind == "uniform" else image.mean(dim=(0, 1))
    rows, columns = ((side - PATCH) // GRID + 1 for side in (ROWS, COLUMNS))
    expected = np.empty((rows, columns))
    for row, column in np.ndindex(rows, columns):
        top, left = GRID * row, GRID * column
        expected[row, column] = error[top : top + PATCH, left : left + PATCH].mean()

    corners = places(make, kind, image, 100)
    assert (corners % GRID == 0).all()
    counts = np.zeros((rows, columns))
    np.add.at(counts, tuple((corners // GRID).T.numpy()), 1)
    expected *= counts.sum() / expected.sum()
    assert expected.min() > 5
    assert stats.chisquare(counts.ravel(), expected.ravel()).pvalue > 0.01
    if kind != "uniform":  # and so many draws do tell the kinds apart
        assert stats.chisquare(counts.ravel()).pvalue < 1e-6


def share_in_corner(make, kind, images):
    """Share of patches that lie wholly within the 40 cells in the bottom right-hand corner."""
    corners = places(make, kind, images, 30)
    return ((corners[:, 0] >= ROWS - 40) & (corners[:, 1] >= COLUMNS - 40)).float().mean().item()


def test_patches_lie_where_the_error_is(make):
    bright = torch.zeros(1, 3, ROWS, COLUMNS)
    bright[..., -32:, -32:] = 1.0
    assert share_in_corner(make, "uniform", bright) < 0.35  # 49 of 221 places
    assert share_in_corner(make, "error", bright) > 0.9
    assert share_in_corner(make, "error", torch.zeros_like(bright)) < 0.35


@pytest.mark.parametrize("kind", KINDS[1:])
def test_one_in_nine_goes_to_a_new_image(make, kind):
    sampler, environment = make(kind, random_images(3), most=1000)
    before = environment.pool.num_drawn
    for _ in range(60):
        step(sampler, environment)
    rate = (environment.pool.num_drawn - before) / (60 * 64)
    assert rate == pytest.approx(1 / 9, abs=0.02)  # four standard deviations


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_the_places(make, kind):
    def walk(seed):
        torch.manual_seed(7)  # the policy's weights
        return places(make, kind, random_images(3), 6, num_walkers=8, seed=seed)

    assert torch.equal(walk(0), walk(0))
    assert not torch.equal(walk(0), walk(1))


def test_the_confidence_bound_by_hand():
    # Errors scaled to [0, 1]: 0, 1/2, 1, without and with many patches on the image.
    errors = torch.tensor([[[1.0, 2.0, 3.0]]])
    visits = torch.tensor([[[0.0, 1.0, 2.0]]])
    found = [
        ucb_places(errors, visits, torch.tensor([n]), torch.tensor([0]), 0 * errors, reach=1.0)
        for n in (0.0, 1e12)
    ]
    doubt = EXPLORATION * torch.tensor(1e12).log1p().sqrt()
    bounds = torch.tensor([0, 0.5, 1]) + doubt / (1 + visits[0, 0]).sqrt()
    assert found[0].tolist() == [[0, 2]]  # no doubt: the largest error
    assert found[1].tolist() == [[0, int(bounds.argmax())]] == [[0, 0]]


def test_walkers_on_one_image_choose_different_places():
    errors = torch.rand(4, 6, 6, generator=torch.Generator().manual_seed(0))
    errors[:3] = errors[0]
    numbers, none = torch.tensor([5, 5, 5, 2]), torch.zeros(4, 6, 6)
    many = torch.full((4,), 50.0)
    found = ucb_places(errors, none, many, numbers, none, reach=2.0).tolist()
    assert len({tuple(place) for place in found[:3]}) == 3
    alone = ucb_places(errors[3:], none[3:], many[3:], numbers[3:], none[3:], reach=2.0).tolist()
    assert found[3:] == alone
    assert not none.any()


def test_the_bound_covers_the_image_and_comes_back_to_what_stays_wrong(make):
    image = torch.full((1, 3, ROWS, COLUMNS), 0.1)
    image[..., -PATCH:, -PATCH:] = 0.9
    sampler, environment = make("ucb", image, 1, most=10_000)
    for _ in range(400):
        step(sampler, environment)
    visits = environment.channel_maps(Channel.VISITS)[0]
    assert visits.min() >= 1
    assert visits[-PATCH:, -PATCH:].mean() > 2 * visits[:PATCH, :PATCH].mean()


def updates_of_a_cycle(make, monkeypatch, num_steps, **settings):
    """When the policy was updated: (step, first step learned from, whether another follows)."""
    sampler, environment = make("policy", random_images(3), 4, **settings)
    assert isinstance(sampler, PolicySampler)
    seen, original = [], sampler.learner.update

    def update(next_observation, skip=0):
        first = number - len(sampler.learner.rollout) + 1 + skip
        seen.append((number, first, next_observation is not None))
        return original(next_observation, skip)

    monkeypatch.setattr(sampler.learner, "update", update)
    for number in range(1, num_steps + 1):
        before = [parameter.clone() for parameter in sampler.learner.policy.parameters()]
        _, figures = step(sampler, environment, is_last=number == num_steps)
        has_learned = not all(map(torch.equal, before, sampler.learner.policy.parameters()))
        assert has_learned == ("policy_loss" in figures)
        assert has_learned == bool(seen and seen[-1][0] == number >= seen[-1][1])
    return seen


def test_the_policy_is_updated_every_few_steps_and_at_the_end_of_a_cycle(make, monkeypatch):
    seen = updates_of_a_cycle(make, monkeypatch, 8, update_every=3)
    assert seen == [(3, 1, True), (6, 4, True), (8, 7, False)]


def test_the_policy_does_not_learn_from_the_first_steps_of_a_cycle(make, monkeypatch):
    seen = updates_of_a_cycle(make, monkeypatch, 8, update_every=3, update_after=4)
    assert seen == [(3, 5, True), (6, 5, True), (8, 7, False)]  # nothing, from the fifth, all


def test_the_policy_is_told_each_walkers_own_and_the_shared_part(make):
    sampler, environment = make("policy", random_images(3), 4)
    assert isinstance(sampler, PolicySampler)
    sampler.pick(environment)
    own = torch.tensor([0.1, 0.2, 0.3, 0.4])
    sampler.learn(own, -0.25, environment, is_last=False)
    assert torch.equal(sampler.learner.rollout.own_rewards[0], own)
    assert sampler.learner.rollout.shared_rewards == [-0.25]


def test_samplers_are_made_by_name(make):
    sampler = make("policy", random_images(3), 4)[0]
    assert isinstance(sampler, PolicySampler)
    assert isinstance(sampler.learner.policy, Policy)
    assert isinstance(make("ucb", random_images(3), 4)[0], PlacingSampler)
