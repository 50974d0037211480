"""`patchscout evaluate RUN DATA`."""

from __future__ import annotations

from patchscout.arguments import EvaluateArguments, parse
from patchscout.atomic import write_json_atomic
from patchscout.checkpoint import CARD_FILE, METRICS_FILE, PICTURE_FILE
from patchscout.commands.shell import console
from patchscout.detector import PatchScout
from patchscout.monitor import Monitor
from patchscout.outputs import check_free, claim, reserve_folder
from patchscout.report import one_of_each_type, write_card, write_picture
from patchscout.tables import metrics_table


def run(arguments: list[str]) -> int:
    """Measure, and write the figures, the picture and the card."""
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
