"""Masks from images, LabelMe and COCO come out as drawn; those that do not fit are refused."""

import base64
import io
import json
import os
import time
from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import Image as PillowImage

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.annotation_file import AnnotatedMask, read_annotation_file
from patchscout.data.annotations import MaskFile, read_mask
from patchscout.data.labelme import LabelMeFile
from patchscout.types import Sample

SIZE = (40, 50)
NAME = "scratch/007.png"
SQUARE = np.zeros(SIZE, bool)
SQUARE[5:20, 10:30] = True
SQUARE_XY = [10, 5, 30, 5, 30, 20, 10, 20]
POINTS = [[10, 5], [30, 5], [30, 20], [10, 20]]

# pycocotools 2.0 encodes this mask as this string.
TWO_BOXES = SQUARE.copy()
TWO_BOXES[18:35, 25:45] = True
TWO_BOXES[0, 0] = True
TWO_BOXES[8, 12] = False
TWO_BOXES_RLE = "01d<>UD00DXO8h0400000000000000000000000?A0000000=C0000000000000000000000000000f5"


def save_mask(path, array, mode=None, **options):
    picture = PillowImage.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return MaskFile(path)


def labelme(path, shapes, size=SIZE):
    path.write_text(json.dumps({"shapes": shapes, "imageHeight": size[0], "imageWidth": size[1]}))
    return LabelMeFile(path)


def mask_shape(pixels, far_corner=None, left_top=(0, 0), cut=0):
    """Return a shape as LabelMe's AI draws it; the box holds its last row and column."""
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "PNG")
    size = np.subtract(pixels.shape[::-1], 1)
    far_corner = np.add(left_top, size).tolist() if far_corner is None else far_corner
    mask = base64.b64encode(file.getvalue()[: -cut or None]).decode()
    return {"shape_type": "mask", "points": [list(left_top), list(far_corner)], "mask": mask}


def coco(path, annotations, size=SIZE, **more):
    image = {"id": 7, "file_name": NAME, "height": size[0], "width": size[1]}
    content = {"images": [image], "annotations": annotations, "categories": [], **more}
    path.write_text(json.dumps(content))
    return AnnotatedMask(path, NAME)


def test_mask_files_of_every_kind(tmp_path):
    levels = SQUARE.astype(np.uint8)
    red = np.zeros((*SIZE, 4), np.uint8)
    red[SQUARE] = [255, 0, 0, 255]  # painted on a transparent layer
    palette = PillowImage.fromarray(levels, "P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.save(tmp_path / "palette.png")
    sources = [
        save_mask(tmp_path / "255.png", levels * 255),
        save_mask(tmp_path / "1.png", levels),
        save_mask(tmp_path / "bit.png", SQUARE),
        save_mask(tmp_path / "16.tif", levels.astype(np.uint16) * 65535),
        save_mask(tmp_path / "grey.bmp", levels * 255, "RGB"),
        save_mask(tmp_path / "layer.png", red),
        MaskFile(tmp_path / "palette.png"),
    ]
    for source in sources:
        mask = source.read(SIZE)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, SQUARE, err_msg=str(source))


def test_mask_file_of_another_size(tmp_path):
    source = save_mask(tmp_path / "007_mask.png", SQUARE)
    message = r"007_mask\.png is made for 50 x 40 pixels .* its image has 40 x 50\. Annotate"
    with pytest.raises(InputValueError, match=message):
        source.read((50, 40))


