"""`patchscout upgrade RUN`."""

from __future__ import annotations

from patchscout.arguments import UpgradeArguments, parse
from patchscout.checkpoint import CONFIG_FILE, MODEL_FILE, SPLIT_FILE, RunCompletion
from patchscout.commands.shell import console
from patchscout.detector import PatchScout


def run(arguments: list[str]) -> int:
    """Write a run of the version before anew, with digests."""
    options = parse(UpgradeArguments, arguments, "patchscout upgrade")
    scout = PatchScout.load(options.run, device="cpu")
    if scout.identity is not None:
        console.print(f"{options.run} has digests already. Nothing was changed.")
        return 0
    with RunCompletion(options.run, (CONFIG_FILE, MODEL_FILE, SPLIT_FILE), None) as folder:
        scout.write(folder)
    console.print(f"{options.run} now carries a digest of each of its files.")
    return 0
