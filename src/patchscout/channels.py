"""How many channels the settings give each predictor to see."""

from __future__ import annotations

from patchscout.config import Config
from patchscout.networks.segmenter import num_features


def predictor_channels(config: Config) -> list[int]:
    """Return how many of the last channels of the features each predictor sees.

    One that sees the image alone beside others that see the profile too does not see deviations.
    """
    profile, predictor = config.profile, config.predictor
    num_ranks = len(config.normality.ranks)
    return [
        num_features(
            profile.length, inputs, profile.error, num_ranks if inputs == predictor.inputs else 0
        )
        for inputs in predictor.member_inputs
    ]
