"""Every number of the paper but the two that can be set, see `config.PaperSettings`.

References:
    arXiv 2511.20270 and its authors' implementation.
"""

from __future__ import annotations

from patchscout.training.environment import Geometry
from patchscout.training.policy_gradient import PolicySettings

PROFILE_LENGTH = 10
"""T: error maps in a loss profile."""

DROPOUT_RATE = 0.3
"""Share of bottleneck channels that structured dropout deletes; the paper gives none."""

CYCLE_STEPS = 20
"""K: steps of a cycle. At its start walkers begin anew, and with resets the autoencoder does."""

BETA_SHARE = 5 / 9
"""L: beta falls from 1 to 0 over this share of the steps, 5000 of 9000; alpha (H) over all."""

GEOMETRY = Geometry(
    num_walkers=32,
    window=128,
    patch=64,
    stride=24,
    max_steps_per_image=32,
    error_refresh_steps=1,
)
"""Lengths in pixels; 32 patches are a minibatch of the autoencoder."""

POLICY = PolicySettings(
    learning_rate=1e-3,
    gamma=0.9,
    entropy_weight=0.03,
    update_every=CYCLE_STEPS,
    update_epochs=1,
    update_after=14,
)
"""`update_after` is M. Discount and entropy bonus are this project's: the source has neither."""

LEARNING_RATE = 1e-3
"""Adam's step size, of autoencoder and predictor."""

LABELED_COPIES = 6
"""Augmented copies of each labeled image among the images that patches are picked from."""

MAX_ROTATION_DEG, MAX_TRANSLATION, MAX_SHEAR_DEG = 30.0, 0.1, 20.0
"""Of an augmentation, beside flips; the translation as a share of the image."""

NUM_PROFILES = 80
"""Profiles that the predictor is trained on, at most."""

FRESH_PROFILES = 4
"""Profiles that are made anew in each step."""

NORMAL_SHARE = 0.3
"""Share of profiles of normal images; the others are of labeled ones."""

UPDATES_PER_STEP = 2
"""Predictor updates in a step, each on half the profiles."""

REWARD_IMAGES, REWARD_PX = 4, 128
"""R_pred is measured on squares of this side about so many labeled defects."""
