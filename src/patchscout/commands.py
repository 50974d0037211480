"""The commands behind the command line: each takes its arguments and returns the exit code."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from patchscout.arguments import (
    BenchmarkArguments,
    DemoArguments,
    EvaluateArguments,
    InfoArguments,
    PredictArguments,
    parse,
    parse_train,
)
from patchscout.atomic import write_json_atomic
from patchscout.benchmark.command import Request, make_plan, run_benchmark
from patchscout.checkpoint import (
    CARD_FILE,
    CONFIG_FILE,
    METRICS_FILE,
    PICTURE_FILE,
    RunFolder,
    load_config,
)
from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.images import IMAGE_SUFFIXES, read_image
from patchscout.data.layout import check_holds_patch, read_dataset
from patchscout.data.synthetic import write_sample
from patchscout.detector import PatchScout
from patchscout.inference import make_prediction
from patchscout.monitor import Monitor
from patchscout.outputs import PredictionWriter, check_free, claim, make_folder, reserve_folder
from patchscout.report import one_of_each_type, write_card, write_picture
from patchscout.tables import metrics_table

console = Console(markup=False, highlight=False, soft_wrap=True)
"""Prints names and commands as they are: nothing in them is markup, no line is broken."""

_ONLY_SHOWN = ("dry_run", "quiet")
"""Arguments of `benchmark` that decide what is shown, not what is done."""


def train(arguments: list[str]) -> int:
    """`patchscout train DATA --out RUN`."""
    options = parse_train(arguments)
    check_free(options.out, options.overwrite)
    scout = PatchScout(options.settings)
    with RunFolder(options.out, overwrite=options.overwrite) as folder:
        monitor = Monitor(
            quiet=options.quiet, folder=folder, tensorboard=options.settings.tensorboard
        )
        try:
            scout.fit(options.data, monitor=monitor)
        finally:
            monitor.close()
        scout.write(folder)
        if scout.is_trained:
            assert scout.split is not None
            with suppress(KeyboardInterrupt):  # the picture is not worth the model
                write_picture(
                    scout,
                    one_of_each_type(scout.split.labeled or scout.split.train_normal),
                    folder / PICTURE_FILE,
                )
            write_card(folder)
    if scout.is_trained and scout.record.is_complete:
        console.print(f"Trained in {scout.record.seconds:.0f} s. The model is in {options.out}.")
        if scout.split is not None and scout.split.has_test_defects:
            console.print(f"Next: {_typed('evaluate', options.out, options.data)}")
        else:  # nothing to evaluate on
            console.print(f"Next: {_typed('predict', options.out)} IMAGES --out DIR")
        return 0
    config_file = options.out / CONFIG_FILE
    again = _typed("train", options.data, "--config", config_file, "--out", options.out)
    if scout.is_trained:
        console.print(
            f"Stopped after {scout.record.num_steps} steps. {options.out} holds the model as it was"
            " then and can be evaluated and used."
        )
    else:
        console.print(
            f"Stopped before there was a model. {options.out} holds the settings and the split."
        )
    console.print(f"To train to the end: {again} --overwrite")
    return 130


def _typed(*words: str | Path) -> str:
    """Return a command as a person types it, quoted where a shell needs it."""
    return shlex.join(["patchscout", *map(str, words)])


def evaluate(arguments: list[str]) -> int:
    """`patchscout evaluate RUN DATA`."""
    options = parse(EvaluateArguments, arguments, "patchscout evaluate")
    scout = PatchScout.load(options.run, device=options.device)
    if options.out is not None:
        check_free(options.out, options.overwrite)
    split = scout.split_of(options.data)
    metrics = scout.evaluate(options.data, size=options.size, monitor=Monitor(quiet=options.quiet))
    if options.out is not None:
        reserve_folder(options.out, options.overwrite)
    folder = options.out or options.run
    names = (METRICS_FILE, PICTURE_FILE) if options.out else (METRICS_FILE, PICTURE_FILE, CARD_FILE)
    for name in names:
        claim(folder, name)
    write_json_atomic(folder / METRICS_FILE, metrics)
    write_picture(scout, one_of_each_type(split.test), folder / PICTURE_FILE)
    if options.out is None:
        write_card(folder, metrics)
    console.print(metrics_table(metrics))
    console.print(f"Written to {folder / METRICS_FILE}")
    return 0


def predict(arguments: list[str]) -> int:
    """`patchscout predict RUN IMAGE_OR_FOLDER... --out DIR`."""
    options = parse(PredictArguments, arguments, "patchscout predict")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise InputValueError(f"`--threshold` must be in [0, 1]; got {options.threshold}.")
    check_free(options.out, options.overwrite)
    images = _images_of(options.images, apart_from=options.out)
    scout = PatchScout.load(options.run, device=options.device)
    monitor = Monitor(quiet=options.quiet)
    # All of them first, so that a damaged one does not end the work in the middle.
    for path, _ in monitor.track(images, "checking the images", len(images), "image"):
        check_holds_patch(read_image(path).shape[:2], scout.config.smallest_px, path)
    num_anomalous = 0
    with PredictionWriter(options.out, options.overwrite) as writer:
        for path, folder in monitor.track(images, "predicting", len(images), "image"):
            image = read_image(path)
            found = scout.predict(image)
            if options.threshold is not None:
                found = make_prediction(found.anomaly_map, options.threshold)
            writer.write(path, image, found, folder)
            num_anomalous += found.is_anomalous
    console.print(f"{num_anomalous} of {len(images)} images are defective. See {options.out}.")
    return 0


def _images_of(paths: tuple[Path, ...], apart_from: Path) -> list[tuple[Path, Path | None]]:
    """Return each image with the folder it was found in, if it was found in one.

    Args:
        paths: Images, and folders that are searched.
        apart_from: The output folder, in which earlier output is not searched for images.
    """
    images: list[tuple[Path, Path | None]] = []
    for path in paths:
        if path.is_dir():
            found = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in IMAGE_SUFFIXES
                and not file.name.startswith(".")
                and not file.resolve().is_relative_to(apart_from.resolve())
            )
            if not found:
                raise InputValueError(
                    f"{path} holds no image. Expected files ending in {', '.join(IMAGE_SUFFIXES)}."
                )
            images += [(file, path) for file in found]
        elif path.is_file():
            images.append((path, None))
        else:
            raise InputNotFoundError(f"{path} is not there. Name an image or a folder of images.")
    if not images:
        raise InputValueError("no image is named. Add image files or folders after the run folder.")
    return images


def benchmark(arguments: list[str]) -> int:
    """`patchscout benchmark DATA... --out DIR`."""
    options = parse(BenchmarkArguments, arguments, "patchscout benchmark")
    asked = {name: value for name, value in vars(options).items() if name not in _ONLY_SHOWN}
    request = Request(**asked, command=_typed("benchmark", *arguments))
    plan = make_plan(request)
    if options.dry_run:
        for line in plan.lines():
            console.print(line)
        return 0
    return run_benchmark(request, plan, Monitor(quiet=options.quiet), console.print)


def demo(arguments: list[str]) -> int:
    """`patchscout demo`: sample, train, evaluate, predict."""
    options = parse(DemoArguments, arguments, "patchscout demo")
    check_free(options.out, options.overwrite)
    reserve_folder(options.out, options.overwrite)
    for name in ("sample/", "run/", "predictions/"):
        claim(options.out, name)
    make_folder(options.out)
    data = write_sample(options.out / "sample")
    run = options.out / "run"
    quiet = ["--quiet"] if options.quiet else []
    console.print(f"1. A sample of images is in {data}")
    console.print("2. Training")
    status = train([str(data), "--out", str(run), *quiet])
    if status:
        return status
    console.print("3. Evaluating on images that were not trained on")
    evaluate([str(run), str(data), *quiet])
    console.print("4. Predicting")
    predict([str(run), str(data / "test"), "--out", str(options.out / "predictions"), *quiet])
    console.print(f"The report is {run / CARD_FILE}, with {PICTURE_FILE}.")
    return 0


def info(arguments: list[str]) -> int:
    """`patchscout info RUN_OR_DATA`."""
    path = parse(InfoArguments, arguments, "patchscout info").path
    if (path / CONFIG_FILE).is_file():
        _describe_run(path)
    else:
        dataset = read_dataset(path, needs_labels=False)
        console.print(f"Images of {dataset.name}", style="bold")
        console.print(f"  normal, to train on   {len(dataset.train_normal)}")
        console.print(f"  normal, to test on    {len(dataset.test_normal)}")
        for defect_type in dataset.defect_types:
            count = sum(sample.defect_type == defect_type for sample in dataset.anomalous)
            console.print(f"  {defect_type:22}{count}")
    return 0


def _describe_run(folder: Path) -> None:
    config, record = load_config(folder)
    if record is None:
        console.print("Training was stopped before there was a model.")
    else:
        for name, value in vars(record).items():
            shown = ", ".join(value) if isinstance(value, tuple) else value
            console.print(f"  {name:16}{shown}")
    console.print("Settings", style="bold")
    console.print_json(config.model_dump_json())
