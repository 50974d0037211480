"""What walkers see and how they move: interface, channels, actions, images, seeds."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch.utils._python_dispatch import TorchDispatchMode

from patchscout.config import RewardSettings, SamplerSettings
from patchscout.data.augment import Augmentation, draw_augmentation
from patchscout.training.environment import STOP, Channel, PatchEnvironment
from patchscout.training.structure import (
    fused_structure_map,
    grey,
    local_variance,
    sobel_magnitude,
)

HEIGHT, WIDTH, WINDOW, PATCH, MARGIN = 160, 224, 128, 64, 32
SIZES = {"window_px": WINDOW, "patch_px": PATCH, "stride_px": 24}
EAST, WEST = 3, 7


class Recorder:
    """A learner that keeps what it is given; its error is the distance from grey."""

    def __init__(self):
        self.patches = []
        self.num_error_maps = []

    def learn(self, patches):
        self.patches.append(patches)
        return -0.25, torch.zeros(len(patches))

    def error_maps(self, images):
        self.num_error_maps.append(len(images))
        return (images - 0.5).abs().mean(dim=1)


def random_images(count, height=HEIGHT, width=WIDTH, seed=0):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def make(image_pool):
    def make(images, num_walkers=4, *, seed=0, uses_error=True, **settings) -> tuple[Any, Any]:
        sampler = SamplerSettings(num_walkers=num_walkers, **{**SIZES, **settings})
        environment = PatchEnvironment(
            image_pool(images),
            Recorder(),
            sampler,
            RewardSettings(),
            seed=seed,
            uses_error=uses_error,
        )
        return environment, environment.reset()[0]

    return make


def moves(num_steps, num_walkers, seed=1):
    """Random actions without stops."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(1, 9, (num_steps, num_walkers), generator=rng)


@pytest.mark.parametrize("num_walkers", [1, 5])
def test_it_is_a_vector_environment_of_gymnasium(make, num_walkers):
    environment, first = make(random_images(3), num_walkers)
    assert isinstance(environment, VectorEnv)
    assert environment.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert environment.num_envs == num_walkers
    assert environment.single_observation_space.shape == (6, WINDOW, WINDOW)
    environment.action_space.seed(0)
    observation, rewards, terminations, truncations, info = environment.step(
        environment.action_space.sample()
    )
    for observed in (first, observation):
        assert observed.shape == (num_walkers, 6, WINDOW, WINDOW)
        assert observed.numpy() in environment.observation_space
    assert rewards.shape == terminations.shape == truncations.shape == (num_walkers,)
    assert not (terminations | truncations).any()
    assert info["counted"].dtype == terminations.dtype == torch.bool


def test_each_channel_is_what_its_name_says(make):
    images = random_images(4)
    environment, observation = make(images, error_refresh_steps=3)
    error = (images - 0.5).abs().mean(dim=1)
    luma = grey(images)
    structure = fused_structure_map(error, local_variance(luma), sobel_magnitude(luma))
    visits = np.zeros((4, HEIGHT, WIDTH), np.float32)
    for actions in moves(12, 4):
        observation, _, _, _, info = environment.step(actions)
        patches = iter(environment.learner.patches[-1])
        for walker, (top, left) in enumerate(environment.corners.tolist()):
            assert 0 <= top <= HEIGHT - PATCH
            assert 0 <= left <= WIDTH - PATCH
            if info["counted"][walker]:
                inside = np.s_[walker, ..., top : top + PATCH, left : left + PATCH]
                visits[inside] += 1
                np.testing.assert_array_equal(next(patches), images[inside])
        whole = np.concatenate([images, *(m[:, None] for m in (error, visits, structure))], axis=1)
        padded = np.pad(whole, [(0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)])
        for walker, (top, left) in enumerate(environment.corners.tolist()):
            window = padded[walker, :, top : top + WINDOW, left : left + WINDOW]
            np.testing.assert_allclose(observation[walker], window, atol=1e-5)
    assert visits.max() > 1
    assert Channel(3).name == "ERROR"
    assert Channel(4).name == "VISITS"
    assert Channel(5).name == "STRUCTURE"


