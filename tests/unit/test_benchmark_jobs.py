"""Variants, protocols, jobs and plans: what is read, drawn, planned, and counts as done."""

from collections import Counter
from pathlib import Path

import pytest

from patchscout.benchmark.command import Request, make_plan, parse_seeds
from patchscout.benchmark.jobs import Job, find_categories, plan_jobs
from patchscout.benchmark.machine import commit, machine_line
from patchscout.benchmark.protocols import ten_split, validation_split
from patchscout.benchmark.results import Result, add_result
from patchscout.benchmark.runner import Resources, outcome_of
from patchscout.benchmark.variants import read_base, read_variants, variant_config
from patchscout.checks import InputError, InputNotFoundError, InputValueError
from patchscout.data.annotations import MaskFile
from patchscout.data.layout import read_dataset
from patchscout.data.split import draw_split
from patchscout.devices import choose_device
from patchscout.presets import preset_config
from patchscout.types import NORMAL, Sample, Split

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "benchmarks").glob("*.yaml"))
FEW = {"labeled_per_type": 2}


def write(tmp_path, text):
    path = tmp_path / "variants.yaml"
    path.write_text(text)
    return path


def test_default_is_always_there_and_may_be_changed(tmp_path):
    assert read_variants(None) == {"default": {}}
    path = write(tmp_path, "few: {labeled_per_type: 2}\nplain:\ndefault: {max_normal: 9}\n")
    variants = read_variants(path)
    assert list(variants) == ["default", "few", "plain"]
    assert variants["default"] == {"max_normal": 9}
    assert variants["plain"] == {}


