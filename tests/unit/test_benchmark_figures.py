"""Histograms keep the figures, and comparisons are what is worked out by hand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from patchscout.benchmark.binned_metrics import binned_metrics, weighted_auroc
from patchscout.benchmark.comparison import (
    by_seed,
    difference,
    draw_images,
    figures_of,
    over_categories,
    paired_replicates,
    summarize,
)
from patchscout.benchmark.histograms import (
    NUM_BINS,
    ScoreTable,
    bin_edges,
    count_pixels,
    read_table,
    write_table,
)
from patchscout.benchmark.results import Run
from patchscout.checks import InputValueError
from patchscout.metrics import binary_metrics, f1_at_threshold


def sigmoid(x):
    return (1 / (1 + np.exp(-x))).astype(np.float32)


def draw_maps(kind, num_images=30, side=64, seed=0):
    """Anomaly maps of a kind of detector, with masks; every third image is normal."""
    rng = np.random.default_rng(seed)
    for number in range(num_images):
        mask = np.zeros((side, side), dtype=bool)
        if number % 3:
            top, left = rng.integers(0, side - 20, 2)
            mask[top : top + rng.integers(4, 20), left : left + rng.integers(4, 20)] = True
        noise = rng.normal(size=mask.shape)
        if kind == "sure":  # most scores within a hair of 0 or 1
            scores = sigmoid(np.where(mask, 6, -14) + 7 * noise)
        elif kind == "narrow":  # all scores within a small range
            scores = np.clip(0.3 + 0.02 * mask + 0.015 * noise, 0, 1).astype(np.float32)
        else:
            scores = sigmoid(np.where(mask, 1.0, -1.5) + noise)
        yield scores, mask


def table_of(maps, threshold=0.5):
    maps = list(maps)
    edges = bin_edges(np.concatenate([scores[mask] for scores, mask in maps]), threshold)
    counts = [count_pixels(scores, mask, edges) for scores, mask in maps]
    return ScoreTable(
        tuple(f"test/{i:03d}.png" for i in range(len(maps))),
        tuple("hole" if mask.any() else "good" for _, mask in maps),
        np.array([scores.max() for scores, _ in maps]),
        edges,
        np.stack([normal for normal, _ in counts]),
        np.stack([anomalous for _, anomalous in counts]),
        int(np.searchsorted(edges, np.float32(threshold), side="right")),
    )


@pytest.mark.parametrize("kind", ["sure", "narrow", "usual"])
def test_figures_from_histograms_are_close_to_the_exact_ones(kind):
    maps = list(draw_maps(kind))
    threshold = 0.31 if kind == "narrow" else 0.4
    table = table_of(maps, threshold)
    assert table.normal.shape == (len(maps), NUM_BINS)
    preds = np.concatenate([scores.ravel() for scores, _ in maps])
    target = np.concatenate([mask.ravel() for _, mask in maps])
    exact = binary_metrics(preds, target)
    ours = figures_of(table, np.ones((1, len(maps)), dtype=np.int64))
    assert ours["pixel_f1_max"][0] == pytest.approx(exact.f1_max, abs=2e-3)
    assert ours["pixel_ap"][0] == pytest.approx(exact.ap, abs=2e-3)
    assert ours["pixel_auroc"][0] == pytest.approx(exact.auroc, abs=2e-3)
    at_threshold = f1_at_threshold(preds, target, threshold)
    assert ours["pixel_f1_at_threshold"][0] == pytest.approx(at_threshold, abs=1e-9)


def test_a_set_of_images_has_the_figures_of_these_images():
    maps = list(draw_maps("usual"))
    table = table_of(maps)
    weights = np.zeros((1, len(maps)), dtype=np.int64)
    weights[0, [0, 1, 4]] = 1, 3, 1
    chosen = [maps[i] for i in (0, 1, 1, 1, 4)]
    preds = np.concatenate([scores.ravel() for scores, _ in chosen])
    target = np.concatenate([mask.ravel() for _, mask in chosen])
    exact = binary_metrics(preds, target)
    ours = figures_of(table, weights)
    assert ours["pixel_f1_max"][0] == pytest.approx(exact.f1_max, abs=1e-2)  # few bins for 3 images
    assert ours["pixel_ap"][0] == pytest.approx(exact.ap, abs=1e-2)


def test_binned_figures_by_hand():
    # From the top: bin 2 has one hit, bin 1 a hit and a false one, bin 0 two false ones.
    figures = binned_metrics(np.array([[2, 1, 0]]), np.array([[0, 1, 1]]), 1)
    assert figures["ap"][0] == pytest.approx(0.5 * 1 + 0.5 * 1.5 / (1.5 + 0.5))
    assert figures["f1_max"][0] == pytest.approx(2 * 2 / (3 + 2))
    assert figures["f1_at_threshold"][0] == pytest.approx(2 * 2 / (3 + 2))
    assert figures["auroc"][0] == pytest.approx((3 + 2.5) / 6)  # one tie of six pairs
    assert math.isnan(binned_metrics(np.array([[2, 1]]), np.array([[0, 0]]), 1)["ap"][0])


def test_image_auroc_counts_an_image_as_often_as_it_is_drawn():
    scores, is_anomalous = np.array([0.1, 0.5, 0.5, 0.9]), np.array([False, True, False, True])
    weights = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [1, 2, 1, 0]])
    expected = [3.5 / 4, 0.5, (2 + 1) / 4]
    np.testing.assert_allclose(weighted_auroc(scores, is_anomalous, weights), expected)


def test_a_table_survives_being_written_and_is_small(tmp_path):
    table = table_of(draw_maps("usual"))
    big = replace(table, normal=table.normal * 1000)  # more than 16 bits
    for one in (table, big):
        write_table(tmp_path / "t.npz", one)
        read = read_table(tmp_path / "t.npz")
        assert (read.names, read.defect_types) == (one.names, one.defect_types)
        np.testing.assert_array_equal(read.normal, one.normal)
        np.testing.assert_array_equal(read.anomalous, one.anomalous)
        np.testing.assert_array_equal(read.edges, one.edges)
        np.testing.assert_allclose(read.image_scores, one.image_scores)
        assert read.threshold_bin == one.threshold_bin
    assert (tmp_path / "t.npz").stat().st_size < 30_000


def test_a_damaged_table_is_told_in_one_line(tmp_path):
    path = tmp_path / "42.npz"
    write_table(path, table_of(draw_maps("usual")))
    whole = path.read_bytes()
    for damaged in (b"", whole[:3000], b"not a table"):
        path.write_bytes(damaged)
        with pytest.raises(InputValueError, match=r"42.npz is damaged .*Remove it and 42.json"):
            read_table(path)


def make_run(tmp_path, variant, seed, maps=None, held_out=None, **metrics):
    key = f"{seed}-{held_out}" if held_out else f"{seed}"
    path = tmp_path / "bottle" / variant / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if maps is not None:
        write_table(path.with_suffix(".npz"), table_of(maps))
    job = {
        "category": "bottle",
        "variant": variant,
        "config": {"seed": seed},
        "held_out_type": held_out,
        "on": "test",
    }
    return Run(Path(path), {"job": job, "metrics": metrics, "seconds": {"train": 10.0 * seed}})


def test_mean_and_spread_by_hand(tmp_path):
    runs = [
        make_run(tmp_path, "a", 1, pixel_ap=0.5),
        make_run(tmp_path, "a", 2, pixel_ap=0.7),
        make_run(tmp_path, "a", 3, pixel_ap=None),
    ]
    summary = summarize(by_seed(runs, "pixel_ap"))
    assert summary.seeds == (1, 2)
    assert summary.mean == pytest.approx(0.6)
    assert summary.std == pytest.approx(math.sqrt(0.02))  # (0.01 + 0.01) / (2 - 1)
    assert by_seed(runs, "seconds") == {1: 10.0, 2: 20.0, 3: 30.0}
    assert math.isnan(summarize({1: 0.5}).std)


def test_types_left_out_are_averaged_within_a_seed(tmp_path):
    runs = [
        make_run(tmp_path, "unseen", 1, held_out=kind, pixel_ap=value)
        for kind, value in (("hole", 0.2), ("crack", 0.6))
    ]
    assert by_seed(runs, "pixel_ap") == {1: pytest.approx(0.4)}


def test_over_categories_only_seeds_count_that_all_have():
    figures = over_categories([{1: 0.2, 2: 0.4, 3: 0.9}, {1: 0.4, 2: 0.8}])
    assert figures == {1: pytest.approx(0.3), 2: pytest.approx(0.6)}


def test_the_measured_difference_comes_first_and_equal_runs_do_not_differ(tmp_path):
    maps = {seed: list(draw_maps("usual", seed=seed)) for seed in (1, 2)}
    better = {
        seed: [(sigmoid(4 * m + np.log(s / (1 - s))), m) for s, m in maps[seed]] for seed in maps
    }
    default = [make_run(tmp_path, "default", seed, maps[seed]) for seed in maps]
    same = [make_run(tmp_path, "same", seed, maps[seed]) for seed in maps]
    ahead = [make_run(tmp_path, "ahead", seed, better[seed]) for seed in maps]
    nothing = paired_replicates(same, default, resamples=50)
    assert nothing is not None
    assert all((values == 0).all() for values in nothing.values())
    found = paired_replicates(ahead, default, resamples=200)
    assert found is not None
    ones = np.ones((1, 30), dtype=np.int64)
    expected = np.mean(
        [
            figures_of(a.table, ones)["pixel_ap"] - figures_of(b.table, ones)["pixel_ap"]
            for a, b in zip(ahead, default, strict=True)
        ]
    )
    gain = difference(found["pixel_ap"])
    assert gain.mean == pytest.approx(expected)
    assert 0 < gain.low < gain.mean < gain.high
    assert gain.is_clear


def test_only_common_images_and_seeds_are_paired(tmp_path):
    maps = list(draw_maps("usual"))
    default = [make_run(tmp_path, "default", 1, maps), make_run(tmp_path, "default", 2, maps)]
    # A variant that tested on more images, and was bad on those only.
    spoiled = [(1 - maps[4][0], maps[4][1])]
    more = [make_run(tmp_path, "more", 2, maps + spoiled), make_run(tmp_path, "more", 3, maps)]
    found = paired_replicates(more, default, resamples=20)
    assert found is not None
    assert abs(found["pixel_ap"][0]) < 2e-3  # other bins, same scores
    assert paired_replicates(more[1:], default) is None


def test_the_interval_is_that_of_a_known_distribution():
    values = np.concatenate([[0.5], np.linspace(0, 1, 1001)])
    interval = difference(values)
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.025, 0.975)


def test_drawn_images_are_as_many_of_either_class():
    is_anomalous = np.array([True] * 3 + [False] * 5)
    weights = draw_images(np.random.default_rng(0), is_anomalous, 100)
    assert (weights[:, :3].sum(axis=1) == 3).all()
    assert (weights[:, 3:].sum(axis=1) == 5).all()
    assert weights.std(axis=0).min() > 0
