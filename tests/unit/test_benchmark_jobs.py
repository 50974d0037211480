"""Variants, jobs and results: what is read, planned, and counts as done."""

import json
import re
from pathlib import Path

import pytest

from patchscout.benchmark.command import Request, make_plan, parse_seeds
from patchscout.benchmark.jobs import Job, find_categories, is_finished, plan_jobs
from patchscout.benchmark.machine import commit, machine_line, peak_memory_mib
from patchscout.benchmark.runner import Outcome, Resources, _reason
from patchscout.benchmark.variants import Variant, read_base, read_variants
from patchscout.checks import InputError, InputNotFoundError, InputValueError
from patchscout.config import preset_config
from patchscout.data.layout import read_dataset
from patchscout.devices import choose_device
from patchscout.types import NORMAL

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "benchmarks").glob("*.yaml"))


def write(tmp_path, text):
    path = tmp_path / "variants.yaml"
    path.write_text(text)
    return path


def make_job(root="/data/bottle", **changes):
    settings = changes.pop("settings", {})
    fields = {
        "category": "bottle",
        "root": root,
        "variant": "default",
        "method": "patchscout",
        "model": None,
        "protocol": "seen",
        "held_out_type": None,
        "on": "test",
        "size": "256",
        "config": preset_config("fast", **settings),
    }
    return Job(**(fields | changes))


def test_default_is_always_there_and_may_be_changed(tmp_path):
    assert read_variants(None) == {"default": Variant()}
    path = write(tmp_path, "unet: {settings: {predictor: {inputs: image}}}\nplain:\n")
    variants = read_variants(path)
    assert list(variants) == ["default", "unet", "plain"]
    assert variants["plain"] == Variant()
    path = write(tmp_path, "a: {}\ndefault: {settings: {sampler: {kind: uniform}}}\n")
    assert list(read_variants(path)) == ["default", "a"]
    assert read_variants(path)["default"].config({}).sampler.kind == "uniform"


