"""Small annotation files that ask for a lot take bounded time and memory, or are refused."""

import base64
import io
import json
import time
import tracemalloc
from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import Image as PillowImage

from patchscout.checks import InputValueError
from patchscout.commands.info import _short_names
from patchscout.data import xml_files
from patchscout.data.annotation_file import AnnotatedMask, read_annotation_file
from patchscout.data.annotations import MaskFile, MaskFiles, image_key
from patchscout.data.drawing import Bitmap, Circle, Hole, Polygon, draw_shapes
from patchscout.data.label_studio import parse_tasks
from patchscout.data.names import LONGEST_NAME, NameIndex, is_image_address
from patchscout.data.via import parse_via

SIDE = 1000
TRIANGLE = [[1, 1], [9, 1], [9, 9]]


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def cvat(path, body, side=SIDE):
    image = f'<image name="1.png" width="{side}" height="{side}">{body}</image>'
    return write(path, f"<annotations>{image}</annotations>")


def peak_of(read):
    """Return what a function returns, and how many bytes it held at most."""
    tracemalloc.start()
    try:
        return read(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_many_bitmaps_of_one_image_take_the_memory_of_few(tmp_path):
    png = io.BytesIO()
    PillowImage.new("L", (SIDE, SIDE), 255).save(png, "PNG")
    mask = base64.b64encode(png.getvalue()).decode()
    box = [[0, 0], [SIDE - 1, SIDE - 1]]
    labelme = {"shapes": [{"points": box, "shape_type": "mask", "mask": mask, "label": "a"}] * 30}
    run = f'<mask label="a" rle="0,{SIDE**2}" left="0" top="0" width="{SIDE}" height="{SIDE}"/>'
    for path in (write(tmp_path / "a.json", labelme), cvat(tmp_path / "a.xml", run * 30)):
        key = next(iter(read_annotation_file(path).images))
        found, peak = peak_of(lambda: AnnotatedMask(path, key).read((SIDE, SIDE)))  # noqa: B023
        assert found.all()
        assert peak < 15 * SIDE**2  # 30 of them took more than 30


def test_many_mask_files_of_one_image_take_the_memory_of_few(tmp_path):
    for number in range(25):
        pixels = np.zeros((SIDE, SIDE), np.uint8)
        pixels[number] = 255
        PillowImage.fromarray(pixels).save(tmp_path / f"1_mask_{number}.png")
    masks = MaskFiles(tuple(map(MaskFile, sorted(tmp_path.iterdir()))))
    found, peak = peak_of(lambda: masks.read((SIDE, SIDE)))
    assert found.sum() == 25 * SIDE
    assert peak < 15 * SIDE**2


def test_masks_that_are_cut_out_are_held_within_the_limit(limits):
    limits(decoded_mib=1)
    holes = [Hole(Bitmap(np.ones((600, 600), bool), (0, 0)))] * 3
    square = Polygon(np.array([(0.0, 0.0), (700, 0), (700, 700), (0, 700)]))
    assert draw_shapes([*holes[:2], square], (700, 700), "a").sum() == 700**2 - 600**2
    with pytest.raises(InputValueError, match=r"more than 1 MiB.*`--limits\.decoded-mib`"):
        draw_shapes([*holes, square], (700, 700), "a")


def test_holes_of_no_size_are_timed_too(limits):
    limits(seconds=0.2)
    triangle = Polygon(np.array(TRIANGLE, float))
    start = time.monotonic()
    with pytest.raises(InputValueError, match=r"0\.2 s"):
        draw_shapes([triangle, *[Hole(Circle((5.0, 5.0), 0.0))] * 10**6], (2000, 2000), "a")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labelme.json", {"shapes": [{"points": TRIANGLE}]}),
        ("coco.json", {"images": [{"id": 1, "file_name": "1.png"}], "annotations": []}),
        ("via.json", {"1": {"filename": "1.png", "regions": []}}),
        ("studio.json", [{"data": {"image": "1.png"}, "annotations": []}]),
        ("cvat.xml", '<annotations><image name="1.png" width="9" height="9"/></annotations>'),
        ("labelme.xml", "<annotation><object/></annotation>"),
        ("1.txt", "0 0.1 0.1 0.6 0.1 0.6 0.6"),
    ],
)
def test_every_reader_looks_at_the_clock(tmp_path, limits, name, content):
    limits(seconds=1e-9)
    with pytest.raises(InputValueError, match=r"1e-09 s to read.*`--limits\.seconds`"):
        read_annotation_file(write(tmp_path / name, content))


