"""The first words of training tell what was read, and what is odd about it."""

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from patchscout.checks import InputValueError
from patchscout.cli import main
from patchscout.data.check import check_dataset, inspect, summary
from patchscout.data.layout import read_dataset
from patchscout.data.split import draw_split

RNG = np.random.default_rng(23)
SIZE = (40, 60)
MASK = np.zeros(SIZE, np.uint8)
MASK[10:20, 20:40] = 255


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.dtype == np.uint16:
        tifffile.imwrite(path, pixels)
    else:
        PillowImage.fromarray(pixels).save(path)


def photo():
    return RNG.integers(90, 200, (*SIZE, 3)).astype(np.uint8)


@pytest.fixture
def parts(tmp_path):
    """Normal and defective images of two types, whose masks are written by the tests."""
    for i in range(5):
        save(photo(), tmp_path / f"ok/{i}.png")
    for name in ("dent/0", "dent/1", "dent/2", "hole/0"):
        save(photo(), tmp_path / f"bad/{name}.png")
    return tmp_path


def write_masks(root, mask, names=("dent/0", "dent/1", "dent/2", "hole/0")):
    for name in names:
        save(mask, root / f"masks/{name}.png")


def found_in(root, masks="masks"):
    dataset = read_dataset(root, "ok", "bad", masks)
    return dataset, inspect(dataset)


def test_the_summary_counts_every_image_once(parts):
    write_masks(parts, MASK, ["dent/0", "dent/1", "hole/0", "else/9"])
    save(photo()[:20, :, 0], parts / "ok/5.png")
    (parts / "ok/notes.txt").touch()
    dataset, findings = found_in(parts)
    lines = summary(dataset, findings, draw_split(dataset, labeled_per_type=1, max_normal=3))
    assert lines[1:] == [
        "  layout          normal images in ok, defective ones in bad, masks in masks",
        "  normal          6 images: 3 to train on, 1 to test on, 2 not used",
        "  dent            3 images, 1 without a mask: 1 to train on, 2 to test on",
        "  hole            1 images: 1 to train on",
        "  width x height  60 x 40 px (9), 60 x 20 px (1)",
        "  values          8 bits color (9), 8 bits grey (1)",
        "  masks           mask images",
        "  left out        1 no images (ok/notes.txt)",
        "  left out        1 masks that fit no image (masks/else/9.png)",
        "Warning: 1 defective images have no mask (bad/dent/2.png). Looked in"
        f" {parts / 'masks'} for dent/2_mask.png, dent/2.png or dent/2.json. They are not trained"
        " on, and evaluation takes them as whole images.",
    ]


@pytest.mark.parametrize(
    ("mask", "is_odd"),
    [
        (255 - MASK, True),  # inverted
        (np.full(SIZE, 255, np.uint8), True),
        (np.where(np.indices(SIZE)[1] > 5, np.uint8(255), np.uint8(0)), False),  # at one side
        (MASK, False),
    ],
)
def test_masks_that_mark_most_of_an_image_up_to_its_border(parts, mask, is_odd):
    write_masks(parts, MASK)
    write_masks(parts, mask, ["dent/1", "hole/0"])
    dataset, findings = found_in(parts)
    assert [s.image_path.parent.name for s in findings.odd_masks] == ["dent", "hole"] * is_odd
    assert [
        "2 of 4 masks mark most of their image up to its border (bad/dent/1.png, bad/hole/0" in line
        for line in findings.warnings
    ] == [True] * is_odd
    assert check_dataset(dataset).warnings == findings.warnings


@pytest.mark.parametrize(
    ("bits", "shift", "factor"),
    [(12, 0, 16), (10, 0, 64), (14, 0, 4), (12, 4, None), (16, 0, None)],
)
def test_values_of_fewer_bits_in_files_of_16(tmp_path, bits, shift, factor):
    for i in range(3):
        values = RNG.integers(0, 2**bits, SIZE)
        values[0, 0] = 2**bits - 1
        save((values << shift).astype(np.uint16), tmp_path / f"ok/{i}.tif")
    findings = inspect(read_dataset(tmp_path, "ok", needs_labels=False))
    assert [facts.bits for facts in findings.facts] == [16]
    expected = []
    if factor:
        expected = [
            f"The largest value of 2 normal images is {2**bits - 1} of 65535: {bits} bits in files"
            f" of 16. Multiply the values of all images by {factor}, also of those to predict, or"
            " defects will be missed."
        ]
    assert findings.warnings == expected


def test_dark_images_are_told(tmp_path):
    for i in range(3):
        save((photo() // 10), tmp_path / f"ok/{i}.png")
    (warning,) = inspect(read_dataset(tmp_path, "ok", needs_labels=False)).warnings
    assert "is 0.075 of the largest possible one: they are dark" in warning


def test_info_tells_every_problem_and_training_the_first(parts, capsys):
    write_masks(parts, MASK)
    write_masks(parts, MASK[:20], ["dent/0"])
    write_masks(parts, 0 * MASK, ["hole/0"])
    (parts / "ok/3.png").write_bytes(b"")
    folders = ["--normal", "ok", "--defective", "bad", "--masks", "masks"]
    assert main(["info", str(parts), *folders]) == 2
    shown = capsys.readouterr()
    for part in (
        f"Problem: {parts}/ok/3.png is empty",
        f"Problem: {parts}/masks/dent/0.png is made for 60 x 20",
        f"Problem: {parts}/masks/hole/0.png is empty: it marks",
    ):
        assert part in shown.out
    assert shown.out.count("Problem: ") == 3
    assert "3 files of" in shown.err
    with pytest.raises(InputValueError, match=r"3\.png is empty .* 2 more do not fit: `patchscout"):
        check_dataset(read_dataset(parts, "ok", "bad", "masks"))
    write_masks(parts, MASK)
    save(photo(), parts / "ok/3.png")
    as_in_training = [word.replace("--", "--data.") for word in folders]
    assert main(["info", str(parts), *as_in_training]) == 0
    assert "  dent            3 images\n" in capsys.readouterr().out
