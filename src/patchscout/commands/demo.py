"""`patchscout demo`."""

from __future__ import annotations

from patchscout.arguments import DemoArguments, parse
from patchscout.checkpoint import CARD_FILE, PICTURE_FILE
from patchscout.commands import evaluate, predict, train
from patchscout.commands.shell import console
from patchscout.data.synthetic import write_sample
from patchscout.files.output_folder import OutputFolder, check_free

SHORT = (
    *("--profile.snapshots", "10", "30", "80"),
    *("--predictor.updates", "400", "--predictor.crop-px", "128"),
)
"""Less training than by default, enough for the sample: the demo is done in minutes."""


def run(arguments: list[str]) -> int:
    """Write a sample, train, evaluate and predict on it."""
    options = parse(DemoArguments, arguments, "patchscout demo")
    check_free(options.out, options.overwrite)
    with OutputFolder(options.out / "sample", (), overwrite=options.overwrite) as folder:
        name = write_sample(folder).name
    data = options.out / "sample" / name
    run, predictions = options.out / "run", options.out / "predictions"
    quiet = ["--quiet"] if options.quiet else []
    again = ["--overwrite"] if options.overwrite else []
    console.print(f"1. A sample of images is in {data}")
    console.print("2. Training")
    status = train.run([str(data), "--out", str(run), *SHORT, *quiet, *again])
    if status:
        return status
    console.print("3. Evaluating on images that were not trained on")
    evaluate.run([str(run), str(data), *quiet])
    console.print("4. Predicting")
    predict.run([str(run), str(data / "test"), "--out", str(predictions), *quiet, *again])
    console.print(f"The report is {run / CARD_FILE}, with {PICTURE_FILE}.")
    return 0