def test_beyond_the_border_the_window_sees_zeros(make):
    environment, _ = make(0.1 + random_images(2), 2)
    corners = torch.tensor([[0, 0], [HEIGHT - PATCH, WIDTH - PATCH]])
    observation = environment.place(corners)[0]
    colors_and_error = observation[:, :4]
    beyond, within = slice(None, MARGIN), slice(MARGIN, None)
    assert not observation[0, :, beyond].any()
    assert not observation[0, :, :, beyond].any()
    assert colors_and_error[0, :, within, within].all()
    assert not observation[1, :, -MARGIN:].any()
    assert not observation[1, :, :, -MARGIN:].any()
    assert colors_and_error[1, :, :-MARGIN, :-MARGIN].all()


def test_the_eight_moves_go_24_px_clockwise_from_north(make):
    environment, _ = make(random_images(8), 8)
    environment.corners = torch.tensor([[48, 72]]).repeat(8, 1)
    info = environment.step(torch.arange(1, 9))[-1]
    assert environment.corners.tolist() == [
        [24, 72],  # north
        [24, 96],
        [48, 96],  # east
        [72, 96],
        [72, 72],  # south
        [72, 48],
        [48, 48],  # west
        [24, 48],
    ]
    assert info["counted"].all()
    assert environment.pool.num_drawn == 8


def test_a_stop_goes_to_a_new_image_and_place_and_the_others_stay(make):
    images = random_images(6)
    environment, _ = make(images)
    environment.corners = torch.full((4, 2), 48)
    observation = environment.step(torch.tensor([EAST, STOP, WEST, STOP]))[0]
    assert environment.pool.num_drawn == 6
    shown = [environment.channel_maps(Channel(color)) for color in range(3)]
    assert torch.equal(torch.stack(shown, dim=1), images[[0, 4, 2, 5]])
    assert environment.corners[[0, 2]].tolist() == [[48, 72], [48, 24]]
    assert not observation[[1, 3], Channel.VISITS].any()


@pytest.mark.parametrize(("height", "width"), [(64, 80), (80, 64)])
def test_places_are_drawn_all_over_the_image(make, height, width):
    environment, _ = make(random_images(1, height, width), 256)
    seen = {tuple(corner) for corner in environment.corners.tolist()}
    places = itertools.product(range(height - PATCH + 1), range(width - PATCH + 1))
    assert seen == set(places)


@pytest.mark.parametrize("size", [(72, 104), (136, 96)])  # images of 144 x 208, 272 x 192 halved
def test_every_multiple_of_8_is_a_size_to_walk_on(make, size):
    environment, _ = make(random_images(3, *size))
    for actions in (*moves(6, 4), torch.zeros(4, dtype=torch.long)):
        environment.step(actions)
    visits = environment.channel_maps(Channel.VISITS)
    assert visits.shape[-2:] == size
    places = torch.tensor([[size[0] - PATCH, size[1] - PATCH]] * 4)
    environment.place(places)
    assert environment.remembered_visits[:, -1, -1].any()


def test_after_so_many_steps_a_walker_goes_to_a_new_image(make):
    environment, _ = make(random_images(9), 3, max_steps_per_image=4)
    drawn = []
    for step in range(9):
        environment.step(torch.tensor([EAST, WEST, STOP if step == 2 else EAST]))
        drawn.append(environment.pool.num_drawn)
    # At the end of each fourth step on an image; the third walker stops at the third step.
    assert drawn == [3, 3, 4, 6, 6, 6, 7, 9, 9]


def test_a_walker_moves_to_its_new_image_only_after_its_patch_is_paid(make):
    images = torch.linspace(0.1, 0.9, 6)[:, None, None, None].expand(6, 3, HEIGHT, WIDTH).clone()
    images[:2] *= torch.linspace(0.2, 1, WIDTH)  # only the first two have any structure
    environment, _ = make(images, 2, max_steps_per_image=2)
    actions = torch.tensor([EAST, STOP])
    environment.corners = torch.full((2, 2), 48)
    environment.step(actions)
    environment.corners = torch.full((2, 2), 48)
    observation, _, _, _, info = environment.step(actions)
    (first, second) = environment.learner.patches
    shown = images[0, :, 48 : 48 + PATCH, 72 : 72 + PATCH]
    assert torch.equal(first[0], shown)
    assert torch.equal(second[0], shown)  # in its last step there too
    assert len(first) == len(second) == 1  # a stop gives none
    assert info["reward_clone"][0] > 0.5
    assert environment.pool.num_drawn == 5
    assert torch.equal(environment.channel_maps(Channel.RED), images[[3, 4], 0])
    assert not observation[:, Channel.VISITS].any()
    visited = environment.remembered_visits.sum(dim=(1, 2)).tolist()
    assert visited[0] > 0
    assert visited[1:] == [0] * 5


