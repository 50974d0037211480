"""Settings: presets, what wins over what, ranges, and errors that name the setting."""

import json

import pytest
from pydantic import BaseModel, ValidationError

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.config import (
    PAPER,
    Config,
    LinearSchedule,
    Settings,
    file_config,
    parse_config,
    preset_config,
    read_config_file,
    setting_names,
)
from patchscout.training.profile_buffer import MARGIN_PX


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
    stated = dict(leaves(PAPER)) | {"preset": "paper"}
    assert stated.keys() <= set(setting_names())
    for name in setting_names():
        assert lookup(paper, name) == stated.get(name, lookup(fast, name)), name


def test_overrides_are_merged_into_a_preset_setting_by_setting():
    config = preset_config("paper", training={"num_cycles": 2}, seed=7)
    assert (config.training.num_cycles, config.seed) == (2, 7)
    assert config.training.steps_per_cycle == PAPER["training"]["steps_per_cycle"]
    assert PAPER["training"]["num_cycles"] == 450  # the preset itself is not changed


def test_a_file_wins_over_the_preset_that_it_names(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("preset: paper\nseed: 3\ntraining: {num_cycles: 5}\n")
    config = file_config(path)
    assert (config.preset, config.seed, config.training.num_cycles) == ("paper", 3, 5)
    assert config.autoencoder.architecture == "paper"
    assert file_config(path, "fast").autoencoder.architecture == "lean"


def test_an_empty_file_changes_nothing(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    assert file_config(path) == Config()


def test_the_config_of_a_run_is_a_config_file(tmp_path):
    config = preset_config("paper", seed=9, data={"image_size": [128, 64]})
    path = tmp_path / "config.json"
    run = {"format_version": 1, "config": config.model_dump(mode="json"), "training": None}
    path.write_text(json.dumps(run))
    assert file_config(path) == config


def test_a_run_from_before_a_setting_existed_is_repeated_as_it_was(tmp_path):
    config = preset_config("fast", seed=9).model_dump(mode="json")
    del config["autoencoder"]["downscale"]
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"format_version": 1, "config": config, "training": None}))
    assert file_config(path) == preset_config("fast", seed=9, autoencoder={"downscale": 1})
    del config["normality"]
    path.write_text(json.dumps({"format_version": 1, "config": config, "training": None}))
    assert file_config(path).normality.ranks == ()
    del config["predictor"]["image_evidence"]
    path.write_text(json.dumps({"format_version": 1, "config": config, "training": None}))
    assert file_config(path).predictor.image_evidence == 0
    path.write_text(json.dumps(config))  # settings that a person wrote
    assert file_config(path) == preset_config("fast", seed=9)


def test_ranks_ascend():
    assert preset_config("fast", normality={"ranks": [1, 9]}).normality.ranks == (1, 9)
    with pytest.raises(InputValueError, match=r"normality.ranks.*Use \[5, 20\]"):
        preset_config("fast", normality={"ranks": [20, 5, 5]})


def test_not_every_member_sees_the_image_alone():
    with pytest.raises(InputValueError, match=r"less than `predictor.num_members` 1; got 1"):
        preset_config("fast", predictor={"image_members": 1})


