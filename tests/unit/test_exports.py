"""Exports of other tools give the pixels that were marked in them; what cannot is refused."""

import json
import shutil
from pathlib import PurePosixPath

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from patchscout.checks import InputError, InputValueError
from patchscout.data.annotation_file import AnnotatedMask, read_annotation_file
from patchscout.data.annotations import MaskFile, read_mask
from patchscout.data.label_studio import decode_brush
from patchscout.data.layout import read_dataset
from patchscout.data.mask_images import SEVERAL, SOFT, read_marked
from patchscout.limits import Limits, current_limits, set_limits
from patchscout.types import Sample

SIZE = (40, 50)
SQUARE = np.zeros(SIZE, bool)
SQUARE[5:20, 10:30] = True
PERCENT = [[20, 12.5], [60, 12.5], [60, 50], [20, 50]]

# Of label-studio-sdk 2.1.2, `mask2rle`: 7 x 9 pixels.
BRUSH = np.zeros((7, 9), bool)
BRUSH[2:5, 3:8] = BRUSH[0, 0] = BRUSH[6, 8] = True
BRUSH[3, 4] = False
BRUSH_RLE = [0, 0, 0, 252, 57, 27, 252, 127, 249, 60, 3, 9, 255, 223, 0, 143, 254, 48, 11, 127]
BRUSH_RLE += [247, 192, 48, 159, 254, 71, 0, 143, 252]


def read(path, size=SIZE, image="a.png"):
    """Return the mask of an image in a file of annotations, and the type of the defect."""
    file = read_annotation_file(path)
    key = "" if "" in file.images else file.find(PurePosixPath(image))
    assert key is not None
    mask = AnnotatedMask(path, key)
    return mask.read(size), mask.defect_type()


def result(value, size=SIZE, **more):
    return {
        "original_width": size[1],
        "original_height": size[0],
        "image_rotation": 0,
        "value": value,
        "id": "x1",
        "from_name": "tag",
        "to_name": "image",
        **more,
    }


def task(*results, image="/data/upload/1/3f2a1b9c-a.png", **annotation):
    annotation = {"id": 2, "completed_by": 1, "result": list(results), **annotation}
    return {"id": 7, "annotations": [annotation], "data": {"image": image}, "predictions": []}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


POLYGON = result({"points": PERCENT, "closed": True, "polygonlabels": ["stain"]})
BRUSHED = result({"format": "rle", "rle": BRUSH_RLE, "brushlabels": ["dent"]}, BRUSH.shape)
RECTANGLE = {"x": 20, "y": 12.5, "width": 40, "height": 37.5}
# Turned by a right angle about its first corner, it reaches from there down and to the left.
TURNED = {"x": 60, "y": 12.5, "width": 30, "height": 50, "rotation": 90}


def test_brush_of_label_studio():
    values = decode_brush(BRUSH_RLE, BRUSH.size * 4).reshape(*BRUSH.shape, 4)
    np.testing.assert_array_equal(values[:, :, 3], BRUSH * 255)
    # Written by hand: 4 values of 8 bits; one run of three, size 3; then one value by itself.
    bits = (
        f"{4:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + f"100{2:03b}{9:08b}" + f"000000{200:08b}"
    )
    data = [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]
    assert decode_brush(data, 4).tolist() == [9, 9, 9, 200]
    # Two values under one length.
    bits = bits[:53] + f"000{1:03b}{5:08b}{6:08b}" + f"101{1:04b}{7:08b}"
    data = [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]
    assert decode_brush(data, 4).tolist() == [5, 6, 7, 7]


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ([0, 0, 0, 1], "1 values for 252"),
        ([0, 0], "ends within a run"),
        ([0, 0, 0, 8, *BRUSH_RLE[4:]], "8 values for 252"),
        (BRUSH_RLE[:-4], "ends within a run"),
        ([*BRUSH_RLE[:-1], 256], "whole numbers from 0 to 255"),
        ([*BRUSH_RLE[:-1], "x"], "must be finite numbers"),
    ],
)
def test_brushes_that_are_damaged(tmp_path, rle, message):
    brush = result({"format": "rle", "rle": rle, "brushlabels": ["dent"]}, BRUSH.shape)
    path = write(tmp_path / "a.json", [task(brush)])
    with pytest.raises(InputValueError, match=rf"a\.json .*: region 0 \(dent\) .*{message}"):
        AnnotatedMask(path, next(iter(read_annotation_file(path).images))).read(BRUSH.shape)


