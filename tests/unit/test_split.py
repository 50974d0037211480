"""Splits are drawn by seed, keep training and test apart, and survive being written."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.annotations import MaskFile
from patchscout.data.split import (
    draw_split,
    images_of_split,
    parse_split,
    split_json,
)
from patchscout.types import Dataset, Sample

COUNTS = {"crack": 9, "hole": 4, "scratch": 12}


def write_split(split, root, path):
    path.write_bytes(split_json(split, root))


def read_split(path, dataset):
    return parse_split(path.read_bytes(), path, dataset)


def make_dataset(root=Path("/data/parts"), counts=COUNTS):
    anomalous = tuple(
        Sample(root / "test" / kind / f"{i:03d}.png", kind, MaskFile(root / kind / f"{i}.png"))
        for kind, count in counts.items()
        for i in range(count)
    )
    train = tuple(Sample(root / f"train/good/{i:03d}.png") for i in range(6))
    test = tuple(Sample(root / f"test/good/{i:03d}.png") for i in range(3))
    return Dataset("parts", root, train, test, anomalous)


def of_type(samples, kind):
    return {sample.image_path.name for sample in samples if sample.defect_type == kind}


def test_every_image_has_exactly_one_place():
    dataset = make_dataset()
    split = draw_split(dataset, labeled_per_type=5)
    assert split.train_normal == dataset.train_normal
    assert {kind: len(of_type(split.labeled, kind)) for kind in COUNTS} == {
        "crack": 5,
        "hole": 4,
        "scratch": 5,
    }
    assert set(split.labeled) | set(split.test) == {*dataset.test_normal, *dataset.anomalous}
    assert not set(split.labeled) & set(split.test)
    assert len(split.test) == 3 + 4 + 0 + 7


def test_draw_depends_on_the_seed_only():
    dataset = make_dataset()
    assert draw_split(dataset) == draw_split(dataset, seed=42)
    drawn = {draw_split(dataset, seed=seed).labeled for seed in range(10)}
    assert len(drawn) == 10
    elsewhere = draw_split(make_dataset(Path("/elsewhere")))
    assert of_type(elsewhere.labeled, "crack") == of_type(draw_split(dataset).labeled, "crack")


def test_draw_of_one_type_does_not_depend_on_the_others():
    everything = draw_split(make_dataset())
    alone = draw_split(make_dataset(counts={"scratch": 12}))
    assert of_type(alone.labeled, "scratch") == of_type(everything.labeled, "scratch")
    same_count = draw_split(make_dataset(counts={"scratch": 12, "other": 12}))
    assert of_type(same_count.labeled, "scratch") != of_type(same_count.labeled, "other")


def test_a_larger_draw_contains_the_smaller():
    few, more = (draw_split(make_dataset(), labeled_per_type=k).labeled for k in (2, 5))
    assert set(few) < set(more)


def test_normal_images_are_drawn_by_seed_and_a_larger_draw_contains_the_smaller():
    dataset = make_dataset()
    few, more = (draw_split(dataset, max_normal=k) for k in (2, 4))
    assert len(few.train_normal) == 2
    assert set(few.train_normal) < set(more.train_normal) < set(dataset.train_normal)
    assert (few.labeled, few.test) == (more.labeled, more.test)
    assert len({draw_split(dataset, max_normal=2, seed=seed).train_normal for seed in range(9)}) > 3
    assert draw_split(dataset, max_normal=99).train_normal == dataset.train_normal


def write_sizes(root, sides):
    """A data set whose images have the given sides: {name: (height, width)}."""
    for name, (height, width) in sides.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.new("L", (width, height)).save(path)

    def samples(part, kind="good"):
        return tuple(
            Sample(root / name, kind, None if kind == "good" else MaskFile(root / "mask.png"))
            for name in sides
            if name.startswith(part)
        )

    anomalous = samples("test/hole", "hole")
    return Dataset("parts", root, samples("train"), samples("test/good"), anomalous)


def test_no_labels_at_all():
    split = draw_split(make_dataset(), labeled_per_type=0)
    assert split.labeled == ()
    assert len(split.test) == 3 + sum(COUNTS.values())


def test_held_out_type():
    dataset = make_dataset()
    split = draw_split(dataset, held_out_type="crack")
    assert {sample.defect_type for sample in split.labeled} == {"hole", "scratch"}
    assert {sample.defect_type for sample in split.test} == {"good", "crack"}
    assert len(split.test) == 3 + 9
    assert of_type(split.labeled, "scratch") == of_type(draw_split(dataset).labeled, "scratch")


@pytest.mark.parametrize(
    ("options", "counts", "message"),
    [
        ({"labeled_per_type": 12}, COUNTS, "`labeled_per_type` = 12 leaves no .* are 25. Lower it"),
        ({"labeled_per_type": -1}, COUNTS, "`labeled_per_type` must be 0 or more; got -1"),
        ({"seed": -3}, COUNTS, "`seed` must be 0 or more; got -3"),
        ({"held_out_type": "crak"}, COUNTS, "one of crack, hole, .* 'crak'; did you mean 'crack'"),
        ({"held_out_type": "hole"}, {"hole": 9}, "'hole' is the only defect type"),
    ],
)
def test_draws_that_do_not_fit(options, counts, message):
    with pytest.raises(InputValueError, match=message):
        draw_split(make_dataset(counts=counts), **options)


def test_one_image_less_than_all_still_leaves_a_test():
    split = draw_split(make_dataset(), labeled_per_type=11)
    assert sum(sample.is_anomalous for sample in split.test) == 1


def test_written_split_is_read_back_elsewhere(tmp_path):
    split = draw_split(make_dataset(), labeled_per_type=3)
    write_split(split, Path("/data/parts"), tmp_path / "split.json")
    assert read_split(tmp_path / "split.json", make_dataset()) == split
    moved = make_dataset(Path("/elsewhere"))
    again = read_split(tmp_path / "split.json", moved)
    assert again == draw_split(moved, labeled_per_type=3)
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]


def test_written_paths_are_relative_with_forward_slashes(tmp_path):
    dataset = make_dataset()
    outside = Dataset("parts", Path("/data/parts/sub"), dataset.train_normal, (), dataset.anomalous)
    write_split(draw_split(dataset), dataset.root, tmp_path / "split.json")
    content = json.loads((tmp_path / "split.json").read_text())
    assert content["format_version"] == 1
    assert content["train_normal"][0] == "train/good/000.png"
    write_split(draw_split(outside), outside.root, tmp_path / "split.json")
    content = json.loads((tmp_path / "split.json").read_text())
    assert content["train_normal"][0] == "../train/good/000.png"
    assert read_split(tmp_path / "split.json", outside) == draw_split(outside)


def test_images_that_came_later_stay_out(tmp_path):
    write_split(draw_split(make_dataset()), Path("/data/parts"), tmp_path / "split.json")
    larger = make_dataset(counts={**COUNTS, "new": 3})
    assert read_split(tmp_path / "split.json", larger) == draw_split(make_dataset())


def test_image_that_has_gone(tmp_path):
    write_split(draw_split(make_dataset()), Path("/data/parts"), tmp_path / "split.json")
    smaller = make_dataset(counts={**COUNTS, "scratch": 11})
    message = r"scratch.011\.png is named in .*split\.json but .* Put it back"
    with pytest.raises(InputNotFoundError, match=message):
        read_split(tmp_path / "split.json", smaller)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "has format 2; this PatchScout reads up to 1. Update it"),
        ({"format_version": None}, "is damaged: .* copy it again or train anew"),
        (
            {"format_version": True},
            "is damaged: `format_version` must be a valid integer; got True",
        ),
        (
            {"format_version": 1.0},
            r"is damaged: `format_version` must be a valid integer; got 1\.0",
        ),
        ({"format_version": 10**4000}, "has format a number of 13288 bits.*reads up to 1"),
        ({"test": [None]}, r"is damaged: `test` \[0\]must be a text; got None"),
        ({"root": 3}, "is damaged: `root` must be a text; got 3"),
        ({"labeled": ["test/good/000.png"], "test": []}, "`labeled` has test/good/000.png, an im"),
        ({"train_normal": ["test/hole/000.png"], "labeled": [], "test": []}, "`train_normal` has"),
        ({"test": ["test/hole/000.png"] * 2, "labeled": []}, r"test/hole/000.png is named twice"),
        ({"labeled": "000.png"}, "is damaged: `labeled`"),
        ({"test": [["000.png"]]}, "is damaged: `test`"),
    ],
)
def test_files_that_do_not_fit(tmp_path, change, message):
    path = tmp_path / "split.json"
    write_split(draw_split(make_dataset()), Path("/data/parts"), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputValueError, match=message):
        read_split(path, make_dataset())


@pytest.fixture
def images(tmp_path):
    """A small data set that is really there, and its split."""
    dataset = make_dataset(tmp_path / "parts", {"hole": 2})
    everything = (*dataset.train_normal, *dataset.test_normal, *dataset.anomalous)
    for sample in everything:
        sample.image_path.parent.mkdir(parents=True, exist_ok=True)
        sample.image_path.touch()
    write_split(draw_split(dataset, labeled_per_type=1), dataset.root, tmp_path / "split.json")
    return [sample.image_path for sample in everything]


def test_images_of_a_split_as_far_as_they_are_there(tmp_path, images):
    path = tmp_path / "split.json"
    assert sorted(images_of_split(path.read_bytes(), path)) == sorted(images)
    images[0].unlink()
    assert sorted(images_of_split(path.read_bytes(), path)) == sorted(images[1:])
    content = json.loads(path.read_text())
    content["root"] = str(tmp_path / "parts/train")
    for field in ("train_normal", "labeled", "test"):
        content[field] = [f"../{name}" for name in content[field]] + [f"{field}{'x' * 999}"]
    path.write_text(json.dumps(content))
    assert len(images_of_split(path.read_bytes(), path)) == len(images) - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": ["/etc/passwd"]}, "/etc/passwd is no path relative to `root` in its short form"),
        ({"test": ["a/../../b.png"]}, r"a/\.\./\.\./b\.png is no path relative to `root`"),
        ({"test": ["./b.png"]}, "is no path relative to `root`"),
        ({"test": ["b\0.png"]}, r"b.x00\.png is no path relative to `root`"),
        ({"test": ["a.png", "a.png"]}, r"a\.png is named twice"),
        ({"test": [3]}, r"`test` \[0\]must be a text; got 3"),
        ({"test": None}, "`test` must be a valid list; got None"),
        ({"root": "parts"}, "`root` must be an absolute path; got parts"),
        ({"root": ["/"]}, "`root` must be a text"),
        ({"format_version": 2}, "has format 2; this PatchScout reads up to 1"),
        ({"format_version": "1"}, "`format_version` must be a valid integer; got 1"),
    ],
)
def test_images_of_a_split_that_was_tampered_with(tmp_path, images, change, message):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputValueError, match=message):
        images_of_split(path.read_bytes(), path)


def test_names_that_are_not_utf8(tmp_path):
    root = tmp_path / "parts"
    kind = os.fsdecode(b"ri\xdf")
    dataset = make_dataset(root, {kind: 3})
    split = draw_split(dataset, labeled_per_type=1)
    path = tmp_path / "split.json"
    write_split(split, root, path)
    assert read_split(path, dataset) == split
    image = split.labeled[0].image_path
    image.parent.mkdir(parents=True)
    image.touch()
    assert images_of_split(path.read_bytes(), path) == [image]
    with pytest.raises(InputNotFoundError, match=r"ri.udcdf/00.\.png is named in"):
        read_split(path, make_dataset(root, {}))


def test_file_that_is_no_json(tmp_path):
    path = tmp_path / "split.json"
    path.write_text("{")
    with pytest.raises(InputValueError, match=r"split\.json is not readable JSON"):
        read_split(path, make_dataset())
