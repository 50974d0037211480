"""Files as LabelMe, VIA and tools that write COCO make them give the right pixels, or one line."""

import base64
import io
import itertools
import json
from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import Image as PillowImage
from skimage import draw

from patchscout.checks import InputValueError
from patchscout.config import DataSettings
from patchscout.data.annotation_file import AnnotatedMask, read_annotation_file
from patchscout.data.annotations import LINE_WIDTH_PX, MaskFile, read_turned_mask
from patchscout.data.check import check_dataset
from patchscout.data.labelme import LabelMeFile
from patchscout.data.layout import read_dataset
from patchscout.types import Sample

SIZE = (60, 80)
ROWS, COLUMNS = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
CRACK = [(10.0, 12.0), (30.0, 20.0), (55.0, 18.0), (70.0, 50.0)]


def disk(x, y, radius):
    return np.hypot(ROWS - y, COLUMNS - x) < radius


def around(x, y, radius, count=40):
    """Return the corners of a polygon about a circle."""
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return [(float(x + radius * np.cos(a)), float(y + radius * np.sin(a))) for a in turn]


def filled(points):
    mask = np.zeros(SIZE, bool)
    x, y = (np.array(points, float) - 0.5).T
    mask[draw.polygon(y, x, shape=SIZE)] = True
    return mask


def path(points, width):
    """Return the pixels that are nearer to a path than half its width."""
    mask = np.zeros(SIZE, bool)
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        squared = (x1 - x0) ** 2 + (y1 - y0) ** 2
        along = ((COLUMNS - x0) * (x1 - x0) + (ROWS - y0) * (y1 - y0)) / squared
        t = along.clip(0, 1)
        mask |= np.hypot(COLUMNS - x0 - t * (x1 - x0), ROWS - y0 - t * (y1 - y0)) < width / 2
    return mask


def rectangle(left, top, right, bottom):
    return (left < COLUMNS) & (right > COLUMNS) & (top < ROWS) & (bottom > ROWS)


def shape(points, kind="polygon", label="crack", mask=None):
    points = [list(point) for point in points]
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "shape_type": kind,
        "flags": {},
        "mask": mask,
    }


def png(pixels):
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def labelme(tmp_path, *shapes, size=SIZE, **options):
    content = {"version": "5.5.0", "shapes": shapes, "imageHeight": size[0], "imageWidth": size[1]}
    (tmp_path / "0.json").write_text(json.dumps(content))
    return LabelMeFile(tmp_path / "0.json", **options)


