"""What walkers are paid and what is counted: R_clone, R_cover, visits, beta, worked out by hand."""

import itertools
import math
from typing import Any

import pytest
import torch

from patchscout.config import LinearSchedule, RewardSettings, SamplerSettings
from patchscout.training.environment import STOP, Channel, PatchEnvironment

SIZE, PATCH, PRED = 160, 64, -0.375
NORTH, NORTH_EAST, EAST, SOUTH, WEST = 1, 2, 3, 5, 7


class Recorder:
    """A learner that keeps what it is given and is always as good."""

    def __init__(self):
        self.patches = []
        self.credits = None

    def learn(self, patches):
        self.patches.append(patches)
        if self.credits is None:
            return PRED, torch.zeros(len(patches))
        return PRED, torch.tensor(self.credits[: len(patches)])

    def error_maps(self, images):
        return images.mean(dim=1)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def ramps(*slopes):
    """Grey images that brighten to the right by a slope a pixel."""
    image = torch.arange(SIZE).float().expand(3, SIZE, SIZE)
    return torch.stack([slope * image for slope in slopes])


@pytest.fixture
def make(image_pool):
    def make(images, num_walkers, **terms) -> Any:
        settings = SamplerSettings(
            num_walkers=num_walkers, window_px=128, patch_px=PATCH, stride_px=24
        )
        reward = RewardSettings(**terms)
        environment = PatchEnvironment(image_pool(images), Recorder(), settings, reward)
        environment.reset()
        return environment

    return make


def test_clone_is_the_sigmoid_of_the_mean_sobel_magnitude(make):
    # Blurring leaves a ramp as it is, four or more pixels from the border; the Sobel kernels
    # answer a slope with (1 + 2 + 1) * 2 times it.
    slopes = [0.0, 0.001, 0.004, 0.006]
    environment = make(ramps(*slopes), 4)
    _, _, _, _, info = environment.place(torch.tensor([[48, 72]] * 4))
    expected = torch.tensor([sigmoid(8 * slope) for slope in slopes])
    torch.testing.assert_close(info["reward_clone"], expected, atol=1e-5, rtol=0)


def test_clone_looks_at_the_patch_alone_and_at_the_blurred_image(make):
    image = torch.zeros(1, 3, SIZE, SIZE)
    image[:, :, 80, 80] = 1  # one bright pixel
    environment = make(image, 3)
    _, _, _, _, info = environment.place(torch.tensor([[40, 40], [80, 84], [84, 84]]))
    here, beside, outside = info["reward_clone"].tolist()
    assert here > beside > 0.5  # the blur reaches 3 px, the Sobel kernel 1 px
    assert outside == pytest.approx(0.5)
    # Without the blur the mean would be (4 * 2 + 4 * sqrt(2)) / 64 ** 2.
    assert here < sigmoid((8 + 4 * math.sqrt(2)) / PATCH**2)


def test_cover_is_minus_the_sigmoid_of_the_mean_visits_before_this_one(make):
    environment = make(ramps(0), 1)
    at, right = torch.tensor([[32, 32]]), torch.tensor([[32, 56]])
    paid = [environment.place(corner)[-1]["reward_cover"].item() for corner in (at, at, right)]
    # Nothing before, once all over, then twice in 40 of 64 columns.
    assert paid == pytest.approx([-sigmoid(0), -sigmoid(1), -sigmoid(2 * 40 / 64)])


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("terms", [*itertools.product([False, True], repeat=3)])
def test_the_reward_is_the_weighted_sum_of_the_terms_that_count(make, beta, terms):
    clone, cover, pred = terms
    schedule = LinearSchedule(start=beta, end=beta)
    environment = make(ramps(0.002, 0.005), 2, clone=clone, cover=cover, pred=pred, beta=schedule)
    environment.corners = torch.full((2, 2), 48)
    _, rewards, _, _, info = environment.step(torch.tensor([EAST, WEST]))
    for walker, slope in enumerate((0.002, 0.005)):
        own = clone * sigmoid(8 * slope) + cover * -0.5
        expected = beta * own + (1 - beta) * pred * PRED
        assert rewards[walker].item() == pytest.approx(expected, abs=1e-5)
    assert info["beta"] == beta
    assert info["reward_pred"] == PRED
    assert info["reward_shared"] == pytest.approx((1 - beta) * pred * PRED)


@pytest.mark.parametrize("pred", [True, False])
def test_a_walker_is_credited_for_its_own_patch(make, pred):
    schedule = LinearSchedule(start=0.25, end=0.25)
    terms = {"clone": False, "cover": False, "pred": pred, "beta": schedule, "credit": 0.2}
    environment = make(ramps(0, 0, 0), 3, **terms)
    environment.learner.credits = [1.5, -0.5]
    environment.corners = torch.full((3, 2), 48)
    _, rewards, _, _, info = environment.step(torch.tensor([EAST, STOP, WEST]))
    assert info["credit"].tolist() == [1.5, 0.0, -0.5]  # a stop has no patch to be credited for
    own = [pred * 0.75 * 0.2 * 1.5, -1, pred * 0.75 * 0.2 * -0.5]
    assert (rewards - info["reward_shared"]).tolist() == pytest.approx(own)


