"""Where walkers are and what they see: channels, actions, visits, images, seeds."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from patchscout.data.augment import Augmentation, draw_augmentation
from patchscout.networks.policy import STOP
from patchscout.training.environment import Channel, Geometry, ImageSource, PatchEnvironment
from patchscout.training.structure import (
    fused_structure_map,
    grey,
    local_variance,
    sobel_magnitude,
)

ROWS, COLUMNS, WINDOW, PATCH, MARGIN = 160, 224, 128, 64, 32
NORTH, NORTH_EAST, EAST, SOUTH, WEST = 1, 2, 3, 5, 7
SIZES = {"window": WINDOW, "patch": PATCH, "stride": 24, "error_refresh_steps": 1}


class Errors:
    """Errors are the distance from grey; how many images were asked for is kept."""

    def __init__(self):
        self.asked = []

    def __call__(self, numbers, images):
        assert len(numbers) == len(images)
        self.asked.append(len(images))
        return (images - 0.5).abs().mean(dim=1)


def random_images(count, rows=ROWS, columns=COLUMNS, seed=0):
    return torch.rand(count, 3, rows, columns, generator=torch.Generator().manual_seed(seed))


def ramps(*slopes, side=ROWS):
    """Grey images that brighten to the right by a slope a cell."""
    image = torch.arange(side).float().expand(3, side, side)
    return torch.stack([slope * image for slope in slopes])


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.fixture
def make(image_pool):
    def make(images, num_walkers=4, *, seed=0, errors=True, **geometry):
        environment = PatchEnvironment(
            image_pool(images),
            Geometry(num_walkers=num_walkers, **{**SIZES, **geometry}),
            seed=seed,
            error_maps=Errors() if errors else None,
        )
        environment.reset()
        return environment

    return make


def step(environment, actions):
    """Take a whole step; return the patches and what is seen after it."""
    picked = environment.move(actions)
    environment.renew(actions == STOP)
    environment.refresh_errors()
    return picked, environment.observe()


def moves(num_steps, num_walkers, seed=1):
    """Random actions without stops."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(1, 9, (num_steps, num_walkers), generator=rng)


def test_each_channel_is_what_its_name_says(make):
    images = random_images(4)
    environment = make(images, error_refresh_steps=3)
    assert isinstance(environment.pool, ImageSource)
    error = (images - 0.5).abs().mean(dim=1)
    luma = grey(images)
    structure = fused_structure_map(error, local_variance(luma), sobel_magnitude(luma))
    visits = np.zeros((4, ROWS, COLUMNS), np.float32)
    for actions in moves(12, 4):
        picked, observation = step(environment, actions)
        assert torch.equal(picked.corners, environment.corners)
        for walker, (top, left) in enumerate(picked.corners.tolist()):
            assert 0 <= top <= ROWS - PATCH
            assert 0 <= left <= COLUMNS - PATCH
            inside = np.s_[walker, ..., top : top + PATCH, left : left + PATCH]
            np.testing.assert_array_equal(picked.images[walker], images[inside])
            if picked.counted[walker]:
                visits[inside] += 1
        whole = np.concatenate([images, *(m[:, None] for m in (error, visits, structure))], axis=1)
        padded = np.pad(whole, [(0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)])
        for walker, (top, left) in enumerate(environment.corners.tolist()):
            window = padded[walker, :, top : top + WINDOW, left : left + WINDOW]
            np.testing.assert_allclose(observation[walker], window, atol=1e-5)
    assert visits.max() > 1
    assert [channel.name for channel in Channel][3:] == ["ERROR", "VISITS", "STRUCTURE"]


