"""Settings: presets, what wins over what, ranges, and errors that name the setting."""

import json

import pytest
from pydantic import BaseModel, ValidationError

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.config import Config, Settings
from patchscout.presets import (
    PRESETS,
    file_config,
    parse_config,
    preset_config,
    read_config_file,
    setting_names,
)


def groups(model: type[BaseModel] = Config):
    """The class of every group of settings."""
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from groups(field.annotation)


def lookup(config, name):
    for part in name.split("."):
        config = getattr(config, part)
    return config


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def test_fast_is_the_default():
    assert preset_config() == preset_config("fast") == Config()
    assert Config().preset == "fast"


def test_paper_differs_only_where_it_says_so():
    paper, fast = preset_config("paper"), preset_config("fast")
    stated = dict(leaves(PRESETS["paper"])) | {"preset": "paper"}
    assert stated.keys() <= set(setting_names())
    for name in setting_names():
        assert lookup(paper, name) == stated.get(name, lookup(fast, name)), name


def test_overrides_are_merged_into_a_preset_setting_by_setting():
    config = preset_config("paper", data={"cache_mib": 7}, seed=7)
    assert (config.data.cache_mib, config.seed) == (7, 7)
    assert config.data.image_size == (256, 256)
    assert PRESETS["paper"]["data"] == {"image_size": (256, 256)}  # it is not changed itself


def test_a_file_wins_over_the_preset_that_it_names(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("preset: paper\nseed: 3\nprofile: {num_cycles: 5}\n")
    config = file_config(path)
    assert (config.preset, config.seed, config.profile.num_cycles) == ("paper", 3, 5)
    assert config.data.image_size == (256, 256)
    assert file_config(path, "fast").data.image_size is None


def test_an_empty_file_changes_nothing(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    assert file_config(path) == Config()


def test_the_config_of_a_run_is_a_config_file(tmp_path):
    config = preset_config("paper", seed=9, predictor={"sees": ["errors"]})
    path = tmp_path / "config.json"
    run = {"format_version": 1, "config": config.model_dump(mode="json"), "training": None}
    path.write_text(json.dumps(run))
    assert file_config(path) == config


def test_settings_survive_json():
    config = preset_config("paper", held_out_type="hole")
    assert parse_config(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize("model", dict.fromkeys(groups()), ids=lambda model: model.__name__)
def test_every_setting_has_help(model):
    assert model.model_config == Settings.model_config
    assert model.__doc__
    for name, field in model.model_fields.items():
        is_group = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        assert is_group or (field.description and field.description.endswith(".")), name


def test_settings_are_frozen():
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config, "seed", 1)  # noqa: B010
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config.profile, "num_cycles", 1)  # noqa: B010
    assert hash(config) == hash(Config())  # nothing in it can be changed in place either


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sed": 1}, "unknown setting `sed`; did you mean 'seed'? (in here)"),
        (
            {"profile": {"num_cycle": 1}},
            "unknown setting `profile.num_cycle`; did you mean 'profile.num_cycles'? (in here)",
        ),
        (
            {"seed": -1},
            "`seed`: input should be greater than or equal to 0; got -1 (in here)",
        ),
        (
            {"views": {"max_lighting_change": 2}},
            "`views.max_lighting_change`: input should be less than or equal to 1; got 2 (in here)",
        ),
        (
            {"data": {"image_size": [100, 256]}},
            "`data.image_size` must be multiples of 16; got (100, 256). Use (96, 256) (in here)",
        ),
        (
            {"profile": {"snapshots": [3, 3]}},
            "`profile.snapshots` must be ascending numbers, at least one; got (3, 3). Use for"
            " example (20, 300) (in here)",
        ),
        (
            {"profile": {"snapshots": []}},
            "`profile.snapshots` must be ascending numbers, at least one; got (). Use for example"
            " (20, 300) (in here)",
        ),
        (
            {"seed": 2**31},
            "`seed`: input should be less than 2147483648; got 2147483648 (in here)",
        ),
        (
            {"predictor": {"sees": ["features", "erors"]}},
            "`predictor.sees.1`: input should be 'features', 'residual' or 'errors'; got 'erors'"
            " (in here)",
        ),
        (
            {"predictor": {"crop_px": 72}},
            "`predictor.crop_px`: input should be a multiple of 16; got 72 (in here)",
        ),
        (
            {"preset": "paper", "data": {"image_size": [64, 64]}},
            "`data.image_size` is (256, 256) with `--preset paper`; got (64, 64) (in here)",
        ),
        (
            {"profile": 3},
            "`profile`: input should be a valid dictionary or instance of ProfileSettings; got 3"
            " (in here)",
        ),
        (
            [1],
            "here must hold settings by name; got list. Write for example `predictor: {updates:"
            " 300}`.",
        ),
    ],
)
def test_what_does_not_fit_is_named(settings, message):
    with pytest.raises(InputValueError) as error:
        parse_config(settings, "here")
    assert str(error.value) == message