def test_brush_of_more_runs_than_allowed(tmp_path):
    limits = current_limits()
    set_limits(Limits(points=5))
    try:
        with pytest.raises(ValueError, match="more than 5 runs"):
            decode_brush(BRUSH_RLE, BRUSH.size * 4)
    finally:
        set_limits(limits)


@pytest.mark.parametrize(
    ("tasks", "size", "mask", "defect_type"),
    [
        ([task(POLYGON)], SIZE, SQUARE, "stain"),
        (task(POLYGON), SIZE, SQUARE, "stain"),  # one task by itself
        ([task(BRUSHED)], BRUSH.shape, BRUSH, "dent"),
        ([task(result({**RECTANGLE, "rotation": 0, "labels": ["a"]}))], SIZE, SQUARE, "a"),
        ([task(result({**TURNED, "rectanglelabels": ["a"]}))], SIZE, SQUARE, "a"),
        ([task(POLYGON), task(BRUSHED, image="b.png")], SIZE, SQUARE, "stain"),
        # Choices have no place; a label of its own tag repeats the shape.
        (
            [
                task(
                    result({"choices": ["bad"]}, type="choices"),
                    result({"points": PERCENT}, type="polygon"),
                    result({"points": PERCENT, "labels": ["b"]}, type="labels"),
                )
            ],
            SIZE,
            SQUARE,
            "b",
        ),
        # JSON-MIN, a row an annotation.
        (
            [
                {
                    "image": "http://host/data/upload/1/3f2a1b9c-a.png",
                    "id": 1,
                    "tag": [{**POLYGON["value"], "original_width": 50, "original_height": 40}],
                    "annotator": 1,
                    "annotation_id": 2,
                }
            ],
            SIZE,
            SQUARE,
            "stain",
        ),
        (
            [
                {"img": "/data/local-files/?d=day%201/a.PNG", "id": 1, "kind": [{**half}]}
                for half in (
                    {"points": [[20, 12.5], [40, 12.5], [40, 50], [20, 50]]},
                    {"points": [[40, 12.5], [60, 12.5], [60, 50], [40, 50]]},
                )
            ],
            SIZE,
            SQUARE,
            "defect",
        ),
    ],
)
def test_label_studio(tmp_path, tasks, size, mask, defect_type):
    found, its_type = read(write(tmp_path / "a.json", tasks), size)
    np.testing.assert_array_equal(found, mask)
    assert its_type == defect_type


