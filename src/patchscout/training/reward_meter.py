"""Measures R_pred: what a step of the autoencoder does for the predictor, about some defects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import functional_call

from patchscout.networks.autoencoder import level_errors, patch_losses
from patchscout.networks.segmenter import Observer, measure_lighting
from patchscout.training.patch_credit import patch_credit
from patchscout.training.predictor_trainer import PredictorTrainer
from patchscout.training.profile_trainer import WHOLE, ProfileTrainer
from patchscout.training.rewards import pred_reward

Defect = tuple[Float[Tensor, "3 height width"], Bool[Tensor, "height width"]]
"""An image and its mask."""

PROBE_PX = 64
"""Side of the square about each defect that is looked at; at most the image."""

MEASURE_EVERY = 2
"""Every so many steps of a cycle are measured, the others pay nothing: it costs as much as training
an autoencoder."""


class RewardMeter:
    """Measures the predictor's loss on squares about defects, before and after a step.

    The features of the squares do not change.

    Args:
        defects: Images with masks; none, and nothing is measured.
        autoencoders: Whose steps are paid for.
        predictor: Whose success counts.
    """

    def __init__(
        self,
        defects: Sequence[Defect],
        autoencoders: ProfileTrainer,
        predictor: PredictorTrainer,
    ) -> None:
        self.autoencoders = autoencoders
        self.predictor = predictor
        self._before: float | None = None
        self.is_on = len(defects) > 0
        if self.is_on:
            self._look_at(defects, predictor.buffer.observer)

    def credits(self, patches: Sequence[Tensor]) -> Float[Tensor, " batch"] | None:
        """Measure the loss before a step; return the credit of each patch, see `patch_credit`.

        Args:
            patches: Standardized features of each level, which the autoencoders are to learn.

        Returns:
            None if the step is not measured, or there is no predictor yet whose success counts.
        """
        if not self.is_on or not self.predictor.num_done or self.autoencoders.step % MEASURE_EVERY:
            return None
        autoencoder = self.autoencoders.autoencoders[WHOLE]
        loss = self._loss()
        self._before = loss.item()
        weights = dict(autoencoder.named_parameters())
        slopes = torch.autograd.grad(
            loss,
            list(weights.values()),
            materialize_grads=True,  # 0 where it is not looked at
        )

        def losses(moved: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
            found = functional_call(autoencoder, dict(moved), (patches,))
            return patch_losses(level_errors(patches, found))

        return patch_credit(losses, weights, dict(zip(weights, slopes, strict=True)))

    @torch.no_grad()
    def reward(self) -> float:
        """Return R_pred of the step since `credits`; 0 if it was not measured."""
        before, self._before = self._before, None
        return 0.0 if before is None else pred_reward(before, self._loss().item())

    def _loss(self) -> Float[Tensor, ""]:
        """Return the predictor's loss on the squares, with a gradient to the autoencoder."""
        profile = self.autoencoders.in_progress()
        profiles = profile(profile.standardized(self._features))
        seen = self._observer.assemble(self._images, profiles, self._lighting)
        return self.predictor.loss(seen, self._masks)

    @torch.no_grad()
    def _look_at(self, defects: Sequence[Defect], observer: Observer) -> None:
        self._observer = observer
        squares = [square_about(mask, PROBE_PX) for _, mask in defects]
        self._images, masks = (
            torch.stack([part[..., *square] for part, square in zip(parts, squares, strict=True)])
            for parts in zip(*defects, strict=True)
        )
        self._masks = masks.float()
        self._lighting = torch.cat([measure_lighting(image[None]) for image, _ in defects])
        self._features = observer.features(self._images, self._lighting)


def square_about(mask: Bool[Tensor, "height width"], side_px: int) -> tuple[slice, slice]:
    """Return the square of a side, at most the image, about the middle of a mask's pixels."""
    rows_and_columns = mask.nonzero().float()
    middle = rows_and_columns.mean(dim=0) if len(rows_and_columns) else torch.zeros(2)
    window: list[slice] = []
    for center, side in zip(middle.tolist(), mask.shape, strict=True):
        size = min(side_px, side)
        start = min(max(round(center) - size // 2, 0), side - size)
        window.append(slice(start, start + size))
    return window[0], window[1]
