"""Files that datumaro 1.13 wrote of made-up images, read as they were meant."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from skimage import draw

from patchscout.checks import InputValueError
from patchscout.data.layout import read_dataset

WRITTEN = Path(__file__).parent / "datumaro"


def polygons(index):
    """Return the square of every image, and the triangle of the second one."""
    mask = np.zeros((120, 160), bool)
    mask[30:70, 20 + index : 60] = True
    if index == 1:
        rows, columns = draw.polygon([19.5, 19.5, 59.5], [99.5, 139.5, 119.5])
        mask[rows, columns] = True
    return mask


def masks(index):
    mask = np.zeros((12, 16), bool)
    mask[2:5, 3 : 9 + index] = True
    mask[7:10, 1:4] = index == 1
    return mask


@pytest.mark.parametrize(
    ("written", "expected", "count", "defect_type"),
    [
        ("cvat_polygons.xml", polygons, 3, "crack"),
        ("coco_polygons.json", polygons, 3, "crack"),
        ("labelme", polygons, 3, "crack"),
        ("cvat_masks.xml", masks, 2, "crack"),
        ("coco_masks.json", masks, 2, "crack"),
        ("voc", masks, 2, "defect"),  # it wrote no types into labelmap.txt
        ("labelme_masks", masks, 2, "defect"),
    ],
)
def test_what_it_wrote(tmp_path, written, expected, count, defect_type):
    for name in ("ok/n", *(f"bad/part_{index}" for index in range(count))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture = PillowImage.new("L", expected(0).shape[::-1], 120)
        picture.save(tmp_path / f"{name}.png")
    dataset = read_dataset(tmp_path, "ok", "bad", str(WRITTEN / written))
    assert len(dataset.anomalous) == count
    for index, sample in enumerate(dataset.anomalous):
        assert sample.defect_type == defect_type
        assert sample.mask is not None
        found, meant = sample.mask.read(expected(index).shape), expected(index)
        assert (found != meant).sum() == 0


def test_masks_that_the_xml_of_labelme_names_are_asked_for(tmp_path):
    for name in ("ok/n.png", "bad/part_0.png"):
        (tmp_path / name).parent.mkdir()
        PillowImage.new("L", (16, 12), 120).save(tmp_path / name)
    xml = WRITTEN / "labelme_masks/part_0.xml"
    (tmp_path / "bad/part_0.xml").write_bytes(xml.read_bytes())
    with pytest.raises(InputValueError, match=r"mask in part_0_mask_0\.png.*--data\.masks"):
        read_dataset(tmp_path, "ok", "bad")