def test_mask_file_that_is_empty(tmp_path):
    source = save_mask(tmp_path / "007_mask.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(InputValueError, match=r"007_mask\.png is empty: .* move the image to"):
        source.read(SIZE)


def test_mask_file_that_is_gone(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"gone\.png does not exist"):
        MaskFile(tmp_path / "gone.png").read(SIZE)


def test_mask_of_a_normal_sample_is_empty(tmp_path):
    image = save_mask(tmp_path / "a.png", SQUARE).path
    mask = read_mask(Sample(image))
    assert (mask.shape, mask.any()) == (SIZE, False)
    source = save_mask(tmp_path / "mask.png", SQUARE)
    np.testing.assert_array_equal(read_mask(Sample(image, "hole", source)), SQUARE)


def test_labelme_shapes(tmp_path):
    polygon = labelme(tmp_path / "a.json", [{"points": POINTS}])
    np.testing.assert_array_equal(polygon.read(SIZE), SQUARE)
    for corners in ([[30, 20], [10, 5]], POINTS):
        rectangle = labelme(tmp_path / "a.json", [{"shape_type": "rectangle", "points": corners}])
        np.testing.assert_array_equal(rectangle.read(SIZE), SQUARE)
    circle = labelme(
        tmp_path / "a.json", [{"shape_type": "circle", "points": [[20, 15], [20, 25]]}]
    )
    rows, columns = np.mgrid[:40, :50] + 0.5
    np.testing.assert_array_equal(circle.read(SIZE), np.hypot(rows - 15, columns - 20) < 10)
    two = [{"points": POINTS, "label": "a"}, {"points": [[0, 0], [4, 0], [4, 3], [0, 3]]}]
    assert labelme(tmp_path / "a.json", two).read(SIZE).sum() == SQUARE.sum() + 12


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([], r"007\.json is empty"),
        ([{"points": [[90, 90], [95, 90], [95, 95]]}], r"007\.json is empty"),
        (
            [{"points": POINTS}, {"shape_type": "cuboid", "label": "dent", "points": POINTS}],
            r"007\.json: `shapes\[1\]` \(dent\) is a cuboid of 4 points, which is not read",
        ),
        ([{"points": [[1, 1], [2, 2]]}], "is a polygon of 2 points, which has no area. Remove"),
        ([{"shape_type": "mask", "points": [[1, 1], [2, 2]]}], "a mask without its pixels in `mas"),
        ([mask_shape(SQUARE, (9, 9))], "`mask` of 50 x 40 pixels for a box of 10 x 10"),
        ([mask_shape(np.ones((41, 50), bool))], "`mask` of 50 x 41 pixels, larger than the image"),
        ([mask_shape(SQUARE) | {"mask": "iVBORw0K"}], r"a `mask` that is no PNG image \(cannot"),
        ([mask_shape(SQUARE) | {"mask": "#"}], r"a `mask` that is no PNG image"),
        ([mask_shape(SQUARE, cut=40)], r"a damaged `mask`"),
        ([{"points": [[1], [2, 2]]}], r"`shapes\[0\]`: `points` must be a list of x, y pairs"),
        ([{}], r"`shapes\[0\]`: `points` is missing"),
        (["polygon"], r"`shapes\[0\]`: it must be an object .* got polygon"),
        ([{"points": [[1, 1], [2, 2], [3, None]]}], "must be finite numbers, not None"),
        (None, "`shapes` must be a valid list; got None"),
    ],
)
def test_labelme_files_that_do_not_fit(tmp_path, shapes, message):
    with pytest.raises(InputValueError, match=message):
        labelme(tmp_path / "007.json", shapes).read(SIZE)


def test_labelme_file_for_another_size(tmp_path):
    source = labelme(tmp_path / "007.json", [{"points": POINTS}], size=(400, 500))
    with pytest.raises(InputValueError, match=r"made for 500 x 400 pixels .* has 50 x 40"):
        source.read(SIZE)


@pytest.mark.parametrize("content", ['{"shapes": [', "", "\x00\xff"])
@pytest.mark.parametrize("source", [LabelMeFile, lambda path: AnnotatedMask(path, NAME)])
def test_broken_json_is_one_line(tmp_path, content, source):
    path = tmp_path / "broken.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputValueError, match=r"broken\.json is not readable JSON") as caught:
        source(path).read(SIZE)
    assert "\n" not in str(caught.value)
    path.write_text("[]")
    with pytest.raises(
        InputValueError, match=r"broken\.json holds a JSON list\. (Expected a|Read are) "
    ):
        source(path).read(SIZE)
    path.unlink()
    with pytest.raises(InputNotFoundError, match=r"broken\.json does not exist"):
        source(path).read(SIZE)


def rle(path, counts, size):
    annotation = {"image_id": 7, "segmentation": {"size": size, "counts": counts}}
    return coco(path, [annotation], size).read(size)


def test_compressed_runs_as_pycocotools_writes_them(tmp_path):
    np.testing.assert_array_equal(rle(tmp_path / "a.json", TWO_BOXES_RLE, SIZE), TWO_BOXES)
    # The same, but for a mask with runs beyond 5 and 10 bits.
    big = np.zeros((300, 400), bool)
    big[100:250, 50:350] = True
    text = "lg>f4f4" + "0" * 597 + "da>"
    np.testing.assert_array_equal(rle(tmp_path / "b.json", text, (300, 400)), big)


