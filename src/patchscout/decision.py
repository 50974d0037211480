"""When an image is called defective: two thresholds, what they promise, rules and probabilities.

The guarantee is that of order statistics (Wilks, Ann. Math. Stat. 1941). Of n scores of good images
that the model was not trained on, let k reach the threshold. For a threshold just above the
(k + 1)-th largest, the share of all good images that reach it has the distribution
Beta(k + 1, n - k), whatever the distribution of scores is; with ties it is smaller. So k is the
largest number with P(Binomial(n, share) <= k) <= 5 %, which is also when the upper limit of Clopper
and Pearson (Biometrika 1934) for k of n is at most the share. Split conformal prediction would
promise the share only as a mean over calibrations: half of them would exceed it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from patchscout.checks import InputValueError
from patchscout.types import WorkingMap

CONFIDENCE = 0.95

DEFAULT_BUDGET = 0.05
"""Share of good parts that may be called defective unless something else is asked for."""

ABOVE_ALL = float(np.nextafter(np.float32(1), np.float32(2)))
"""A threshold that no score reaches."""

CLOSEST = 1e-7
"""Scores are taken to be at least so far from 0 and 1: float32 has none between."""

LOWEST_SCALE = 0.05
"""Of the log-odds, so that a higher score is always a higher probability."""

_MILLIMETERS = {"um": 0.001, "mm": 1.0, "cm": 10.0}
_QUANTITY = re.compile(r"(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9}) ?(px|um|mm|cm)(2?)")


def as_share(value: Any) -> Any:
    """Return what `1%` means, 0.01; anything else as it is."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,3}(\.\d{1,9})? ?%", value):
        return round(float(value[:-1]) / 100, 12)
    return value


def _check_quantity(value: Any, units: str, square: str) -> Any:
    """Check a number with a unit, such as 0.5mm2."""
    if value is None:
        return None
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in units.split() or match[3] != square:
        first = units.split()[0] + square
        listed = ", ".join(unit + square for unit in units.split()).replace("px2", "px")
        raise ValueError(f"must be a number with its unit ({listed}), such as 0.5{first}")
    return value


def _area(value: Any) -> Any:
    if isinstance(value, str) and value.endswith("px"):
        return _check_quantity(value, "px", "")
    return _check_quantity(value, "mm um cm px", "2")


def _length(value: Any) -> Any:
    return _check_quantity(value, "mm um cm px", "")


def _pixel_size(value: Any) -> Any:
    value = _check_quantity(value, "mm um cm", "")
    if value is not None and not _millimeters(value):
        raise ValueError("must be above 0")
    return value


def _millimeters(quantity: str) -> float:
    """Return a length in mm, or an area in mm2."""
    match = _QUANTITY.fullmatch(quantity)
    assert match is not None
    return float(match[1]) * _MILLIMETERS[match[2]] ** (2 if match[3] else 1)