HOLE = shape(around(40, 30, 10), label="_background_")
RING = filled(around(40, 30, 20)) & ~filled(around(40, 30, 10))
BLOB = filled(around(40, 30, 9.3))[20:41, 30:51]
BLOB_IN_PLACE = np.zeros(SIZE, bool)
BLOB_IN_PLACE[20:41, 30:51] = BLOB
TILTED = [(30.0, 10.0), (50.0, 30.0), (40.0, 40.0), (20.0, 20.0)]


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([shape(CRACK, "linestrip")], path(CRACK, 3)),
        ([shape(CRACK[:2], "line")], path(CRACK[:2], 3)),
        (
            [shape(CRACK, "linestrip"), shape(around(20, 45, 8))],
            path(CRACK, 3) | filled(around(20, 45, 8)),
        ),
        ([shape([(20.2, 30.4)], "point")], disk(20.2, 30.4, 1.5)),
        (
            [shape([(20.2, 30.4), (50, 9)], "points")],
            disk(20.2, 30.4, 1.5) | disk(50 - 1e-6, 9 - 1e-6, 1.5),
        ),
        ([shape([(30, 20), (50, 40)], "mask", mask=png(BLOB))], BLOB_IN_PLACE),
        # Pixels of 0 and 255, a box whose corners are swapped, and one that ends behind the mask.
        ([shape([(50, 40), (30, 20)], "mask", mask=png(BLOB * np.uint8(255)))], BLOB_IN_PLACE),
        ([shape([(30.9, 20.2), (51.3, 41)], "mask", mask=png(BLOB))], BLOB_IN_PLACE),
        ([shape([(62, 30), (71, 79)], "mask", mask=png(np.ones((50, 10), bool)))],
         rectangle(62, 30, 72, 60)),
        ([shape(TILTED, "oriented_rectangle")], filled(TILTED)),
        ([shape([TILTED[i] for i in (0, 2, 1, 3)], "rotation")], filled(TILTED)),
        ([shape([(50, 40), (20, 10)], "rectangle")], rectangle(20, 10, 50, 40)),
        ([shape([(40, 30), (48, 36)], "circle")], disk(40, 30, 10)),
        ([shape(around(40, 30, 20)), HOLE], RING),
        ([HOLE, shape(around(40, 30, 20))], RING),
        ([shape(around(40, 30, 20)), {**HOLE, "label": "Background"}], RING),
        ([shape(around(40, 30, 20)), {**HOLE, "label": "__ignore__"}], RING),
        # A type of defect may be called hole, and an island may lie in what is cut out.
        ([shape(around(40, 30, 20)), {**HOLE, "label": "hole"}], filled(around(40, 30, 20))),
        (
            [shape(around(40, 30, 20)), HOLE, shape([(40, 30), (44, 30)], "circle")],
            RING | disk(40, 30, 4),
        ),
        (
            [shape([(0, 0), (80, 60)], "rectangle", "_background_"), shape(around(40, 30, 20))],
            filled(around(40, 30, 20)),
        ),
        (
            [shape([(20, 10), (60, 50)], "rectangle"),
             shape([(30, 20), (50, 40)], "mask", "_background_", png(BLOB))],
            rectangle(20, 10, 60, 50) & ~BLOB_IN_PLACE,
        ),
    ],
)  # fmt: skip
def test_shapes_of_labelme(tmp_path, shapes, expected):
    mask = labelme(tmp_path, *shapes).read(SIZE)
    np.testing.assert_array_equal(mask, expected)


LABELME_MASK = (
    "iVBORw0KGgoAAAANSUhEUgAAABUAAAAVCAAAAACMfPpKAAAAR0lEQVR4nKWQMQ4AIAgDW///Z1xEsQiLneByAQLw"
    "Cr2w2DGw0/NiToZC2KI5Q1XAaldVwOq535SJsZ6gMrttVLX77+b5npgJxU0LIlb/HFwAAAAASUVORK5CYII="
)
LABELME_6_3_1 = """{"version": "6.3.1", "flags": {},
"shapes": [{"label": "crack", "points": [[10.0, 10.0], [60.0, 10.0], [60.0, 50.0], [10.0, 50.0]],
"shape_type": "polygon", "group_id": null, "description": "", "flags": {}, "mask": null},
{"label": "_background_", "points": [[30.0, 20.0], [50.0, 40.0]],
"shape_type": "mask", "mask": "MASK", "group_id": null, "description": "", "flags": {}}],
"imagePath": "hole.png", "imageData": null, "imageHeight": 60, "imageWidth": 80}"""


def test_a_file_that_labelme_wrote(tmp_path):
    (tmp_path / "hole.json").write_text(LABELME_6_3_1.replace("MASK", LABELME_MASK))
    expected = rectangle(10, 10, 60, 50)
    expected[20:41, 30:51] &= np.hypot(*(np.mgrid[:21, :21] - 10)) >= 9.3
    np.testing.assert_array_equal(LabelMeFile(tmp_path / "hole.json").read(SIZE), expected)


@pytest.mark.parametrize("width", [1.0, 4.0, 7.5])
def test_lines_have_the_width_that_is_set(tmp_path, width):
    assert DataSettings().line_width_px == LINE_WIDTH_PX == 3.0
    source = labelme(tmp_path, shape(CRACK, "linestrip"), line_width_px=width)
    np.testing.assert_array_equal(source.read(SIZE), path(CRACK, width))
    straight = labelme(tmp_path, shape([(10, 20), (60, 20)], "line"), line_width_px=width)
    assert straight.read(SIZE)[:, 30].sum() == round(width + 0.1)  # 7.5 px have 8 centers here
    left_out = labelme(tmp_path, shape([(90, 70), (95, 90)], "line"), line_width_px=width)
    with pytest.raises(InputValueError, match=r"0\.json is empty"):
        left_out.read(SIZE)


