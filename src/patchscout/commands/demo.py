"""`patchscout demo`."""

from __future__ import annotations

from patchscout.arguments import DemoArguments, parse
from patchscout.checkpoint import CARD_FILE, PICTURE_FILE
from patchscout.commands import evaluate, predict, train
from patchscout.commands.shell import console
from patchscout.data.synthetic import write_sample
from patchscout.files.output_folder import reserve_folder


def run(arguments: list[str]) -> int:
    """Write a sample, train, evaluate and predict on it."""
    options = parse(DemoArguments, arguments, "patchscout demo")
    reserve_folder(options.out, options.overwrite, ("sample/", "run/", "predictions/"))
    data = write_sample(options.out / "sample")
    run = options.out / "run"
    quiet = ["--quiet"] if options.quiet else []
    console.print(f"1. A sample of images is in {data}")
    console.print("2. Training")
    status = train.run([str(data), "--out", str(run), *quiet])
    if status:
        return status
    console.print("3. Evaluating on images that were not trained on")
    evaluate.run([str(run), str(data), *quiet])
    console.print("4. Predicting")
    predict.run([str(run), str(data / "test"), "--out", str(options.out / "predictions"), *quiet])
    console.print(f"The report is {run / CARD_FILE}, with {PICTURE_FILE}.")
    return 0
