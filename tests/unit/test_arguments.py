"""What the parser makes of flags, `--`, odd words and limits."""

from pathlib import Path

import pytest

from patchscout.arguments import (
    BenchmarkArguments,
    EvaluateArguments,
    ExportArguments,
    InfoArguments,
    PredictArguments,
    parse,
    parse_train,
)
from patchscout.checks import InputValueError
from patchscout.decision import DecisionSettings
from patchscout.limits import Limits, current_limits

pytestmark = pytest.mark.usefixtures("limits")  # puts back those that hold


def parsed(*options):
    return parse_train(["data", "--out", "run", *options]).settings


def test_a_flag_is_switched_off_and_on():
    assert parsed().predictor.flip_tta is True
    assert parsed("--predictor.no-flip-tta").predictor.flip_tta is False
    assert parsed("--backbone.may-download").backbone.may_download is True


def test_settings_of_decisions_need_no_group_and_shares_may_be_percent():
    given = parsed("--max-false-alarms", "1%", "--min_detected=95%", "--pixel-size", "20um")
    assert given.decision == DecisionSettings(
        max_false_alarms=0.01, min_detected=0.95, pixel_size="20um"
    )
    given = parsed("--decision.max-false-alarms", "0.02", "--decision.min-area=3px")
    assert given.decision == DecisionSettings(max_false_alarms=0.02, min_area="3px")
    with pytest.raises(InputValueError, match=r"`decision\.min_detected`: .* less than 1; got"):
        parsed("--min-detected", "120%")
    with pytest.raises(InputValueError, match=r"`decision.*` `min_area` 1mm2 needs `pixel_size`"):
        parsed("--min-area", "1mm2")


def test_only_flags_can_be_negated():
    with pytest.raises(InputValueError, match="`--no-seed` is an unknown argument"):
        parsed("--no-seed", "3")
    with pytest.raises(InputValueError, match=r"did you mean '--predictor\.no-flip-tta'"):
        parsed("--predictor.no-flip-tt")


def test_after_two_dashes_all_is_a_file():
    words = ["run", "--out", "found", "--", "-x.png", "--help", "--out", "--", "-5"]
    images = parse(PredictArguments, words, "patchscout predict").images
    assert images == tuple(map(Path, ("-x.png", "--help", "--out", "--", "-5")))
    given = parse_train(["--out", "run", "--profile.snapshots", "1", "2", "--", "--seed"])
    assert (given.data, given.settings.profile.snapshots) == (Path("--seed"), (1, 2))


@pytest.mark.parametrize("name", ["-x.png", "-5.png", "-", "-hx"])
def test_a_file_that_looks_like_an_option_is_told_how_to_be_given(name):
    with pytest.raises(InputValueError, match=f"`{name}` is an unknown .* comes after `--`"):
        parse(PredictArguments, ["run", name, "--out", "found"], "patchscout predict")
    with pytest.raises(InputValueError, match=f"as a value, write `--out={name}`"):
        parse(PredictArguments, ["run", "a", "--out", name], "patchscout predict")
    given = parse(PredictArguments, ["run", "a", f"--out={name}"], "patchscout predict")
    assert given.out == Path(name)


@pytest.mark.parametrize("words", [["--out", ""], ["--out="], ["", "--out", "run"]])
def test_an_empty_word_is_not_the_current_folder(words):
    with pytest.raises(InputValueError, match=r"an empty argument after `.*`\. Give a value"):
        parse_train(["data", *words])


def test_what_cannot_be_a_path_is_refused():
    with pytest.raises(InputValueError, match=r"`a\\x00b` holds a NUL character"):
        parse(InfoArguments, ["a\0b"], "patchscout info")


@pytest.mark.parametrize("number", ["inf", "nan", "1e999"])
def test_numbers_are_finite(number):
    with pytest.raises(InputValueError, match=r"`predictor\.novelty_weight`: .* finite number"):
        parsed("--predictor.novelty-weight", number)


def test_the_last_of_an_option_given_twice_holds_everywhere(tmp_path):
    for seed in (1, 2):
        (tmp_path / f"{seed}.yaml").write_text(f"seed: {seed}")
    files = ("--config", str(tmp_path / "1.yaml"), f"--config={tmp_path / '2.yaml'}")
    assert parsed(*files).seed == 2


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (EvaluateArguments, ["run", "data"]),
        (PredictArguments, ["run", "a.png", "--out", "found"]),
        (ExportArguments, ["run"]),
        (BenchmarkArguments, ["data", "--out", "results"]),
        (InfoArguments, ["data"]),
    ],
)
def test_limits_hold_from_where_they_are_given(kind, words):
    limits = ["--limits.megapixels", "100", "--limits.file_mib=5"]
    parse(kind, [*words, *limits], "patchscout")
    assert current_limits() == Limits(megapixels=100, file_mib=5)
    parse(kind, words, "patchscout")  # the next command has its own
    assert current_limits() == Limits()
    with pytest.raises(InputValueError, match=r"`limits\.megapixels`: .* or equal to 175"):
        parse(kind, [*words, "--limits.megapixels", "176"], "patchscout")
    with pytest.raises(InputValueError, match=r"did you mean '--limits\.megapixels'"):
        parse(kind, [*words, "--limits.megapixel", "1"], "patchscout")


def test_limits_hold_before_the_file_of_settings_is_read(monkeypatch):
    seen = []

    def read(*_):
        seen.append(current_limits().file_mib)
        raise InputValueError("too large")

    monkeypatch.setattr("patchscout.arguments.file_config", read)
    with pytest.raises(InputValueError, match="too large"):
        parsed("--config", "settings.yaml", "--limits.file_mib", "1", "--limits.file-mib", "7")
    assert seen == [7]
