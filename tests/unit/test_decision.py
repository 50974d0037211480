"""Decisions: promises that hold, probabilities that mean something, rules in real units."""

import math

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import beta, binom, binomtest

from patchscout.checks import InputValueError
from patchscout.decision import (
    ABOVE_ALL,
    Decision,
    DecisionSettings,
    ImageScores,
    conflict,
    decide,
    fit_probability,
    highest_threshold,
    interval,
    lowest_threshold,
    num_allowed,
    num_needed,
    percent,
    promises,
    upper_bound,
)
from patchscout.presets import changed_settings


@pytest.mark.parametrize(("share", "needed"), [(0.01, 299), (0.02, 149), (0.05, 59), (0.1, 29)])
def test_how_many_good_images_a_budget_needs(share, needed):
    """The smallest n with (1 - share)^n <= 5 %."""
    assert num_needed(share) == needed
    assert (1 - share) ** needed <= 0.05 < (1 - share) ** (needed - 1)
    assert (num_allowed(needed - 1, share), num_allowed(needed, share)) == (-1, 0)


def test_bounds_and_intervals_are_those_of_scipy():
    for count, total in ((0, 209), (3, 209), (1, 3), (40, 40)):
        exact = binomtest(count, total).proportion_ci(0.95, "exact")
        assert interval(count, total) == pytest.approx((exact.low, exact.high))
    assert upper_bound(3, 209) == pytest.approx(beta.ppf(0.95, 4, 206))
    assert upper_bound(0, 0) == upper_bound(5, 5) == 1
    for total in (100, 209, 1000):
        allowed = num_allowed(total, 0.05)
        assert binom.cdf(allowed, total, 0.05) <= 0.05 < binom.cdf(allowed + 1, total, 0.05)
        assert upper_bound(allowed, total) <= 0.05 < upper_bound(allowed + 1, total)


@pytest.mark.parametrize(
    ("num_images", "share"), [(60, 0.05), (209, 0.05), (209, 0.1), (400, 0.01)]
)
def test_a_budget_is_kept_in_19_of_20_calibrations(num_images, share):
    """Scores are ranks in (0, 1), so a threshold's false alarm rate is known exactly."""
    rng = np.random.default_rng(0)
    rates = 1 - np.array(
        [lowest_threshold(rng.random(num_images).tolist(), share) for _ in range(2000)]
    )
    kept = np.mean(rates <= share)
    exact = 1 - binom.cdf(num_allowed(num_images, share), num_images, share)
    assert kept >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 2000)
    assert kept == pytest.approx(exact, abs=3 * math.sqrt(0.95 * 0.05 / 2000))


def test_with_ties_a_budget_is_kept_all_the_more():
    rng = np.random.default_rng(0)
    probabilities = np.array([0.85, 0.06, 0.05, 0.04])  # of the scores 0, 0.25, 0.5 and 0.75
    values = np.arange(4) / 4
    rates = []
    for _ in range(1000):
        drawn = rng.choice(values, 209, p=probabilities).tolist()
        rates.append(probabilities[values >= lowest_threshold(drawn, 0.05)].sum())
    assert np.mean(np.array(rates) <= 0.05 + 1e-12) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 1000)


def test_enough_defects_are_detected_in_19_of_20_calibrations():
    rng = np.random.default_rng(0)
    missed = np.array([highest_threshold(rng.random(150).tolist(), 0.9) for _ in range(2000)])
    assert np.mean(missed <= 0.1) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 2000)
    assert missed.mean() > 0.04  # and no more than that


def test_the_threshold_of_a_budget_is_between_two_scores():
    normal = [number / 1000 for number in range(209)]
    decision = decide(ImageScores(tuple(normal)), 0.4, DecisionSettings(max_false_alarms=0.05))
    assert num_allowed(209, 0.05) == 5
    assert decision.num_rejected == 5
    assert 0.203 < decision.image_threshold < 0.203001
    assert decision.pixel_threshold == 0.4
    assert decision.most_false_alarms == pytest.approx(upper_bound(5, 209))