def test_settings_survive_json():
    config = preset_config("paper", held_out_type="hole")
    assert parse_config(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize("model", dict.fromkeys(groups()), ids=lambda model: model.__name__)
def test_every_setting_has_help(model):
    assert issubclass(model, Settings)
    assert model.__doc__
    for name, field in model.model_fields.items():
        is_group = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        is_own_group = is_group and field.annotation is not LinearSchedule
        assert is_own_group or (field.description and field.description.endswith(".")), name


def test_settings_are_frozen():
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config, "seed", 1)  # noqa: B010
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config.training, "num_cycles", 1)  # noqa: B010
    assert hash(config) == hash(Config())  # nothing in it can be changed in place either


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sed": 1}, "unknown setting `sed`; did you mean 'seed'? (in here)"),
        (
            {"training": {"num_cycle": 1}},
            "unknown setting `training.num_cycle`; did you mean 'training.num_cycles'? (in here)",
        ),
        (
            {"seed": -1},
            "`seed`: input should be greater than or equal to 0; got -1 (in here)",
        ),
        (
            {"reward": {"beta": {"start": 2}}},
            "`reward.beta.start`: input should be less than or equal to 1; got 2 (in here)",
        ),
        (
            {"data": {"image_size": [100, 256]}},
            "`data.image_size` must be multiples of 16; got (100, 256). Use (96, 256) (in here)",
        ),
        (
            {
                "data": {"image_size": [256, 256]},
                "autoencoder": {"downscale": 2},
                "sampler": {"patch_px": 136, "window_px": 256},
            },
            "`sampler.patch_px` must fit into `data.image_size` (256, 256) shrunk by"
            " `autoencoder.downscale` 2; got 136 (in here)",
        ),
        (
            {
                "data": {"image_size": [64, 256]},
                "autoencoder": {"downscale": 1},
                "sampler": {"patch_px": 72, "window_px": 128},
            },
            "`sampler.patch_px` must fit into `data.image_size` (64, 256) shrunk by"
            " `autoencoder.downscale` 1; got 72 (in here)",
        ),
        (
            {
                "data": {"image_size": [128, 144]},
                "autoencoder": {"downscale": 2},
                "sampler": {"patch_px": 64, "stride_px": 12},
            },
            "`sampler.patch_px` 64 must leave walkers room for a move of `sampler.stride_px` along"
            " the longer side of `data.image_size` (128, 144) shrunk by `autoencoder.downscale` 2;"
            " got 12 where 8 px are left (in here)",
        ),
        (
            {"autoencoder": {"downscale": 3}},
            "`autoencoder.downscale`: input should be 1 or 2; got 3 (in here)",
        ),
        (
            {"buffer": {"region_px": 272}, "predictor": {"crop_px": 192}},
            "`buffer.region_px` must be at least 96 px more than `predictor.crop_px` 192; got 272"
            " (in here)",
        ),
        (
            {
                "data": {"image_size": [128, 176]},
                "buffer": {"region_px": 160},
                "predictor": {"crop_px": 80},
            },
            "`buffer.region_px` must be at least 96 px more than `predictor.crop_px` 80; got 160"
            " (in here)",
        ),
        (
            {"predictor": {"crop_px": 32, "batch_size": 1}},
            "`predictor.crop_px` must be at least 48 where an update is of one profile"
            " (`predictor.batch_size`, `buffer.capacity`); got 32 (in here)",
        ),
        (
            {"sampler": {"patch_px": 60}},
            "`sampler.patch_px` must be a multiple of 8, at least 16 with this autoencoder; got 60"
            " (in here)",
        ),
        (
            {"autoencoder": {"architecture": "paper"}, "sampler": {"patch_px": 32}},
            "`sampler.patch_px` must be a multiple of 8, at least 64 with this autoencoder; got 32"
            " (in here)",
        ),
        (
            {"sampler": {"patch_px": 64, "window_px": 48}},
            "`sampler.window_px` must be a multiple of 16, no smaller than `sampler.patch_px`; got"
            " 48 (in here)",
        ),
        (
            {"training": {"steps_per_cycle": 12}, "profile": {"length": 10}},
            "`training.steps_per_cycle` must leave room for 10 snapshots after"
            " `profile.first_step` 4; got 12 (in here)",
        ),
        (
            {"training": {"steps_per_cycle": 9}, "profile": {"length": 10, "spacing": "last"}},
            "`training.steps_per_cycle` must be at least `profile.length` 10; got 9 (in here)",
        ),
        (
            {"training": 3},
            "`training`: input should be a valid dictionary or instance of TrainingSettings; got 3"
            " (in here)",
        ),
        (
            [1],
            "here must hold settings by name; got list. Write for example `training: {num_cycles:"
            " 2}`.",
        ),
    ],
)
def test_what_does_not_fit_is_named(settings, message):
    with pytest.raises(InputValueError) as error:
        parse_config(settings, "here")
    assert str(error.value) == message