def test_label_studio_ellipse_and_several_annotations(tmp_path):
    ellipse = {
        "x": 50,
        "y": 50,
        "radiusX": 20,
        "radiusY": 10,
        "rotation": 90,
        "ellipselabels": ["a"],
    }
    rows, columns = np.mgrid[:40, :50] + 0.5
    expected = ((columns - 25) / 4) ** 2 + ((rows - 20) / 10) ** 2 < 1
    item = task(result(ellipse))
    np.testing.assert_array_equal(read(write(tmp_path / "a.json", [item]))[0], expected)
    item["annotations"] += [
        {"result": [POLYGON]},
        {"result": [result({"points": [[0, 0], [9, 0], [9, 9]]})], "was_cancelled": True},
        {"result": [result({"points": [[0, 0], [9, 0], [9, 9]]})], "skipped": True},
        {"result": None},
    ]
    found, its_type = read(write(tmp_path / "b.json", [item]))
    np.testing.assert_array_equal(found, expected | SQUARE)
    assert its_type == "stain"  # 300 px rather than 126


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([task(result({"x": 1, "vertices": []}))], r"region 0 \(no label\) is no polygon"),
        ([task(result({"points": PERCENT[:2]}))], "polygon of 2 points"),
        ([task(result({"points": PERCENT}, (80, 100)))], "made for 100 x 80 pixels"),
        ([task(POLYGON), {"data": {"image": "b.png"}, "annotations": [3]}], "annotations"),
        ([{**task(POLYGON), "data": {"number": 3}}], "0 fields of `data` name an image"),
        ([task(POLYGON), 3], "is no task"),
    ],
)
def test_label_studio_files_that_do_not_fit(tmp_path, tasks, message):
    with pytest.raises(InputValueError, match=message):
        read(write(tmp_path / "a.json", tasks))


def cvat(*shapes, name="day 1/a.png", more=""):
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task>'
        f'<id>5</id></task></meta><image id="0" name="{name}" width="50" height="40">'
        f"{''.join(shapes)}</image>{more}</annotations>"
    )


POINTS = "10.00,5.00;30.00,5.00;30.00,20.00;10.00,20.00"
CVAT_POLYGON = (
    f'<polygon label="stain" source="manual" occluded="0" points="{POINTS}" z_order="0"/>'
)
CVAT_MASK = '<mask label="dent" occluded="1" rle="{}" left="10" top="5" width="20" height="15"/>'
CVAT_RLE = "0, 300"


@pytest.mark.parametrize(
    ("shapes", "mask", "defect_type"),
    [
        (
            [CVAT_POLYGON.replace("/>", '><attribute name="n">3</attribute></polygon>')],
            SQUARE,
            "stain",
        ),
        (
            ['<box label="a" xtl="10" ytl="5" xbr="30" ybr="20"/>', '<tag label="bad"/>'],
            SQUARE,
            "a",
        ),
        # Turned about its middle (20, 12.5).
        (
            ['<box label="a" xtl="12.5" ytl="2.5" xbr="27.5" ybr="22.5" rotation="90.0"/>'],
            SQUARE,
            "a",
        ),
        ([CVAT_MASK.format(CVAT_RLE)], SQUARE, "dent"),
        ([CVAT_MASK.format("300"), CVAT_POLYGON], SQUARE, "stain"),
        (
            [
                CVAT_POLYGON,
                CVAT_POLYGON.replace(POINTS, "0,0;5,0;5,5").replace(" occ", ' outside="1" occ'),
            ],
            SQUARE,
            "stain",
        ),
        # Of what lies above, `background` is cut out; what lies below it is not.
        (
            [
                '<box label="background" xtl="0" ytl="0" xbr="30" ybr="10" z_order="1"/>',
                CVAT_POLYGON.replace('z_order="0"', 'z_order="2"'),
                '<box label="a" xtl="0" ytl="0" xbr="9" ybr="9" z_order="0"/>',
            ],
            SQUARE,
            "stain",
        ),
        (['<polyline label="crack" points="10,12.5;29,12.5"/>'], None, "crack"),
    ],
)
def test_cvat_for_images(tmp_path, shapes, mask, defect_type):
    found, its_type = read(write(tmp_path / "annotations.xml", cvat(*shapes)))
    if mask is None:  # three pixels wide, with round ends
        assert found[11:14, 10:29].all()
        assert found.sum() - 57 in range(9)
        assert not found[[10, 14]].any()
    else:
        np.testing.assert_array_equal(found, mask)
    assert its_type == defect_type