def test_uncompressed_runs_go_down_the_columns(tmp_path):
    expected = [[False, True, False], [True, False, False]]
    for counts in ([1, 2, 3], [1.0, 2.0, 3.0], [1, 2, 3, 0, 0]):
        np.testing.assert_array_equal(rle(tmp_path / "a.json", counts, (2, 3)), expected)


def test_coco_annotations_are_united(tmp_path):
    box = {"image_id": 7, "segmentation": [SQUARE_XY]}
    runs = {"image_id": 7, "segmentation": {"size": SIZE, "counts": TWO_BOXES_RLE}}
    np.testing.assert_array_equal(coco(tmp_path / "a.json", [box]).read(SIZE), SQUARE)
    np.testing.assert_array_equal(coco(tmp_path / "b.json", [runs]).read(SIZE), TWO_BOXES)
    union = coco(tmp_path / "c.json", [box, runs]).read(SIZE)
    np.testing.assert_array_equal(union, SQUARE | TWO_BOXES)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([], r"image scratch/007\.png\) is empty"),
        ([{"image_id": 7, "id": 3}], r"image scratch/007\.png\) is empty"),
        (
            [{"image_id": 7, "id": 3, "bbox": [1, 2, 3, 4], "segmentation": []}],
            r"007\.png\): annotation 3 has a box and no `segmentation`; .* polygon or a mask",
        ),
        ([{"image_id": 7, "bbox": [1, 2, 3, 4]}], r"`annotations\[0\]` has a box and no `segm"),
        ([{"image_id": 7, "id": 3, "area": 5}], "annotation 3 has an `area` and no `segmentation`"),
        ([{"image_id": 7, "segmentation": [[1, 2, 3]]}], "a polygon that cannot be drawn"),
        (
            [{"image_id": 7, "segmentation": [[1, 2, 3, 4]]}],
            "a polygon of 2 points, which has no area",
        ),
        (
            [{"image_id": 7, "segmentation": {"size": [9, 9], "counts": [81]}}],
            "an RLE that is made for 9 x 9",
        ),
        ([{"image_id": 7, "segmentation": {"size": SIZE, "counts": [9]}}], "RLE of 9 pixels"),
        ([{"image_id": 7, "segmentation": {"size": SIZE, "counts": "\u2603"}}], "the character"),
        ([{"image_id": 7, "segmentation": {"size": SIZE, "counts": "P"}}], "within a number"),
        ([{"image_id": 8}], r"`annotations\[0\]`: `image_id` 8 is missing among"),
        ([{}], r"`annotations\[0\]`: `image_id` is missing.*COCO"),
        (None, "`annotations` must be a valid list; got None.*COCO"),
    ],
)
def test_coco_files_that_do_not_fit(tmp_path, annotations, message):
    with pytest.raises(InputValueError, match=message):
        coco(tmp_path / "a.json", annotations).read(SIZE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"area": "wide"}, r"`annotations\[0\]`: `area` must be a finite number; got wide"),
        ({"area": True}, r"`annotations\[0\]`: `area` must be a finite number; got True"),
        ({"area": float("nan")}, r"`area` must be a finite number; got nan"),
        ({"area": 10**400}, r"`area` must be a finite number; got a number of 1329 bits"),
        ({"bbox": [1, 2, 3]}, r"`bbox` must be a list of x, y, width and height; got \[1, 2, 3\]"),
        ({"bbox": [1, 2, "3", 4]}, r"`bbox` must be a list of x, y, width and height"),
        ({"category_id": [1]}, r"`category_id` must be a whole number or a text; got \[1\]"),
        ({"category_id": 1.5}, r"`category_id` must be a whole number or a text; got 1\.5"),
        ({"image_id": True}, r"`image_id` must be a whole number or a text; got True"),
        ({"image_id": None}, r"`image_id` must be a whole number or a text; got None"),
    ],
)
def test_coco_fields_of_odd_types(tmp_path, change, message):
    annotation = {"image_id": 7, "segmentation": [SQUARE_XY], **change}
    with pytest.raises(InputValueError, match=message + ".* Expected a COCO file"):
        coco(tmp_path / "a.json", [annotation]).read(SIZE)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([7], r"`images\[0\]`: it must be an object with fields; got 7"),
        ([{"id": 7}], r"`images\[0\]`: `file_name` is missing"),
        ([{"id": 7, "file_name": 7}], r"`file_name` must be a text; got 7"),
        ([{"id": {}, "file_name": "a"}], r"`id` must be a whole number or a text; got \{\}"),
        ([{"id": 7, "file_name": "a", "width": 0}], r"`width` must be a whole number of pixels"),
        ([{"id": 7, "file_name": "a", "width": True}], r"`width` .* got True"),
        ([{"id": 7, "file_name": "a", "height": 10**30}], r"`height` must be a whole number of pi"),
        (
            [{"id": 7, "file_name": name} for name in "ab"],
            r"`images\[1\]`: `id` 7 is that of a and of b, so .* Give each an `id` of its own",
        ),
    ],
)
def test_coco_images_of_odd_types(tmp_path, images, message):
    with pytest.raises(InputValueError, match=message):
        coco(tmp_path / "a.json", [], images=images).read(SIZE)


