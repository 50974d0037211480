"""What is fuzzed: how each kind of input is made, and what reads it."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import cv2
import mutations
import numpy as np
import tifffile
from models import IMAGE, Pair, change_file, make_pair, reseal
from PIL import Image as PillowImage

from patchscout import PatchScout, Prediction, arguments
from patchscout.checks import InputError, InputValueError
from patchscout.cli import COMMANDS, main
from patchscout.data.annotations import MaskFile
from patchscout.data.check import check_dataset
from patchscout.data.images import read_image, read_size, to_image
from patchscout.data.layout import read_dataset
from patchscout.decision import Decision
from patchscout.exported import METADATA_KEY, ExportedModel, ModelFacts
from patchscout.files.seal import BLANK_SEAL
from patchscout.presets import file_config, setting_names

VALUE, REFUSED, EXIT_0, EXIT_2, UNDECLARED = range(1, 6)
"""How an execution ended: a value came back, `InputError`, the exit code 0 or 2; anything else."""

HIDDEN = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]",
)
"""Controls, line separators, overrides of direction, lone surrogates: what is to be escaped."""

SIDE = 16
"""Height and width in pixels of the images; files are tiny, for more executions a second."""


class UndeclaredError(Exception):
    """An outcome that is no exception of the product, and yet not what is promised."""


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        files: Content by name, to be written to a folder.
        arguments: Which of several readers is meant, and what it is given.
    """

    files: dict[str, bytes]
    arguments: tuple[str, ...] = ()


class Target(Protocol):
    """One kind of input."""

    weight: float
    """Share of all executions."""

    def make(self, rng: random.Random) -> Case:
        """Return an input."""
        ...

    def execute(self, case: Case, folder: Path) -> int:
        """Have the product read an input.

        Args:
            case: The input.
            folder: An empty folder to write it to.

        Returns:
            How it ended.
        """
        ...


def write_files(case: Case, folder: Path) -> list[Path]:
    """Write the files of an input; return where they are."""
    paths = []
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        paths.append(path)
    return paths


def expect(holds: bool, what: str) -> None:
    """Raise `UndeclaredError` where something promised does not hold."""
    if not holds:
        raise UndeclaredError(what)


@dataclass
class Images:
    """Image files of every accepted format and mode."""

    weight: float = 0.3
    seeds: dict[str, bytes] = field(default_factory=lambda: image_files())

    def make(self, rng: random.Random) -> Case:
        """Return an image file that is damaged, or odd."""
        name = rng.choice(list(self.seeds))
        content = self.seeds[name]
        suffix = Path(name).suffix
        kind = rng.random()
        if suffix == ".tif" and kind < 0.5:
            content = mutations.mutate_tiff(content, rng)
        elif suffix == ".png" and kind < 0.5:
            content = mutations.mutate_png(content, rng)
        if kind >= 0.45:
            content = mutations.mutate_bytes(content, rng, list(self.seeds.values()))
        return Case({f"image{suffix}": content})

    def execute(self, case: Case, folder: Path) -> int:
        """Read its size and its pixels."""
        (path,) = write_files(case, folder)
        try:
            size = read_size(path)
            image = read_image(path)
        except InputError:
            return REFUSED
        expect(image.shape == (*size, 3), f"shape {image.shape} of an image of size {size}")
        expect(image.dtype == np.float32, f"values of type {image.dtype}")
        # Said so that NaN fails too.
        expect(bool(image.min() >= 0 and image.max() <= 1), "values outside of 0 to 1")
        return VALUE


@dataclass
class Masks(Images):
    """Mask images."""

    weight: float = 0.25
    seeds: dict[str, bytes] = field(default_factory=lambda: mask_files())

    def execute(self, case: Case, folder: Path) -> int:
        """Read it as the mask of a small image."""
        (path,) = write_files(case, folder)
        try:
            mask = MaskFile(path).read((SIDE, SIDE))
        except InputError:
            return REFUSED
        expect(mask.shape == (SIDE, SIDE) and mask.dtype == np.bool_, "a mask of another kind")
        expect(bool(mask.any()), "a mask that marks nothing")
        return VALUE


