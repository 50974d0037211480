"""Photos and masks are told apart file by file, and a mask is found whatever changed its name."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from patchscout.checks import InputValueError
from patchscout.commands.shell import named_images
from patchscout.data.annotations import MaskFile
from patchscout.data.check import inspect, summary
from patchscout.data.images import IMAGE_SUFFIXES, read_facts, read_image
from patchscout.data.layout import read_dataset
from patchscout.data.mask_folder import MaskFolder
from patchscout.data.photos import find_photos, looks_like_mask

RNG = np.random.default_rng(8)
BLACK = np.zeros((40, 48), np.uint8)
MASK = BLACK.copy()
MASK[10:16, 20:30] = 255


def mask_path(sample):
    assert isinstance(sample.mask, MaskFile)
    return sample.mask.path


def photo():
    return RNG.integers(60, 200, (40, 48, 3)).astype(np.uint8)


def soft(mask):
    """Grey at the edge, as a drawing program leaves it."""
    small = PillowImage.fromarray(mask).resize((24, 20), PillowImage.Resampling.BILINEAR)
    return np.asarray(small.resize((48, 40), PillowImage.Resampling.BICUBIC))


def save(root, **files):
    for name, pixels in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(pixels).save(path)


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def shown(paths, root):
    return sorted(path.relative_to(root).as_posix() for path in paths)


@pytest.mark.parametrize("mask", [BLACK, MASK, soft(MASK), np.dstack([MASK] * 3)])
@pytest.mark.parametrize(("image", "other"), [("a.jpg", "a.png"), ("a.bmp", "a.tif")])
def test_of_two_files_of_a_name_the_mask_is_told_by_its_values(tmp_path, mask, image, other):
    save(tmp_path, **{f"x/{image}": photo(), f"x/{other}": mask, "x/b.png": photo()})
    found = find_photos(tmp_path)
    assert shown(found.images, tmp_path) == sorted([f"x/{image}", "x/b.png"])
    assert found.masks == {tmp_path / "x" / other: tmp_path / "x" / image}


def test_two_photos_of_a_name_are_both_images(tmp_path):
    save(tmp_path, **{"a.png": photo(), "a.jpg": photo(), "b.png": MASK, "b.tif": MASK})
    assert shown(find_photos(tmp_path).images, tmp_path) == ["a.jpg", "a.png", "b.png", "b.tif"]
    assert not looks_like_mask(tmp_path / "a.png")


@pytest.mark.parametrize(
    "mask",
    ["7_mask.png", "7_GT.PNG", "7-label.bmp", "7.gt.tif", "masks/7.jpg", "Label/7_label.png"],
)
def test_a_mask_is_told_by_its_name(tmp_path, mask):
    touch(tmp_path, "x/7.png", f"x/{mask}", "x/70.png")  # empty: no file is read
    found = find_photos(tmp_path)
    assert shown(found.images, tmp_path) == ["x/7.png", "x/70.png"]
    assert found.masks == {tmp_path / "x" / mask: tmp_path / "x/7.png"}
    assert MaskFolder(tmp_path, found.images).find(Path("x/7.png")) == MaskFile(
        tmp_path / "x" / mask
    )


def test_masks_without_an_image_are_left_out_and_names_that_may_be_of_photos_are_not(tmp_path):
    touch(tmp_path, "0_mask.png", "label/1.png", "images/2.png", "masks/2.png", "masks/3.png")
    touch(tmp_path, "n95_mask_001.png")  # a product, perhaps
    found = find_photos(tmp_path)
    assert shown(found.images, tmp_path) == ["images/2.png", "label/1.png", "n95_mask_001.png"]
    assert shown(found.masks, tmp_path) == ["masks/2.png"]
    assert shown(found.left_out["masks without an image"], tmp_path) == [
        "0_mask.png",
        "masks/3.png",
    ]


def test_magnetic_tiles_as_published(tmp_path):
    for i in range(3):
        free, hole = f"MT_Free/Imgs/exp1_{i}", f"MT_Blowhole/Imgs/exp2_{i}"
        save(tmp_path, **{f"{free}.jpg": photo(), f"{free}.png": BLACK})
        save(tmp_path, **{f"{hole}.jpg": photo(), f"{hole}.png": MASK})
    for defective, defect_type in (("MT_Blowhole", "defect"), (".", "MT_Blowhole")):
        for masks in (None, defective):
            dataset = read_dataset(tmp_path, "MT_Free/Imgs", defective, masks)
            normal = dataset.train_normal + dataset.test_normal
            assert {s.image_path.suffix for s in normal + dataset.anomalous} == {".jpg"}
            assert [len(normal), len(dataset.anomalous)] == [3, 3]
            assert dataset.defect_types == (defect_type,)
            assert shown(dataset.left_out["masks beside normal images"], tmp_path)[0] == (
                "MT_Free/Imgs/exp1_0.png"
            )
            for sample in dataset.anomalous:
                mask = MaskFile(sample.image_path.with_suffix(".png"))
                assert sample.mask == mask
                assert mask.read((40, 48)).sum() == 60
            assert inspect(dataset).warnings == []
    save(tmp_path, **{"MT_Free/Imgs/exp1_2.png": MASK})
    (warning,) = inspect(dataset).warnings
    assert warning.startswith("1 masks beside normal images mark something (MT_Free/Imgs/exp1_2.p")


def test_masks_among_normal_images_whose_photos_are_gone(tmp_path):
    save(tmp_path, **{f"ok/{i}.png": photo() for i in range(3)})
    black = np.zeros((200, 200), np.uint8)
    save(tmp_path, **{"ok/3.png": black, "ok/4.png": black})
    dataset = read_dataset(tmp_path, "ok", needs_labels=False)
    (warning,) = inspect(dataset).warnings
    assert warning.startswith("2 normal images look like masks (ok/3.png, ok/4.png). Leave them")


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (unicodedata.normalize("NFD", "Prüfling-é"), unicodedata.normalize("NFC", "Prüfling-é")),
        (unicodedata.normalize("NFC", "불량"), unicodedata.normalize("NFD", "불량_mask")),
        ("IMG_0001", "img_0001"),
        ("x" * 240, "x" * 240),
        ("Teil 1 (a)", "cb0618f0-Teil_1_a"),
        ("a.b.c", "a.b.c"),
        ("7_img", "7_mask"),
        ("Teil 7-Image", "teil 7.gt"),
    ],
)
def test_a_mask_is_found_whatever_changed_its_name(tmp_path, image, mask):
    touch(
        tmp_path, f"bad/Öse/{image}.JPG", f"masks/{unicodedata.normalize('NFD', 'Öse')}/{mask}.PNG"
    )
    touch(tmp_path, "ok/0.PNG", "ok/1.TIFF", "masks/Öse/other.png")
    dataset = read_dataset(tmp_path, "ok", "bad", "masks")
    assert [mask_path(s).stem for s in dataset.anomalous] == [mask]
    assert len(dataset.train_normal + dataset.test_normal) == 2
    assert len(dataset.left_out["masks that fit no image"]) == 1


def test_photos_and_masks_that_are_both_named_so(tmp_path):
    touch(tmp_path, *(f"x/{i}_{kind}.png" for i in range(3) for kind in ("img", "mask")))
    found = find_photos(tmp_path)
    assert shown(found.images, tmp_path) == ["x/0_img.png", "x/1_img.png", "x/2_img.png"]
    folder = MaskFolder(tmp_path, found.images)
    for image, mask in zip(found.images, sorted(found.masks), strict=True):
        assert folder.find(image.relative_to(tmp_path)) == MaskFile(mask)
        assert mask.name == image.name.replace("img", "mask")


@pytest.mark.parametrize(
    "names",
    [
        ("7_mask_0.png", "7_mask_1.png", "7_mask_2.png"),
        ("7_mask.png", "7-Mask1.bmp", "7_mask 2.PNG"),
        ("7/000.png", "7/001.png", "7/2.png"),  # as in MVTec LOCO AD
    ],
)
def test_several_masks_of_an_image_are_united(tmp_path, names):
    save(
        tmp_path, **{f"test/hole/{i}.png": photo() for i in (7, 8)}, **{"train/good/0.png": photo()}
    )
    for number, name in enumerate(names):
        mask = np.zeros((40, 48), np.uint8)
        mask[10 * number : 10 * number + 5, 8 : 20 + number] = 255 - number  # gray values differ
        save(tmp_path, **{f"ground_truth/hole/{name}": mask})
    save(tmp_path, **{"ground_truth/hole/8.png": MASK})
    dataset = read_dataset(tmp_path)
    seven, eight = dataset.anomalous
    assert seven.mask is not None
    assert seven.mask.read((40, 48)).sum() == 5 * (12 + 13 + 14)
    assert eight.mask == MaskFile(tmp_path / "ground_truth/hole/8.png")
    assert not dataset.left_out
    assert "  masks           mask images" in summary(dataset, inspect(dataset))


def test_a_damaged_mask_of_several_is_named(tmp_path):
    save(tmp_path, **{"a/7.png": photo(), "a/7_mask_1.png": MASK})
    touch(tmp_path, "a/7_mask_2.png")
    mask = MaskFolder(tmp_path).find(Path("a/7.png"))
    assert mask is not None
    with pytest.raises(InputValueError, match=r"7_mask_2\.png"):
        mask.read((40, 48))


@pytest.mark.parametrize(
    "images", [("7.png", "7_img.png"), ("7-img.png", "7.png"), ("a.png", "A.png")]
)
def test_a_mask_that_fits_two_images_is_refused(tmp_path, images):
    touch(tmp_path, "ok/0.png", *(f"bad/{image}" for image in images))
    touch(tmp_path, f"masks/{images[0][0]}_mask.png")
    with pytest.raises(
        InputValueError, match=r"_mask.png fits the images .* and .*Expected one; give each"
    ):
        read_dataset(tmp_path, "ok", "bad", "masks")


def test_where_no_name_fits_both_are_shown(tmp_path):
    touch(tmp_path, "ok/0.png", "bad/part_017.png", "bad/part_018.png")
    touch(tmp_path, "masks/part-17.png", "masks/part_018.png")
    dataset = read_dataset(tmp_path, "ok", "bad", "masks")
    assert dataset.looked_in == (
        f"{tmp_path / 'masks'} for part_017_mask.png, part_017.png or part_017.json"
        " (the nearest there is part-17.png)"
    )


def test_nested_folders_are_searched_by_every_command(tmp_path):
    touch(tmp_path, "OK/first.png", *(f"OK/2024-05-0{d}/cam{c}.png" for d in (6, 7) for c in "012"))
    touch(tmp_path, "NG/dent/0.png", "NG/dent/line2/0.png", "NG/flat.png", "NG/images/1.png")
    touch(tmp_path, "m/dent/0.png", "m/dent/line2/0.png", "m/flat.png", "m/1.png")
    dataset = read_dataset(tmp_path, "OK", "NG", "m")
    assert len(dataset.train_normal + dataset.test_normal) == 7
    assert [(s.defect_type, mask_path(s).relative_to(tmp_path)) for s in dataset.anomalous] == [
        ("dent", Path("m/dent/0.png")),
        ("dent", Path("m/dent/line2/0.png")),
        ("defect", Path("m/flat.png")),
        ("defect", Path("m/1.png")),
    ]
    assert len(named_images((tmp_path / "OK",), tmp_path / "out")) == 7
    touch(tmp_path, "a/train/good/day/0.png", "a/test/hole/day/0.png", "a/test/good/day/0.png")
    touch(tmp_path, "a/ground_truth/hole/day/0_mask.png", "a/test/loose.png")
    dataset = read_dataset(tmp_path / "a")
    assert [len(dataset.train_normal), len(dataset.test_normal)] == [1, 1]
    assert [(s.defect_type, s.mask is not None) for s in dataset.anomalous] == [("hole", True)]
    assert dataset.left_out["in no folder of a defect type"] == [tmp_path / "a/test/loose.png"]


def test_the_three_folders_may_lie_in_each_other(tmp_path):
    touch(tmp_path, "0.png", "1.png", "bad/0.png", "masks/0.png")
    dataset = read_dataset(tmp_path, ".", "bad", "masks")
    assert shown((s.image_path for s in dataset.train_normal), tmp_path) in (["0.png"], ["1.png"])
    assert shown((s.image_path for s in dataset.anomalous), tmp_path) == ["bad/0.png"]


def test_linked_sub_folders_are_read_in_training_too(tmp_path):
    touch(tmp_path, "ok/0.png", "disk2/scratch/0.png", "disk2/masks/0.png")
    for link, target in (("bad/scratch", "scratch"), ("masks/scratch", "masks")):
        (tmp_path / link).parent.mkdir()
        (tmp_path / link).symlink_to(tmp_path / "disk2" / target)
    (sample,) = read_dataset(tmp_path, "ok", "bad", "masks").anomalous
    assert (sample.defect_type, sample.mask) == (
        "scratch",
        MaskFile(tmp_path / "masks/scratch/0.png"),
    )


LOSSLESS = {"webp": {"lossless": True}, "avif": {"quality": 100, "subsampling": "4:4:4"}}


@pytest.mark.parametrize(
    "suffix",
    ["webp", "avif", "tga", "ppm", "bmp", "qoi", "sgi", "pcx", "jp2", "tiff", "jfif", "dib"],
)
def test_every_format_that_pillow_decodes_is_found_and_read(tmp_path, suffix):
    pixels = np.repeat(np.repeat(photo()[::8, ::8], 8, axis=0), 8, axis=1)
    path = tmp_path / f"0.{suffix.upper()}"
    PillowImage.fromarray(pixels).save(path, **LOSSLESS.get(suffix, {}))
    assert find_photos(tmp_path).images == [path]
    off = np.abs(read_image(path) - pixels / 255).mean()
    assert off < (0.03 if suffix in ("jfif", "avif") else 1e-6)
    assert read_facts(path) == ((40, 48), 8, 3, False)


def test_deep_grey_maps_and_the_first_of_several_frames(tmp_path):
    values = RNG.integers(0, 4096, (6, 8))
    header = b"P5 8 6 4095\n"  # Pillow scales to all 16 bits
    (tmp_path / "a.pgm").write_bytes(header + values.astype(">u2").tobytes())
    np.testing.assert_allclose(read_image(tmp_path / "a.pgm")[..., 0], values / 4095, atol=1e-5)
    frames = [PillowImage.fromarray(np.full((6, 8), level, np.uint8)) for level in (51, 255)]
    for suffix in ("gif", "tif", "png", "webp"):
        path = tmp_path / f"b.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        np.testing.assert_allclose(read_image(path), 0.2, atol=0.01)
        assert read_facts(path).has_more_pages
    tifffile.imwrite(tmp_path / "c.btf", values.astype(np.uint16), bigtiff=True)
    assert ".btf" in IMAGE_SUFFIXES
    np.testing.assert_allclose(read_image(tmp_path / "c.btf")[..., 0], values / 65535, rtol=1e-6)


def test_what_is_no_image_is_told(tmp_path):
    touch(tmp_path, "a.txt", "b.eps", ".c.png", "0_mask.png")
    with pytest.raises(InputValueError) as refused:
        read_dataset(tmp_path.parent, tmp_path.name, needs_labels=False)
    text = str(refused.value)
    for part in (
        "1 hidden (",
        ".c.png",
        "2 no images (",
        "a.txt, ...",
        "1 masks without an image (",
    ):
        assert part in text
    (tmp_path / "d.png").write_bytes(b"\0\0\2\0\0\0\0\0\0\0\0\0\1\0\1\0\x18\0\1\2\3")  # a TGA file
    with pytest.raises(InputValueError, match="is not an image"):
        read_image(tmp_path / "d.png")