def test_coco_files_as_wide_as_the_tools_that_write_them(tmp_path):
    image_id = 10**400
    images = [{"id": image_id, "file_name": "a.png", "height": 40.0, "width": None, "more": [{}]}]
    annotations = [
        {"id": "a-1", "image_id": image_id, "segmentation": [SQUARE_XY], "area": None, "bbox": []},
        {
            "image_id": image_id,
            "segmentation": [POINTS],
            "bbox": [0, 0, 9, 9, 45.0],
            "score": 1e999,
        },
        {"image_id": image_id, "segmentation": [], "category_id": None, "area": 0},
    ]
    categories = [{"id": "x", "name": 3}]
    coco(tmp_path / "a.json", annotations, images=images, categories=categories)
    mask = AnnotatedMask(tmp_path / "a.json", "a.png").read(SIZE)
    np.testing.assert_array_equal(mask, SQUARE)
    assert read_annotation_file(tmp_path / "a.json").defect_type("a.png") == "defect"
    coco(
        tmp_path / "b.json",
        [{"image_id": "7.0", "segmentation": [SQUARE_XY]}],
        images=[{"id": "7.0", "file_name": "a.png"}],
    )
    source = AnnotatedMask(tmp_path / "b.json", "a.png")
    np.testing.assert_array_equal(source.read(SIZE), SQUARE)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([2**62, 2**62, 2**62, 2**62, 2000], "RLE with a run of 4.6.*e.18 pixels"),
        ([-1, 2001], "RLE with a run of -1 pixels"),
        ([0.5, 1999.5], r"RLE with a run of 0\.5 pixels"),
        ([10**400], "must be finite numbers, not a number of 1329 bits"),
        ([True, 1999], "must be finite numbers, not True"),
        (["2000"], "must be finite numbers, not 2000"),
        ({}, r"RLE `counts` must be a list or a text; got \{\}"),
        ("o" * 20000 + "0", "a number that no image has pixels for"),
        ("oooooo0" * 9, "RLE with a run of .* pixels"),
        ("\udcff", "RLE with the character"),
    ],
)
def test_runs_that_do_not_fit(tmp_path, counts, message):
    with pytest.raises(InputValueError, match=r"`annotations\[0\]` cannot be drawn .*" + message):
        rle(tmp_path / "a.json", counts, SIZE)


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        (["1", "2", "3", "4", "5", "6"], "must be finite numbers, not 1"),
        ([[[1, 2]], [[3, 4]], [[5, 6]]], "must be a list of x, y pairs, or"),
        ([[1, 2, 3], [4, 5, 6]], "must be a list of x, y pairs, or"),
        ([1, 2, 3, 4, 5], "must be a list of x, y pairs, or"),
        ([1, 2, 3, 4, 5, True], "must be finite numbers, not True"),
        ([1, 2, 3, 4, 5, float("nan")], "must be finite numbers, not nan"),
        ([1, 2, 3, 4, 5, 1e308], r"must have coordinates of at most 1e\+12 pixels"),
        ([1, 2, 3, 4, 5, 10**400], "must be finite numbers, not a number of 1329 bits"),
        ({"x": 1}, "must be a list of x, y pairs, or"),
        ("abcdef", "must be a list of x, y pairs, or"),
    ],
)
def test_outlines_that_do_not_fit(tmp_path, polygon, message):
    annotation = {"image_id": 7, "id": 3, "segmentation": [SQUARE_XY, polygon]}
    with pytest.raises(
        InputValueError, match=f"annotation 3 has a polygon .*: it {message}.*; got "
    ):
        coco(tmp_path / "a.json", [annotation]).read(SIZE)
    shapes = [{"points": POINTS}, {"points": polygon}]
    with pytest.raises(InputValueError, match=rf"`shapes\[1\]`: `points` {message}.*; got "):
        labelme(tmp_path / "b.json", shapes).read(SIZE)