@dataclass
class Annotations:
    """Annotation files of every tool, read with the images that they are about."""

    weight: float = 0.35

    def make(self, rng: random.Random) -> Case:
        """Return an annotation file."""
        # A name of its own: what was parsed once is kept by name and time.
        masks = f"masks-{rng.randrange(10**12)}"
        if rng.random() < 0.3:
            name = rng.choice(list(EXPORT_SEEDS))
            content = mutations.mutate_bytes(EXPORT_SEEDS[name], rng, [*EXPORT_SEEDS.values()])
            return Case({name.replace("masks", masks): content}, (masks,))
        is_coco = rng.random() < 0.65
        seed = rng.choice(COCO_SEEDS if is_coco else LABELME_SEEDS)
        kind = rng.random()
        if is_coco and kind < 0.2:
            seed = _with_odd_counts(seed, rng)
            text = json.dumps(seed).encode()
        elif kind < 0.9:
            text = mutations.mutate_json(seed, rng).encode(errors="surrogatepass")
        else:
            text = mutations.mutate_bytes(json.dumps(seed).encode(), rng)
        return Case({f"{masks}.json" if is_coco else f"{masks}/1.json": text}, (masks,))

    def execute(self, case: Case, folder: Path) -> int:
        """List the images with their masks, and draw these."""
        write_files(case, folder)
        for name in ("normal", "defective"):
            (folder / name).mkdir()
            os.link(self._image(folder), folder / name / "1.png")
        masks_path = next(iter(case.files)).partition("/")[0]
        try:
            dataset = read_dataset(folder, "normal", "defective", masks_path)
            check_dataset(dataset)
        except InputError:
            return REFUSED
        (sample,) = dataset.anomalous
        expect(isinstance(sample.defect_type, str), "a defect type that is no text")
        return VALUE

    def _image(self, folder: Path) -> Path:
        """Return an image beside the folder, made once."""
        path = folder.parent / f"image-{os.getpid()}.png"
        if not path.exists():
            PillowImage.new("RGB", (SIDE, SIDE)).save(path)
        return path


@dataclass
class Runs:
    """Run folders and exported models."""

    pair: Pair
    folder: Path
    weight: float = 0.07

    def __post_init__(self) -> None:
        self.pair.old.save(self.folder)
        self.files = {p.name: p.read_bytes() for p in self.folder.iterdir() if p.is_file()}
        self.exported = _onnx_file(json.dumps(FACTS))

    def make(self, rng: random.Random) -> Case:
        """Return a run folder of which one file is changed, or an exported model."""
        kind = rng.random()
        if kind < 0.1:
            return Case({"facts": mutations.mutate_json(FACTS, rng).encode()}, ("facts",))
        if kind < 0.2:
            # What is behind the seal is the library's to check, which may crash: it is let be.
            content = mutations.mutate_bytes(self.exported, rng)
            if rng.random() < 0.5:
                content = _onnx_file(mutations.mutate_json(FACTS, rng))
            return Case({"model.onnx": content}, ("exported",))
        name = rng.choice([*self.files, "config.json", "config.json", "model.safetensors"])
        content = self.files[name]
        if name.endswith(".json") and rng.random() < 0.8:
            content = mutations.mutate_json(json.loads(content), rng).encode()
        elif name == "model.safetensors" and rng.random() < 0.8:
            content = _changed_header(content, rng)
        else:
            content = mutations.mutate_bytes(content, rng)
        sealing = "sealed" if rng.random() < 0.7 else "damaged"
        reader = rng.choice(("load", "load", "load", "split", "info"))
        return Case({name: content}, (reader, sealing, name))

    def execute(self, case: Case, folder: Path) -> int:
        """Load it and ask it something."""
        reader, *how = case.arguments
        try:
            if reader == "facts":
                facts = ModelFacts.from_json(case.files["facts"].decode(), folder / "facts")
                expect(0 <= facts.decision.pixel_threshold <= 1, "a threshold outside of 0 to 1")
                return VALUE
            if reader == "exported":
                (path,) = write_files(case, folder)
                model = ExportedModel.load(path, num_threads=1)
                self._ask(model.facts.decision, lambda: model.predict(to_image(IMAGE)))
                return VALUE
            sealing, changed = how
            run = Path(shutil.copytree(self.folder, folder / "run"))
            if sealing == "sealed":
                change_file(run, changed, lambda _: case.files[changed])
            else:
                (run / changed).write_bytes(case.files[changed])
            if reader == "info":
                return run_command(["info", str(run)])
            scout = PatchScout.load(run, device="cpu")
            if reader == "split":
                scout.split_of(self.pair.data)
            else:
                self._ask(scout.decision, lambda: scout.predict(IMAGE))
        except InputError:
            return REFUSED
        return VALUE

    def _ask(self, decision: Decision, predict: Callable[[], Prediction]) -> None:
        expect(0 <= decision.pixel_threshold <= 1, "a threshold outside of 0 to 1")
        found = predict()
        expect(bool(np.isfinite(found.anomaly_map).all()), "a map that is not finite")
        expect(0 <= found.pred_score <= 1, "a score outside of 0 to 1")


