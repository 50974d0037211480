"""PatchScout: fit, predict, evaluate, save, load. The public face."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import PIL.Image
from torch import nn

from patchscout.checkpoint import (
    ODD_MASKS_FILE,
    SPLIT_FILE,
    RunCompletion,
    RunFolder,
    Trained,
    TrainingRecord,
    load_model,
    write_run,
)
from patchscout.checks import InputNotFoundError, InputTypeError, InputValueError
from patchscout.config import Config
from patchscout.data.check import check_dataset, summary
from patchscout.data.images import read_image, resize_mask, to_image
from patchscout.data.layout import read_dataset
from patchscout.data.loader import resized_mask
from patchscout.data.region import limited, read_region
from patchscout.data.split import (
    draw_split,
    evenly_chosen,
    images_of_split,
    parse_split,
    split_json,
)
from patchscout.decision import Decision, decide, image_score
from patchscout.devices import choose_device
from patchscout.drift import MOST_IMAGES, NormalRange, measure
from patchscout.evaluation import EvaluationSize, evaluate
from patchscout.export import Parity, export_model
from patchscout.exported import ExportFormat, ModelFacts, PixelType
from patchscout.files.output_folder import replaced_files
from patchscout.inference import Scorer, resize_map
from patchscout.monitor import Monitor
from patchscout.paper import fit as paper
from patchscout.prediction import Prediction, make_prediction
from patchscout.presets import preset_config
from patchscout.training.adaptation import adapt
from patchscout.training.loop import train
from patchscout.training.working_size import without_vanished
from patchscout.types import Dataset, Image, Mask, Split
from patchscout.visualize import SheetRow, contact_sheet

MOST_ODD_MASKS = 4
"""Masks that are drawn where they mark most of their image."""

AnyImage = np.ndarray | PIL.Image.Image | str | Path
"""An RGB or grey array, a Pillow image, or the path of an image file."""


class PatchScout:
    """Learns to outline defects from normal images and a few labeled ones.

    Args:
        config: Every setting; the `fast` preset unless given.

    Example:
        >>> scout = PatchScout(preset_config("fast", seed=1))
        >>> scout.config.seed
        1
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = self._settings = config or preset_config("fast")
        self.device = choose_device(self.config.device)
        self.split: Split | None = None
        self.dataset: Dataset | None = None
        self._segmenter: nn.Module | None = None
        self._scorer: Scorer | None = None
        self._trained: Trained | None = None
        self.identity: str | None = None
        self._loaded_from: Path | None = None
        self._split_json: bytes | None = None

    def fit(
        self,
        data: str | Path | Dataset,
        *,
        split: Split | None = None,
        monitor: Monitor | None = None,
    ) -> PatchScout:
        """Train on a data set.

        Args:
            data: A folder, read as the settings in `config.data` say, or a data set.
            split: Which of its images are trained and tested on; drawn by the seed unless given.
            monitor: Shows progress and keeps figures; silent unless given.

        Returns:
            This object. Interrupted by Ctrl-C it keeps the model as it was then, if there was one
            yet (`is_trained`), and `record.is_complete` is False.

        Raises:
            InputError: If the data do not fit; the message names the file and the remedy.
        """
        monitor = monitor or Monitor()
        dataset, drawn = self.prepare(data, monitor)
        region = drawn.train_normal[0].region
        split = limited(split or drawn, region, monitor)
        started = time.monotonic()
        config = adapt(self._settings, split)
        if region is not None:  # as the model will have it
            region = resize_mask(region, config.data.working_size)
            split = limited(split, region, monitor)
        split = without_vanished(split, config.data.working_size, dataset.root, monitor)
        normal_range = _measure_normal(split, config.data.working_size, monitor)
        train_model = paper.train if config.preset == "paper" else train
        result = train_model(config, split, self.device, monitor)
        self.config = config
        self.dataset, self.split = dataset, split
        self._split_json = split_json(split, dataset.root)
        self._segmenter = self._trained = self._scorer = None
        self._loaded_from = self.identity = None
        if result is None:
            return self
        self._segmenter = result.segmenter
        record = TrainingRecord(
            category=dataset.name,
            defect_types=tuple(sorted({sample.defect_type for sample in split.labeled})),
            num_normal=len(split.train_normal),
            num_labeled=len(split.labeled),
            num_steps=result.num_steps,
            seconds=round(time.monotonic() - started, 1),
            is_complete=result.is_complete,
            normal_range=normal_range,
        )
        scores = result.choice.scores
        decision = decide(scores, result.choice.threshold, config.decision)
        self._trained = Trained(record, decision, scores)
        return self

    def prepare(
        self, data: str | Path | Dataset, monitor: Monitor | None = None
    ) -> tuple[Dataset, Split]:
        """Read and check a data set, draw its split and say what is in it, without training."""
        dataset = data if isinstance(data, Dataset) else self._read(data)
        findings = check_dataset(dataset, monitor)
        region = read_region(
            dataset.root,
            self.config.data.roi,
            self.config.data.ignore,
            (*dataset.train_normal, *dataset.test_normal, *dataset.anomalous),
        )
        dataset = limited(dataset, region, monitor or Monitor())
        split = draw_split(
            dataset,
            labeled_per_type=self.config.labeled_per_type,
            seed=self.config.seed,
            held_out_type=self.config.held_out_type,
            max_normal=self.config.max_normal,
        )
        if monitor is not None:
            for line in summary(dataset, findings, split):
                monitor.say(line)
            if monitor.folder is not None and findings.odd_masks:
                rows = [
                    SheetRow(
                        image, resized_mask(sample, image.shape[:2]), caption=sample.image_path.name
                    )
                    for sample in findings.odd_masks[:MOST_ODD_MASKS]
                    for image in [to_image(sample.image_path)]
                ]
                contact_sheet(rows).save(monitor.folder / ODD_MASKS_FILE)
                monitor.say(f"{ODD_MASKS_FILE} in the run folder shows them.")
        return dataset, split

    @overload
    def predict(self, images: AnyImage) -> Prediction: ...
    @overload
    def predict(self, images: Sequence[AnyImage]) -> list[Prediction]: ...
    def predict(self, images: object) -> Prediction | list[Prediction]:
        """Find defects in one image or several.

        Args:
            images: An image, or a sequence of images, which may differ in size. An array of four
                dimensions is a batch.

        Returns:
            A prediction at the image's own size, or one for each image.

        Raises:
            InputError: If an image cannot be read or is of a kind that is not accepted.
        """
        if isinstance(images, np.ndarray) and images.ndim == 4:
            return self._predict_all(images)
        if isinstance(images, np.ndarray | PIL.Image.Image | str | Path):
            return self._predict_all([images])[0]
        if not isinstance(images, Sequence):
            raise InputTypeError(
                "`images` must be an image, a path or a sequence of these; got"
                f" {type(images).__name__}."
            )
        return self._predict_all(images)

    def evaluate(
        self,
        data: str | Path | Dataset,
        *,
        size: EvaluationSize = "working",
        monitor: Monitor | None = None,
    ) -> dict[str, Any]:
        """Return the metrics on the test images of the split that the model was trained with.

        Args:
            data: The data set that it was trained on.
            size: Compare at the working size, or at each image's own.
            monitor: Shows progress; silent unless given.

        Raises:
            InputValueError: If no test image is defective, or nothing was trained.
        """
        split = self.split_of(data)
        if not split.has_test_defects:
            root = data.root if isinstance(data, Dataset) else data
            raise InputValueError(
                "There is nothing to evaluate on: the split that the model was trained with has no"
                f" defective image of {root} to test on. Add defective images, best with masks, and"
                " train again; `labeled_per_type` 0 keeps them all for testing."
            )
        return evaluate(
            self._score,
            split.test,
            self.decision,
            self.trained.scores,
            self.config.data.working_size,
            monitor or Monitor(),
            size,
        )

    def split_of(self, data: str | Path | Dataset) -> Split:
        """Return the split that the model was trained with, its images looked up in `data`.

        Raises:
            InputNotFoundError: If the run folder has no split, or an image is not there any more.
            InputValueError: If nothing was trained, or it was trained on another folder.
        """
        dataset = data if isinstance(data, Dataset) else self._read(data)
        if self._loaded_from is not None:
            split = parse_split(self._known_split(), self._split_path, dataset)
            self.split = limited(split, self._region, Monitor())
        elif self.split is None or self.dataset is None:
            raise _untrained()
        elif dataset.root.resolve() != self.dataset.root.resolve():
            raise InputValueError(
                f"`data` must be the folder that was trained on, {self.dataset.root}; got"
                f" {dataset.root}. Call `fit` on it first."
            )
        return self.split

    def images_of_split(self) -> list[Path]:
        """Return the images that the model was trained and tested on, as far as they are there.

        Raises:
            InputNotFoundError: If the run folder has no split.
            InputValueError: If nothing was trained.
        """
        return images_of_split(self._known_split(), self._split_path)

    def images_trained_on(self) -> list[Path]:
        """Return the images that the model was trained on, likewise."""
        return images_of_split(self._known_split(), self._split_path, trained_on=True)

    def export(
        self,
        path: str | Path,
        file_format: ExportFormat = "onnx",
        *,
        images: Sequence[AnyImage],
        pixel_type: PixelType = "uint8",
        tolerance: float | None = None,
    ) -> Parity:
        """Write the model as one file that other runtimes read, see `ExportedModel`.

        It takes images as arrays (batch, height, width, 3), RGB, and gives for each the anomaly
        map and the mask at its own size and the score: resizing, normalization and the pixel
        threshold are inside. What decides on the score is in its facts.

        Args:
            path: The file, ending in `.onnx` or `.xml` as the format wants it. One that is there is
                replaced.
            file_format: `onnx` or `openvino`.
            images: What the file is checked on before it takes its place; at least one.
            pixel_type: What the values of images will be, `uint8` or `uint16`.
            tolerance: What anomaly maps and scores may differ by; unset: what rounding comes to.

        Returns:
            How near the file's answers are to this model's.

        Raises:
            InputNotFoundError: If a library that the format needs is not installed.
            InputValueError: If nothing was trained, or the file would not find the same.
        """
        path = Path(path)
        facts = ModelFacts(
            category=self.record.category,
            decision=self.decision,
            image_size=self.config.data.working_size,
            pixel_type=pixel_type,
            normal_range=self.record.normal_range,
        )
        arrays = [to_image(image) for image in images]
        names = [
            str(image) if isinstance(image, str | Path) else f"image {number}"
            for number, image in enumerate(images, start=1)
        ]
        files = [path.name, *([f"{path.stem}.bin"] if file_format == "openvino" else [])]
        run = self._loaded_from
        if run is not None and run.resolve() == path.parent.resolve():
            place = RunCompletion(run, files, self.identity, replaces=True)
        else:
            place = replaced_files(path.parent, files)
        with place as folder:
            return export_model(
                self.segmenter, facts, folder / path.name, file_format, arrays, names, tolerance
            )

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write a run folder.

        Raises:
            InputValueError: If the folder holds files and `overwrite` is False.
        """
        if not self.is_trained:
            raise _untrained()
        with RunFolder(Path(folder), overwrite=overwrite) as partial:
            self.write(partial)

    def write(self, folder: Path) -> None:
        """Write config, split and (if trained) model into a folder that holds none yet."""
        model = None
        if self._segmenter is not None and self._trained is not None:
            model = self._segmenter, self._trained
        write_run(folder, self.config, self._split_json, model)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> PatchScout:
        """Read a run folder.

        Args:
            folder: What `save` or `patchscout train` wrote.
            device: Where to compute: `auto`, `cpu`, `cuda`, `mps`.

        Raises:
            InputNotFoundError: If it is not there or holds no model.
            InputValueError: If a file in it is damaged or of a newer format.
        """
        folder = Path(folder)
        chosen = choose_device(device)
        run = load_model(folder, chosen)
        scout = cls(run.config.model_copy(update={"device": str(chosen)}))
        scout._segmenter, scout._trained = run.segmenter, run.trained
        scout._split_json, scout.identity = run.split, run.identity
        scout._loaded_from = folder
        return scout

    @property
    def is_trained(self) -> bool:
        """Whether there is a model."""
        return self._segmenter is not None

    @property
    def segmenter(self) -> nn.Module:
        """The trained model as a module."""
        if self._segmenter is None:
            raise _untrained()
        return self._segmenter

    @property
    def trained(self) -> Trained:
        """What is known of the model."""
        if self._trained is None:
            raise _untrained()
        return self._trained

    @property
    def record(self) -> TrainingRecord:
        """How the model came about."""
        return self.trained.record

    @property
    def decision(self) -> Decision:
        """When an image is defective: thresholds, rules, and what they promise."""
        return self.trained.decision

    @property
    def _split_path(self) -> Path:
        """Where the split is, or would be."""
        return (self._loaded_from or Path()) / SPLIT_FILE

    def _known_split(self) -> bytes:
        """Return the content of the split file."""
        if self._split_json is not None:
            return self._split_json
        if self._loaded_from is None:
            raise _untrained()
        raise InputNotFoundError(
            f"{self._split_path} is missing, which says what the model was trained on."
            " Copy the run folder again or train anew."
        )

    def _read(self, data: str | Path) -> Dataset:
        settings = self.config.data
        return read_dataset(
            data,
            settings.normal,
            settings.defective,
            settings.masks,
            seed=self.config.seed,
            needs_labels=self.config.labeled_per_type > 0,
            line_width_px=settings.line_width_px,
            mask_types=settings.mask_types,
        )

    def _predict_all(self, images: Iterable[object]) -> list[Prediction]:
        own_sizes: list[tuple[int, int]] = []
        changes: list[tuple[str, ...]] = []
        normal_range, region = self.record.normal_range, self._region

        def arrays() -> Iterator[Image]:
            for image in images:
                array = to_image(image)
                own_sizes.append((array.shape[0], array.shape[1]))
                if normal_range is None:
                    changes.append(())
                else:
                    measured = measure(array, self.config.data.working_size, region)
                    changes.append(normal_range.changes(measured))
                yield array

        return [
            make_prediction(
                resize_map(working_map, own_sizes[number]),
                image_score(working_map),
                self.decision,
                changes[number],
            )
            for number, working_map in enumerate(self._score.many(arrays()))
        ]

    @property
    def _region(self) -> Mask | None:
        """What is looked at, at the working size; None for all of the image."""
        region = getattr(self.segmenter, "region", None)
        return None if region is None else region.cpu().numpy()

    @property
    def _score(self) -> Scorer:
        """The trained model, as it scores images."""
        if self._scorer is None:
            self._scorer = Scorer(self.segmenter, self.config.data.working_size, self.device)
        return self._scorer


def _measure_normal(
    split: Split, working_size: tuple[int, int], monitor: Monitor
) -> NormalRange | None:
    samples = evenly_chosen(split.train_normal, MOST_IMAGES)
    measured = [
        measure(read_image(sample.image_path), working_size, sample.region)
        for sample in monitor.track(samples, "measuring the images", len(samples), "image")
    ]
    return NormalRange.of(measured)


def _untrained() -> InputValueError:
    return InputValueError(
        "This PatchScout is not trained. Call `fit(data)` or use `PatchScout.load(folder)`."
    )