def test_an_outline_beyond_the_image_is_cut_off(tmp_path):
    far = [[10, 5], [1e12, 5], [1e12, 1e12], [10, 1e12]]
    mask = labelme(tmp_path / "a.json", [{"points": far}]).read(SIZE)
    expected = np.zeros(SIZE, bool)
    expected[5:, 10:] = True
    np.testing.assert_array_equal(mask, expected)


def test_points_beyond_the_limit(tmp_path, limits):
    annotation = {"image_id": 7, "segmentation": [SQUARE_XY]}
    runs = {"image_id": 7, "segmentation": {"size": SIZE, "counts": TWO_BOXES_RLE}}
    sources = [
        labelme(tmp_path / "a.json", [{"points": POINTS}] * 3),
        coco(tmp_path / "b.json", [annotation] * 3),
        coco(tmp_path / "c.json", [runs]),
    ]
    limits(points=11)
    for source in sources:
        with pytest.raises(InputValueError, match=r"[abc]\.json.*`--limits\.points`"):
            source.read(SIZE)


def test_odd_labelme_sizes_and_types(tmp_path):
    path = tmp_path / "a.json"
    for size in ((40.0, 50.0), (None, None), (40, None)):
        mask = labelme(path, [{"points": POINTS, "shape_type": None}], size).read(SIZE)
        np.testing.assert_array_equal(mask, SQUARE)
    for size in (("40", 50), (True, 50), (-40, 50)):
        with pytest.raises(InputValueError, match="`imageHeight` must be a whole number of pixels"):
            labelme(path, [{"points": POINTS}], size).read(SIZE)
    shape = {"points": POINTS, "shape_type": "\x1b[31m" * 999}
    with pytest.raises(InputValueError, match=r"is a .x1b\[31m.* of 4 points") as caught:
        labelme(path, [shape]).read(SIZE)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_file_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"scratch/\xff\xe9.png")
    images = [{"id": 7, "file_name": name}]
    source = coco(
        tmp_path / "a.json", [{"image_id": 7, "segmentation": [SQUARE_XY]}], images=images
    )
    assert read_annotation_file(source.path).find(PurePosixPath(name)) == name
    np.testing.assert_array_equal(AnnotatedMask(source.path, name).read(SIZE), SQUARE)
    source = AnnotatedMask(coco(tmp_path / "b.json", [], images=images).path, name)
    with pytest.raises(InputValueError, match=r"image scratch/.udcff.udce9\.png\) is empty"):
        source.read(SIZE)


def test_a_category_called_like_normal_images_is_refused(tmp_path):
    annotation = {"image_id": 7, "category_id": 1, "segmentation": [SQUARE_XY]}
    source = coco(tmp_path / "a.json", [annotation], categories=[{"id": 1, "name": "good"}])
    with pytest.raises(InputValueError, match=r"a category `good`.*007\.png.* another name"):
        read_annotation_file(source.path).defect_type(NAME)


def test_an_image_is_found_among_many_at_once(tmp_path):
    images = [{"id": i, "file_name": f"part{i}/image.png"} for i in range(2_000)]
    annotations = [{"image_id": i} for i in range(2_000)]
    found = read_annotation_file(coco(tmp_path / "a.json", annotations, images=images).path)
    start = time.process_time()
    names = [image["file_name"] for image in images]
    assert [found.find(PurePosixPath(name)) for name in names] == names
    assert time.process_time() - start < 1
    with pytest.raises(InputValueError, match=r"other/image\.png fits 2000 images of .*a\.json"):
        found.find(PurePosixPath("other/image.png"))


def test_coco_file_for_another_size(tmp_path):
    source = coco(tmp_path / "a.json", [], size=(400, 500))
    with pytest.raises(InputValueError, match="made for 500 x 400 pixels"):
        source.read(SIZE)


def test_coco_file_is_parsed_once_until_it_changes(tmp_path):
    path = tmp_path / "a.json"
    coco(path, [{"image_id": 7, "segmentation": [SQUARE_XY]}])
    first = read_annotation_file(path)
    assert read_annotation_file(path) is first
    coco(path, [])
    os.utime(path, ns=(1, 1))
    assert not read_annotation_file(path).images[NAME].annotations