@dataclass
class Arguments:
    """Command lines with files of odd names, and files of settings."""

    pair: Pair
    run: Path
    weight: float = 0.03

    def __post_init__(self) -> None:
        self.image = self.run.parent / "image.png"
        PillowImage.fromarray(IMAGE[:SIDE, :SIDE]).save(self.image)
        self.odd = [
            *mutations.ODD_TEXTS[:19],
            *mutations.ODD_NAMES,
            *COMMANDS,
            *(f"--{name.replace('_', '-')}" for name in setting_names()),
            *_options(),
            *("--", "-", "-h", "--help", "--version", "--no-overwrite", "--images", "--jobs"),
            *("0", "-1", "1e999", "nan", "0.5", "cpu", "auto", "cuda", "tpu", "run", "images"),
        ]

    def make(self, rng: random.Random) -> Case:
        """Return a command line, or a file of settings."""
        if rng.random() < 0.6:
            lines = rng.choice(YAML_SEEDS)
            content = mutations.mutate_yaml(lines, rng)
            if rng.random() < 0.15:
                content = mutations.mutate_bytes(content, rng)
            return Case({"settings.yaml": content}, ("settings",))
        names = rng.sample(mutations.ODD_NAMES, 2)
        files = {f"images/{name}": b"" for name in names}
        words = list(rng.choice(COMMAND_LINES if rng.random() < 0.95 else SLOW_COMMAND_LINES))
        words = [f"images/{names[0]}" if word == "NAME" else word for word in words]
        words = mutations.mutate_arguments(words, rng, self.odd)
        if "benchmark" in words:  # it would start processes
            words = ["benchmark", *(word for word in words if word not in ("run", "images", "--"))]
            words += ["--dry-run"]
        return Case(files, tuple(words))

    def execute(self, case: Case, folder: Path) -> int:
        """Run it in the folder."""
        paths = write_files(case, folder)
        if case.arguments == ("settings",):
            try:
                file_config(paths[0])
            except InputError:
                return REFUSED
            return VALUE
        for path in paths:
            shutil.copy(self.image, path)
        if "run" in case.arguments:
            shutil.copytree(self.run, folder / "run")
        os.chdir(folder)
        try:
            return run_command(list(case.arguments))
        finally:
            os.chdir("/")


def run_command(words: list[str]) -> int:
    """Run a command line and check what it prints.

    Nothing is trained or exported, which would take too long; what comes before and after is.
    """
    printed, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    errors.reconfigure(errors="backslashreplace")

    def refuse(*_: object, **__: object) -> None:
        raise InputValueError("`fuzz` does not train or export. Leave it out.")

    with (
        redirect_stdout(printed),
        redirect_stderr(errors),
        mock.patch.object(PatchScout, "fit", refuse),
        mock.patch.object(PatchScout, "export", refuse),
        mock.patch("patchscout.data.synthetic.write_sample", refuse),
    ):
        try:
            status = main(words)
        except SystemExit as error:
            status = error.code
        printed.flush()
        errors.flush()
    said = [stream.buffer.getvalue().decode(errors="replace") for stream in (printed, errors)]
    if status not in (0, 2):
        raise UndeclaredError(f"exit code {status}: {said[1][:300]}")
    for text in said:
        expect(not HIDDEN.search(text), "a character that hides or moves others is printed")
    if status == 2 and words:
        lines = said[1].splitlines()
        expect(len(lines) == 1, "an error of several lines, or none")
        expect(lines[0].startswith("patchscout: "), "an error that does not say who speaks")
    return EXIT_0 if status == 0 else EXIT_2


def make_targets(names: Sequence[str], folder: Path) -> dict[str, Target]:
    """Return targets by name, with what they need in a folder."""
    makers = {
        "masks": Masks,
        "annotations": Annotations,
        "images": Images,
        "runs": lambda: Runs(pair(), folder / "run"),
        "arguments": lambda: Arguments(pair(), _saved(pair(), folder / "model" / "run")),
    }
    made: list[Pair] = []

    def pair() -> Pair:
        if not made:
            made.append(make_pair(folder / "pair"))
        return made[0]

    return {name: makers[name]() for name in names}


TARGETS = ("masks", "annotations", "images", "runs", "arguments")