def coco_image(number, name, size=SIZE):
    return {"id": number, "width": size[1], "height": size[0], "file_name": name}


def coco_polygon(number, image, points, category=1, flat=False):
    numbers = [number for point in points for number in point]
    outline = numbers if flat else [numbers]
    return {"id": number, "image_id": image, "category_id": category, "segmentation": outline,
                "area": 9, "bbox": [0, 0, 1, 1], "iscrowd": 0}  # fmt: skip


def write(tmp_path, content):
    (tmp_path / "all.json").write_text(json.dumps(content))
    return tmp_path / "all.json"


def mask_path(sample):
    assert isinstance(sample.mask, LabelMeFile)
    return sample.mask.path


def write_coco(tmp_path, images, annotations, names=("stain",)):
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    return write(tmp_path, {"images": images, "annotations": annotations, "categories": categories})


def draw_from(source, name, size=SIZE):
    key = read_annotation_file(source).find(PurePosixPath(name))
    assert key is not None
    return AnnotatedMask(source, key).read(size)


BIG, SMALL = around(40, 30, 20), around(20, 45, 8)


@pytest.mark.parametrize(
    "segmentation",
    [
        [number for point in BIG for number in point],
        [list(point) for point in BIG],
        [[number for point in BIG for number in point]],
        [[list(point) for point in BIG], []],
    ],
)
@pytest.mark.parametrize("image_id", [7, 7.0, "7"])
def test_one_outline_and_ids_as_tools_write_them(tmp_path, segmentation, image_id):
    annotation = coco_polygon(1, image_id, BIG) | {"segmentation": segmentation}
    source = write_coco(tmp_path, [coco_image(7, "a.png")], [annotation])
    np.testing.assert_array_equal(draw_from(source, "a.png"), filled(BIG))


def test_runs_of_a_crowd_and_in_a_list(tmp_path):
    mask = filled(BIG)
    edges = np.flatnonzero(np.diff(np.r_[False, mask.T.reshape(-1), False]))
    counts = np.diff(np.r_[0, edges, mask.size]).tolist()
    rle = {"size": list(SIZE), "counts": counts}
    for segmentation in (rle, [rle]):
        annotation = {"id": 1, "image_id": 1, "iscrowd": 1, "segmentation": segmentation}
        source = write_coco(tmp_path, [coco_image(1, "a.png")], [annotation])
        np.testing.assert_array_equal(draw_from(source, "a.png"), mask)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_background_of_coco_is_cut_out(tmp_path, order):
    annotations = [coco_polygon(1, 1, BIG, 2), coco_polygon(2, 1, around(40, 30, 10), 1)]
    source = write_coco(
        tmp_path,
        [coco_image(1, "a.png")],
        [annotations[i] for i in order],
        names=("_background_", "corrosion"),
    )
    np.testing.assert_array_equal(draw_from(source, "a.png"), RING)
    assert read_annotation_file(source).defect_type("a.png") == "corrosion"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([(1, "mon_0.png"), (2, "mon_1.png"), (1, "tue_0.png")], "mon_0.png and of tue_0.png"),
        ([(1, "mon/0.png"), (2, "mon/1.png"), ("1", "tue/0.png")], "mon/0.png and of tue/0.png"),
        ([(0, "mon.png"), (1, "a.png"), (0.0, "tue.png")], "mon.png and of tue.png"),
    ],
)
def test_one_id_for_two_images_is_refused(tmp_path, images, message):
    annotations = [coco_polygon(i, image[0], BIG) for i, image in enumerate(images)]
    source = write_coco(tmp_path, [coco_image(*image) for image in images], annotations)
    with pytest.raises(
        InputValueError, match=rf"all\.json: `images\[2\]`: `id` [01] is that of {message}, so that"
    ):
        read_annotation_file(source)


