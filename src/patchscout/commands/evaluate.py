"""`patchscout evaluate RUN DATA`."""

from __future__ import annotations

import os

from patchscout.arguments import EvaluateArguments, parse
from patchscout.checkpoint import (
    CARD_FILE,
    DECISIONS_FILE,
    METRICS_FILE,
    PICTURE_FILE,
    ROC_FILE,
    ROC_PICTURE_FILE,
    RunCompletion,
)
from patchscout.checks import InputValueError
from patchscout.commands.shell import console
from patchscout.commands.train import data_paths
from patchscout.detector import PatchScout
from patchscout.files.atomic import write_json_atomic
from patchscout.files.output_folder import OutputFolder
from patchscout.memory import keep_freed_memory
from patchscout.monitor import Monitor
from patchscout.report import (
    metrics_table,
    one_of_each_type,
    signed,
    write_card,
    write_evaluation,
    write_picture,
)

NAMES = (METRICS_FILE, PICTURE_FILE, DECISIONS_FILE, ROC_FILE, ROC_PICTURE_FILE)


def run(arguments: list[str]) -> int:
    """Measure, and write the figures, the picture and the card."""
    options = parse(EvaluateArguments, arguments, "patchscout evaluate")
    keep_freed_memory()
    scout = PatchScout.load(options.run, device=options.device)
    out = options.out or options.run
    completes_run = out.resolve() == options.run.resolve()
    if completes_run:
        if not os.access(out, os.W_OK):
            raise InputValueError(f"Run folder {out} cannot be written to. Give another `--out`.")
        place = RunCompletion(out, (*NAMES, CARD_FILE), scout.identity)
    else:
        reads = [options.run, *data_paths(options.data, scout.config)]
        place = OutputFolder(out, NAMES, overwrite=options.overwrite, reads=reads)
    with place as folder:
        monitor = Monitor(quiet=options.quiet)
        metrics = scout.evaluate(options.data, size=options.size, monitor=monitor)
        metrics["run"] = scout.identity
        apart = ("roc", "images")
        summary = {name: value for name, value in metrics.items() if name not in apart}
        write_json_atomic(folder / METRICS_FILE, summary)
        write_evaluation(folder, metrics)
        shown = one_of_each_type(scout.split_of(options.data).test)
        write_picture(scout, shown, folder / PICTURE_FILE)
        if completes_run:
            write_card(folder, scout.config, scout.trained, metrics)
    console.print(metrics_table(metrics))
    for line in signed(metrics["decisions"]):
        console.print(line)
    console.print(f"Written to {out / METRICS_FILE}")
    return 0
