"""The three networks, each in the paper's size and in a lean one; no config, files or devices."""

from patchscout.networks.autoencoder import Autoencoder, LeanAutoencoder, PaperAutoencoder
from patchscout.networks.predictor import LeanPredictor, PaperPredictor, PredictorEnsemble
from patchscout.networks.sampler import LeanPolicy, PaperPolicy, PolicyNetwork

__all__ = [
    "Autoencoder",
    "LeanAutoencoder",
    "LeanPolicy",
    "LeanPredictor",
    "PaperAutoencoder",
    "PaperPolicy",
    "PaperPredictor",
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
    architecture: str, in_channels: int, base_channels: int, num_members: int = 1
) -> PredictorEnsemble:
    """Return new predictors that answer together; `base_channels` are those of `lean` ones."""
    return PredictorEnsemble(
        PaperPredictor(in_channels)
        if architecture == "paper"
        else LeanPredictor(in_channels, base_channels)
        for _ in range(num_members)
    )