def test_the_fewest_steps_that_hold_a_profile_are_accepted():
    assert parse_config({"training": {"steps_per_cycle": 13}}).training.steps_per_cycle == 13
    last = {"training": {"steps_per_cycle": 10}, "profile": {"spacing": "last"}}
    assert parse_config(last).training.steps_per_cycle == 10


@pytest.mark.parametrize("side", [64, 80, 256, 4096])
def test_multiples_of_16_are_accepted(side):
    settings = {"data": {"image_size": [side, 64]}, "sampler": {"patch_px": 16}}
    assert parse_config(settings).data.image_size == (side, 64)


@pytest.mark.parametrize("downscale", [1, 2])
def test_a_patch_may_fill_a_shrunk_image_but_not_exceed_it(downscale):
    settings = {
        "data": {"image_size": [128, 256]},
        "autoencoder": {"downscale": downscale},
        "sampler": {"patch_px": 128 // downscale, "window_px": 256},
    }
    assert parse_config(settings).smallest_px == 128
    with pytest.raises(InputValueError, match=r"`sampler.patch_px` must fit into"):
        parse_config({**settings, "data": {"image_size": [112, 256]}})


def test_walkers_may_fill_one_side_and_only_walkers_need_room():
    settings = {
        "data": {"image_size": [128, 160]},
        "autoencoder": {"downscale": 2},
        "sampler": {"patch_px": 64, "stride_px": 16},
    }
    assert parse_config(settings).sampler.stride_px == 16
    square = {**settings, "data": {"image_size": [128, 128]}}
    with pytest.raises(InputValueError, match="must leave walkers room"):
        parse_config(square)
    placed = {**square, "sampler": {"patch_px": 64, "kind": "uniform"}}
    assert parse_config(placed).sampler.kind == "uniform"
    assert parse_config({**square, "predictor": {"inputs": "image"}}).sampler.patch_px == 64


def test_regions_need_room_for_a_crop_beside_their_margins_only_if_views_are_cut():
    settings = {"buffer": {"region_px": 160}, "predictor": {"crop_px": 64}}
    assert parse_config(settings).buffer.region_px == 160 == 64 + 2 * MARGIN_PX
    whole = {"data": {"image_size": [160, 128]}, "buffer": {"region_px": 160}}
    assert parse_config({**whole, "predictor": {"crop_px": 160}}).predictor.crop_px == 160


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
        ("1: 2", r"settings.yaml has `1` for a name; expected text"),
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
        ({"normality": {"ranks": [3] * 10**5}}, r"`normality.ranks` must be ascending numbers"),
        ({"preset": "x" * 10**6}, r"`preset`: input should be 'fast' or 'paper'; got 'xxx"),
    ],
)
def test_what_came_is_shown_in_short(settings, message):
    with pytest.raises(InputValueError, match=message) as error:
        parse_config(settings)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "inf", "nan"])
@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "dice_weight"])
def test_numbers_are_finite(name, value):
    with pytest.raises(InputValueError, match=rf"`predictor.{name}`: .*finite number"):
        parse_config({"predictor": {name: value}})


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"none.yaml is not there. Check the path."):
        read_config_file(tmp_path / "none.yaml")


def test_a_linear_schedule_falls_and_then_stays():
    schedule = LinearSchedule(start=1.0, end=0.2, steps=4)
    assert [schedule.at(step) for step in (0, 1, 2, 4, 9)] == pytest.approx([1, 0.8, 0.6, 0.2, 0.2])


def test_setting_names_are_those_of_the_command_line():
    names = setting_names()
    assert {"seed", "data.image_size", "reward.beta.steps"} <= set(names)
    assert len(names) == len(set(names))
    assert not {"data", "reward", "reward.beta"} & set(names)


@pytest.mark.parametrize(
    ("predictor", "expected"),
    [
        ({}, ["both"]),
        ({"num_members": 3, "image_members": 2}, ["both", "image", "image"]),
        ({"num_members": 2}, ["both", "both"]),
        ({"inputs": "profile", "num_members": 2}, ["profile", "profile"]),
        ({"inputs": "image"}, ["image"]),
    ],
)
def test_what_each_member_sees(predictor, expected):
    assert parse_config({"predictor": predictor}).predictor.member_inputs == expected