def test_cvat_mask_is_read_row_by_row(tmp_path):
    path = write(
        tmp_path / "a.xml",
        cvat('<mask label="a" rle="1, 2, 2, 1" left="48" top="38" width="3" height="2"/>'),
    )
    expected = np.zeros(SIZE, bool)
    expected[38, 49] = True  # the others lie outside of the image
    np.testing.assert_array_equal(read(path)[0], expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (cvat('<cuboid label="a" xtl1="1"/>'), r"cuboid 0 \(a\) is a cuboid, which is not read"),
        (cvat('<polygon label="a" points="1,2;3,4"/>'), "not enough points"),
        (cvat('<polygon label="a" points="1,2;3,x;5,6"/>'), "are no numbers"),
        (cvat('<box label="a" xtl="1" ytl="1" xbr="nan" ybr="2"/>'), "must be finite"),
        (cvat(CVAT_MASK.format("0, 299")), "does not make up 20 x 15 pixels"),
        (cvat(CVAT_MASK.format("-1, 301")), "does not make up 20 x 15 pixels"),
        (cvat(CVAT_POLYGON, more='<image id="1" name="day 1/a.png"/>'), "is there twice"),
        (cvat(CVAT_POLYGON).replace('width="50"', ""), "`width` must be a number"),
        (cvat(CVAT_POLYGON).replace('width="50"', 'width="60"'), "made for 60 x 40 pixels"),
        ("<annotations><track id='0' label='a'/></annotations>", "export for videos"),
        ("<annotation><object><name>a</name><bndbox/></object></annotation>", r"0 \(a\) is a box"),
        ("<svg/>", "XML with the root 'svg'. Read are JSON of COCO, .*CVAT"),
        ("<annotations>", "is not XML that can be read"),
        (
            '<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;">]><annotations>&d;</annotations>',
            "document type declaration",
        ),
        (
            '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><annotations>&f;</annotations>',
            "document type declaration",
        ),
        ("<a>" * 70 + "</a>" * 70, "nested more than 64 deep"),
    ],
)
def test_xml_that_does_not_fit(tmp_path, content, message):
    with pytest.raises(InputValueError, match=message):
        read(write(tmp_path / "a.xml", content))


def test_labelme_xml(tmp_path):
    corners = "".join(
        f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((10, 5), (30, 5), (30, 20), (10, 20))
    )
    content = (
        "<annotation><filename>a.png</filename><imagesize><nrows>40</nrows><ncols>50</ncols>"
        f"</imagesize><object><name>stain</name><deleted>0</deleted><polygon>{corners}</polygon>"
        "</object><object><name>b</name><deleted>1</deleted><polygon/></object></annotation>"
    )
    found, its_type = read(write(tmp_path / "a.xml", content))
    np.testing.assert_array_equal(found, SQUARE)
    assert its_type == "stain"
    with pytest.raises(InputValueError, match="made for 50 x 40"):
        read(tmp_path / "a.xml", (50, 40))


