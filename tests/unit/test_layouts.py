"""Folders become data sets without reading an image; what is missing is said in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.annotation_file import AnnotatedMask
from patchscout.data.annotations import MaskFile
from patchscout.data.check import check_dataset
from patchscout.data.folder import read_folders
from patchscout.data.labelme import LabelMeFile
from patchscout.data.layout import read_dataset
from patchscout.data.split import draw_split

BOX = [1, 1, 5, 1, 5, 4, 1, 4]


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(samples, root):
    return [sample.image_path.relative_to(root).as_posix() for sample in samples]


@pytest.fixture
def mvtec(tmp_path):
    """A category of empty files: listing must not read any."""
    root = tmp_path / "bottle"
    touch(root, "train/good/000.png", "train/good/001.JPG", "train/good/notes.txt")
    touch(
        root, "test/good/000.png", "test/hole/000.png", "test/crack/007.bmp", "test/crack/008.png"
    )
    touch(root, "ground_truth/hole/000_mask.png", "ground_truth/crack/007.PNG")
    touch(root, "ground_truth/crack/008.json")
    return root


@pytest.fixture
def folders(tmp_path):
    """Any other layout: normal and defective images of two types, masks beside them."""
    root = tmp_path / "parts"
    touch(root, *(f"ok/{i:02d}.png" for i in range(10)))
    touch(root, "bad/hole/a.png", "bad/hole/b.png", "bad/crack/a.jpg")
    touch(root, "masks/hole/a_mask.png", "masks/hole/b.tif", "masks/crack/a.json")
    return root


def test_mvtec_layout(mvtec):
    dataset = read_dataset(mvtec)
    assert (dataset.name, dataset.root) == ("bottle", mvtec)
    assert names(dataset.train_normal, mvtec) == ["train/good/000.png", "train/good/001.JPG"]
    assert names(dataset.test_normal, mvtec) == ["test/good/000.png"]
    assert dataset.defect_types == ("crack", "hole")
    masks = mvtec / "ground_truth"
    assert [(s.defect_type, s.image_path.name, s.mask) for s in dataset.anomalous] == [
        ("crack", "007.bmp", MaskFile(masks / "crack/007.PNG")),
        ("crack", "008.png", LabelMeFile(masks / "crack/008.json")),
        ("hole", "000.png", MaskFile(masks / "hole/000_mask.png")),
    ]


def test_mvtec_layout_without_normal_test_images(mvtec):
    (mvtec / "test/good/000.png").unlink()
    (mvtec / "test/good").rmdir()
    assert read_dataset(str(mvtec)).test_normal == ()


def test_folder_that_is_not_there(tmp_path, mvtec):
    with pytest.raises(
        InputNotFoundError, match=r"gone does not exist. Expected a folder of images"
    ):
        read_dataset(tmp_path / "gone")
    with pytest.raises(InputValueError, match=r"000\.png is a file\. Expected a folder"):
        read_dataset(mvtec / "test/good/000.png")
    with pytest.raises(InputNotFoundError, match="does not exist"):
        read_dataset("a\0b")
    with pytest.raises(InputValueError, match=r"cannot be read \(File name too long\)"):
        read_dataset(tmp_path / ("x" * 300))


def test_folder_of_unknown_layout(tmp_path, mvtec):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputNotFoundError, match=r"looked for .*train.good .*Give `normal`, `def"):
        read_dataset(tmp_path / "empty")
    with pytest.raises(InputNotFoundError, match=r"several categories; name one .* .*bottle\."):
        read_dataset(mvtec.parent)
    with pytest.raises(InputValueError, match=r"`defective` and `masks` must be given too"):
        read_dataset(mvtec, normal="ok")


def test_mvtec_layout_without_normals(mvtec):
    for path in list((mvtec / "train/good").iterdir()):
        path.unlink()
    with pytest.raises(InputValueError, match=r"train.good has no images\. Expected normal images"):
        read_dataset(mvtec)


def test_mvtec_layout_without_defective_images(tmp_path):
    touch(tmp_path, "train/good/000.png")
    message = (
        r"No labeled defects: .*test has no folder .* Looked for .*test/<.* and masks in .*truth"
    )
    with pytest.raises(InputNotFoundError, match=message):
        read_dataset(tmp_path)
    touch(tmp_path, "test/good/000.png")
    with pytest.raises(InputNotFoundError, match=message):
        read_dataset(tmp_path)


def masks_of(dataset):
    return {s.image_path.name: s.mask is not None for s in dataset.anomalous}


def test_images_without_masks_are_tested_on_only(mvtec):
    (mvtec / "ground_truth/hole/000_mask.png").unlink()
    dataset = read_dataset(mvtec)
    assert masks_of(dataset) == {"007.bmp": True, "008.png": True, "000.png": False}
    assert dataset.looked_in == f"{mvtec / 'ground_truth'} for " + (
        "hole/000_mask.png, hole/000.png or hole/000.json"
    )
    split = draw_split(dataset, labeled_per_type=1)
    assert [s.image_path.name for s in split.labeled] == ["007.bmp"]
    assert {s.image_path.name for s in split.test} == {"000.png", "008.png"}


def test_no_mask_at_all(mvtec):
    for path in (mvtec / "ground_truth").rglob("*.*"):
        path.unlink()
    with pytest.raises(InputNotFoundError, match=r"for all 3 .* Looked in .*ground_truth for cra"):
        read_dataset(mvtec)  # masks are expected where there is a folder of them
    assert not any(masks_of(read_dataset(mvtec, needs_labels=False)).values())
    shutil.rmtree(mvtec / "ground_truth")
    split = draw_split(read_dataset(mvtec))
    assert (split.labeled, len(split.test)) == ((), 4)


def test_three_folders(folders):
    dataset = read_dataset(folders, "ok", folders / "bad", "masks")
    assert len(dataset.train_normal) == 8
    assert len(dataset.test_normal) == 2
    assert {s.image_path for s in dataset.train_normal + dataset.test_normal} == set(
        (folders / "ok").iterdir()
    )
    assert [(s.defect_type, s.image_path.name, s.mask) for s in dataset.anomalous] == [
        ("crack", "a.jpg", LabelMeFile(folders / "masks/crack/a.json")),
        ("hole", "a.png", MaskFile(folders / "masks/hole/a_mask.png")),
        ("hole", "b.png", MaskFile(folders / "masks/hole/b.tif")),
    ]


def test_normals_are_divided_by_seed(folders):
    def test_names(**options):
        return names(read_folders(folders, "ok", "bad", "masks", **options).test_normal, folders)

    assert test_names() == test_names(seed=42)
    assert len({tuple(test_names(seed=seed)) for seed in range(8)}) > 4
    assert len(test_names()) == 2
    for path in sorted((folders / "ok").iterdir())[2:]:
        path.unlink()
    assert len(test_names()) == 1  # of two


def test_flat_folder_with_masks_beside_the_images(tmp_path):
    touch(tmp_path, "ok/0.png", "bad/a.png", "bad/a_mask.png", "bad/b.jpg", "bad/b.json")
    dataset = read_dataset(tmp_path, "ok", "bad", "bad")
    assert [(s.defect_type, s.image_path.name, s.mask) for s in dataset.anomalous] == [
        ("defect", "a.png", MaskFile(tmp_path / "bad/a_mask.png")),
        ("defect", "b.jpg", LabelMeFile(tmp_path / "bad/b.json")),
    ]


def test_masks_and_normals_within_the_defective_folder_are_no_defects(tmp_path):
    touch(tmp_path, "all/ok/0.png", "all/masks/a.png", "all/a.png")
    dataset = read_dataset(tmp_path / "all", "ok", ".", "masks")
    assert names(dataset.anomalous, tmp_path) == ["all/a.png"]


def test_three_folders_that_do_not_fit(folders):
    (folders / "empty").mkdir()
    with pytest.raises(InputNotFoundError, match=r"`normal`: .*gone does not exist\. Give a path"):
        read_dataset(folders, "gone", "bad", "masks")
    with pytest.raises(InputNotFoundError, match=r"`masks`: .*gone does not exist"):
        read_dataset(folders, "ok", "bad", "gone")
    with pytest.raises(InputValueError, match=r"`normal`: .*empty has no images. Expected normal"):
        read_dataset(folders, "empty", "bad", "masks")
    with pytest.raises(InputValueError, match=r"No labeled .* `defective`: .*empty has no im"):
        read_dataset(folders, "ok", "empty", "masks")
    with pytest.raises(
        InputNotFoundError, match=r"masks are missing for all 3 .* Looked in .*empty"
    ):
        read_dataset(folders, "ok", "bad", "empty")
    touch(folders, "bad/good/0.png")
    with pytest.raises(InputValueError, match=r"has a sub-folder `good`. Expected defective"):
        read_dataset(folders, "ok", "bad", "masks")


def write_coco(path, file_names, annotations):
    content = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(file_names)],
        "annotations": [
            {"image_id": i, "category_id": category, "area": area, "segmentation": [BOX]}
            for i, category, area in annotations
        ],
        "categories": [{"id": 1, "name": "crack"}, {"id": 2, "name": "hole"}],
    }
    path.write_text(json.dumps(content))
    return path


def test_coco_file_by_path_or_base_name(folders):
    files = ["images/hole/a.png", "b.png", "crack\\a.jpg", "hole/unused.png"]
    coco = write_coco(folders / "coco.json", files, [(0, 1, 5), (1, 1, 5), (2, 2, 5)])
    dataset = read_dataset(folders, "ok", "bad", "coco.json")
    assert [(s.defect_type, s.image_path.name, s.mask) for s in dataset.anomalous] == [
        ("crack", "a.jpg", AnnotatedMask(coco, "crack/a.jpg")),
        ("hole", "a.png", AnnotatedMask(coco, "images/hole/a.png")),
        ("hole", "b.png", AnnotatedMask(coco, "b.png")),
    ]


def test_flat_folder_takes_the_category_of_the_largest_annotation(tmp_path):
    touch(tmp_path, "ok/0.png", "bad/a.png", "bad/b.png")
    write_coco(tmp_path / "coco.json", ["a.png", "b.png"], [(0, 1, 5), (0, 2, 9), (1, 9, 1)])
    dataset = read_dataset(tmp_path, "ok", "bad", "coco.json")
    assert [s.defect_type for s in dataset.anomalous] == ["hole", "defect"]


@pytest.mark.parametrize(
    ("file_names", "annotated", "error", "message"),
    [
        (["x.png"], [0], InputNotFoundError, r"No labeled defects: .* all 4 .* Looked in .*coco"),
        (["b.png"], [], InputNotFoundError, r"Looked in .*coco\.json .* the name crack/a\.jpg"),
        (["x/a.jpg", "y/a.jpg"], [0, 1], InputValueError, r"crack/a\.jpg fits .*x/a\.jpg and y/a"),
        (["a.jpg", "a.png"], [0, 1], InputValueError, r"crack.a\.png and .*hole.a\.png both fit"),
    ],
)
def test_coco_file_that_does_not_fit(folders, file_names, annotated, error, message):
    touch(folders, "bad/crack/a.png")
    coco = write_coco(folders / "coco.json", file_names, [(i, 1, 1) for i in annotated])
    with pytest.raises(error, match=message):
        read_dataset(folders, "ok", "bad", coco)


def write_image(path, size, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(np.full(size, value, np.uint8)).save(path)


def test_check_dataset_reads_what_listing_did_not(tmp_path):
    write_image(tmp_path / "train/good/0.png", (8, 9))
    write_image(tmp_path / "test/hole/0.png", (8, 9))
    mask = tmp_path / "ground_truth/hole/0_mask.png"
    write_image(mask, (8, 9), value=255)
    dataset = read_dataset(tmp_path)
    check_dataset(dataset)
    write_image(mask, (9, 8), value=255)
    with pytest.raises(InputValueError, match=r"0_mask\.png is made for 8 x 9 pixels"):
        check_dataset(dataset)
    write_image(mask, (8, 9), value=255)
    (tmp_path / "train/good/0.png").write_bytes(b"")
    with pytest.raises(InputValueError, match=r"0\.png is empty \(0 bytes\)"):
        check_dataset(dataset)


@pytest.mark.parametrize(
    ("category", "num_normal", "types"),
    [
        (
            "mvtec_ad/bottle",
            (209, 20),
            {"broken_large": 20, "broken_small": 22, "contamination": 21},
        ),
        (
            "magnetic_tile/tile",
            (762, 190),
            {"blowhole": 115, "break": 85, "crack": 57, "fray": 32, "uneven": 99},
        ),
        ("kolektorsdd/commutator", (120, 40), {"defect": 50}),
    ],
)
def test_real_data(real_data: Path, category, num_normal, types):
    if not (real_data / category).is_dir():
        pytest.skip(f"no {category} in {real_data}")
    dataset = read_dataset(real_data / category)
    check_dataset(dataset)
    assert (len(dataset.train_normal), len(dataset.test_normal)) == num_normal
    counts = {t: sum(s.defect_type == t for s in dataset.anomalous) for t in dataset.defect_types}
    assert counts == types
    split = draw_split(dataset)
    assert len(split.labeled) == 5 * len(types)
    assert len(split.test) == num_normal[1] + sum(types.values()) - len(split.labeled)