def test_too_few_good_images_are_told_and_none_is_rejected():
    scores = ImageScores(tuple(number / 1000 for number in range(209)))
    decision = decide(scores, 0.5, DecisionSettings(max_false_alarms=0.01))
    assert decision.num_rejected == 0
    assert 0.208 < decision.image_threshold < 0.208001
    said = promises(decision, "labeled")
    assert said[0].startswith("With 95 % confidence at most 1.5 % of good parts are called defect")
    assert said[1] == (
        "With 209 good images no rate below 1.5 % can be promised; 299 are needed for 1 %, 90 more."
    )


def test_the_default_budget_is_5_percent_or_what_min_detected_takes():
    assert DecisionSettings().budget == 0.05
    assert DecisionSettings(min_detected=0.9).budget is None
    scores = ImageScores((0.1, 0.2, 0.3), tuple(0.4 + number / 1000 for number in range(100)))
    decision = decide(scores, 0.5, DecisionSettings(min_detected=0.9))
    assert num_allowed(100, 0.1) == 4
    assert decision.image_threshold == pytest.approx(0.404)
    assert (decision.num_missed, decision.least_detected >= 0.9) == (4, True)


def test_both_at_once_says_whether_it_can_be_had():
    good = tuple(number / 1000 for number in range(100))
    apart = ImageScores(good, tuple(0.5 + number / 1000 for number in range(100)), "new")
    mixed = ImageScores(good, tuple(0.0505 + number / 1000 for number in range(100)), "new")
    asked = DecisionSettings(max_false_alarms=0.05, min_detected=0.95)
    assert conflict(apart, asked) is None
    said = conflict(mixed, asked)
    assert said is not None
    assert said.startswith("at most 5 % of good parts rejected and at least 95 % of defective")
    assert "within the budget 52 of 100 defective images are detected" in said
    assert "to detect enough 48 of 100 good ones are rejected" in said
    assert decide(mixed, 0.5, asked).num_rejected == num_allowed(100, 0.05) == 1
    assert conflict(mixed, DecisionSettings(max_false_alarms=0.05)) is None


def test_what_is_promised_for_defects_depends_on_whether_they_are_new():
    scores = ImageScores((0.1,) * 60, (0.9,) * 20)
    asked = DecisionSettings(max_false_alarms=0.05, min_detected=0.95)
    decision = decide(scores, 0.5, asked)
    assert promises(decision, "labeled")[-1].endswith("which promises nothing for others.")
    assert "20 of 20 simulated defects" in promises(decision, "simulated")[-1]
    assert promises(decision, "new")[-2:] == [
        "With 95 % confidence at least 86 % of defective parts are detected: of 20 defective images"
        " that are new to the model 20 are.",
        "With 20 defective images no rate above 86 % can be promised; 59 are needed for 95 %, 39"
        " more.",
    ]


@pytest.mark.parametrize("scores", [ImageScores(), ImageScores((), (0.9,))])
def test_without_good_images_the_pixel_threshold_decides(scores):
    decision = decide(scores, 0.3, DecisionSettings())
    assert (decision.image_threshold, decision.most_false_alarms) == (0.3, 1.0)


def test_good_images_that_are_certain_leave_a_threshold_that_nothing_reaches():
    decision = decide(ImageScores((1.0,) * 30), 0.5, DecisionSettings())
    assert decision.image_threshold == ABOVE_ALL > 1
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


def test_probabilities_are_the_share_of_defects_at_even_odds():
    """Log-odds from two normal distributions: what is right is 2 x - 1, whatever the counts."""
    rng = np.random.default_rng(0)

    def scores(count, mean):
        return tuple((1 / (1 + np.exp(-rng.normal(mean, 1, count)))).tolist())

    scale, bias = fit_probability(ImageScores(scores(4000, -0.5), scores(400, 1.5)))
    assert (scale, bias) == (pytest.approx(2, abs=0.2), pytest.approx(-1, abs=0.2))


@pytest.mark.parametrize(
    ("normal", "defective"),
    [
        ((0.01,) * 50, (0.999,) * 3),  # perfectly apart
        ((1e-12, 0.0) * 20, (1.0,) * 3),
        ((0.001, 0.002, 0.003), (0.4, 0.5, 0.6)),
        ((0.9,) * 20, (0.1,) * 5),  # the wrong way round
    ],
)
def test_probabilities_of_few_or_odd_scores_are_finite_and_rise(normal, defective):
    decision = decide(ImageScores(normal, defective), 0.5, DecisionSettings())
    values = [decision.probability(score) for score in np.linspace(0, 1, 101)]
    assert np.all(np.diff(values) > 0)
    assert 0 < values[0] < values[-1] < 1
    if max(normal) < min(defective):
        good, bad = (
            np.mean([decision.probability(s) for s in part]) for part in (normal, defective)
        )
        assert good < 0.25
        assert 0.6 < bad <= 0.95  # of so few images no more certainty than that
    for score in (0.2, 0.7):
        assert decision.score_of(decision.probability(score)) == pytest.approx(score)


