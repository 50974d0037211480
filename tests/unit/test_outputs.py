"""Output folders and tables: what is written, when, and that no one's file is lost."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from patchscout.checks import InputValueError
from patchscout.decision import Decision, DecisionSettings
from patchscout.files.atomic import (
    atomic_path,
    remove_partial_files,
    write_json_atomic,
    write_text_atomic,
)
from patchscout.files.manifest import MANIFEST, digest_of, is_plain
from patchscout.files.output_folder import STAGING, Journal, OutputFolder, check_free, recover
from patchscout.outputs import PredictionWriter
from patchscout.prediction import Prediction, make_prediction

IMAGE = np.full((6, 10, 3), 0.5, dtype=np.float32)


def _prediction(peak: float = 0.75, pixel_size: str | None = None) -> Prediction:
    anomaly_map = np.full((6, 10), 0.125, dtype=np.float32)
    anomaly_map[1:3, 2:5] = peak
    asked = DecisionSettings(pixel_size=pixel_size)
    decision = Decision(asked=asked, image_threshold=0.5, pixel_threshold=0.5)
    return make_prediction(anomaly_map, peak, decision)


def _files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }


def _write(folder: Path, *paths: str, overwrite: bool = False) -> None:
    with PredictionWriter(folder, overwrite) as writer:
        for path in paths:
            writer.write(Path(path), IMAGE, _prediction())


def test_the_files_of_an_image_hold_what_was_found(tmp_path: Path) -> None:
    prediction = _prediction()
    with PredictionWriter(tmp_path / "out") as writer:
        writer.write(Path("a/1.jpg"), IMAGE, prediction)
    anomaly_map = tifffile.imread(tmp_path / "out/anomaly_maps/a/1.tiff")
    assert anomaly_map.dtype == np.float32
    np.testing.assert_array_equal(anomaly_map, prediction.anomaly_map)
    with PIL.Image.open(tmp_path / "out/masks/a/1.png") as mask:
        assert mask.mode == "L"
        np.testing.assert_array_equal(np.asarray(mask), prediction.pred_mask * 255)
    with PIL.Image.open(tmp_path / "out/overlays/a/1.png") as drawn:
        assert (drawn.mode, drawn.size) == ("RGB", (10, 6))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_have_a_row_for_each_image_and_each_region(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path) as writer:
        changed = replace(_prediction(pixel_size="0.5mm"), unlike_training=("darker", "blurred"))
        writer.write(Path('odd, "name".png'), IMAGE, changed)
        writer.write(Path("b.png"), IMAGE, _prediction(peak=0.25))
    found, nothing = json.loads((tmp_path / "predictions.json").read_text())
    (region,) = found.pop("regions")
    box = {"x": 2, "y": 1, "width": 3, "height": 2}
    assert region == box | {
        "area_px": 6,
        "length_px": pytest.approx(1 + math.sqrt(5)),
        "area_mm2": 1.5,
        "length_mm": pytest.approx((1 + math.sqrt(5)) / 2),
        "peak": 0.75,
    }
    assert (
        found
        == {
            "path": 'odd, "name".png',
            "pred_score": pytest.approx(0.75),
            "is_anomalous": True,
            "score_threshold": pytest.approx(0.5),
            "pixel_threshold": 0.5,
            "num_regions": 1,
            "area_px": 6,
            "area_percent": 10.0,  # 6 of 60
            **{f"largest_{name}": region[name] for name in region if name[:4] in ("area", "leng")},
            "unlike_training": "darker; blurred",
            "output": 'odd, "name"',
        }
    )
    assert (nothing["is_anomalous"], nothing["num_regions"], nothing["regions"]) == (False, 0, [])
    assert (nothing["largest_area_px"], nothing["largest_area_mm2"]) == (0, None)
    assert nothing["unlike_training"] == ""
    one, two = _rows(tmp_path / "predictions.csv")
    assert {name: str(value) for name, value in found.items()} == one | {"is_anomalous": "True"}
    assert (one["is_anomalous"], two["largest_area_px"], two["largest_area_mm2"]) == (
        "true",
        "0",
        "",
    )
    listed = _rows(tmp_path / "regions.csv")
    assert listed == [
        {name: str(value) for name, value in ({"path": found["path"]} | region).items()}
    ]
    assert b"\r" not in (tmp_path / "predictions.csv").read_bytes()


@pytest.mark.parametrize(
    ("paths", "outputs"),
    [
        (["a/1.png", "b/1.png"], ["a/1", "b/1"]),
        (["1.png", "1.jpg", "1.bmp"], ["1", "1-2", "1-3"]),
        (["1.png", "1-2.png", "1.jpg"], ["1", "1-2", "1-3"]),
        (["1.PNG", "Ab.png", "aB.png"], ["1", "Ab", "aB-2"]),  # one file on some systems
        (["../up/1.png", "./1.png"], ["up/1", "1"]),
        (["/somewhere/1.png", "/elsewhere/1.png"], ["1", "1-2"]),
        (["v1.2.png"], ["v1.2"]),
        (["..png", ".png", "...png"], [".", ".png", "image"]),
    ],
)
def test_names_keep_paths_and_never_collide(
    tmp_path: Path, paths: list[str], outputs: list[str]
) -> None:
    _write(tmp_path, *paths)
    rows = json.loads((tmp_path / "predictions.json").read_text())
    assert [row["output"] for row in rows] == outputs
    assert [row["path"] for row in rows] == [str(Path(path)) for path in paths]
    for kind, suffix in [("anomaly_maps", "tiff"), ("masks", "png"), ("overlays", "png")]:
        found = {name for name in _files(tmp_path) if name.startswith(kind)}
        assert found == {f"{kind}/{output}.{suffix}" for output in outputs}


def test_paths_are_kept_below_the_folder_that_was_given(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "out") as writer:
        for name in ["a/1.png", "b/1.png"]:
            writer.write(Path("/data/test") / name, IMAGE, _prediction(), Path("/data/test"))
    assert {"masks/a/1.png", "masks/b/1.png"} <= _files(tmp_path / "out")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_after_an_interruption_the_tables_say_that_they_are_partial(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def interrupted() -> None:
        with PredictionWriter(tmp_path) as writer:
            writer.write(Path("1.png"), IMAGE, _prediction())
            raise error

    with pytest.raises(error):
        interrupted()
    assert len(json.loads((tmp_path / "predictions.partial.json").read_text())) == 1
    assert len((tmp_path / "predictions.partial.csv").read_text().splitlines()) == 2
    assert not (tmp_path / "predictions.csv").exists()
    assert (tmp_path / "masks/1.png").is_file()
    _write(tmp_path, "2.png", overwrite=True)
    assert not any("partial" in name or "1" in name for name in _files(tmp_path))


def test_an_image_that_cannot_be_written_leaves_no_file_and_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    def interrupted() -> None:
        with PredictionWriter(tmp_path) as writer:
            writer.write(Path("1.png"), IMAGE, _prediction())
            monkeypatch.setattr(PIL.Image.Image, "save", fail)  # after the map is written
            writer.write(Path("2.png"), IMAGE, _prediction())

    with pytest.raises(OSError, match="disk full"):
        interrupted()
    assert not any("2" in name for name in _files(tmp_path))
    assert len(json.loads((tmp_path / "predictions.partial.json").read_text())) == 1


def test_an_error_before_the_first_image_leaves_no_trace(tmp_path: Path) -> None:
    def failing(folder: Path) -> None:
        with PredictionWriter(folder):
            raise InputValueError("bad image")

    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(InputValueError, match="bad image"):
            failing(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_folder_with_files_asks_for_overwrite(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputValueError, match=r"notes\.txt.*--overwrite"):
        check_free(tmp_path)
    with pytest.raises(InputValueError, match="--overwrite"):
        _write(tmp_path, "1.png")
    assert _files(tmp_path) == {"notes.txt"}


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    for path in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(InputValueError, match="--out"):
            _write(path, "1.png", overwrite=True)
    assert (tmp_path / "out").read_text() == "mine"


def test_overwrite_replaces_what_was_written_before_and_nothing_else(tmp_path: Path) -> None:
    _write(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "masks/a/mine.png").write_text("mine")
    _write(tmp_path, "c/3.png", overwrite=True)
    assert _files(tmp_path) == {
        "notes.txt",
        "masks/a/mine.png",
        "anomaly_maps/c/3.tiff",
        "masks/c/3.png",
        "overlays/c/3.png",
        "predictions.csv",
        "predictions.json",
        "regions.csv",
    }
    assert not (tmp_path / "overlays/a").exists()
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 1


def test_overwrite_never_replaces_a_file_of_someone_else(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/1.png").write_text("a mask drawn by hand")
    _write(tmp_path, "1.png", overwrite=True)
    assert (tmp_path / "masks/1.png").read_text() == "a mask drawn by hand"
    assert (tmp_path / "masks/1-2.png").exists()

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "predictions.csv").write_text("mine")
    with pytest.raises(InputValueError, match=r"predictions\.csv.*not written by PatchScout"):
        _write(foreign, "1.png", overwrite=True)
    assert _files(foreign) == {"predictions.csv"}


def test_what_was_changed_since_is_not_replaced(tmp_path: Path) -> None:
    _write(tmp_path, "1.png", "2.png")
    (tmp_path / "masks/2.png").write_text("touched up by hand")
    before = {name: (tmp_path / name).read_bytes() for name in _files(tmp_path)}
    with pytest.raises(
        InputValueError, match=r"masks/2\.png was changed since PatchScout wrote it"
    ):
        _write(tmp_path, "3.png", overwrite=True)
    assert {name: (tmp_path / name).read_bytes() for name in _files(tmp_path)} == before


def test_what_is_read_is_not_cleared(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with OutputFolder(out, (), overwrite=False) as folder:
        for name in ("run/config.json", "masks/1.png"):
            (folder / name).parent.mkdir()
            (folder / name).touch()
    (out / "notes").mkdir()
    (out / "notes/2.png").touch()
    (tmp_path / "link").symlink_to(out / "run")
    for read in ("out", "out/run", "out/run/config.json", "out/masks", "out/masks/1.png", "link"):
        reads = [tmp_path / "data", tmp_path / read]
        with pytest.raises(InputValueError, match=rf"would remove {tmp_path / read} or"):
            OutputFolder(out, (), overwrite=True, reads=reads).__enter__()
    spared = [tmp_path, out / "notes", out / "notes/2.png", out / "masks/2.png", tmp_path / "none"]
    with OutputFolder(out, (), overwrite=True, reads=spared):
        pass
    assert _files(out) == {"notes/2.png"}


OUTSIDE = ("../outside.txt", "../", "..", "../elsewhere/", "link/", "", ".", "/", "a/..")


@pytest.mark.parametrize("listed", [*OUTSIDE, "masks/../../outside.txt", "link/1.txt", "outside"])
def test_nothing_outside_of_the_folder_is_removed(tmp_path: Path, listed: str) -> None:
    mine = {"outside.txt": "mine", "elsewhere/1.txt": "mine too"}
    for name, text in mine.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    out = tmp_path / "out"
    out.mkdir()
    (out / "link").symlink_to(tmp_path / "elsewhere")
    (out / "outside").symlink_to(tmp_path / "outside.txt")
    names = [listed, str(tmp_path / "outside.txt")]
    digest = digest_of(tmp_path / ("elsewhere/1.txt" if "1.txt" in listed else "outside.txt"))
    marker = json.dumps({"format_version": 2, "files": dict.fromkeys(names, digest)})
    (out / MANIFEST).write_text(marker)
    if listed in ("outside", "link/1.txt"):  # plain, but no file of PatchScout
        with pytest.raises(InputValueError, match=f"{listed} was changed since"):
            _write(out, "1.png", overwrite=True)
    else:
        _write(out, "1.png", overwrite=True)
        assert len(json.loads((out / "predictions.json").read_text())) == 1
    assert {name: (tmp_path / name).read_text() for name in mine} == mine
    assert (out / "link").is_symlink()
    assert (out / "outside").is_symlink()


@pytest.mark.parametrize("what", ["masks", "anomaly_maps"])
def test_a_link_in_the_folder_is_not_written_through(tmp_path: Path, what: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / what).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputValueError, match=rf"{what}/1\.\w+ is there already.* kept in"):
        _write(out, "1.png", overwrite=True)
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_list_without_its_digests_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("mine")
    (tmp_path / MANIFEST).write_text('"predictions.csv"\n')
    with pytest.raises(InputValueError, match=r"predictions\.csv is there already"):
        _write(tmp_path, "1.png", overwrite=True)
    assert (tmp_path / "predictions.csv").read_text() == "mine"


def test_which_names_are_plain() -> None:
    assert all(map(is_plain, ["a", "a/b.png", "a b/c", "ä", ".hidden/1", "a\\b"]))
    assert not any(map(is_plain, [*OUTSIDE, "a//b", "./a", "a/", "a\0b", "/etc/passwd"]))


@pytest.mark.parametrize("link", ["files", "files/masks", "files/masks/1.png"])
def test_nothing_is_fetched_through_a_link_in_what_was_on_its_way(
    tmp_path: Path, link: str
) -> None:
    mine = tmp_path / "mine"
    (mine / "masks").mkdir(parents=True)
    (mine / "masks/1.png").write_text("mine")
    staging = tmp_path / "out" / STAGING
    (staging / link).parent.mkdir(parents=True)
    (staging / link).symlink_to(mine / Path(link).relative_to("files"))
    new = {"masks/1.png": digest_of(mine / "masks/1.png")}
    journal = Journal(new=new, old={}, kept={}, is_listed=True)
    (staging / "journal.json").write_text(journal.model_dump_json())
    recover(tmp_path / "out")
    assert not (tmp_path / "out/masks").exists()
    with pytest.raises(InputValueError, match=r"masks/1\.png is not what was written there"):
        _write(tmp_path / "out", "2.png", overwrite=True)
    assert (mine / "masks/1.png").read_text() == "mine"


def test_what_is_on_its_way_arrives(tmp_path: Path) -> None:
    out = tmp_path / "out"
    files = out / STAGING / "files"
    files.mkdir(parents=True)
    (files / "1.txt").write_text("new")
    (out / "2.txt").write_text("new")  # moved before the crash
    (out / "3.txt").write_text("old")
    digests = {name: digest_of(out / name) for name in ("2.txt", "3.txt")}
    new = {"1.txt": digest_of(files / "1.txt"), "2.txt": digests["2.txt"]}
    journal = Journal(new=new, old={"3.txt": digests["3.txt"]}, kept={}, is_listed=True)
    (out / STAGING / "journal.json").write_text(journal.model_dump_json())
    recover(out)
    assert {path.name: path.read_text() for path in out.glob("*.txt")} == {
        "1.txt": "new",
        "2.txt": "new",
    }
    assert not (out / STAGING).exists()
    assert json.loads((out / MANIFEST).read_text())["files"] == new


def test_long_names_are_cut_and_stay_apart(tmp_path: Path) -> None:
    names = ["ü" * 120 + f"{number}.png" for number in range(2)]
    _write(tmp_path, *names, names[0])
    rows = json.loads((tmp_path / "predictions.json").read_text())
    assert [row["path"] for row in rows] == [*names, names[0]]
    outputs = [row["output"] for row in rows]
    assert len(set(outputs)) == 3
    assert all((tmp_path / f"anomaly_maps/{output}.tiff").is_file() for output in outputs)


def test_a_spreadsheet_runs_nothing(tmp_path: Path) -> None:
    names = ["=1+2.png", "@x.png", "a\rb.png", "c\nd.png", "\x1b[31m.png"]
    _write(tmp_path, *names)
    content = (tmp_path / "predictions.csv").read_bytes()
    assert b"\r" not in content
    assert b"\x1b" not in content
    rows = list(csv.DictReader(content.decode().splitlines()))
    assert [row["path"] for row in rows] == [
        "'=1+2.png",
        "'@x.png",
        "a\\rb.png",
        "c\\nd.png",
        "\\x1b[31m.png",
    ]
    assert [row["path"] for row in json.loads((tmp_path / "predictions.json").read_text())] == names


def test_temporary_files_of_killed_commands_are_removed(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    dead = tmp_path / f".patchscout-{child}-01234567.partial.json"
    alive = tmp_path / f".patchscout-{os.getpid()}-01234567.partial.json"
    other = tmp_path / f".patchscout-{child}.json"
    for path in (dead, alive, other):
        path.touch()
    remove_partial_files(tmp_path)
    assert set(tmp_path.iterdir()) == {alive, other}


def test_json_has_no_nan_and_numpy_becomes_plain(tmp_path: Path) -> None:
    data = {
        "nan": math.nan,
        "infinite": [np.float32(np.inf), (1, np.int64(2))],
        "array": np.array([[0.5, np.nan]]),
        "path": Path("a") / "b",
        "flag": np.bool_(True),
        3: None,
    }
    write_json_atomic(tmp_path / "data.json", data)
    assert json.loads((tmp_path / "data.json").read_text()) == {
        "nan": None,
        "infinite": [None, [1, 2]],
        "array": [[0.5, None]],
        "path": str(Path("a") / "b"),
        "flag": True,
        "3": None,
    }


def test_a_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "data.json"
    write_text_atomic(target, "old")
    with pytest.raises(TypeError):
        write_json_atomic(target, {"what": object()})

    def interrupted() -> None:
        with atomic_path(target) as partial:
            partial.write_text("half")
            assert target.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["data.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
def test_a_name_that_is_not_utf8_does_not_cost_the_table(tmp_path: Path) -> None:
    _write(tmp_path, "caf\udce9.png", "2.png")  # latin-1 bytes, as Python reads them on Linux
    assert "caf\\udce9.png" in (tmp_path / "predictions.csv").read_text(encoding="utf-8")
    rows = json.loads((tmp_path / "predictions.json").read_text())
    assert [row["path"] for row in rows] == ["caf\udce9.png", "2.png"]
    assert (tmp_path / "masks/caf\udce9.png").is_file()
