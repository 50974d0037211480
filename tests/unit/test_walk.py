"""Folders are listed in full or refused; what is no regular file is never waited for."""

import os
import tempfile
from pathlib import Path

import pytest

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.commands.shell import named_images
from patchscout.data.folder import read_folders
from patchscout.data.images import read_image
from patchscout.data.layout import read_dataset
from patchscout.data.mask_folder import MaskFolder
from patchscout.data.photos import find_photos
from patchscout.data.walk import list_files, list_folder


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture
def tree(tmp_path):
    """Files in two sub-folders, one of which may not be read where `forbid` is called."""
    touch(tmp_path / "data", "b.png", "a/x.png", "a/.y.png", "closed/z.png", "a/deep/n.txt")
    return tmp_path / "data"


@pytest.fixture
def forbid(monkeypatch):
    """Lets no folder of a name be listed, as for a user without the permission."""

    def forbid(name):
        scandir = os.scandir

        def refuse(path="."):
            if Path(path).name == name:
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)

    return forbid


def test_lists(tree):
    folders, files = list_folder(tree)
    assert [path.name for path in folders] == ["a", "closed"]
    assert [path.name for path in files] == ["b.png"]
    relative = [path.relative_to(tree).as_posix() for path in list_files(tree)]
    assert relative == ["a/deep/n.txt", "a/x.png", "b.png", "closed/z.png"]


def test_links_to_folders_are_followed_each_folder_once(tree):
    touch(tree.parent / "disk2", "day/0.png", "day/1.png")
    (tree / "again").symlink_to(tree / "a", target_is_directory=True)
    (tree / "day").symlink_to(tree.parent / "disk2/day", target_is_directory=True)
    (tree / "day-2").symlink_to(tree.parent / "disk2/day", target_is_directory=True)
    (tree / "loop").symlink_to(tree, target_is_directory=True)
    (tree / "up").symlink_to(tree.parent, target_is_directory=True)
    (tree / "self.png").symlink_to(tree / "self.png")
    (tree / "link.png").symlink_to(tree / "b.png")
    images = [path.relative_to(tree).as_posix() for path, _ in named_images((tree,), tree / "out")]
    links = ["link.png", "self.png"]
    assert images == ["a/x.png", "b.png", "closed/z.png", "day/0.png", "day/1.png", *links]
    with pytest.raises(InputValueError, match=r"self\.png cannot be read: Too many levels"):
        read_image(tree / "self.png")
    assert named_images((tree / "loop",), tree / "out")[0][0] == tree / "loop/a/x.png"


def test_what_is_left_out_is_told(tree):
    touch(tree, "a/.hidden/0.png", "found/.patchscout-files", "found/masks/0.png")
    (tree / "loop").symlink_to(tree, target_is_directory=True)
    left_out = {}
    files = list_files(tree, apart_from=[tree / "closed"], left_out=left_out)
    assert files == [tree / "a/deep/n.txt", tree / "a/x.png", tree / "b.png"]
    assert {reason: sorted(path.name for path in paths) for reason, paths in left_out.items()} == {
        "hidden": [".hidden", ".y.png"],
        "links to what is searched anyway": ["loop"],
        "folders that PatchScout wrote": ["found"],
    }


def test_folders_that_may_not_be_read_are_refused(tree, forbid):
    forbid("closed")
    expected = r"data/closed may not be read\. Change its permissions or leave it out\."
    with pytest.raises(InputValueError, match=expected):
        named_images((tree,), apart_from=tree / "out")
    with pytest.raises(InputValueError, match=expected):
        MaskFolder(tree).find(Path("q.png"))
    with pytest.raises(InputValueError, match=expected):
        find_photos(tree / "closed")
    touch(tree, "ok/1.png", "ok/2.png")
    with pytest.raises(InputValueError, match=expected):
        read_folders(tree, "ok", ".", "a")


def test_mvtec_folders_that_may_not_be_read_are_refused(tree, forbid):
    touch(tree, "train/good/0.png", "test/closed/0.png", "ground_truth/closed/0_mask.png")
    assert len(read_dataset(tree).anomalous) == 1
    forbid("closed")
    with pytest.raises(InputValueError, match=r"test/closed may not be read"):
        read_dataset(tree)


@pytest.mark.skipif(os.geteuid() != 0, reason="drops the rights of root")
def test_permissions_for_real():
    nobody = 65534
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        root = Path(name)
        root.chmod(0o755)
        touch(root, "b.png", "closed/z.png")
        (root / "closed").chmod(0)
        os.seteuid(nobody)
        try:
            with pytest.raises(InputValueError, match=r"closed may not be read\. Change its perm"):
                named_images((root,), apart_from=root / "out")
            with pytest.raises(InputValueError, match=r"z\.png may not be read\. Change its perm"):
                read_image(root / "closed/z.png")
        finally:
            os.seteuid(0)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputValueError, match=r"pipe\.png is a pipe, socket or device\. Expected"):
        read_image(tmp_path / "pipe.png")
    with pytest.raises(InputValueError, match="is a pipe, socket or device"):
        read_image("/dev/zero")


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "nul\0.png"])
def test_names_that_the_system_does_not_take(tmp_path, name):
    with pytest.raises(InputValueError, match=r"cannot be read: .*\. Check the path"):
        read_image(tmp_path / name)


def test_folders_that_are_not_there(tmp_path):
    (tmp_path / "file").touch()
    for list_it in (list_files, list_folder):
        with pytest.raises(InputNotFoundError, match="gone does not exist"):
            list_it(tmp_path / "gone")
        with pytest.raises(InputValueError, match="file cannot be read: Not a directory"):
            list_it(tmp_path / "file")