YOLO = "1 0.2 0.125 0.6 0.125 0.6 0.5 0.2 0.5"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("labels/data.yaml", "names: [scratch, stain]\npath: .\n"),
        ("data.yaml", "names:\n  0: scratch\n  1: stain\n"),
        ("labels/classes.txt", "scratch\nstain\n"),
    ],
)
def test_yolo(tmp_path, names, text):
    (tmp_path / "labels/train").mkdir(parents=True)
    write(tmp_path / names, text)
    small = "0 0.9 0.9 1 0.9 1 1"
    path = write(tmp_path / "labels/train/a.txt", f"{YOLO}\n\n{small}\n")
    found, its_type = read(path)
    np.testing.assert_array_equal(found[:30], SQUARE[:30])
    assert found[36, 48]
    assert its_type == "stain"
    write(path, "0 0.2 0.125 0.6 0.125 0.6 0.5 0.2 0.500001")
    np.testing.assert_array_equal(read(path)[0], SQUARE)
    assert read(path)[1] == "scratch"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{YOLO}\n0 0.5 0.5 0.1 0.1", r"a\.txt, line 2 is a box, which is no outline"),
        ("0 0.5 0.5 0.1 0.1 0.9", "line 1 is a box"),
        ("0 0.5 0.5 0.1 0.1 0.9 0.8 0.7", "line 1 has 8 numbers"),
        ("0 10 5 30 5 30 20", "line 1 has the coordinate 10.* divide x by its width"),
        ("crack 0.1 0.1 0.2 0.2 0.3 0.3", "line 1 is no line of YOLO labels: crack"),
        ("0 0.1 0.1 nan 0.2 0.3 0.3", "line 1 is no line of YOLO labels"),
        ("", r"a\.txt is empty: it marks no anomalous pixel"),
    ],
)
def test_yolo_files_that_do_not_fit(tmp_path, text, message):
    with pytest.raises(InputValueError, match=message):
        read(write(tmp_path / "a.txt", text))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"version": 1, "items": []}, r"holds JSON with the keys \['version', 'items'\]. Read"),
        ([1, 2], r"holds a JSON list\. Read are JSON of COCO, VIA, LabelMe and Label Studio"),
        ([], r"holds a JSON list"),
        ("name,x,y\n", "is not readable JSON"),
    ],
)
def test_files_of_no_known_tool(tmp_path, content, message):
    with pytest.raises(InputValueError, match=message):
        read_annotation_file(write(tmp_path / "a.json", content))


