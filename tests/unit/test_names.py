"""Names that other tools write are matched to the image they are about, or to none."""

import pytest

from patchscout.checks import InputValueError
from patchscout.data.names import NameIndex

KNOWN = ["IMG_0.png", "IMG_1.PNG", "M\u00fcller 2 (b).jpg", "cb0618f9-IMG_9.png", "50%20.tif"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("IMG_0.png", "IMG_0.png"),
        ("IMG_0.PNG", "IMG_0.png"),
        ("img_0.png", None),
        ("IMG_1.png", "IMG_1.PNG"),
        ("IMG_0", "IMG_0.png"),
        ("IMG_0.jpg", "IMG_0.png"),
        ("IMG_00.png", None),
        ("cb0618f0-IMG_0.png", "IMG_0.png"),
        ("..\\..\\label-studio\\media\\upload\\4\\cb0618f0-IMG_0.png", "IMG_0.png"),
        ("/data/upload/1/3f2a1b9c-IMG_1.png", "IMG_1.PNG"),
        ("cb0618f0-3f2a1b9c-IMG_0.png", None),
        ("CB0618F0-IMG_0.png", None),
        ("/data/local-files/?d=day%201/IMG_0.png", "IMG_0.png"),
        ("/data/local-files/?x=1&d=C%3A%5Cday%5CIMG_0.png", "IMG_0.png"),
        ("https://a.example/b/IMG_0.png?X-Amz-Signature=d%3D1", "IMG_0.png"),
        ("Mu\u0308ller 2 (b).JPG", "M\u00fcller 2 (b).jpg"),
        ("M%C3%BCller%202%20(b).jpg", "M\u00fcller 2 (b).jpg"),
        ("3f2a1b9c-M\u00fcller_2_b.jpg", "M\u00fcller 2 (b).jpg"),
        ("IMG_9.png", "cb0618f9-IMG_9.png"),
        ("cb0618f9-IMG_9.png", "cb0618f9-IMG_9.png"),
        ("aaaaaaaa-IMG_9.png", None),
        ("50%20.tif", "50%20.tif"),
        ("", None),
        ("/", None),
        ("?d=", None),
        (".png", None),
    ],
)
def test_names_of_other_tools(name, expected):
    assert NameIndex(KNOWN).match(name) == expected


def test_folders_decide_between_files_of_one_name():
    index = NameIndex(["scratch/007.png", "hole/007.png", "hole/deep/007.jpg", "8.png"])
    assert index.match("hole/007.png") == "hole/007.png"
    assert index.match("D:\\set\\scratch\\aaaaaaaa-007.png") == "scratch/007.png"
    assert index.match("set/hole/deep/007") == "hole/deep/007.jpg"
    assert index.match("else/8.png") == "8.png"
    message = r"x/007\.png fits scratch/007\.png and hole/007\.png\. Expected one; give"
    with pytest.raises(InputValueError, match=message):
        index.match("x/007.png")
    assert NameIndex(["a.png", "a.jpg"]).match("a.png") == "a.png"
    with pytest.raises(InputValueError, match=r"fits a\.png and a\.jpg"):
        NameIndex(["a.png", "a.jpg"]).match("a.tif")
