"""What the picked patches are for: the autoencoder, the profiles and the predictor that learn."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from patchscout.channels import predictor_channels
from patchscout.config import Config
from patchscout.losses import dice_loss, weighted_cross_entropy
from patchscout.networks import Backbone, PredictorEnsemble, make_autoencoder, make_predictor
from patchscout.networks.autoencoder import Autoencoder
from patchscout.networks.loss_profile import ProfileExtractor, absolute_error
from patchscout.networks.novelty import NoveltyModel
from patchscout.networks.segmenter import FeatureExtractor, Segmenter
from patchscout.training.member import MemberInTraining
from patchscout.training.patch_credit import patch_credit
from patchscout.training.profile_buffer import ProfileBuffer
from patchscout.training.reward_probe import RewardProbe
from patchscout.training.snapshots import SnapshotRecorder, draw_dropout_masks
from patchscout.training.views import ViewSource

WARM_UP = 0.1
"""Share of the predictor's updates over which its step size rises."""

Images = Float[Tensor, "batch 3 height width"]


class ProfileLearner:
    """Trains the autoencoder on patches and, from the first complete profile on, the predictor.

    Args:
        config: Every setting.
        views: What the predictor is trained on; R_pred is measured on some of its defects. Where
            its images are is computed.
        color_statistics: Mean and standard deviation of each color over the normal images.
    """

    def __init__(
        self,
        config: Config,
        views: ViewSource,
        color_statistics: tuple[Tensor, Tensor],
    ) -> None:
        self.config = config
        self.device = device = views.loader.device
        self.num_steps = 0
        self.num_predictor_updates = 0
        self.figures: dict[str, float] = {}
        self._color_statistics = color_statistics
        self._normality = views.normality.model if views.normality else None
        self._features: FeatureExtractor | None = None
        if config.predictor.inputs == "image":
            self._features = self._feature_extractor(None)
        self._reward_pred = 0.0
        self._gradient: Sequence[Tensor] | None = None

        self._new_autoencoder()
        masks = None
        if config.profile.diversity == "dropout":
            channels = self.autoencoder.bottleneck_channels
            rate = config.profile.dropout_rate
            masks = draw_dropout_masks(config.profile.length, channels, rate, config.seed)
            masks = masks.to(device)
        self.resets = config.profile.diversity == "reset"
        cycles = 1 if self.resets else config.training.num_cycles
        num_steps = cycles * config.training.steps_per_cycle
        downscale = config.autoencoder.downscale
        self.recorder = SnapshotRecorder(config.profile, num_steps, masks, downscale)

        self.predictor = make_predictor(
            config.predictor.architecture,
            predictor_channels(config),
            config.predictor.base_channels,
            Backbone.pretrained() if config.predictor.sees_backbone else None,
        ).to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._members = [
            MemberInTraining(self.predictor, number, device, mixed=config.training.mixed_precision)
            for number in range(len(self.predictor.members))
        ]
        self.averaged = AveragedModel(
            self.predictor.members,  # and not the backbone, which does not learn
            multi_avg_fn=get_ema_multi_avg_fn(config.predictor.averaging),
            use_buffers=False,
        )
        self.predictor_optimizer = torch.optim.AdamW(
            (one for one in self.predictor.parameters() if one.requires_grad),
            config.predictor.learning_rate,
            weight_decay=config.predictor.weight_decay,
            fused=device.type == "cuda",
        )
        self.predictor_schedule = make_schedule(self.predictor_optimizer, config)
        self.buffer = ProfileBuffer(config, views)
        self._probe = RewardProbe(views.defects(config.reward.pred_images))

    def start_cycle(self) -> None:
        """Begin a cycle, with a new autoencoder if profiles are made diverse by resets."""
        if self.resets and self.num_steps:
            self._new_autoencoder()
            self.recorder.start_over()

    def learn(self, patches: Images) -> tuple[float, Float[Tensor, " batch"]]:
        """Train on one minibatch of patches.

        Returns:
            R_pred, minus the predictor's loss, and the credit that each patch has for it.
        """
        credit = patches.new_zeros(len(patches))
        if len(patches):
            if self._gradient is not None:
                credit = patch_credit(self.autoencoder.eval(), patches, self._gradient)
            self._update_autoencoder(patches)
        self.num_steps += 1
        steps_per_cycle = self.config.training.steps_per_cycle
        step = (self.num_steps - 1) % steps_per_cycle + 1 if self.resets else self.num_steps
        if self.recorder.offer(step, self.autoencoder) and self.recorder.is_complete:
            self._features = self._feature_extractor(self.recorder.extractor())
        self._measure_reward()
        for _ in range(self.config.training.predictor_updates_per_step):
            self.update_predictor()
        return self._reward_pred, credit

    @torch.no_grad()
    def error_maps(self, images: Images) -> Float[Tensor, "batch height width"]:
        """Return the current reconstruction error of each pixel."""
        images = images.contiguous(memory_format=torch.channels_last)
        return absolute_error(self.autoencoder.eval()(images), images)

    @property
    def has_profiles(self) -> bool:
        """Whether there has been a complete profile, and so a predictor in training."""
        return self._features is not None

    def update_predictor(self) -> None:
        """Train the next member on one batch, once there are profiles and while updates are due."""
        settings = self.config.training
        if self._features is None or self.num_predictor_updates >= settings.predictor_updates:
            return
        self.buffer.refresh(self._features)
        features, target = self.buffer.batch()
        self.predictor.train()
        member = self._members[self.num_predictor_updates % len(self._members)]
        if len(features) == self.config.predictor.batch_size:  # as all to come
            member.record(features)
        loss = self._predictor_loss(member(features), target)
        self.predictor_optimizer.zero_grad()
        loss.backward()
        self.predictor_optimizer.step()
        self.predictor_schedule.step()
        self.averaged.update_parameters(self.predictor.members)
        self.num_predictor_updates += 1
        self.figures["predictor/loss"] = loss.item()

    def segmenter(self, novelty: NoveltyModel | None = None) -> Segmenter:
        """Return a copy of the model as it stands, in evaluation mode.

        Args:
            novelty: What it is joined with, on the same device.
        """
        assert self._features is not None, "there is no complete profile yet"
        members = cast(nn.ModuleList, self.averaged.module)
        predictor = copy.deepcopy(PredictorEnsemble(members, self.predictor.backbone))
        settings = self.config.predictor
        return Segmenter(
            self._features,
            predictor,
            novelty,
            mirrored=settings.mirrored,
            image_evidence=settings.image_evidence,
        ).eval()

    def _new_autoencoder(self) -> None:
        settings = self.config.autoencoder
        self.autoencoder = make_autoencoder(
            settings.architecture, settings.base_channels, settings.bottleneck_channels
        ).to(self.device)
        self.autoencoder_optimizer = torch.optim.Adam(
            self.autoencoder.parameters(), settings.learning_rate
        )

    def _update_autoencoder(self, patches: Images) -> None:
        mask = None
        if self.config.profile.diversity == "dropout":
            shape = (len(patches), self.autoencoder.bottleneck_channels)
            kept = 1 - self.config.profile.dropout_rate
            mask = torch.bernoulli(torch.full(shape, kept, device=self.device)) / kept
        self.autoencoder.train()
        loss = (self.autoencoder(patches, mask) - patches).square().mean()
        self.autoencoder_optimizer.zero_grad()
        loss.backward()
        self.autoencoder_optimizer.step()
        self.figures["autoencoder/loss"] = loss.item()

    def _feature_extractor(self, profiles: ProfileExtractor | None) -> FeatureExtractor:
        """Return what the predictor sees through these profiles."""
        inputs = self.config.predictor.inputs
        normality = self._normality
        features = FeatureExtractor(profiles, inputs, *self._color_statistics, normality)
        return features.to(self.device).eval()

    def _measure_reward(self) -> None:
        """Set R_pred from some defects, with the profile as far as it is new, and its gradient."""
        self._gradient = None
        if self._features is None or not self.num_predictor_updates:
            return
        self.predictor.eval()
        newest, probe = self._newest(), self._probe
        weights = list(newest[1].parameters()) if newest and self.config.gives_credit else []
        with torch.set_grad_enabled(bool(weights)):
            profiles = probe.profiles(self.recorder.extractor(self._features.profiles), newest)
            features = self._features.assemble(probe.images, profiles, probe.context)
            logits = self.predictor(features, general=probe.general(self.predictor, features))
            loss = self._predictor_loss(logits, probe.masks)
        self._reward_pred = -loss.item()
        if weights:
            self._gradient = torch.autograd.grad(loss, weights)

    def _newest(self) -> tuple[int, Autoencoder] | None:
        """Return the autoencoder in training and the number of the snapshot it is on the way to."""
        if self.recorder.is_complete or self.config.profile.spacing == "last":
            return None
        return self.recorder.num_states, self.autoencoder.eval()

    def _predictor_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        alpha = self.config.training.alpha.at(self.num_steps)
        loss = weighted_cross_entropy(logits, target, alpha)
        if self.config.predictor.dice_weight:
            loss = loss + self.config.predictor.dice_weight * dice_loss(logits, target)
        return loss


def make_schedule(optimizer: Optimizer, config: Config) -> LRScheduler:
    """Return the schedule of the predictor's step size."""
    num_updates = config.training.predictor_updates
    num_rising = max(1, round(WARM_UP * num_updates))

    def one_cycle(update: int) -> float:
        rise = min((update + 1) / num_rising, 1.0)
        return rise * 0.5 * (1 + math.cos(math.pi * min(update / num_updates, 1.0)))

    is_constant = config.predictor.schedule == "constant"
    return LambdaLR(optimizer, (lambda _: 1.0) if is_constant else one_cycle)