def test_a_variant_may_name_its_preset():
    config = variant_config({"preset": "paper", **FEW}, "paper", seed=7)
    assert (config.preset, config.labeled_per_type, config.seed) == ("paper", 2, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {seed: 1}", "variant `a` may not hold `seed`, which `--seeds` sets"),
        ("a: 3", "variant `a` must be a mapping"),
        ("- a", "must map names of variants to settings"),
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
    with pytest.raises(InputValueError, match=r"labeled_per_typo.*\(in variant 'typo'\)"):
        variant_config({"labeled_per_typo": 1}, "typo")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_shipped_variants_are_valid_and_differ(path):
    variants = read_variants(path)
    configs = [variant_config(own, name).model_dump_json() for name, own in variants.items()]
    assert len(variants) > 2
    assert len(set(configs)) == len(configs)


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


def test_jobs_are_category_variant_and_seed_and_types_left_out(sample_data):
    def names(protocol):
        variants = {"default": {}, "all": {"max_normal": 9}}
        places = {"brick_wall": sample_data}
        jobs = plan_jobs(places, variants, [1, 2], FEW, protocol=protocol, device="cpu")
        assert all(job.config.labeled_per_type == 2 for job in jobs)
        return [job.name for job in jobs]

    seen = [f"brick_wall/{name}/{seed}" for seed in (1, 2) for name in ("default", "all")]
    assert names("seen") == names("validation") == seen
    types = ("chip", "misprint", "scratch", "stain")
    assert names("unseen") == [f"{name}/{kind}" for name in seen for kind in types]


def samples(kind, count):
    return tuple(Sample(Path(f"{kind}/{number:03}.png"), kind) for number in range(count))


def test_validation_measures_on_two_of_five_labeled_and_thirty_normal_training_images():
    labeled = (*samples("hole", 5), *samples("crack", 2), *samples("dent", 1))
    split = Split(samples(NORMAL, 200), labeled, samples("hole", 9)[5:])
    found = validation_split(split, 3)
    assert Counter(sample.defect_type for sample in found.test) == {
        NORMAL: 30,
        "hole": 2,
        "crack": 1,
    }
    assert Counter(s.defect_type for s in found.labeled) == {"hole": 3, "crack": 1, "dent": 1}
    used = (*found.train_normal, *found.labeled, *found.test)
    assert Counter(used) == Counter((*split.train_normal, *split.labeled)), "each once, none more"
    assert found == validation_split(split, 3)
    assert found != validation_split(split, 4)
    few = validation_split(Split(samples(NORMAL, 12), labeled, ()), 3)
    assert len(few.train_normal) == 8


def test_validation_needs_labels_and_never_looks_at_a_test_image(sample_data):
    split = draw_split(read_dataset(sample_data), labeled_per_type=2, seed=1)
    assert not set(validation_split(split, 1).test) & set(split.test)
    for bad in (Split(split.train_normal, (), split.test), Split((), split.labeled, split.test)):
        with pytest.raises(InputValueError, match="validation"):
            validation_split(bad, 1)


def test_ten_labeled_images_are_drawn_over_all_types():
    def samples(defect_type, count, mask=None):
        return [Sample(Path(f"{defect_type}/{n}.png"), defect_type, mask) for n in range(count)]

    masked = [
        *samples("hole", 9, MaskFile(Path("m.png"))),
        *samples("crack", 6, MaskFile(Path("m.png"))),
    ]
    good, unmasked = samples(NORMAL, 3), samples("dent", 2)
    split = Split(tuple(samples(NORMAL, 4)), tuple(masked[:5]), (*good, *masked[5:], *unmasked))
    found = ten_split(split, 1)
    assert len(found.labeled) == 10
    assert {sample.defect_type for sample in found.labeled} == {"hole", "crack"}
    assert Counter((*found.labeled, *found.test)) == Counter((*good, *masked, *unmasked))
    assert found.train_normal == split.train_normal
    assert found == ten_split(split, 1)
    assert found.labeled != ten_split(split, 2).labeled
    with pytest.raises(InputValueError, match=r"more than 10 .* got 9"):
        ten_split(Split(split.train_normal, (), tuple(masked[:9])), 1)


def request(sample_data, tmp_path, **changes):
    config = tmp_path / "config.yaml"
    config.write_text("labeled_per_type: 2")
    fields = {"out": tmp_path / "out.csv", "seeds": "1", "config": config, "device": "cpu"}
    return Request(data=[sample_data], **(fields | changes))


def result_of(job: Job, **changes) -> Result:
    category, variant, seed, held_out_type = job.key
    fields = {
        "category": category,
        "variant": variant,
        "protocol": job.protocol,
        "seed": seed,
        "held_out_type": held_out_type,
        "seconds": 1.5,
        "threads": 1,
        "parallel_jobs": 1,
        "machine": "a machine",
        "commit": "",
        "date": "2026-01-01",
        "settings": "{}",
        "config": job.digest,
    }
    return Result.model_validate(fields | changes)


def test_bad_requests_are_refused_before_anything_is_written(sample_data, tmp_path):
    for changes, message in (
        ({"jobs": 0}, "--jobs"),
        ({"threads": 0}, "--threads"),
        ({"device": "warp"}, "device"),
        ({"out": tmp_path}, r"ends in \.csv"),
        ({"out": tmp_path / "config.yaml"}, r"ends in \.csv"),
    ):
        with pytest.raises(InputError, match=message):
            make_plan(request(sample_data, tmp_path, **changes))
    found = make_plan(request(sample_data, tmp_path))
    assert [job.name for job in found.missing] == ["brick_wall/default/1"]
    assert "1 to run" in found.lines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_job_is_finished_by_its_own_result_only(sample_data, tmp_path):
    asked = request(sample_data, tmp_path)
    (job,) = make_plan(asked).missing
    add_result(asked.out, result_of(job))
    assert make_plan(asked).finished == [job]
    assert make_plan(request(sample_data, tmp_path, seeds="1,2")).finished == [job]
    with pytest.raises(InputValueError, match="holds results of protocol `seen`"):
        make_plan(request(sample_data, tmp_path, protocol="validation"))
    add_result(asked.out, result_of(job, config="other"))
    with pytest.raises(InputValueError, match="brick_wall/default/1 with other settings"):
        make_plan(asked)


def test_seed_and_device_are_no_other_settings(sample_data):
    def job(**settings):
        config = preset_config("fast", **settings)
        return Job(
            category="bottle",
            root=sample_data,
            variant="default",
            protocol="seen",
            settings={},
            config=config,
        )

    assert job().digest == job(seed=3, device="cpu").digest
    assert job().digest != job(**FEW).digest


def test_cores_are_shared():
    assert Resources.choose(2, 1, None) == Resources(1, 2)
    assert Resources.choose(2, 5, None) == Resources(5, 1)
    assert Resources.choose(8, None, 4) == Resources(2, 4)


def test_what_a_process_left_is_put_in_a_line(sample_data, tmp_path):
    (job,) = make_plan(request(sample_data, tmp_path)).missing
    name = "brick_wall/default/1: "
    for status, answer, errors, line in (
        (-9, "", "", "FAILED: the process was ended by SIGKILL (out of memory?)"),
        (1, "", "Traceback\n  ...\nImportError: no torch\n", "FAILED: ImportError: no torch"),
        (1, '{"error": "too few"}', "Traceback", "FAILED: too few"),
        (3, "", "", "FAILED: the process ended with exit code 3"),
    ):
        assert outcome_of(job, status, answer, errors).line() == name + line
    row = result_of(job, f1_max=0.5, ap=0.25, seconds=12).model_dump_json()
    line = outcome_of(job, 0, f'noise\n{{"result": {row}}}\n', "").line()
    assert line == name + "F1_max 0.500, AP 0.250, 12 s to train"


def test_machine_and_commit_are_known():
    assert " cores" in machine_line(choose_device("cpu"))
    assert commit() is None or len(commit() or "") >= 7
