"""The three networks, each in the paper's size and in a lean one; no config, files or devices."""

from collections.abc import Sequence

from patchscout.networks.autoencoder import Autoencoder, LeanAutoencoder, PaperAutoencoder
from patchscout.networks.backbone import Backbone
from patchscout.networks.policy import Policy, PolicyNetwork
from patchscout.networks.predictor import LeanPredictor, PaperPredictor, PredictorEnsemble

__all__ = [
    "Autoencoder",
    "Backbone",
    "LeanAutoencoder",
    "LeanPredictor",
    "PaperAutoencoder",
    "PaperPredictor",
    "Policy",
    "PolicyNetwork",
    "PredictorEnsemble",
    "make_autoencoder",
    "make_predictor",
]


def make_autoencoder(
    architecture: str, base_channels: int, bottleneck_channels: int
) -> Autoencoder:
    """Return a new autoencoder; the channels are those of the `lean` one."""
    if architecture == "paper":
        return PaperAutoencoder()
    return LeanAutoencoder(base_channels, bottleneck_channels)


def make_predictor(
    architecture: str,
    in_channels: Sequence[int],
    base_channels: int,
    backbone: Backbone | None = None,
) -> PredictorEnsemble:
    """Return new predictors that answer together.

    Args:
        architecture: `paper` or `lean`.
        in_channels: How many of the last channels of the features each of them sees.
        base_channels: Channels of the `lean` ones.
        backbone: Whose features of the image the `lean` ones see too.
    """
    if architecture == "paper":
        return PredictorEnsemble(PaperPredictor(count) for count in in_channels)
    general = () if backbone is None else backbone.channels
    members = [
        LeanPredictor(count, base_channels, general_channels=general) for count in in_channels
    ]
    return PredictorEnsemble(members, backbone)