def test_one_id_for_two_categories_is_refused(tmp_path):
    content = {"images": [], "annotations": []}
    twice = [{"id": 1, "name": "crack"}, {"id": 1, "name": "crack"}]
    read_annotation_file(write(tmp_path, content | {"categories": twice}))
    other = [*twice, {"id": "1", "name": "stain"}]
    message = r"`categories\[2\]`: `id` 1 is that of crack and of stain"
    with pytest.raises(InputValueError, match=message):
        read_annotation_file(write(tmp_path, content | {"categories": other}))


@pytest.mark.parametrize(
    "names", [("a.png", "a.png"), ("x/a.png", "x\\a.png"), ("a.png", "./a.png")]
)
@pytest.mark.parametrize("ids", [(1, 2), (1, 1)])
def test_entries_of_one_image_are_united(tmp_path, names, ids):
    """The annotations may have one id as well, since nothing is looked up by it."""
    images = [coco_image(ids[0], names[0]), coco_image(3, "b.png"), coco_image(ids[1], names[1])]
    annotations = [coco_polygon(5, ids[0], BIG), coco_polygon(5, ids[1], SMALL)]
    source = write_coco(tmp_path, images, [*annotations, coco_polygon(5, 3, SMALL)])
    np.testing.assert_array_equal(draw_from(source, "a.png"), filled(BIG) | filled(SMALL))
    np.testing.assert_array_equal(draw_from(source, "b.png"), filled(SMALL))


def test_two_images_of_one_name_and_two_sizes_are_refused(tmp_path):
    images = [coco_image(1, "a.png"), coco_image(2, "a.png", (60, 81))]
    message = r"`images\[1\]`: a\.png is there twice, with 80 x 60 and 81 x 60 pixels"
    with pytest.raises(InputValueError, match=message):
        read_annotation_file(write_coco(tmp_path, images, []))


def test_an_image_without_annotations_is_not_given_those_of_its_namesake(tmp_path):
    images = [coco_image(1, "cam1/a.png"), coco_image(2, "cam2/a.png")]
    source = write_coco(tmp_path, images, [coco_polygon(1, 1, BIG)])
    np.testing.assert_array_equal(draw_from(source, "cam1/a.png"), filled(BIG))
    assert read_annotation_file(source).find(PurePosixPath("cam2/a.png")) is None
    with pytest.raises(InputValueError, match=r"a\.png fits 2 .* cam1/a\.png and cam2/a\.png"):
        read_annotation_file(source).find(PurePosixPath("a.png"))


@pytest.mark.parametrize(
    ("written", "name"),
    [("u\u0308.png", "\u00fc.png"), ("images\\4\\cb0618f0-part_7.PNG", "bad/part_7.png")],
)
def test_names_fit_as_systems_and_tools_change_them(tmp_path, written, name):
    source = write_coco(tmp_path, [coco_image(1, written)], [coco_polygon(1, 1, BIG)])
    np.testing.assert_array_equal(draw_from(source, name), filled(BIG))


def region(name, label="stain", **attributes):
    return {"shape_attributes": {"name": name, **attributes}, "region_attributes": {"type": label}}


def via_points(name, points, label="stain"):
    x, y = zip(*points, strict=True)
    return region(name, label, all_points_x=list(x), all_points_y=list(y))


def via_entries(*regions, name="a.png", size=99):
    entry = {"filename": name, "size": size, "regions": list(regions), "file_attributes": {}}
    return {f"{name}{size}": entry}


