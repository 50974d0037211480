"""Which states of the autoencoder a profile keeps, and the masks of structured dropout."""

from itertools import pairwise

import pytest
import torch

from patchscout.config import ProfileSettings
from patchscout.networks import LeanAutoencoder
from patchscout.training.snapshots import SnapshotRecorder, draw_dropout_masks, snapshot_steps

IMAGES = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network(seed):
    torch.manual_seed(seed)
    return LeanAutoencoder(4, 6)


def recorder(num_steps, **settings):
    return SnapshotRecorder(ProfileSettings(error="absolute", **settings), num_steps)


def test_geometric_steps_of_a_whole_cycle():
    steps = snapshot_steps(ProfileSettings(length=10, first_step=4), 400)
    # 4 * (400 / 4) ** (i / 9)
    assert steps == [4, 7, 11, 19, 31, 52, 86, 144, 240, 400]


@pytest.mark.parametrize("length", [1, 2, 5, 10, 20])
@pytest.mark.parametrize("first_step", [1, 4, 7])
@pytest.mark.parametrize("spare", [0, 1, 3, 30])
def test_geometric_steps_are_distinct_even_in_the_shortest_cycle(length, first_step, spare):
    num_steps = first_step + length - 1 + spare
    steps = snapshot_steps(ProfileSettings(length=length, first_step=first_step), num_steps)
    assert len(steps) == length
    assert steps[-1] == num_steps
    assert all(a < b for a, b in pairwise(steps))
    assert min(steps) >= first_step
    assert length == 1 or steps[0] == first_step


def test_last_offers_every_step():
    assert snapshot_steps(ProfileSettings(length=3, spacing="last"), 5) == [1, 2, 3, 4, 5]


def test_geometric_snapshots_are_taken_when_due_and_complete_at_the_end():
    kept = recorder(20, length=3, first_step=5)  # 5, 10, 20
    taken = [step for step in range(1, 21) if kept.offer(step, network(step))]
    assert taken == [5, 10, 20]
    assert kept.is_complete
    profiles = kept.extractor()(IMAGES)
    for index, step in enumerate(taken):
        expected = recorder(1, length=1)
        expected.offer(1, network(step))
        torch.testing.assert_close(profiles[:, [index]], expected.extractor()(IMAGES))


def test_last_keeps_the_latest_in_order():
    kept = recorder(9, length=3, spacing="last")
    for step in range(1, 10):
        assert kept.offer(step, network(step))
        assert kept.is_complete == (step >= 3)
    profiles = kept.extractor()(IMAGES)
    for index, step in enumerate((7, 8, 9)):
        only = recorder(1, length=1, spacing="last")
        only.offer(1, network(step))
        torch.testing.assert_close(profiles[:, [index]], only.extractor()(IMAGES))


def test_snapshots_do_not_change_with_the_autoencoder():
    autoencoder, kept = network(0), recorder(1, length=1)
    kept.offer(1, autoencoder)
    before = kept.extractor()(IMAGES)
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            parameter += 1
    assert torch.equal(kept.extractor()(IMAGES), before)


def test_starting_over_forgets_and_older_snapshots_stand_in_for_late_ones():
    kept = recorder(3, length=3, first_step=1)
    for step in (1, 2, 3):
        kept.offer(step, network(step))
    older = kept.extractor()
    kept.start_over()
    assert not kept.is_complete
    kept.offer(1, network(11))
    padded = kept.extractor(older)
    assert padded.length == 3
    assert not torch.equal(padded(IMAGES)[:, 0], older(IMAGES)[:, 0])
    assert torch.equal(padded(IMAGES)[:, 1:], older(IMAGES)[:, 1:])
    assert kept.extractor().length == 1


def test_with_masks_only_the_newest_state_is_kept():
    masks = draw_dropout_masks(4, 6, 0.5, seed=0)
    kept = SnapshotRecorder(ProfileSettings(length=4, spacing="last"), 9, masks)
    kept.offer(1, network(1))
    assert kept.is_complete
    older = kept.extractor()
    kept.offer(2, network(2))
    newer = kept.extractor(older)
    assert len(newer.autoencoders) == 1
    assert newer.length == 4
    assert not torch.equal(newer(IMAGES), older(IMAGES))


@pytest.mark.parametrize(("rate", "deleted"), [(0.0, 0), (0.3, 60), (0.5, 100), (0.999, 199)])
def test_each_dropout_mask_deletes_as_many_channels_and_keeps_the_sum(rate, deleted):
    masks = draw_dropout_masks(10, 200, rate, seed=1)
    assert masks.shape == (10, 200)
    assert ((masks == 0).sum(dim=1) == deleted).all()
    torch.testing.assert_close(masks.sum(dim=1), torch.full((10,), 200.0))
    assert len(masks.unique()) == (1 if deleted == 0 else 2)


def test_dropout_masks_differ_and_follow_the_seed():
    masks = draw_dropout_masks(10, 32, 0.3, seed=1)
    assert len(masks.unique(dim=0)) == 10
    assert torch.equal(masks, draw_dropout_masks(10, 32, 0.3, seed=1))
    assert not torch.equal(masks, draw_dropout_masks(10, 32, 0.3, seed=2))
    # Over many masks every channel is deleted about as often as the others.
    share = (draw_dropout_masks(4000, 32, 0.25, seed=3) == 0).float().mean(dim=0)
    assert (share - 0.25).abs().max() < 0.05
