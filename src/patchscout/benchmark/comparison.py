"""Means and spreads of figures, and paired differences with bootstrap intervals.

- The figure of a seed is that of its run; with `unseen`, the mean over its runs, one a type.
- Over seeds: mean, and standard deviation of a sample.
- Over categories: the mean of the categories is taken for each seed that all have; mean and
  standard deviation are then those over seeds.
- Differences are paired: same seed, same images. The interval is the central 95 % of a
  bootstrap that draws seeds and, within each, normal and defective images, with replacement.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from patchscout.benchmark.binned_metrics import binned_metrics, weighted_auroc
from patchscout.benchmark.histograms import ScoreTable
from patchscout.benchmark.results import Run
from patchscout.types import NORMAL

METRICS = {
    "pixel_f1_max": "F1_max",
    "pixel_ap": "AP",
    "pixel_auroc": "AUROC",
    "pixel_aupro": "AUPRO",
    "pixel_f1_at_threshold": "F1 at threshold",
    "image_auroc": "image AUROC",
}
"""The figures that are compared, and what they are called."""

PAIRED_METRICS = tuple(name for name in METRICS if name != "pixel_aupro")
"""Those that can be computed for a random set of images from what is kept of a run."""

RESAMPLES = 1000
SECONDS = "seconds"

BySeed = dict[int, float]


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation over seeds; the latter is nan for one."""

    mean: float
    std: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """A mean paired difference with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def summarize(values: BySeed) -> Summary:
    """Return mean and standard deviation (of a sample) over seeds.

    Example:
        >>> summarize({42: 0.5, 43: 0.7}).mean
        0.6
    """
    array = np.array(list(values.values()))
    std = float(array.std(ddof=1)) if len(array) > 1 else math.nan
    return Summary(float(array.mean()) if len(array) else math.nan, std, tuple(sorted(values)))


def by_seed(runs: Sequence[Run], metric: str) -> BySeed:
    """Return a figure for each seed, the mean over its runs; seeds where it is undefined are out.

    Args:
        runs: Of one category and one variant.
        metric: A name in `METRICS`, or `seconds` for the time to train.
    """
    found: dict[int, list[float]] = {}
    for run in runs:
        value = (
            run.data["seconds"]["train"] if metric == SECONDS else run.data["metrics"].get(metric)
        )
        found.setdefault(run.seed, []).append(math.nan if value is None else value)
    means = {seed: sum(values) / len(values) for seed, values in found.items()}
    return {seed: mean for seed, mean in means.items() if not math.isnan(mean)}


def over_categories(figures: Sequence[BySeed]) -> BySeed:
    """Return the mean over categories for each seed that all of them have.

    Example:
        >>> over_categories([{42: 0.5, 43: 0.7}, {42: 0.25}])
        {42: 0.375}
    """
    common = set.intersection(*map(set, figures)) if figures else set()
    return {seed: sum(one[seed] for one in figures) / len(figures) for seed in sorted(common)}


def paired_replicates(
    runs: Sequence[Run], reference: Sequence[Run], resamples: int = RESAMPLES
) -> dict[str, Float[np.ndarray, "replicates"]] | None:
    """Return the paired differences of one category: as measured first, then resampled ones.

    Args:
        runs: Of one variant.
        reference: Of the variant that it is compared with.
        resamples: How many random draws to add.

    Returns:
        For each metric that pairs allow; None if they have no seed with common images.
    """
    pairs = _pairs(runs, reference)
    if not pairs:
        return None
    seeds = sorted(pairs)
    first = pairs[seeds[0]][0][0]
    rng = np.random.default_rng(
        [zlib.crc32(first.names[0].encode(errors="surrogatepass")), len(seeds)]
    )
    drawn = rng.integers(len(seeds), size=(resamples, len(seeds)))
    drawn = np.concatenate([np.arange(len(seeds))[None], drawn])  # as measured
    differences = {name: np.zeros(drawn.shape) for name in PAIRED_METRICS}
    for number, seed in enumerate(seeds):
        places = np.nonzero(drawn == number)
        for one, other in pairs[seed]:
            is_anomalous = np.array([kind != NORMAL for kind in one.defect_types])
            weights = draw_images(rng, is_anomalous, len(places[0]))
            weights[0] = 1  # the first place is the measured one
            ours, theirs = (figures_of(table, weights) for table in (one, other))
            for name, values in differences.items():
                values[places] += (ours[name] - theirs[name]) / len(pairs[seed])
    return {name: values.mean(axis=1) for name, values in differences.items()}


def difference(replicates: Float[np.ndarray, "replicates"]) -> Difference:
    """Return the measured difference (the first replicate) and the interval of the others."""
    low, high = np.nanpercentile(replicates[1:], [2.5, 97.5])
    return Difference(float(replicates[0]), float(low), float(high))


def draw_images(
    rng: np.random.Generator, is_anomalous: np.ndarray, count: int
) -> Int[np.ndarray, "draws images"]:
    """Return how often each image is drawn, with as many of either class as there are."""
    weights = np.zeros((count, len(is_anomalous)), dtype=np.int64)
    for group in (np.flatnonzero(is_anomalous), np.flatnonzero(~is_anomalous)):
        if len(group):
            weights[:, group] = rng.multinomial(
                len(group), np.full(len(group), 1 / len(group)), count
            )
    return weights


def figures_of(
    table: ScoreTable, weights: Int[np.ndarray, "sets images"]
) -> dict[str, Float[np.ndarray, "sets"]]:
    """Return the figures of each set of images; an image counts as often as its weight says."""
    weights = weights.astype(np.float64)
    pixel = binned_metrics(weights @ table.normal, weights @ table.anomalous, table.threshold_bin)
    is_anomalous = np.array([kind != NORMAL for kind in table.defect_types])
    image = weighted_auroc(table.image_scores, is_anomalous, weights)
    return {f"pixel_{name}": values for name, values in pixel.items()} | {"image_auroc": image}


def _pairs(
    runs: Sequence[Run], reference: Sequence[Run]
) -> dict[int, list[tuple[ScoreTable, ScoreTable]]]:
    """Return, for each common seed, the tables of runs that belong together.

    A run with a type left out is paired with one that left out the same type or, if there is
    none, with one that left out none. Only the images that both were tested on count.
    """
    known = {(run.seed, run.held_out_type): run for run in reference}
    pairs: dict[int, list[tuple[ScoreTable, ScoreTable]]] = {}
    for run in runs:
        other = known.get((run.seed, run.held_out_type)) or known.get((run.seed, None))
        if other is None:
            continue
        common = set(other.table.names)
        names = tuple(sorted(name for name in run.table.names if name in common))
        if names:
            both = run.table.rows(names), other.table.rows(names)
            if len({kind == NORMAL for kind in both[0].defect_types}) == 2:
                pairs.setdefault(run.seed, []).append(both)
    return pairs