@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
def test_on_a_flipped_image_every_channel_is_flipped(make, axis):
    flip = Augmentation(flip_horizontal=axis == "horizontal", flip_vertical=axis == "vertical")
    dim, column = (-1, 1) if axis == "horizontal" else (-2, 0)
    # North, NE, E, SE, S, SW, W, NW as seen in the mirror.
    mirrored = [0, 1, 8, 7, 6, 5, 4, 3, 2] if column else [0, 5, 4, 3, 2, 1, 8, 7, 6]
    images = random_images(4)
    environment, _ = make(images)
    mirror, _ = make(flip.apply(images))
    side = (HEIGHT, WIDTH)[column]
    corners = environment.corners.clone()
    corners[:, column] = side - PATCH - corners[:, column]
    mirror.corners = corners
    for actions in moves(8, 4):
        observation, rewards, *_ = environment.step(actions)
        seen, paid, *_ = mirror.step(torch.tensor(mirrored)[actions])
        torch.testing.assert_close(seen.flip(dim), observation, atol=1e-4, rtol=0)
        torch.testing.assert_close(paid, rewards)
    assert environment.channel_maps(Channel.VISITS).max() > 1


def test_on_an_augmented_image_the_structure_is_that_of_the_augmented_image(make):
    augmentation = draw_augmentation(np.random.default_rng(3))
    image = augmentation.apply(random_images(1))
    environment, _ = make(image, 1)
    luma = grey(image)
    error = (image - 0.5).abs().mean(dim=1)
    expected = fused_structure_map(error, local_variance(luma), sobel_magnitude(luma))
    torch.testing.assert_close(environment.channel_maps(Channel.STRUCTURE), expected)


class CountOperations(TorchDispatchMode):
    """Counts the tensor operations that are carried out."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_more_walkers_take_no_more_operations(make):
    counts = []
    for num_walkers in (8, 64):
        environment, _ = make(random_images(2, 64, 64), num_walkers, window_px=64, patch_px=32)
        with CountOperations() as operations:
            environment.reset()
            environment.step(torch.arange(num_walkers) % 9)
        counts.append(operations.count)
    # Views differ by a few with the layout of memory; a loop would take 56 turns more.
    assert counts[1] < counts[0] + 20
    assert counts[0] > 50


def test_the_seed_decides_where_walkers_go(make):
    def walk(environment, seed=None):
        observations = [environment.reset(seed=seed)[0]]
        return torch.stack([*observations, *(environment.step(a)[0] for a in actions)])

    actions = torch.randint(9, (5, 4), generator=torch.Generator().manual_seed(2))
    first, second, other = (make(random_images(1), seed=seed)[0] for seed in (0, 0, 1))
    walked = walk(first)
    assert torch.equal(walk(second), walked)
    assert not torch.equal(walk(other), walked)
    assert torch.equal(walk(first, seed=5), walk(other, seed=5))


def test_without_error_the_learner_is_never_asked_and_the_channels_stay_zero(make):
    environment, observation = make(random_images(4), uses_error=False, error_refresh_steps=1)
    for actions in (*moves(3, 4), torch.zeros(4, dtype=torch.long)):
        assert not observation[:, [Channel.ERROR, Channel.STRUCTURE]].any()
        observation = environment.step(actions)[0]
    assert environment.learner.num_error_maps == []
    assert environment.pool.num_drawn == 8


def test_the_error_is_computed_anew_every_few_steps_and_on_arrival(make):
    environment, _ = make(random_images(4), error_refresh_steps=3)
    asked = environment.learner.num_error_maps
    assert asked == [4]
    for step in range(1, 8):
        environment.step(torch.tensor([EAST, WEST, EAST, STOP if step == 5 else WEST]))
        # All four after the third and the sixth step, the one that stops at the fifth.
        assert asked == [4, *[4] * (step >= 3), *[1] * (step >= 5), *[4] * (step >= 6)]