Share = Annotated[float, BeforeValidator(as_share), Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
DefectKind = Literal["new", "labeled", "simulated"]


class DecisionSettings(BaseModel):
    """When an image is called defective; `patchscout threshold` changes it without training."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    max_false_alarms: Share | None = None
    """Largest share of good parts that may be called defective, such as 1%; unset: 5%, or as many
    as `min_detected` takes."""
    min_detected: Share | None = None
    """Smallest share of defective parts that must be called so, such as 95%."""
    pixel_size: Annotated[str | None, BeforeValidator(_pixel_size)] = None
    """What a pixel of the images measures, such as 0.02mm or 20um."""
    min_area: Annotated[str | None, BeforeValidator(_area)] = None
    """An image is defective only with a region of this area, such as 0.5mm2 or 30px."""
    min_length: Annotated[str | None, BeforeValidator(_length)] = None
    """An image is defective only with a region of this length, such as 2mm or 15px."""

    @model_validator(mode="after")
    def _has_the_size_of_a_pixel(self) -> DecisionSettings:
        for name in ("min_area", "min_length"):
            rule = getattr(self, name)
            if rule is not None and not rule.endswith("px") and self.pixel_size is None:
                raise ValueError(
                    f"`{name}` {rule} needs `pixel_size`, such as 0.02mm; or give it in px"
                )
        return self

    @property
    def budget(self) -> float | None:
        """The share of good parts that may be called defective, if there is such a limit."""
        if self.max_false_alarms is None and self.min_detected is None:
            return DEFAULT_BUDGET
        return self.max_false_alarms

    @property
    def pixel_size_mm(self) -> float | None:
        """What a pixel measures in mm."""
        return None if self.pixel_size is None else _millimeters(self.pixel_size)

    @property
    def min_area_px(self) -> float:
        """Area in pixels that one region must have."""
        return self._in_pixels(self.min_area, 2)

    @property
    def min_length_px(self) -> float:
        """Length in pixels that the same region must have."""
        return self._in_pixels(self.min_length, 1)

    @property
    def has_rules(self) -> bool:
        """Whether an image is called defective only if a region is large enough."""
        return self.min_area_px > 0 or self.min_length_px > 0

    def _in_pixels(self, rule: str | None, power: int) -> float:
        if rule is None:
            return 0.0
        if rule.endswith("px"):
            return float(rule[:-2])
        assert self.pixel_size_mm is not None
        return _millimeters(rule) / self.pixel_size_mm**power


@dataclass(frozen=True)
class ImageScores:
    """Image scores that a decision is made on.

    Attributes:
        normal: Of normal images that the model was not trained on.
        defective: Of defective ones.
        kind: Whether the defective ones are new to the model, it was trained on them, or their
            defects are simulated; of the latter two nothing can be concluded for others.
        of_test_images: Whether some are of the run's test images, which are then no test any more.
    """

    normal: tuple[Probability, ...] = ()
    defective: tuple[Probability, ...] = ()
    kind: DefectKind = "labeled"
    of_test_images: bool = False


class Decision(BaseModel):
    """What decides whether an image is defective, and what is known of how well it does.

    Attributes:
        asked: What it was made for, and the rules.
        image_threshold: An image whose score reaches it is defective, if the rules hold too.
        pixel_threshold: Pixels that reach it are in the mask.
        scale: Of the log-odds of a score, on the way to its probability.
        bias: Is added to them.
        num_good: Good images that it was made on.
        num_rejected: How many of them reach the image threshold.
        num_defective: Defective images that it was made on.
        num_missed: How many of them do not reach it.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    asked: DecisionSettings = DecisionSettings()
    image_threshold: Annotated[float, Field(ge=0, le=ABOVE_ALL)]
    pixel_threshold: Probability
    scale: Annotated[float, Field(gt=0)] = 1.0
    bias: float = 0.0
    num_good: Count = 0
    num_rejected: Count = 0
    num_defective: Count = 0
    num_missed: Count = 0

    @model_validator(mode="after")
    def _counts_parts(self) -> Decision:
        if self.num_rejected > self.num_good or self.num_missed > self.num_defective:
            raise ValueError("there are more wrong decisions than images")
        return self

    def probability(self, score: float) -> float:
        """Return the probability that an image of a score is defective, at even odds."""
        return _sigmoid(self.scale * _log_odds(score) + self.bias)

    def score_of(self, probability: float) -> float:
        """Return the score of a probability; 0 is that of no defect, 1 that of a certain one."""
        if probability in (0, 1):
            return probability
        return _sigmoid((_log_odds(probability) - self.bias) / self.scale)

    def with_thresholds(self, probability: float | None, pixel: float | None) -> Decision:
        """Return the decision with other thresholds, as far as they are given.

        Args:
            probability: Of an image, from which on it is defective; see `probability`.
            pixel: Of a pixel.

        Raises:
            InputValueError: If one is not in [0, 1].
        """
        check_thresholds(probability, pixel)
        image = None if probability is None else self.score_of(probability)
        given = {"image_threshold": image, "pixel_threshold": pixel}
        return self.model_copy(update={k: v for k, v in given.items() if v is not None})

    @property
    def threshold_probability(self) -> float:
        """The probability at the image threshold."""
        return self.probability(self.image_threshold)

    @property
    def most_false_alarms(self) -> float:
        """The share of good images that, with 95 % confidence, is not exceeded."""
        return upper_bound(self.num_rejected, self.num_good)

    @property
    def least_detected(self) -> float:
        """The share of defective images that, with 95 % confidence, is reached."""
        return 1 - upper_bound(self.num_missed, self.num_defective)


def check_thresholds(probability: float | None, pixel: float | None) -> None:
    """Check thresholds as the command line gives them, see `Decision.with_thresholds`."""
    for name, value in (("--score-threshold", probability), ("--pixel-threshold", pixel)):
        if value is not None and not 0 <= value <= 1:
            raise InputValueError(f"`{name}` must be in [0, 1]; got {value}.")


def image_score(working_map: WorkingMap) -> float:
    """Return the score of an image: the largest value of its anomaly map at the working size.

    `networks.deployable.image_scores` is the same for exported models.
    """
    return float(np.clip(working_map.max(), 0, 1))


def decide(scores: ImageScores, pixel_threshold: float, asked: DecisionSettings) -> Decision:
    """Choose the image threshold that was asked for.

    With a budget it is the lowest that keeps to it, without one the highest that detects enough.
    Where both are asked for and cannot be had together, the budget holds, see `conflict`. Of too
    few images to promise what was asked, none is on the wrong side.

    Args:
        scores: At least one of a good image, or the pixel threshold is taken for images too.
        pixel_threshold: The pixel threshold.
        asked: Budget and rules.
    """
    threshold = pixel_threshold
    if scores.normal and asked.budget is not None:
        threshold = lowest_threshold(scores.normal, asked.budget)
    elif scores.defective and asked.min_detected is not None:
        threshold = highest_threshold(scores.defective, asked.min_detected)
    return decision_at(threshold, scores, pixel_threshold, asked)


def decision_at(
    threshold: float, scores: ImageScores, pixel_threshold: float, asked: DecisionSettings
) -> Decision:
    """Return the decision at an image threshold."""
    scale, bias = fit_probability(scores)
    return Decision(
        asked=asked,
        image_threshold=float(threshold),
        pixel_threshold=float(pixel_threshold),
        scale=scale,
        bias=bias,
        num_good=len(scores.normal),
        num_rejected=sum(score >= threshold for score in scores.normal),
        num_defective=len(scores.defective),
        num_missed=sum(score < threshold for score in scores.defective),
    )


def lowest_threshold(normal: Sequence[float], share: float) -> float:
    """Return the lowest threshold that, with 95 % confidence, at most a share of images reaches.

    Of too few images to promise that it is just above the largest score.
    """
    ranked = sorted(normal, reverse=True)
    limit = np.float32(ranked[max(num_allowed(len(ranked), share), 0)])
    return float(np.nextafter(limit, np.float32(2)))


def highest_threshold(defective: Sequence[float], share: float) -> float:
    """Return the highest threshold that, with 95 % confidence, at least a share of images reaches.

    Of too few images to promise that it is the smallest score.
    """
    return float(sorted(defective)[max(num_allowed(len(defective), 1 - share), 0)])


def num_allowed(num_images: int, share: float) -> int:
    """Return how many of a number of images may be on the wrong side to promise a share of all.

    Returns:
        The largest k with P(Binomial(num_images, share) <= k) <= 5 %; -1 if there is none.

    Example:
        >>> num_allowed(298, 0.01), num_allowed(299, 0.01)
        (-1, 0)
    """
    from scipy.special import bdtr  # takes a while, and what predicts does without

    tail = bdtr(np.arange(num_images + 1), num_images, share)
    return int(np.searchsorted(tail, 1 - CONFIDENCE, side="right")) - 1


def num_needed(share: float) -> int:
    """Return how many images it takes to promise a share, none of them on the wrong side.

    Example:
        >>> num_needed(0.01), num_needed(0.05)
        (299, 59)
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-share))


def upper_bound(count: int, total: int) -> float:
    """Return the share not exceeded with 95 % confidence where `count` of `total` had it."""
    return _highest_share(count, total, CONFIDENCE)


def interval(count: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of Clopper and Pearson for a share that `count` of `total` had.

    Example:
        >>> [round(limit, 3) for limit in interval(2, 20)]
        [0.012, 0.317]
    """
    tail = (1 - CONFIDENCE) / 2
    low = 1 - _highest_share(total - count, total, 1 - tail)
    return low, _highest_share(count, total, 1 - tail)


def _highest_share(count: int, total: int, confidence: float) -> float:
    """Return the share with P(Binomial(total, share) <= count) = 1 - confidence."""
    from scipy.special import betaincinv

    return 1.0 if count >= total else float(betaincinv(count + 1, total - count, confidence))


def fit_probability(scores: ImageScores) -> tuple[float, float]:
    """Return scale and bias of log-odds, so that a score becomes a probability at even odds.

    This is Platt's logistic regression. Both classes weigh as much as the smaller one has images.
    Their targets are (n + 1) / (n + 2) and 1 / (n + 2), so that classes which are perfectly apart
    have a finite solution, and the scale is drawn to 1 by a normal prior of standard deviation 1,
    so that a handful of images cannot make it steep.

    References:
        Platt, Probabilistic Outputs for Support Vector Machines, 1999, section 2.2.
    """
    if not (scores.normal and scores.defective):
        return 1.0, 0.0
    from scipy.optimize import minimize

    num_normal, num_defective = len(scores.normal), len(scores.defective)
    odds = np.array([_log_odds(score) for score in (*scores.normal, *scores.defective)])
    counts = np.repeat([num_normal, num_defective], [num_normal, num_defective])
    weights = min(num_normal, num_defective) / counts
    targets = np.repeat([0.0, 1.0], [num_normal, num_defective])
    targets = np.where(targets == 1, (counts + 1) / (counts + 2), 1 / (counts + 2))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = parameters
        logits = scale * odds + bias
        value = weights @ (np.logaddexp(0, logits) - targets * logits) + (scale - 1) ** 2 / 2
        errors = weights * (1 / (1 + np.exp(-np.clip(logits, -500, 500))) - targets)
        return float(value), np.array([errors @ odds + scale - 1, errors.sum()])

    found = minimize(loss, (1.0, 0.0), jac=True, bounds=[(LOWEST_SCALE, None), (None, None)])
    return float(found.x[0]), float(found.x[1])


def conflict(scores: ImageScores, asked: DecisionSettings) -> str | None:
    """Say why a budget and a share to detect cannot be had together, if so."""
    if asked.max_false_alarms is None or asked.min_detected is None:
        return None
    low = decide(scores, 0.5, asked)
    alone = asked.model_copy(update={"max_false_alarms": None})
    high = decide(scores, 0.5, alone)
    if low.image_threshold <= high.image_threshold:
        return None
    return (
        f"at most {percent(asked.max_false_alarms)} of good parts rejected and at least"
        f" {percent(asked.min_detected)} of defective ones detected cannot be had together: within"
        f" the budget {low.num_defective - low.num_missed} of {low.num_defective} defective images"
        f" are detected, and to detect enough {high.num_rejected} of {high.num_good} good ones are"
        " rejected"
    )


def promises(decision: Decision, kind: DefectKind | None) -> list[str]:
    """Return in words what a decision promises, a sentence each.

    Args:
        decision: The decision.
        kind: Of the defective images that it was made on; None, and nothing is said of them.
    """
    asked, lines = decision.asked, []
    if decision.num_good:
        most = decision.most_false_alarms
        lines.append(
            f"With 95 % confidence at most {percent(most, up=True)} of good parts are called"
            f" defective: of {decision.num_good} good images that are new to the model"
            f" {decision.num_rejected} are."
        )
        if asked.budget is not None and most > asked.budget:
            lines += _too_few("good", "below", decision.num_good, asked.budget)
    if decision.num_defective and kind is not None:
        found = f"{decision.num_defective - decision.num_missed} of {decision.num_defective}"
        if kind != "new":
            seen = "labeled images that the model was trained on"
            lines.append(
                f"{found} {seen if kind == 'labeled' else 'simulated defects'} are detected, which"
                " promises nothing for others."
            )
        else:
            lines.append(
                f"With 95 % confidence at least {percent(decision.least_detected)} of defective"
                f" parts are detected: of {decision.num_defective} defective images that are new to"
                f" the model {decision.num_defective - decision.num_missed} are."
            )
            if asked.min_detected is not None and decision.least_detected < asked.min_detected:
                lines += _too_few("defective", "above", decision.num_defective, asked.min_detected)
    if asked.has_rules:
        lines.append(
            f"Only regions of at least {asked.min_area or '0px'} and {asked.min_length or '0px'}"
            " make an image defective, which lowers both shares."
        )
    return lines


def _too_few(kind: str, side: str, num_images: int, share: float) -> list[str]:
    """Say which share could be promised, if that is why the one that was asked for is not."""
    wrong = share if side == "below" else 1 - share
    if num_allowed(num_images, wrong) >= 0:
        return []
    limit = upper_bound(0, num_images)
    could = percent(limit, up=True) if side == "below" else percent(1 - limit)
    needed = num_needed(wrong)
    return [
        f"With {num_images} {kind} images no rate {side} {could} can be promised; {needed} are"
        f" needed for {percent(share)}, {needed - num_images} more."
    ]


def percent(share: float, *, up: bool = False) -> str:
    """Return a share in percent, to two digits.

    Args:
        share: In [0, 1].
        up: Whether to round up, so that a bound stays one; it is rounded down otherwise.

    Example:
        >>> percent(0.01423, up=True), percent(0.01423), percent(0.9567)
        ('1.5 %', '1.4 %', '95 %')
    """
    value = 100 * share
    digits = 1 if value < 10 else 0
    scaled = round(value * 10**digits, 6)
    rounded = math.ceil(scaled) if up else math.floor(scaled)
    return f"{rounded / 10**digits:g} %"


def _log_odds(score: float) -> float:
    score = min(max(score, CLOSEST), 1 - CLOSEST)
    return math.log(score) - math.log1p(-score)


def _sigmoid(log_odds: float) -> float:
    return 1 / (1 + math.exp(min(-log_odds, 700.0)))