@pytest.mark.parametrize("side", [64, 80, 256, 4096])
def test_multiples_of_16_are_accepted(side):
    settings = {"data": {"image_size": [side, 64]}}
    assert parse_config(settings).data.image_size == (side, 64)


@pytest.mark.parametrize("side", [48, 4112, 72])
def test_other_sizes_are_not(side):
    with pytest.raises(InputValueError, match=r"`data.image_size"):
        parse_config({"data": {"image_size": [side, 64]}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed: [1", r"settings.yaml is not valid YAML: .* Mend the file\."),
        ("\x00", r"settings.yaml is not valid YAML"),
        ("- seed\n- 1\n", r"settings.yaml must hold settings by name, such as `seed: 1`\."),
        ("sed: 1", r"unknown setting `sed`; did you mean 'seed'\? \(in .*settings.yaml\)"),
        ("seed: -1", r"`seed`: .* got -1 \(in .*settings.yaml\)"),
        ("1.5: 2", r"settings.yaml has `1.5` for a name; expected text"),
        ("data: {mask_types: {red: dent}}", r"`data.mask_types` must name values .* got red"),
        ("preset: papre", r"one of fast, paper; got 'papre'; did you mean 'paper'\?"),
        ("preset: [fast]", r"`preset` must be one of fast, paper; got \['fast'\]"),
        ('{"format_version": 1, "config": [1]}', "must hold settings by name"),
        ("!!python/object/apply:os.getcwd []", "has a value of type `python/object/apply:os.getc"),
    ],
)
def test_files_that_do_not_fit(tmp_path, content, message):
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    with pytest.raises(InputValueError, match=message) as error:
        file_config(path)
    assert "\n" not in str(error.value)


def test_a_file_of_other_bytes(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputValueError, match="is not valid YAML"):
        read_config_file(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 10**5000}, "`seed`: .*; got a number of 16610 bits"),
        ({"seed": ["x" * 10**6] * 1000}, r"`seed`: .*; got \['xxx"),
        ({"seed": {"x": {"x": {"x": 1}}}}, r"`seed`: .*; got {'x': {'x': {...}}}"),
        ({"x" * 10**6: 1}, r"unknown setting `x{120}\.\.\.`"),
        ({"profile": {"snapshots": [3] * 10**5}}, r"`profile.snapshots` must be ascending numbers"),
        ({"preset": "x" * 10**6}, r"`preset`: input should be 'fast' or 'paper'; got 'xxx"),
    ],
)
def test_what_came_is_shown_in_short(settings, message):
    with pytest.raises(InputValueError, match=message) as error:
        parse_config(settings)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "inf", "nan"])
def test_numbers_are_finite(value):
    with pytest.raises(InputValueError, match=r"`predictor.novelty_weight`: .*finite number"):
        parse_config({"predictor": {"novelty_weight": value}})


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"none.yaml is not there. Check the path."):
        read_config_file(tmp_path / "none.yaml")


def test_setting_names_are_those_of_the_command_line():
    names = setting_names()
    assert {"seed", "data.image_size", "predictor.sees"} <= set(names)
    assert len(names) == len(set(names)) < 43
    assert not {"data", "predictor"} & set(names)
