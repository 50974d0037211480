"""`patchscout info RUN_OR_DATA`."""

from __future__ import annotations

from pathlib import Path

from patchscout.arguments import InfoArguments, parse
from patchscout.checkpoint import CONFIG_FILE, load_config
from patchscout.commands.shell import console
from patchscout.data.layout import read_dataset
from patchscout.files.atomic import json_text
from patchscout.text import printable


def run(arguments: list[str]) -> int:
    """Say what is in a folder."""
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
            console.print(f"  {printable(defect_type):22}{count}")
    return 0


def _describe_run(folder: Path) -> None:
    config, record = load_config(folder)
    if record is None:
        console.print("Training was stopped before there was a model.")
    else:
        width = max(map(len, vars(record))) + 2
        for name, value in vars(record).items():
            shown = ", ".join(value) if isinstance(value, tuple) else value
            console.print(f"  {name:{width}}{shown}")
    console.print("Settings", style="bold")
    for line in json_text(config.model_dump()).split("\n"):
        console.print(line)