def test_a_relative_observation_does_not_depend_on_contrast_light_or_the_scale_of_errors(make):
    images = random_images(3)
    plain, other = make(images, 3), make(0.2 + 0.4 * images, 3)
    other.error_maps = lambda numbers, images: 7 * (images - 0.4).abs().mean(dim=1)
    other.reset()
    other.corners = plain.corners
    seen = [one.observe(relative=True) for one in (plain, other)]
    torch.testing.assert_close(*seen, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(plain.observe(), other.observe(), atol=1e-2)


def test_a_relative_observation_by_hand(make):
    images = random_images(1)
    environment = make(images, 1)
    step(environment, torch.tensor([EAST]))
    environment.corners = torch.tensor([[0, 40]])
    brightness, error, visits, structure, inside = environment.observe(relative=True)[0]
    raw = environment.observe()[0]
    luma, errors = grey(images), (images - 0.5).abs().mean(dim=1)
    window = np.s_[0, :96, 40 - MARGIN : 40 - MARGIN + WINDOW]
    expected = ((luma - luma.mean()) / luma.std())[window]
    torch.testing.assert_close(brightness[MARGIN:], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(error[MARGIN:], (errors / errors.mean())[window])
    assert torch.equal(visits, raw[Channel.VISITS])
    assert torch.equal(structure, raw[Channel.STRUCTURE])
    assert inside[MARGIN:].eq(1).all()
    for channel in (brightness, error, inside):
        assert not channel[:MARGIN].any()


def test_beyond_the_border_the_window_sees_zeros(make):
    environment = make(0.1 + random_images(2), 2)
    environment.place(torch.tensor([[0, 0], [ROWS - PATCH, COLUMNS - PATCH]]))
    observation = environment.observe()
    colors_and_error = observation[:, :4]
    beyond, within = slice(None, MARGIN), slice(MARGIN, None)
    assert not observation[0, :, beyond].any()
    assert not observation[0, :, :, beyond].any()
    assert colors_and_error[0, :, within, within].all()
    assert not observation[1, :, -MARGIN:].any()
    assert not observation[1, :, :, -MARGIN:].any()
    assert colors_and_error[1, :, :-MARGIN, :-MARGIN].all()


def test_the_eight_moves_go_one_stride_clockwise_from_north(make):
    environment = make(random_images(8), 8)
    environment.corners = torch.tensor([[48, 72]]).repeat(8, 1)
    picked = environment.move(torch.arange(1, 9))
    assert picked.corners.tolist() == [
        [24, 72],  # north
        [24, 96],
        [48, 96],  # east
        [72, 96],
        [72, 72],  # south
        [72, 48],
        [48, 48],  # west
        [24, 48],
    ]
    assert picked.counted.all()
    assert picked.numbers.tolist() == list(range(8))
    assert environment.pool.num_drawn == 8


def test_a_stop_goes_to_a_new_image_and_place_and_the_others_stay(make):
    images = random_images(6)
    environment = make(images)
    environment.corners = torch.full((4, 2), 48)
    _, observation = step(environment, torch.tensor([EAST, STOP, WEST, STOP]))
    assert environment.pool.num_drawn == 6
    shown = [environment.channel_maps(Channel(color)) for color in range(3)]
    assert torch.equal(torch.stack(shown, dim=1), images[[0, 4, 2, 5]])
    assert environment.numbers.tolist() == [0, 4, 2, 5]
    assert environment.corners[[0, 2]].tolist() == [[48, 72], [48, 24]]
    assert not observation[[1, 3], Channel.VISITS].any()


def test_a_move_over_the_border_ends_there_and_a_stop_leaves_and_neither_counts(make):
    images = ramps(0.001, 0.002, 0.003, 0.004, 0.005, 0.006)
    environment = make(images, 5)
    environment.corners = torch.tensor([[10, 48], [10, 48], [24, 48], [60, 95], [48, 48]])
    picked = environment.move(torch.tensor([NORTH, NORTH_EAST, NORTH, EAST, STOP]))
    # The third ends just at the border, which is no farther than it was to go.
    assert picked.corners[:4].tolist() == [[0, 48], [0, 72], [0, 48], [60, 96]]
    assert picked.counted.tolist() == [False, False, True, False, False]
    assert torch.equal(picked.images[2], images[2, :, :PATCH, 48 : 48 + PATCH])
    visits = environment.channel_maps(Channel.VISITS)
    assert visits.sum(dim=(1, 2)).tolist() == [0, 0, PATCH**2, 0, 0]
    idle = ~picked.counted
    assert not picked.clone[idle].any()
    assert not picked.cover[idle].any()


@pytest.mark.parametrize(("rows", "columns"), [(64, 80), (80, 64)])
def test_walkers_arrive_all_over_the_image(make, rows, columns):
    environment = make(random_images(1, rows, columns), 256)
    seen = {tuple(corner) for corner in environment.corners.tolist()}
    assert seen == set(itertools.product(range(rows - PATCH + 1), range(columns - PATCH + 1)))


def test_after_so_many_steps_a_walker_goes_to_a_new_image(make):
    environment = make(random_images(9), 3, max_steps_per_image=4)
    drawn = []
    for number in range(9):
        step(environment, torch.tensor([EAST, WEST, STOP if number == 2 else EAST]))
        drawn.append(environment.pool.num_drawn)
    # At the end of each fourth step on an image; the third walker stops at the third step.
    assert drawn == [3, 3, 4, 6, 6, 6, 7, 9, 9]


def test_what_was_picked_stays_when_walkers_go_on(make):
    environment = make(random_images(6), 2, max_steps_per_image=1)
    environment.corners = torch.full((2, 2), 48)
    picked, _ = step(environment, torch.tensor([EAST, WEST]))
    assert environment.numbers.tolist() == [2, 3]
    assert picked.numbers.tolist() == [0, 1]
    assert picked.corners.tolist() == [[48, 72], [48, 24]]


def test_clone_is_the_sigmoid_of_the_mean_sobel_magnitude(make):
    # Blurring leaves a ramp as it is, four or more cells from the border; the Sobel kernels
    # answer a slope with (1 + 2 + 1) * 2 times it.
    slopes = [0.0, 0.001, 0.004, 0.006]
    picked = make(ramps(*slopes), 4).place(torch.tensor([[48, 72]] * 4))
    expected = torch.tensor([sigmoid(8 * slope) for slope in slopes])
    torch.testing.assert_close(picked.clone, expected, atol=1e-5, rtol=0)


def test_clone_looks_at_the_patch_alone_and_at_the_blurred_image(make):
    image = torch.zeros(1, 3, ROWS, ROWS)
    image[:, :, 80, 80] = 1  # one bright cell
    picked = make(image, 3).place(torch.tensor([[40, 40], [80, 84], [84, 84]]))
    here, beside, outside = picked.clone.tolist()
    assert here > beside > 0.5  # the blur reaches 3 cells, the Sobel kernel 1
    assert outside == pytest.approx(0.5)
    # Without the blur the mean would be (4 * 2 + 4 * sqrt(2)) / 64 ** 2.
    assert here < sigmoid((8 + 4 * math.sqrt(2)) / PATCH**2)


def test_cover_is_minus_the_sigmoid_of_the_mean_visits_before_this_one(make):
    environment = make(ramps(0), 1)
    at, right = torch.tensor([[32, 32]]), torch.tensor([[32, 56]])
    paid = [environment.place(corner).cover.item() for corner in (at, at, right)]
    # Nothing before, once all over, then twice in 40 of 64 columns.
    assert paid == pytest.approx([-sigmoid(0), -sigmoid(1), -sigmoid(2 * 40 / 64)])


def test_visits_are_remembered_until_the_next_cycle_and_add_up(make):
    # Three images, two walkers: the first stops on to the third image, then back to the first.
    environment = make(ramps(0.001, 0.002, 0.003), 2)
    environment.corners = torch.tensor([[56, 20], [48, 48]])
    step(environment, torch.tensor([EAST, EAST]))  # to (56, 44) and (48, 72)
    step(environment, torch.tensor([STOP, EAST]))
    assert not environment.channel_maps(Channel.VISITS)[0].any()
    step(environment, torch.tensor([STOP, SOUTH]))
    expected = torch.zeros(ROWS, ROWS)
    expected[56:120, 44:108] = 1
    assert torch.equal(environment.channel_maps(Channel.VISITS)[0], expected)
    environment.numbers[1] = 0  # both on the first image
    environment.place(torch.tensor([[56, 44], [56, 44]]))
    assert torch.equal(environment.visits[0].float(), 3 * expected)
    environment.reset()
    assert not environment.visits.any()
    assert not environment.observe()[:, Channel.VISITS].any()


@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
def test_on_a_flipped_image_every_channel_is_flipped(make, axis):
    flip = Augmentation(flip_horizontal=axis == "horizontal", flip_vertical=axis == "vertical")
    dim, column = (-1, 1) if axis == "horizontal" else (-2, 0)
    # North, NE, E, SE, S, SW, W, NW as seen in the mirror.
    mirrored = [0, 1, 8, 7, 6, 5, 4, 3, 2] if column else [0, 5, 4, 3, 2, 1, 8, 7, 6]
    images = random_images(4)
    environment, mirror = make(images), make(flip.apply(images))
    corners = environment.corners.clone()
    corners[:, column] = (ROWS, COLUMNS)[column] - PATCH - corners[:, column]
    mirror.corners = corners
    for actions in moves(8, 4):
        picked, observation = step(environment, actions)
        other, seen = step(mirror, torch.tensor(mirrored)[actions])
        torch.testing.assert_close(seen.flip(dim), observation, atol=1e-4, rtol=0)
        torch.testing.assert_close(other.clone, picked.clone)
        torch.testing.assert_close(other.cover, picked.cover)
        torch.testing.assert_close(other.images.flip(dim), picked.images)
    assert environment.channel_maps(Channel.VISITS).max() > 1


def test_on_an_augmented_image_the_structure_is_that_of_the_augmented_image(make):
    image = draw_augmentation(np.random.default_rng(3)).apply(random_images(1))
    environment = make(image, 1)
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
        environment = make(random_images(2, 64, 64), num_walkers, window=64, patch=32)
        with CountOperations() as operations:
            environment.reset()
            step(environment, torch.arange(num_walkers) % 9)
        counts.append(operations.count)
    # Views differ by a few with the layout of memory; a loop would take 56 turns more.
    assert counts[1] < counts[0] + 20
    assert counts[0] > 50


def test_the_seed_decides_where_walkers_go(make):
    actions = torch.randint(9, (5, 4), generator=torch.Generator().manual_seed(2))

    def walk(seed):
        environment = make(random_images(1), seed=seed)
        return torch.stack([step(environment, each)[1] for each in actions])

    assert torch.equal(walk(0), walk(0))
    assert not torch.equal(walk(0), walk(1))


def test_without_errors_both_channels_stay_zero(make):
    environment = make(random_images(4), errors=False)
    for actions in (*moves(3, 4), torch.zeros(4, dtype=torch.long)):
        _, observation = step(environment, actions)
        assert not observation[:, [Channel.ERROR, Channel.STRUCTURE]].any()
        assert environment.observe(relative=True).isfinite().all()
    assert environment.pool.num_drawn == 8


def test_errors_are_computed_anew_every_few_steps_and_on_arrival(make):
    environment = make(random_images(4), error_refresh_steps=3)
    asked = environment.error_maps.asked
    assert asked == [4]
    for number in range(1, 8):
        step(environment, torch.tensor([EAST, WEST, EAST, STOP if number == 5 else WEST]))
        # All four after the third and the sixth step, the one that stops at the fifth.
        assert asked == [4, *[4] * (number >= 3), *[1] * (number >= 5), *[4] * (number >= 6)]