@pytest.mark.parametrize(
    ("rules", "area_px", "length_px"),
    [
        ({"min_area": "30px"}, 30, 0),
        ({"min_area": "0.5mm2", "pixel_size": "0.02mm"}, 1250, 0),
        ({"min_area": "500000um2", "pixel_size": "20um"}, 1250, 0),
        ({"min_length": "2 mm", "pixel_size": ".002cm"}, 0, 100),
        ({"min_length": "15px"}, 0, 15),
        ({"min_area": "0px"}, 0, 0),
    ],
)
def test_rules_in_real_units(rules, area_px, length_px):
    asked = DecisionSettings(**rules)
    assert asked.min_area_px == pytest.approx(area_px)
    assert asked.min_length_px == pytest.approx(length_px)
    assert asked.has_rules == (area_px + length_px > 0)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_false_alarms": "0%"}, "`max_false_alarms`: input should be greater than 0"),
        ({"max_false_alarms": "100%"}, "`max_false_alarms`: input should be less than 1"),
        ({"max_false_alarms": "few"}, "`max_false_alarms`: input should be a valid number"),
        ({"min_detected": math.nan}, "`min_detected`: input should be"),
        ({"pixel_size": "0.02"}, "`pixel_size` must be a number with its unit (mm, um, cm)"),
        ({"pixel_size": "0mm"}, "`pixel_size` must be above 0"),
        ({"pixel_size": "3px"}, "`pixel_size` must be a number with its unit (mm, um, cm)"),
        ({"min_area": "3mm"}, "`min_area` must be a number with its unit (mm2, um2, cm2, px)"),
        ({"min_length": "-3mm"}, "`min_length` must be a number with its unit (mm, um, cm, px)"),
        ({"min_area": "0.5mm2"}, "`min_area` 0.5mm2 needs `pixel_size`, such as 0.02mm"),
    ],
)
def test_settings_that_do_not_fit_are_named(given, says):
    with pytest.raises(InputValueError) as error:
        changed_settings(DecisionSettings(), **given)
    assert says in str(error.value)


def test_shares_may_be_percent():
    asked = changed_settings(DecisionSettings(), max_false_alarms="1%", min_detected="0.95")
    assert (asked.max_false_alarms, asked.min_detected) == (0.01, 0.95)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_threshold": 1.1},
        {"pixel_threshold": math.nan},
        {"scale": 0.0},
        {"bias": math.inf},
        {"num_rejected": 4, "num_good": 3},
        {"num_missed": True},
        {"more": 1},
    ],
)
def test_a_decision_that_is_none_is_refused(changes):
    fields = {"image_threshold": 0.5, "pixel_threshold": 0.5}
    Decision.model_validate(fields)
    with pytest.raises(ValidationError):
        Decision.model_validate(fields | changes)


@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
def test_another_threshold_is_in_0_to_1(value):
    decision = Decision(image_threshold=0.5, pixel_threshold=0.5, scale=2.0, bias=1.0)
    with pytest.raises(InputValueError, match=r"`--score-threshold` must be in \[0, 1\]; got"):
        decision.with_thresholds(value, None)
    with pytest.raises(InputValueError, match=r"`--pixel-threshold` must be in \[0, 1\]; got"):
        decision.with_thresholds(None, value)
    changed = decision.with_thresholds(decision.probability(0.25), 0.75)
    assert (changed.image_threshold, changed.pixel_threshold) == (pytest.approx(0.25), 0.75)
    assert decision.with_thresholds(0.0, None).image_threshold == 0  # every image is defective


def test_bounds_are_rounded_to_the_safe_side():
    shown = [percent(share, up=up) for share in (0.01423, 0.95, 0.0) for up in (True, False)]
    assert shown == ["1.5 %", "1.4 %", "95 %", "95 %", "0 %", "0 %"]