TURN = np.pi / 6
ALONG = (COLUMNS - 40) * np.cos(TURN) + (ROWS - 30) * np.sin(TURN)
ACROSS = (ROWS - 30) * np.cos(TURN) - (COLUMNS - 40) * np.sin(TURN)


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ([via_points("polygon", BIG)], filled(BIG)),
        ([via_points("polyline", CRACK)], path(CRACK, 3)),
        ([region("rect", x=20, y=10, width=30, height=25)], rectangle(20, 10, 50, 35)),
        ([region("circle", cx=40, cy=30, r=10.5)], disk(40, 30, 10.5)),
        (
            [region("ellipse", cx=40, cy=30, rx=20.2, ry=8.1, theta=TURN)],
            (ALONG / 20.2) ** 2 + (ACROSS / 8.1) ** 2 < 1,
        ),
        ([region("point", cx=20.2, cy=30.4)], disk(20.2, 30.4, 1.5)),
        ([via_points("polygon", BIG), via_points("polygon", around(40, 30, 10), "_background_")],
         RING),
        ([via_points("polygon", BIG), via_points("polyline", CRACK)],
         filled(BIG) | path(CRACK, 3)),
    ],
)  # fmt: skip
def test_regions_of_via(tmp_path, regions, expected):
    project = {"_via_settings": {}, "_via_img_metadata": via_entries(*regions)}
    first = {"a.png99": {**via_entries()["a.png99"], "regions": dict(enumerate(regions))}}
    for content in (project, via_entries(*regions), first):  # VIA 1 numbers the regions
        source = write(tmp_path, content)
        np.testing.assert_array_equal(draw_from(source, "bad/a.png"), expected)
        assert read_annotation_file(source).defect_type("a.png") == "stain"
        source.unlink()


def test_the_label_of_the_largest_region_of_via_is_the_defect_type(tmp_path):
    small = via_points("polygon", around(40, 30, 4), "scratch")
    source = write(tmp_path, via_entries(small, via_points("polygon", BIG, "dent")))
    assert read_annotation_file(source).defect_type("a.png") == "dent"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            via_entries(via_points("polygon", BIG), region("cube")),
            "region 1 is a cube, which is no",
        ),
        (via_entries(region("rect", x=3, y=3, width=0, height=4)), "region 0 is a rect of no size"),
        (via_entries(via_points("polygon", BIG[:2])), "region 0 is a polygon of 2 points"),
        (
            via_entries(region("polygon", all_points_x=[1, 2], all_points_y=[1])),
            "not as many `all_",
        ),
        (
            via_entries(region("polygon", all_points_x=[1, 2, "3"], all_points_y=[1, 2, 3])),
            "points that cannot be drawn: each must be finite numbers, not 3",
        ),
        (via_entries(region("circle", cx="wide")), r"'a\.png99': region 0: `cx` must be a finite"),
        (via_entries({}), "region 0: `shape_attributes` is missing"),
        ({"_via_img_metadata": []}, "`_via_img_metadata` must be an object"),
        (
            via_entries(via_points("polygon", BIG)) | via_entries(name="a.png", size=100),
            r"'a\.png100': a\.png is there twice, with 99 and 100 bytes",
        ),
        ({"project": {}, "view": {}, "metadata": {}}, "a project of VIA 3, which is not read"),
        ({"hello": 1}, "keys .'hello'.*Read are JSON of COCO, VIA"),
    ],
)
def test_regions_of_via_that_do_not_fit(tmp_path, content, message):
    with pytest.raises(InputValueError, match=r"all\.json.*" + message):
        draw_from(write(tmp_path, content), "a.png")


@pytest.mark.parametrize("repeated", ['"shapes": [1], "shapes": []', '"a": {"b": 1, "b": 2}'])
def test_a_key_that_is_there_twice_is_refused(tmp_path, repeated):
    path = tmp_path / "0.json"
    path.write_text(f"{{{repeated}}}")
    with pytest.raises(InputValueError, match=r"0\.json has the key '(shapes|b)' twice in one obj"):
        LabelMeFile(path).read(SIZE)
    path.write_text('{"version": 1, "version": 1, "shapes": []}')
    with pytest.raises(InputValueError, match=r"0\.json is empty"):
        LabelMeFile(path).read(SIZE)


