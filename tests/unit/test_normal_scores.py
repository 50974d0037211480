"""Normal scores in bounded memory: exact counts of the highest, near ones of the rest."""

import numpy as np
import pytest

from patchscout.curves import PixelPool
from patchscout.metrics import MetricAccumulator
from patchscout.normal_scores import NormalScores

CAPACITY = 1000


def pool(scores, capacity=CAPACITY, parts=13):
    kept = NormalScores(capacity)
    for part in np.array_split(scores, parts):
        kept.add(part)
    return kept


def scores_of(kind, count=20_000):
    rng = np.random.default_rng(0)
    values = {
        "even": rng.random(count),
        "near 0": rng.random(count) ** 8,
        "of both signs": rng.standard_normal(count),
        "with ties": rng.integers(0, 40, count) / 40,
        "one value": np.full(count, 0.25),
        "ascending": np.sort(rng.random(count)),
        "descending": np.sort(rng.random(count))[::-1],
    }
    return values[kind].astype(np.float32)


KINDS = ["even", "near 0", "of both signs", "with ties", "one value", "ascending", "descending"]


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_exact_while_there_is_room(kind):
    scores = scores_of(kind, CAPACITY)
    kept, thresholds = pool(scores), np.unique(scores)[::7]
    expected = [int((scores >= threshold).sum()) for threshold in thresholds]
    assert kept.num_reaching(thresholds).tolist() == expected
    above = [int((scores > threshold).sum()) for threshold in thresholds]
    assert kept.num_above(thresholds).tolist() == above
    assert len(kept) == CAPACITY


@pytest.mark.parametrize("kind", KINDS)
def test_beyond_it_high_thresholds_are_exact_and_low_ones_near(kind):
    scores = scores_of(kind)
    kept, thresholds = pool(scores), np.unique(scores)[::7]
    assert len(kept) == len(scores)
    reaching = np.array([(scores >= threshold).sum() for threshold in thresholds])
    above = np.array([(scores > threshold).sum() for threshold in thresholds])
    found_reaching, found_above = kept.num_reaching(thresholds), kept.num_above(thresholds)
    is_high = reaching < CAPACITY // 2
    np.testing.assert_array_equal(found_reaching[is_high], reaching[is_high])
    np.testing.assert_array_equal(found_above[is_high], above[is_high])
    # Elsewhere within the bin that the threshold is in: a factor of 1 + 1 / 128.
    below, beyond = (thresholds - abs(thresholds) / 64, thresholds + abs(thresholds) / 64)
    at_most = np.array([(scores >= threshold).sum() for threshold in below])
    at_least = np.array([(scores > threshold).sum() for threshold in beyond])
    assert (found_reaching >= at_least - 1).all()
    assert (found_reaching <= at_most + 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_is_kept_than_there_is_room_for(kind):
    kept = pool(scores_of(kind))
    assert sum(len(part) for part in kept._kept) <= CAPACITY


def figures(capacity, is_tied=None):
    """The metrics of sixty images when so many normal scores of each type are kept."""
    rng, accumulator = np.random.default_rng(1), MetricAccumulator()
    for number in range(60):
        mask = np.zeros((40, 50), bool)
        if number % 2:
            mask[5 : 8 + number % 5, 10:20] = True
        scores = 1 / (1 + np.exp(-rng.normal(-5 + 5 * mask, 2)))
        if is_tied is not None:
            scores[is_tied(rng, scores)] = 1e-4
        defect_type = "crack" if number % 2 else "good"
        accumulator._pixels.setdefault(defect_type, PixelPool(NormalScores(capacity)))
        accumulator.update(scores.astype(np.float32), mask, float(scores.max()), defect_type)
    return accumulator.compute(0.5)


@pytest.mark.parametrize("share_of_ties", [1.0, 0.5])
def test_ties_are_ties_when_little_is_kept(share_of_ties):
    def tied(capacity):
        return figures(capacity, lambda rng, scores: rng.random(scores.shape) < share_of_ties)

    exact, bounded = tied(10**6), tied(4000)
    for name in ("pixel_auroc", "pixel_ap", "pixel_aupro"):
        assert bounded[name] == pytest.approx(exact[name], abs=1e-3), name


def test_f1_is_exact_and_the_other_figures_near_when_little_is_kept():
    exact, bounded = figures(10**6), figures(4000)
    for name in ("pixel_f1_max", "pixel_f1_at_threshold", "image_auroc"):
        assert bounded[name] == exact[name], name
    for name in ("pixel_auroc", "pixel_ap", "pixel_aupro"):
        assert bounded[name] == pytest.approx(exact[name], abs=1e-3), name
    assert bounded["pixel_auroc"] != exact["pixel_auroc"]  # it is not all kept