def test_settings_are_looked_up_in_variant_then_base_then_preset():
    variant = Variant(settings={"training": {"num_cycles": 3}})
    base = {"preset": "paper", "training": {"num_cycles": 5, "steps_per_cycle": 40}}
    config = variant.config(base)
    assert (config.training.num_cycles, config.training.steps_per_cycle) == (3, 40)
    assert config.predictor.inputs == "profile"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {methood: last_error}", "unknown key `a.methood`; did you mean 'method'?"),
        ("a: {method: magic}", "`a.method`"),
        ("a: {method: anomalib}", "`a` must name a `model`"),
        ("a: {model: patchcore}", "`a` must name a `model`"),
        ("a: {settings: {seed: 1}}", "`a.settings` may not hold `seed`, which `--seeds` sets"),
        ("a: 3", "`a` must be a mapping"),
        ("- a", "must map names to variants"),
        ("../a: {}", "a variant's name is made of"),
        ("a: {", "is not valid YAML"),
    ],
)
def test_bad_variants_are_told_in_one_line(tmp_path, text, message):
    with pytest.raises(InputValueError) as caught:
        read_variants(write(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_settings_set_elsewhere(tmp_path):
    with pytest.raises(InputNotFoundError, match="--variants"):
        read_variants(tmp_path / "none.yaml")
    with pytest.raises(InputValueError, match="may not hold `seed`"):
        read_base(write(tmp_path, "seed: 3"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_shipped_variants_are_valid_and_differ(path):
    variants = read_variants(path)
    assert len(variants) > 2
    shared = re.search(r"--config benchmarks/(\S+)", path.read_text(encoding="utf-8"))
    base = read_base(path.parent / shared[1]) if shared else {}
    seen = [
        (variant.method, variant.model, variant.protocol, variant.config(base).model_dump_json())
        for variant in variants.values()
    ]
    assert len(set(seen)) == len(seen)


def test_seeds():
    assert parse_seeds("42, 43,42") == [42, 43]
    for text in ("", "1,", "a", "-1", "1.5", "4294967296"):
        with pytest.raises(InputValueError, match="--seeds"):
            parse_seeds(text)


def test_categories_are_found_one_level_down(sample_data, tmp_path):
    assert find_categories([sample_data]) == find_categories([sample_data.parent])
    with pytest.raises(InputValueError, match="`DATA` must be given"):
        find_categories([])
    with pytest.raises(InputNotFoundError, match="holds none"):
        find_categories([sample_data / "train"])
    with pytest.raises(InputNotFoundError, match="not a folder"):
        find_categories([tmp_path / "none"])
    twin = tmp_path / "brick_wall" / "train" / "good"
    twin.mkdir(parents=True)
    with pytest.raises(InputValueError, match="two categories are called 'brick_wall'"):
        find_categories([sample_data, tmp_path / "brick_wall"])


def plan(sample_data, variants):
    base = {"labeled_per_type": 2}
    shared = {"on": "test", "size": "256", "device": "cpu"}
    return plan_jobs({"brick_wall": sample_data}, variants, [1, 2], base, **shared)  # pyright: ignore[reportArgumentType]


def test_jobs_are_category_variant_and_seed_and_types_left_out(sample_data):
    jobs, notes = plan(sample_data, {"default": Variant(), "unseen": Variant(protocol="unseen")})
    types = ("chip", "misprint", "scratch", "stain")
    expected = [
        name
        for seed in (1, 2)
        for name in (f"default/{seed}", *(f"unseen/{seed}-{kind}" for kind in types))
    ]
    assert [job.name for job in jobs] == [f"brick_wall/{name}" for name in expected]
    assert notes == []
    assert jobs[1].config.held_out_type == "chip"
    assert jobs[0].path(Path("out")) == Path("out/brick_wall/default/1.json")


def test_a_protocol_without_use_is_noted_but_a_bad_setting_is_an_error(sample_data):
    only_large = {"large": Variant(protocol="cross_size", settings={"labeled_per_type": 2})}
    jobs, notes = plan(sample_data, only_large)
    assert len(jobs) + len(notes) == 2
    with pytest.raises(InputError, match="labeled_per_type"):
        plan(sample_data, {"many": Variant(settings={"labeled_per_type": 50})})
    with pytest.raises(InputValueError, match=r"sampler.kindd.*\(in 'typo'\)"):
        plan(sample_data, {"typo": Variant(settings={"sampler": {"kindd": "uniform"}})})


@pytest.mark.parametrize("protocol", ["seen", "unseen"])
def test_validation_never_looks_at_a_test_image(sample_data, protocol):
    dataset = read_dataset(sample_data)
    seen = make_job(settings={"labeled_per_type": 2}).split(dataset)
    held_out = "chip" if protocol == "unseen" else None
    job = make_job(
        settings={"labeled_per_type": 2},
        on="validation",
        protocol=protocol,
        held_out_type=held_out,
    )
    split = job.split(dataset)
    used = {*split.train_normal, *split.labeled, *split.test}
    assert used <= {*seen.train_normal, *seen.labeled}
    assert not set(split.test) & {*split.train_normal, *split.labeled}
    tested = {sample.defect_type for sample in split.test}
    assert NORMAL in tested
    if protocol == "unseen":
        assert tested == {NORMAL, "chip"}
        assert {s.defect_type for s in split.labeled} == {"misprint", "scratch", "stain"}


def save(job, out, **changes):
    path = job.path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    description = json.loads(json.dumps(job.description())) | changes
    path.write_text(json.dumps({"format_version": 1, "job": description, "metrics": {}}))
    path.with_suffix(".npz").touch()
    return path


def test_a_job_is_finished_by_its_own_result_only(tmp_path):
    job = make_job()
    assert not is_finished(job, tmp_path)
    path = save(job, tmp_path)
    assert is_finished(job, tmp_path)
    assert is_finished(make_job(root="/elsewhere/bottle"), tmp_path)
    other = make_job(settings={"sampler": {"kind": "uniform"}})
    with pytest.raises(InputValueError, match=r"`config.sampler.kind` was \"policy\" and is"):
        is_finished(other, tmp_path)
    with pytest.raises(InputValueError, match="`on` was"):
        is_finished(make_job(on="validation"), tmp_path)
    path.with_suffix(".npz").unlink()
    assert not is_finished(job, tmp_path)
    path = save(job, tmp_path)
    path.write_text("{}")
    with pytest.raises(InputValueError, match="no result"):
        is_finished(job, tmp_path)
    path.write_text('{"format_version": 99}')
    with pytest.raises(InputValueError, match="Update it"):
        is_finished(job, tmp_path)


def test_a_result_at_both_sizes_is_enough_for_one(tmp_path):
    save(make_job(size="native"), tmp_path)
    assert is_finished(make_job(size="256"), tmp_path)
    save(make_job(size="256"), tmp_path)
    with pytest.raises(InputValueError, match="`size` was"):
        is_finished(make_job(size="native"), tmp_path)


def test_a_setting_newer_than_the_result_counts_as_its_default(tmp_path):
    job = make_job()
    config = job.description()["config"]
    del config["max_normal"]
    del config["buffer"]
    save(job, tmp_path, config=config)
    assert is_finished(job, tmp_path)
    with pytest.raises(InputValueError, match="max_normal"):
        is_finished(make_job(settings={"max_normal": 64}), tmp_path)


def test_a_result_from_before_downscale_is_of_full_size(tmp_path):
    job = make_job(settings={"autoencoder": {"downscale": 1}})
    config = job.description()["config"]
    del config["autoencoder"]["downscale"]
    save(job, tmp_path, config=config)
    assert is_finished(job, tmp_path)
    with pytest.raises(InputValueError, match=r"`config.autoencoder.downscale` was 1 and is 2"):
        is_finished(make_job(), tmp_path)


def request(sample_data, out, **changes):
    fields = {
        "data": [sample_data],
        "out": out,
        "seeds": "1",
        "variants": None,
        "config": None,
        "reference": "default",
        "on": "test",
        "size": "256",
        "jobs": None,
        "threads": None,
        "device": "cpu",
        "command": "patchscout benchmark",
    }
    return Request(**(fields | changes))


def test_bad_requests_are_refused_before_anything_is_written(sample_data, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("labeled_per_type: 2")
    out = tmp_path / "out"
    for changes, message in (
        ({"jobs": 0}, "--jobs"),
        ({"threads": 0}, "--threads"),
        ({"reference": "unet"}, "--reference"),
        ({"device": "warp"}, "device"),
        ({"out": config}, "is a file"),
        ({"out": tmp_path}, "holds other files"),
    ):
        with pytest.raises(InputError, match=message):
            make_plan(request(sample_data, **({"out": out, "config": config} | changes)))
    found = make_plan(request(sample_data, out, config=config))
    assert [job.name for job in found.missing] == ["brick_wall/default/1"]
    assert "1 to run" in found.lines()[-1]
    assert not out.exists()


def test_cores_are_shared():
    assert Resources.choose(2, 1, None) == Resources(1, 2)
    assert Resources.choose(2, 5, None) == Resources(5, 1)
    assert Resources.choose(8, None, 4) == Resources(2, 4)


def test_what_a_process_left_is_put_in_a_line():
    assert _reason(-9, "") == "the process was ended by SIGKILL (out of memory?)"
    assert _reason(1, "Traceback\n  ...\nImportError: no torch\n") == "ImportError: no torch"
    assert _reason(3, "") == "the process ended with exit code 3"
    assert Outcome(make_job(), 0.5, 12.0).line() == "bottle/default/42: F1_max 0.500, 12 s to train"


def test_machine_and_commit_are_known():
    assert " cores" in machine_line(choose_device("cpu"))
    assert commit() is None or len(commit() or "") >= 7
    peak = peak_memory_mib()
    assert peak is None or 50 < peak < 100_000