@pytest.mark.parametrize("name", ["0 (2).json", "other.json"])
def test_two_labelme_files_for_one_image_are_refused(tmp_path, name):
    for folder in ("ok", "bad"):
        for image in ("0.png", "1.png"):
            turned_image(tmp_path, 1, f"{folder}/{image}")
            content = {"imagePath": f"..\\img\\{image}", "shapes": [shape(BIG)]}
            (tmp_path / folder / image).with_suffix(".json").write_text(json.dumps(content))
    for shapes in ([], [shape(SMALL)]):
        found = read_dataset(tmp_path, "ok", "bad", "bad").anomalous
        assert [mask_path(sample).name for sample in found] == ["0.json", "1.json"]
        content = {"imagePath": "0.png", "shapes": shapes}
        (tmp_path / "bad" / name).write_text(json.dumps(content))
    with pytest.raises(InputValueError, match=r"0\.json and .* both annotate 0\.png"):
        read_dataset(tmp_path, "ok", "bad", "bad")


WEDGE = [(5.0, 5.0), (70.0, 10.0), (20.0, 50.0)]


def turned_image(tmp_path, orientation, name="bad/0.jpg", size=SIZE):
    """Save an image that is stored in `size` and which EXIF turns."""
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    PillowImage.fromarray(np.full(size, 99, np.uint8)).save(file, exif=exif)
    return file


STORED = {1: lambda m: m, 3: lambda m: m[::-1, ::-1], 5: lambda m: m.T,
          6: lambda m: np.rot90(m, -1), 7: lambda m: m[::-1, ::-1].T, 8: np.rot90}  # fmt: skip


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_annotations_of_the_stored_image_are_turned_with_it(tmp_path, orientation, suffix):
    image = turned_image(tmp_path, orientation, f"bad/0.{suffix}")
    stored = filled(WEDGE)
    runs = np.diff(np.r_[0, np.flatnonzero(np.diff(stored.T.reshape(-1))) + 1, stored.size])
    rle = {"id": 1, "image_id": 1, "segmentation": {"size": SIZE, "counts": runs.tolist()}}
    unsized = {"id": 1, "file_name": "0.jpg"}
    PillowImage.fromarray(stored).save(tmp_path / "mask.png")
    sources = [
        labelme(tmp_path, shape(WEDGE)),
        MaskFile(tmp_path / "mask.png"),
        AnnotatedMask(write_coco(tmp_path, [unsized], [rle]), "0.jpg"),
    ]
    expected = STORED[orientation](stored)
    for source in sources:
        mask, was_turned = read_turned_mask(Sample(image, "hole", source))
        np.testing.assert_array_equal(mask, expected)
        assert was_turned is True
    upright = labelme(tmp_path, shape(WEDGE), size=SIZE[::-1])
    mask, was_turned = read_turned_mask(Sample(image, "hole", upright))
    assert (mask.shape, was_turned) == (SIZE[::-1], False)
    assert mask[8, 8]  # within the wedge, which the image's right side cuts off
    other = labelme(tmp_path, shape(WEDGE), size=(61, 80))
    with pytest.raises(InputValueError, match=r"made for 80 x 61 .* its image has 60 x 80"):
        read_turned_mask(Sample(image, "hole", other))


def test_turned_annotations_are_told_once(tmp_path):
    (tmp_path / "ok").mkdir()
    for name, orientation in (("a", 6), ("b", 8), ("c", 3), ("d", 1)):
        turned_image(tmp_path, orientation, f"bad/{name}.jpg")
        labelme(tmp_path / "bad", shape(WEDGE))
        (tmp_path / "bad/0.json").rename(tmp_path / f"bad/{name}.json")
    for name in "01":
        turned_image(tmp_path, 3, f"ok/{name}.jpg")
    findings = check_dataset(read_dataset(tmp_path, "ok", "bad", "bad"))
    turned, in_doubt = [line for line in findings.warnings if "EXIF" in line]
    assert turned.startswith("2 annotations are made for images as they are stored, which EXIF tu")
    assert "(bad/a.jpg, bad/b.jpg). They are turned too" in turned
    assert in_doubt.startswith("1 annotated images are turned or mirrored by EXIF")
    assert "(bad/c.jpg). Their annotations are taken as made upright" in in_doubt