def _options() -> list[str]:
    """Return the options of all commands but the settings."""
    kinds = [kind for kind in vars(arguments).values() if is_dataclass(kind)]
    names = {entry.name.replace("_", "-") for kind in kinds for entry in fields(kind)}
    return [f"--{name}" for name in sorted(names)]


def _saved(pair: Pair, run: Path) -> Path:
    run.parent.mkdir()
    pair.old.save(run)
    return run


def _changed_header(content: bytes, rng: random.Random) -> bytes:
    """Return a safetensors file with another header."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    text = mutations.mutate_json(header, rng).encode()
    length = len(text) if rng.random() < 0.9 else rng.choice(mutations.INTERESTING_64)
    return (length % 2**64).to_bytes(8, "little") + text + content[8 + size :]


def _onnx_file(facts: str) -> bytes:
    """Return an ONNX file that finds brightness, and says something of itself."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {"axis": [3], "sides": [1, 2]}
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["values", "axis"], ["grey"], keepdims=0),
            helper.make_node("Div", ["grey", "largest"], ["anomaly_map"]),
            helper.make_node("GreaterOrEqual", ["anomaly_map", "threshold"], ["pred_mask"]),
            helper.make_node("ReduceMax", ["anomaly_map", "sides"], ["image_score"], keepdims=0),
        ],
        "model",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["b", "h", "w", 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["b", "h", "w"]),
            helper.make_tensor_value_info("pred_mask", TensorProto.BOOL, ["b", "h", "w"]),
            helper.make_tensor_value_info("image_score", TensorProto.FLOAT, ["b"]),
        ],
        [
            *(numpy_helper.from_array(np.array(v), name) for name, v in constants.items()),
            numpy_helper.from_array(np.array(255, np.float32), "largest"),
            numpy_helper.from_array(np.array(0.5, np.float32), "threshold"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, facts
    return reseal(model.SerializeToString())


def _with_odd_counts(coco: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return a COCO file with run lengths drawn anew."""
    if rng.random() < 0.5:
        counts: Any = "".join(
            chr(rng.randrange(46, 114)) for _ in range(rng.choice((1, 5, 30, 300)))
        )
        if rng.random() < 0.3:
            counts = rng.choice(("o", "_", "P", "0")) * rng.choice((1, 12, 13, 14, 100))
    else:
        total = SIDE * SIDE
        numbers = (*mutations.ODD_VALUES[:23], total, total // 2, 2**62, -total, 2**64 + total)
        counts = [rng.choice(numbers) for _ in range(rng.choice((1, 2, 3, 8)))]
        if rng.random() < 0.5:  # right in sum, or in what is left of the sum in 64 bits
            whole = [c for c in counts if isinstance(c, int)]
            counts = [*whole, (total - sum(whole)) % 2 ** rng.choice((64, 500))]
    changed = json.loads(json.dumps(coco))
    changed["annotations"][0]["segmentation"] = {"size": [SIDE, SIDE], "counts": counts}
    return changed


def _encoded(image: PillowImage.Image, file_format: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, file_format, **options)
    return content.getvalue()


def image_files() -> dict[str, bytes]:
    """Return a small image file of each format and mode."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    color = PillowImage.fromarray(rgb)
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    files: dict[str, bytes] = {}
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        files[f"{mode}.png"] = _encoded(color.convert(mode), "PNG")
    files["exif.png"] = _encoded(color, "PNG", exif=exif)
    files["transparent.png"] = _encoded(color.convert("P"), "PNG", transparency=3)
    deep = rng.integers(0, 65536, (SIDE, SIDE, 4)).astype(np.uint16)
    for name, part in (("L16", deep[..., 0]), ("RGB16", deep[..., :3]), ("RGBA16", deep)):
        files[f"{name}.png"] = cv2.imencode(".png", part)[1].tobytes()
    for mode in ("L", "RGB", "CMYK"):
        files[f"{mode}.jpg"] = _encoded(color.convert(mode), "JPEG")
    files["exif.jpg"] = _encoded(color, "JPEG", exif=exif, progressive=True)
    for mode in ("1", "L", "P", "RGB"):
        files[f"{mode}.bmp"] = _encoded(color.convert(mode), "BMP")
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"):
        grey = color.convert("L") if mode == "I;16" else color
        pixels = grey.convert(mode)
        files[f"{mode}.tif"] = _encoded(pixels, "TIFF")
    files["F.tif"] = _encoded(PillowImage.fromarray(rng.random((SIDE, SIDE), np.float32)), "TIFF")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[f"{compression}.tif"] = _encoded(color, "TIFF", compression=compression)
    tiffs: list[tuple[str, np.ndarray, dict[str, Any]]] = [
        ("deep", deep[..., :3], {"photometric": "rgb"}),
        ("deep-big-endian", deep[..., 0], {"byteorder": ">"}),
        (
            "deep-planes",
            np.moveaxis(deep[..., :3], 2, 0),
            {"photometric": "rgb", "planarconfig": "separate"},
        ),
        ("deep-deflate", deep[..., 0], {"compression": "zlib"}),
        ("deep-tiled", np.tile(deep[..., 0], (2, 2)), {"tile": (16, 16)}),
        ("deep-pages", np.stack([deep[..., 0]] * 3), {"photometric": "minisblack"}),
        ("float", rng.random((SIDE, SIDE), np.float32), {}),
        ("float-deflate", rng.random((SIDE, SIDE), np.float32), {"compression": "zlib"}),
        ("int32", deep[..., 0].astype(np.int32), {}),
        ("big", deep[..., 0], {"bigtiff": True}),
    ]
    for name, pixels, options in tiffs:
        content = io.BytesIO()
        order = options.pop("byteorder", "<")
        big = options.pop("bigtiff", False)
        with tifffile.TiffWriter(content, byteorder=order, bigtiff=big) as writer:
            writer.write(pixels, **options)
        files[f"{name}.tif"] = content.getvalue()
    return files


def mask_files() -> dict[str, bytes]:
    """Return a small mask of each format and mode."""
    marked = np.zeros((SIDE, SIDE), np.uint8)
    marked[:8, 8:] = 255  # one block of JPEG, which is exact then
    mask = PillowImage.fromarray(marked)
    files = {f"{mode}.png": _encoded(mask.convert(mode), "PNG") for mode in ("1", "L", "P", "RGBA")}
    files["deep.png"] = cv2.imencode(".png", marked.astype(np.uint16) * 257)[1].tobytes()
    for mode in ("1", "L", "RGB", "F"):
        pixels = PillowImage.fromarray(marked / np.float32(255)) if mode == "F" else mask
        files[f"{mode}.tif"] = _encoded(pixels.convert(mode), "TIFF")
    files["lzw.tif"] = _encoded(mask, "TIFF", compression="tiff_lzw")
    files["L.bmp"] = _encoded(mask, "BMP")
    files["L.jpg"] = _encoded(mask, "JPEG", quality=100)
    return files


_POLYGON = [[2.0, 2.0], [9.5, 2.0], [9.5, 9.0], [2.0, 9.0]]

LABELME_SEEDS: tuple[dict[str, Any], ...] = tuple(
    {
        "version": "5.2.1",
        "flags": {},
        "shapes": [
            {
                "label": "scratch",
                "points": points,
                "group_id": None,
                "description": "",
                "shape_type": kind,
                "flags": {},
            }
        ],
        "imagePath": "1.png",
        "imageData": None,
        "imageHeight": SIDE,
        "imageWidth": SIDE,
    }
    for kind, points in (
        ("polygon", _POLYGON),
        ("rectangle", [_POLYGON[0], _POLYGON[2]]),
        ("circle", [[8.0, 8.0], [8.0, 11.0]]),
    )
)

FACTS: dict[str, Any] = {
    "category": "bottle",
    "decision": {"image_threshold": 0.5, "pixel_threshold": 0.5, "asked": {"min_area": "3px"}},
    "image_size": [64, 64],
    "pixel_type": "uint8",
    "format_version": 3,
    "seal": BLANK_SEAL,
    "weights_sha256": None,
}
"""What an exported model says of itself."""

COCO_SEEDS: tuple[dict[str, Any], ...] = tuple(
    {
        "info": {"description": "test"},
        "licenses": [],
        "images": [
            {"id": 1, "file_name": "1.png", "width": SIDE, "height": SIDE, "license": 1},
            {"id": 2, "file_name": "2.png", "width": SIDE, "height": SIDE},
        ],
        "categories": [{"id": 1, "name": "scratch", "supercategory": "defect"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "segmentation": segmentation,
                "area": 9.0,
                "bbox": [2, 2, 3, 3],
                "iscrowd": int(isinstance(segmentation, dict)),
            },
            {
                "id": 2,
                "image_id": 1,
                "category_id": 1,
                "segmentation": [[1, 1, 5, 1, 5, 5]],
                "bbox": [1, 1, 4, 4],
            },
        ],
    }
    for segmentation in (
        [[2, 2, 5, 2, 5, 5, 2, 5]],
        [[2, 2, 5, 2, 5, 5], [8.5, 8.5, 12, 8, 12, 12]],
        {"size": [SIDE, SIDE], "counts": [20, 5, 231]},
        {"size": [SIDE, SIDE], "counts": "d05W7"},
    )
)

EXPORT_SEEDS: dict[str, bytes] = {
    "masks.json": json.dumps(
        [
            {
                "id": 1,
                "data": {"image": "/data/upload/1/0a1b2c3d-1.png"},
                "annotations": [
                    {
                        "result": [
                            {"original_width": SIDE, "original_height": SIDE, "value": value}
                            for value in (
                                {"points": [[10, 10], [60, 10], [60, 60]], "polygonlabels": ["a"]},
                                {"x": 1, "y": 1, "width": 9, "height": 20.5, "rotation": 30},
                                {"x": 50, "y": 50, "radiusX": 9, "radiusY": 20, "rotation": 30},
                                # 4 x 256 values: 400 times 0, 624 times 255.
                                {"rle": [0, 0, 4, 0, 57, 27, 255, 1, 143, 0, 224, 77, 255, 224]},
                            )
                        ]
                    }
                ],
            }
        ]
    ).encode(),
    "masks.xml": f'''<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>
        <image id="0" name="1.png" width="{SIDE}" height="{SIDE}">
        <polygon label="a" points="1.0,1.0;9.0,1.0;9.0,9.0" z_order="1"/>
        <box label="b" xtl="1" ytl="1" xbr="5" ybr="4" rotation="30"/>
        <ellipse label="b" cx="8" cy="8" rx="2" ry="4" rotation="30"/>
        <mask label="a" rle="2, 3, 1" left="4" top="4" width="3" height="2"/>
        <polyline label="background" points="1,1;9,9"/></image></annotations>'''.encode(),
    "masks/1.txt": b"0 0.1 0.1 0.6 0.1 0.6 0.6\n1 0.5 0.5 0.9 0.5 0.9 0.9 0.5 0.9\n",
    "masks/1.xml": b"""<annotation><imagesize><nrows>16</nrows><ncols>16</ncols></imagesize><object>
        <name>a</name><deleted>0</deleted><polygon><pt><x>1</x><y>1</y></pt><pt><x>9</x><y>1</y>
        </pt><pt><x>9</x><y>9</y></pt></polygon></object></annotation>""",
}
"""Exports of Label Studio, CVAT and YOLO."""

YAML_SEEDS = (
    ("seed: 1", "labeled_per_type: 2", "preset: fast"),
    ("profile:", "  num_cycles: 2", "  snapshots: [3, 6]", "sampler:", "  kind: uniform"),
    ("data:", "  image_size: [128, 128]", "  normal: good", "  defective: bad", "  masks: masks"),
    ("predictor: {base_channels: 4, sees: [errors]}", "backbone: {name: none}"),
    (
        '{"format_version": 6, "config": {"seed": 1, "predictor": {"novelty_weight": 0.5}},'
        ' "trained": null}',
    ),
)

COMMAND_LINES = (
    ("predict", "run", "NAME", "--out", "out", "--quiet"),
    ("predict", "run", "images", "--out", "out", "--pixel-threshold", "0.5", "--pixel-size", "2um"),
    ("threshold", "run", "--max-false-alarms", "NAME", "--good", "NAME"),
    ("predict", "missing.onnx", "NAME", "--out", "out"),
    ("predict", "NAME", "NAME", "--out", "out"),
    ("predict", "run", "NAME", "--out", "NAME"),
    ("evaluate", "run", "images", "--size", "native"),
    ("export", "run", "NAME", "--format", "onnx", "--out", "a.onnx"),
    ("export", "run", "--out", "NAME"),
    ("info", "run"),
    ("info", "images"),
    ("info", "NAME"),
    ("benchmark", "missing", "--out", "results", "--seeds", "1,2", "--variants", "NAME"),
    ("demo", "--out", "NAME", "--quiet"),
    ("--help",),
    ("--version",),
)

SLOW_COMMAND_LINES = (
    ("train", "images", "--out", "out", "--seed", "1", "--data.image-size", "64", "64"),
    ("train", "images", "--out", "NAME", "--config", "NAME", "--preset", "paper"),
    ("train", "images", "--out", "out", "--data.normal", "NAME", "--labeled-per-type", "0"),
    ("train", "--help"),
)
"""Their parser knows every setting, and takes a hundred times as long."""