@pytest.fixture
def parts(tmp_path):
    """Six normal images, and two defective ones in no sub-folder."""
    for name in (*(f"ok/{i}.png" for i in range(6)), "bad/a.png", "bad/b c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        PillowImage.new("RGB", (50, 40), (99, 99, 99)).save(tmp_path / name)
    return tmp_path


def masks_of(parts, masks, types=None):
    """Return the masks and types of the two defective images."""
    types = [f"{color}={name}" for color, name in (types or {}).items()]
    dataset = read_dataset(parts, "ok", "bad", masks, mask_types=types)
    samples = sorted(dataset.anomalous, key=lambda sample: sample.image_path.name)
    return [read_mask(sample) for sample in samples], [sample.defect_type for sample in samples]


def save(array, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(array).save(path, **options)


def test_exports_are_found_by_their_content(parts):
    names = ("../../media/upload/1/3f2a1b9c-a.png", "/data/upload/1/0a1b2c3d-b_c.png")
    tasks = [task(POLYGON, image=name) for name in names]
    xml = cvat(CVAT_POLYGON, name="b c.png").replace(
        "</annotations>",
        '<image id="1" name="A\\a.png" width="50" height="40">'
        f"{CVAT_POLYGON}</image></annotations>",
    )
    coco = {
        "images": [{"id": i, "file_name": name.replace("/", "\\")} for i, name in enumerate(names)],
        "annotations": [
            {
                "id": i,
                "image_id": i,
                "category_id": 0,
                "segmentation": [[10, 5, 30, 5, 30, 20, 10, 20]],
            }
            for i in range(2)
        ],
        "categories": [{"id": 0, "name": "stain"}],
    }
    for content in (tasks, xml, coco):
        for name in ("export", "unzipped/annotations.xml"):
            path = parts / name
            path.parent.mkdir(exist_ok=True)
            write(path, content)
            masks, types = masks_of(parts, "export" if name == "export" else "unzipped")
            assert types == ["stain", "stain"]
            for mask in masks:
                np.testing.assert_array_equal(mask, SQUARE)


def test_yolo_and_xml_files_beside_each_other(parts):
    write(parts / "data.yaml", "names: [hole, stain]")
    (parts / "labels").mkdir()
    write(parts / "labels/a.txt", YOLO)
    write(parts / "labels/b c.txt", YOLO.replace("1 ", "0 ", 1))
    masks, types = masks_of(parts, "labels")
    assert types == ["stain", "hole"]
    for mask in masks:
        np.testing.assert_array_equal(mask, SQUARE)
    with pytest.raises(InputValueError, match=r"labels/a\.txt annotates one image, .* the folder"):
        masks_of(parts, "labels/a.txt")


def test_brush_masks_as_images(parts):
    left, right = SQUARE.copy(), SQUARE.copy()
    left[:, 24:], right[:, :24] = False, False
    for number, label, mask in ((0, "stain", left), (0, "a-b", right), (1, "dent", SQUARE)):
        name = f"task-{number}-annotation-{number + 5}-by-x@y.z-tag-{label}-0.png"
        save(mask.astype(np.uint8) * 255, parts / "brush" / name)
    with pytest.raises(InputValueError, match=r"names task 0 .*Looked for it in JSON .*put its"):
        masks_of(parts, "brush")
    tasks = [
        {**task(image=f"upload/1/3f2a1b9c-{name}"), "id": i}
        for i, name in enumerate(("a.png", "b_c.png"))
    ]
    write(parts / "project.json", tasks)
    masks, types = masks_of(parts, "brush")
    assert types == ["stain", "dent"]
    for mask in masks:
        np.testing.assert_array_equal(mask, SQUARE)
    shutil.move(parts / "project.json", parts / "brush/project.json")
    assert masks_of(parts, "brush")[1] == types


def test_segmentation_masks_of_cvat(parts):
    colors = np.zeros((*SIZE, 3), np.uint8)
    colors[SQUARE] = (250, 50, 83)
    colors[30:32, :20] = (102, 255, 102)
    colors[35:, 40:] = (60, 60, 60)
    for name in ("a", "b c"):
        save(colors, parts / f"export/SegmentationClass/{name}.png")
    save(colors[::-1].copy(), parts / "export/SegmentationObject/a.png")
    labels = "# label:color_rgb:parts:actions\nbackground:0,0,0::\n"
    labels += "stain:250,50,83::\ndent:102,255,102::\n"
    write(parts / "export/labelmap.txt", labels + "ignored:60,60,60::\n")
    expected = colors.max(axis=2) > 0
    for masks in ("export", "export/SegmentationClass"):
        found, types = masks_of(parts, masks)
        assert types == ["stain", "stain"]
        np.testing.assert_array_equal(found[0], expected)
    names = {"#fa3253": "spot", "102,255,102": "dent", "60": "good"}
    found, types = masks_of(parts, "export", names)
    assert types == ["spot", "spot"]
    expected[35:] = False
    np.testing.assert_array_equal(found[0], expected)
    write(parts / "export/labelmap.txt", labels)
    with pytest.raises(InputError, match=r"value 60,60,60 at row 35, column 40, .*mask-types"):
        masks_of(parts, "export")


def classes(values, palette=None):
    """Return a mask whose squares have these values, and what they mark together."""
    array, mask = np.zeros(SIZE, np.uint8), np.zeros(SIZE, bool)
    for i, value in enumerate(values):
        array[10 * i : 10 * i + 7, 5 * i : 20] = value
        mask[10 * i : 10 * i + 7, 5 * i : 20] = True
    picture = PillowImage.fromarray(array, "P" if palette else "L")
    if palette:
        picture.putpalette(palette)
    return picture, mask


VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0]


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        classes([1, 2]),
        classes([1, 2, 3, 4]),
        classes([255, 254]),
        classes([64, 255]),
        classes([85, 170, 255]),
        classes([1, 255]),
        classes([1, 2], VOC),
        classes([1, 2, 255], [*VOC, *[0] * 756, 224, 224, 192]),
        classes([1, 2], [68, 1, 84, 33, 145, 140, 253, 231, 37]),  # no black: the first color
        classes([1, 2], [0, 0, 0, 0, 0, 128, 0, 0, 64]),
    ],
)
def test_masks_of_several_values_are_united(tmp_path, picture, mask):
    picture.save(tmp_path / "a.png")
    source = MaskFile(tmp_path / "a.png")
    np.testing.assert_array_equal(source.read(SIZE), mask)
    assert source.reading() == SEVERAL