def test_entries_of_one_image_are_united_without_copies_of_those_before(tmp_path, monkeypatch):
    seen = []

    def united(one, other, _):
        seen.extend([one, other])
        return one

    monkeypatch.setattr("patchscout.data.label_studio.united", united)
    value = {"x": 1, "y": 1, "width": 5, "height": 5}
    task = {"data": {"image": "1.png"}, "annotations": [{"result": [{"value": value}]}]}
    region = {"shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 2, "height": 2}}
    via = {str(i): {"filename": "1.png", "regions": [region]} for i in range(9)}
    images = parse_via(via, tmp_path), parse_tasks([task] * 9, tmp_path)
    assert [len(one["1.png"].annotations) for one in images] == [9, 9]
    assert len(seen) == 18
    assert not any(image.annotations for image in seen)


def test_names_longer_than_a_path_are_refused():
    for long in ("a" + "\u0301\u0327" * 100_000 + ".png", "?&" * 100_000 + ".png"):
        start = time.process_time()
        assert not is_image_address(long)
        with pytest.raises(InputValueError, match=f"at most {LONGEST_NAME:,} are read"):
            image_key(long)
        assert time.process_time() - start < 1  # minutes


def test_the_longest_addresses_take_no_time():
    known = NameIndex(["?&" * 2040 + ".png"] * 20 + ["1.png"])
    start = time.process_time()
    for _ in range(100):
        assert known.match("b?" + "?&" * 2000 + "d=1.png") == "1.png"
    assert time.process_time() - start < 2


def test_yolo_points_are_counted_before_they_are_read(tmp_path, limits):
    limits(points=9)
    line = "0 0.1 0.1 0.6 0.1 0.6 0.6\n"
    path = write(tmp_path / "1.txt", line * 3)
    assert AnnotatedMask(path, "").read((10, 10)).any()
    with pytest.raises(InputValueError, match="more than 9 points"):
        read_annotation_file(write(tmp_path / "2.txt", line * 4))


@pytest.mark.parametrize("names", ["5", "true", "1.5", "{x: 1}"])
def test_names_of_classes_that_are_none(tmp_path, names):
    write(tmp_path / "data.yaml", f"names: {names}")
    with pytest.raises(InputValueError, match="`names` that are no names by number"):
        read_annotation_file(write(tmp_path / "1.txt", "0 0.1 0.1 0.6 0.1 0.6 0.6"))


def test_a_document_type_is_refused_before_its_entities_are_read(tmp_path):
    entities = '<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
    )
    for doctype in (f"<!DOCTYPE a [{entities}]>", '<!DOCTYPE a SYSTEM "file:///etc/passwd">'):
        path = write(tmp_path / "a.xml", f"{doctype}<annotations>&j;</annotations>")
        with pytest.raises(InputValueError, match="document type declaration"):
            read_annotation_file(path)


def test_xml_of_many_elements_or_attributes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(xml_files, "MOST_NODES", 1000)
    outline = '<polygon label="dent" points="1,1;9,1;9,9"/>'
    few = read_annotation_file(cvat(tmp_path / "few.xml", outline + "<tag/>" * 900))
    assert few.find(PurePosixPath("1.png")) is not None
    attributes = " ".join(f'a{number}=""' for number in range(1000))
    for body in ("<tag/>" * 1000, f"<tag {attributes}/>"):
        with pytest.raises(InputValueError, match="more than 1,000 elements and attributes"):
            read_annotation_file(cvat(tmp_path / "many.xml", body))


@pytest.mark.parametrize("y", ["", "<y/>", "<y>1 2</y>"])
def test_points_of_labelme_xml_need_both_numbers(tmp_path, y):
    points = f"<pt><x>1</x>{y}</pt>" + "<pt><x>9</x><y>1</y></pt>" * 2
    found = f"<annotation><object><polygon>{points}</polygon></object></annotation>"
    with pytest.raises(InputValueError, match="a point without one `x` and one `y`"):
        read_annotation_file(write(tmp_path / "1.xml", found))


def test_a_file_of_several_images_is_no_mask_of_one(tmp_path):
    mask = AnnotatedMask(cvat(tmp_path / "1.txt", ""), "")
    for read in (mask.defect_type, lambda: mask.read((SIDE, SIDE))):
        with pytest.raises(InputValueError, match="is for images that it names"):
            read()


def test_an_image_is_found_by_the_address_of_a_local_file(tmp_path):
    task = {"data": {"image": "/data/local-files/?d=day/1.png"}, "annotations": []}
    value = {"x": 1, "y": 1, "width": 50, "height": 50}
    task["annotations"] = [{"result": [{"value": value}]}]
    file = read_annotation_file(write(tmp_path / "a.json", [task]))
    assert file.find(PurePosixPath("1.png")) is not None


def test_info_shortens_options_alone():
    given = ["--data.masks=a", "runs/b--data.c", "--", "--data.d"]
    assert _short_names(given) == ["--masks=a", "runs/b--data.c", "--", "--data.d"]
