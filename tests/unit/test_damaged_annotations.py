"""Annotation and split files with odd values or flipped bytes end in a mask or in one line."""

import copy
import json
import random
import time
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from patchscout.checks import InputError
from patchscout.data.annotations import LabelMePolygons
from patchscout.data.coco import CocoMask, read_coco
from patchscout.data.split import draw_split, images_of_split, parse_split, split_json
from patchscout.types import Dataset, Sample

SIZE = (40, 50)
NUM_CASES = 150  # of each kind

COCO = {
    "images": [{"id": 7, "file_name": "scratch/007.png", "height": 40, "width": 50}],
    "categories": [{"id": 1, "name": "scratch"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 1,
            "area": 300.0,
            "bbox": [10, 5, 20, 15],
            "segmentation": [[10, 5, 30, 5, 30, 20, 10, 20]],
        },
        {"id": 2, "image_id": 7, "segmentation": {"size": [40, 50], "counts": [45, 10, 1945]}},
        {"id": 3, "image_id": 7, "segmentation": {"size": [40, 50], "counts": "]1:il1"}},
    ],
}
LABELME = {
    "imageHeight": 40,
    "imageWidth": 50,
    "shapes": [
        {"points": [[10, 5], [30, 5], [30, 20]], "shape_type": "polygon"},
        {"points": [[10, 5], [30, 25]], "shape_type": "rectangle"},
        {"points": [[20, 15], [20, 25]], "shape_type": "circle"},
    ],
}
ODD = [
    *(None, True, False, 0, 1, -1, 2, 0.5, 512.0, 2**31, 2**63, 2**64 - 1, -(2**63), 10**400),
    *(1e308, -1e308, 1e-320, 1e12, float("nan"), float("inf"), float("-inf")),
    *(
        "",
        "a",
        "1",
        "good",
        "\x00",
        "\n",
        "\ud800",
        "\udcff",
        "../x",
        "/",
        "\\",
        "o" * 9,
        "x" * 9999,
    ),
    *([], [[]], [[[]]], [1], [1, 2], [1, 2, 3], [None] * 6, [[1, 2]] * 3, ["1"] * 6, [1e308] * 6),
    *({}, {"": 0}, {"size": [40, 50], "counts": [2**62, 2**62, 2**62, 2**62, 2000]}),
    *({"size": [40, 50], "counts": "o" * 500 + "0"}, {"size": [2**40, 2**40], "counts": [0]}),
]


def places(value, at=()):
    """Every place in a JSON value, as keys and indices from its root."""
    yield at
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*at, key))


def with_odd_value(content, rng):
    content = copy.deepcopy(content)
    at = rng.choice(list(places(content)))
    odd = copy.deepcopy(rng.choice(ODD))
    if not at:
        return odd
    parent = content
    for key in at[:-1]:
        parent = parent[key]
    action = rng.randrange(5)
    if action == 0 and isinstance(parent, list):
        parent += [parent[at[-1]]] * rng.choice([1, 2, 50])
    elif action == 1:
        del parent[at[-1]]
    elif action == 2:
        parent[at[-1]] = [parent[at[-1]]] * rng.choice([1, 2, 100])
    else:
        parent[at[-1]] = odd
    return content


def damaged(content, rng):
    """The bytes of a file with one to three odd values, or with some bytes changed."""
    if rng.random() < 0.7:
        for _ in range(rng.choice([1, 1, 2, 3])):
            content = with_odd_value(content, rng) if isinstance(content, dict) else content
        return json.dumps(content).encode()
    data = bytearray(json.dumps(content).encode())
    for _ in range(rng.choice([1, 2, 8])):
        place = rng.randrange(len(data))
        data[place : place + rng.randrange(3)] = rng.choice(
            [
                bytes([rng.randrange(256)]),
                b"[",
                b"{",
                b'"',
                b"9" * 5000,
                b"NaN",
                b"\\ud800",
                b"e308",
            ]
        )
    return bytes(data)


def read_coco_all(path):
    coco = read_coco(path)
    for image_id in coco.images:
        if coco.annotations[image_id]:
            assert isinstance(coco.largest_category(image_id), str)
    coco.find(PurePosixPath("scratch/007.png"))
    return [CocoMask(path, image_id).read(SIZE) for image_id in coco.images or [7]]


def read_labelme(path):
    return [LabelMePolygons(path).read(SIZE)]


def make_dataset(root):
    anomalous = tuple(Sample(root / f"test/hole/{i}.png", "hole") for i in range(3))
    train = tuple(Sample(root / f"train/good/{i}.png") for i in range(3))
    return Dataset("parts", root, train, (Sample(root / "test/good/0.png"),), anomalous)


def read_split_both(path):
    dataset = make_dataset(Path("/data/parts"))
    error = None
    try:
        parse_split(path.read_bytes(), path, dataset)
    except InputError as caught:
        error = caught
    assert images_of_split(path.read_bytes(), path) == []
    if error:
        raise error
    return []


def split_content(path):
    dataset = make_dataset(Path("/data/parts"))
    path.write_bytes(split_json(draw_split(dataset, labeled_per_type=1), dataset.root))
    return json.loads(path.read_text())


def count_refused(folder, read, content, seed, num_cases):
    """Read damaged files; return how many are refused, each in a short line."""
    rng = random.Random(seed)
    refused = 0
    for case in range(num_cases):
        data = damaged(content, rng)
        path = folder / f"{case}.json"
        path.write_bytes(data)
        start, message = time.process_time(), ""
        try:
            masks = read(path)
        except InputError as error:
            message = str(error)
        except Exception as error:
            raise AssertionError(data[:2000]) from error
        else:
            assert all(mask.shape == SIZE and mask.dtype == np.bool_ for mask in masks)
        assert time.process_time() - start < 1, data[:2000]
        assert "\n" not in message
        assert len(message) < 600 + 3 * len(str(path)), data[:2000]
        refused += bool(message)
        path.unlink()
    return refused


@pytest.mark.parametrize("read", [read_coco_all, read_labelme, read_split_both])
def test_damaged_files_end_in_a_mask_or_one_line(tmp_path, read):
    path = tmp_path / "file.json"
    content = {read_coco_all: COCO, read_labelme: LABELME}.get(read) or split_content(path)
    path.write_text(json.dumps(content))
    assert all(mask.any() for mask in read(path))
    refused = count_refused(tmp_path, read, content, seed=0, num_cases=NUM_CASES)
    assert NUM_CASES / 4 < refused < NUM_CASES