def test_masks_of_32_bits_take_no_memory_for_values_that_they_lack(tmp_path):
    levels = np.zeros((8, 8), np.uint32)
    levels[2:6, 2:6] = 4_000_000_000
    levels[2, 2], levels[3, 3] = 7, 9
    tifffile.imwrite(tmp_path / "mask.tif", levels)
    np.testing.assert_array_equal(read_marked(tmp_path / "mask.tif").mask, levels > 9)


@pytest.mark.parametrize("scale", [2, 3, 8])
def test_soft_masks_are_cut_at_half(tmp_path, scale):
    """A disk drawn larger and averaged down has grey values at its edge."""
    size = 64
    rows, columns = (np.mgrid[: size * scale, : size * scale] + 0.5) / scale
    disk = np.hypot(rows - 30.2, columns - 33.1) < 17
    share = disk.reshape(size, scale, size, scale).mean(axis=(1, 3))
    levels = np.rint(share * 255).astype(np.uint8)
    PillowImage.fromarray(levels).save(tmp_path / "a.png")
    source = MaskFile(tmp_path / "a.png")
    np.testing.assert_array_equal(source.read((size, size)), levels >= 127.5)
    assert source.reading() == SOFT
    PillowImage.fromarray(np.where(share == 1, 255, 0).astype(np.uint8)).save(tmp_path / "a.jpg")
    np.testing.assert_array_equal(MaskFile(tmp_path / "a.jpg").read((size, size)), share == 1)
    red = np.zeros((size, size, 3), np.uint8)
    red[:, :, 0] = levels
    PillowImage.fromarray(red).save(tmp_path / "red.png")
    np.testing.assert_array_equal(
        MaskFile(tmp_path / "red.png").read((size, size)), levels >= 127.5
    )


def test_masks_of_unclear_values(tmp_path):
    levels = np.linspace(0, 255, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)
    levels[levels > 190] = 100
    levels[0, 0] = 255
    PillowImage.fromarray(levels).save(tmp_path / "a.png")
    with pytest.raises(InputValueError, match=r"a\.png has \d+ grey values .* Save it as PNG"):
        MaskFile(tmp_path / "a.png").read(SIZE)


@pytest.mark.parametrize(
    ("palette", "types", "marked", "expected_type"),
    [
        (None, {"1": "dent", "2": "hole"}, [1, 2], "dent"),
        (None, {"1": "good", "2": "hole"}, [2], "hole"),
        (None, {"1,1,1": "dent", "2": "dent"}, [1, 2], "dent"),
        (VOC, {"1": "dent", "2": "good"}, [1], "dent"),
        (VOC, {"128,0,0": "dent", "#008000": "hole"}, [1, 2], "dent"),
    ],
)
def test_types_of_values(parts, palette, types, marked, expected_type):
    picture, _ = classes([1, 2], palette)
    expected = np.isin(np.asarray(picture), marked)
    (parts / "masks").mkdir()
    for name in ("a", "b c"):
        picture.save(parts / f"masks/{name}.png")
    masks, names = masks_of(parts, "masks", types)
    np.testing.assert_array_equal(masks[0], expected)
    assert names == [expected_type] * 2


def test_types_of_values_that_are_missing(parts):
    (parts / "masks").mkdir()
    for name in ("a", "b c"):
        classes([1, 2])[0].save(parts / f"masks/{name}.png")
    with pytest.raises(InputValueError, match=r"a\.png has the value 2 at row 10, column 5, which"):
        masks_of(parts, "masks", {"1": "dent"})
    with pytest.raises(InputValueError, match=r"values such as 1, or colors .*; got red"):
        masks_of(parts, "masks", {"red": "dent"})


def test_normal_samples_have_no_mask(tmp_path):
    PillowImage.new("L", (50, 40)).save(tmp_path / "a.png")
    assert not read_mask(Sample(tmp_path / "a.png")).any()