def test_beta_falls_over_all_cycles(make):
    environment = make(ramps(0), 1, beta=LinearSchedule(start=1, end=0, steps=4))
    betas = []
    for _ in range(3):
        environment.reset()
        betas += [environment.step(torch.tensor([EAST]))[-1]["beta"] for _ in range(2)]
    assert betas == [1, 0.75, 0.5, 0.25, 0, 0]


def test_a_move_over_the_border_ends_there_and_a_stop_leaves_and_neither_counts(make):
    images = ramps(0.001, 0.002, 0.003, 0.004, 0.005, 0.006)
    environment = make(images, 5)
    corners = [[10, 48], [10, 48], [24, 48], [60, 95], [48, 48]]
    environment.corners = torch.tensor(corners)
    actions = torch.tensor([NORTH, NORTH_EAST, NORTH, EAST, STOP])
    info = environment.step(actions)[-1]
    # The third ends just at the border, which is no farther than it was to go.
    assert environment.corners[:4].tolist() == [[0, 48], [0, 72], [0, 48], [60, 96]]
    assert info["counted"].tolist() == [False, False, True, False, False]
    (patches,) = environment.learner.patches
    assert torch.equal(patches, images[[2], :, :PATCH, 48 : 48 + PATCH])
    visits = environment.channel_maps(Channel.VISITS)
    assert visits.sum(dim=(1, 2)).tolist() == [0, 0, PATCH**2, 0, 0]
    assert environment.remembered_visits.sum(dim=(1, 2)).tolist() == [0, 0, 16, 0, 0, 0]
    idle = torch.tensor([0, 1, 3, 4])
    assert not info["reward_clone"][idle].any()
    assert not info["reward_cover"][idle].any()


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_a_step_without_a_patch_is_paid_less_than_any_patch(make, beta):
    environment = make(ramps(0, 0, 0), 3, beta=LinearSchedule(start=beta, end=beta))
    # The worst patch: flat, and visited over and over.
    worst = [environment.place(torch.full((3, 2), 48))[1] for _ in range(6)][-1]
    environment.corners = torch.tensor([[0, 0], [96, 96], [48, 48]])
    _, rewards, _, _, info = environment.step(torch.tensor([NORTH, SOUTH, STOP]))
    assert info["reward_shared"] == pytest.approx((1 - beta) * PRED)
    assert rewards.tolist() == pytest.approx([-1 + (1 - beta) * PRED] * 3)
    assert (rewards < worst).all()


def test_when_nothing_counts_the_minibatch_is_empty(make):
    environment = make(ramps(0), 2)
    environment.step(torch.tensor([STOP, STOP]))
    assert environment.learner.patches[0].shape == (0, 3, PATCH, PATCH)


def test_visits_are_remembered_in_cells_until_the_next_cycle(make):
    # Three images, two walkers: the first stops on to the third image, then back to the first.
    environment = make(ramps(0.001, 0.002, 0.003), 2)
    assert environment.remembered_visits.shape == (3, SIZE // 16, SIZE // 16)
    environment.corners = torch.tensor([[56, 20], [48, 48]])
    environment.step(torch.tensor([EAST, EAST]))  # to (56, 44) and (48, 72)
    environment.step(torch.tensor([STOP, EAST]))
    assert not environment.channel_maps(Channel.VISITS)[0].any()
    environment.step(torch.tensor([STOP, SOUTH]))
    visits = environment.channel_maps(Channel.VISITS)[0]
    # A cell was visited if its middle was: rows 64 to 112 and columns 48 to 96 start there, as
    # 56 <= 56 (the middle of 48) and 44 <= 56; 120 and 108 are where the patch ends.
    expected = torch.zeros(SIZE, SIZE)
    expected[48:112, 48:112] = 1
    assert torch.equal(visits, expected)
    environment.reset()
    assert not environment.remembered_visits.any()
    assert not environment.channel_maps(Channel.VISITS).any()


def test_visits_of_several_walkers_on_one_image_add_up(make):
    environment = make(ramps(0.001), 3)
    environment.place(torch.tensor([[32, 32], [32, 32], [96, 96]]))
    cells = environment.remembered_visits[0]
    assert cells[2:6, 2:6].eq(2).all()
    assert cells[6:10, 6:10].eq(1).all()
    assert cells.sum() == 3 * 16
    environment.step(torch.tensor([STOP, STOP, STOP]))
    visits = environment.channel_maps(Channel.VISITS)
    assert torch.equal(visits[:, 8::16, 8::16].short(), cells.expand(3, -1, -1))
