"""What patches lead to: autoencoder, snapshots, predictor, averaged weights and R_pred."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from patchscout import devices
from patchscout.config import ViewSettings, parse_config
from patchscout.data.loader import ImageLoader
from patchscout.devices import has_fast_bfloat16
from patchscout.monitor import Monitor
from patchscout.networks import LeanAutoencoder
from patchscout.networks.loss_profile import ProfileExtractor, scale_errors
from patchscout.training.learner import ProfileLearner
from patchscout.training.normality import fit_normality
from patchscout.training.reward_probe import PROBE_PX, RewardProbe
from patchscout.training.views import ViewSource
from patchscout.types import Sample

SIZE, STEPS = 64, 8  # snapshots of a cycle: after 2, 4 and 8 steps
LABELED = [Sample(Path(name), "spot") for name in ("a", "b")]
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.1, 0.2, 0.3])
EAGER = {"schedule": "constant", "learning_rate": 2e-2, "weight_decay": 0.0}
LABELED_ONLY = {"normal_fraction": 0.0, "pasted_fraction": 0.0, "simulated_fraction": 0.0}
CPU = torch.device("cpu")


class Spots(ImageLoader):
    """Noisy dark images, the labeled ones with a bright square."""

    def image(self, sample):
        seed = sum(map(ord, sample.image_path.name))
        rng = torch.Generator().manual_seed(seed)
        return 0.2 + 0.2 * torch.rand(3, *self.image_size, generator=rng) + 0.6 * self.mask(sample)

    def mask(self, sample):
        mask = torch.zeros(self.image_size, dtype=torch.bool)
        start = {"a": 12, "b": 30}.get(sample.image_path.name, SIZE)
        mask[start : start + 20, 16:40] = True
        return mask


def make(diversity="reset", *, updates_per_step=0, predictor=None, **groups):
    config = parse_config(
        {
            "data": {"image_size": [SIZE, SIZE]},
            "autoencoder": {"base_channels": 4, "bottleneck_channels": 6},
            "profile": {
                "length": 3,
                "first_step": 2,
                "diversity": diversity,
                "dropout_rate": 0.5,
                "error": "absolute",
            },
            "predictor": {"base_channels": 4, "batch_size": 2, **(predictor or {})},
            "buffer": {"capacity": 4},
            "sampler": {"patch_px": 16},
            "views": LABELED_ONLY,
            "training": {
                "num_cycles": 2 if diversity == "reset" else 1,
                "steps_per_cycle": STEPS,
                "predictor_updates_per_step": updates_per_step,
                "alpha": {"steps": 20},
            },
            **groups,
        }
    )
    loader = Spots((SIZE, SIZE), 0)
    normality = fit_normality(LABELED, loader, config.normality, Monitor())
    views = ViewSource(LABELED, LABELED, loader, config.views, seed=0, normality=normality)
    torch.manual_seed(0)
    return ProfileLearner(config, views, (MEAN, STD))


def patches(count=4, seed=0):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def probe_images():
    loader = Spots((SIZE, SIZE), 0)
    return loader.images(LABELED), torch.stack([loader.mask(s) for s in LABELED]).float()


def current_map(learner, images):
    """The channel that the autoencoder in training would give."""
    factor = learner.config.autoencoder.downscale
    errors = scale_errors(learner.error_maps(F.avg_pool2d(images, factor)), "log")
    return F.interpolate(errors[:, None], scale_factor=float(factor), mode="bilinear")[:, 0]


def complete(diversity="reset", num_updates=3, **settings):
    """A learner with its first complete profile and some predictor updates."""
    learner = make(diversity, **settings)
    learner.start_cycle()
    for step in range(STEPS):
        learner.learn(patches(seed=step))
    for _ in range(num_updates):
        learner.update_predictor()
    return learner


def reward_worked_out(learner, profiles):
    """R_pred by its formula: cross-entropy with alpha on normal pixels, and half the Dice loss."""
    images, masks = probe_images()
    context = learner._features.context(images)
    # What is assembled is worked out in test_loss_profile.
    assembled = learner._features.assemble(images, profiles, context)
    with torch.no_grad():
        logits = learner.predictor.eval()(assembled)
    p, alpha = logits.double().sigmoid(), 1 - learner.num_steps / 20
    entropy = -(masks * p.log() + alpha * (1 - masks) * (1 - p).log()).mean()
    dice = 1 - (2 * (p * masks).sum() + 1) / (p.sum() + masks.sum() + 1)
    return -(entropy + 0.5 * dice).item()


def test_a_cycle_begins_with_a_new_autoencoder_only_with_resets():
    for diversity in ("reset", "dropout", "none"):
        learner = make(diversity)
        first = learner.autoencoder
        learner.start_cycle()  # nothing has been learned yet
        assert learner.autoencoder is first
        learner.learn(patches())
        learner.start_cycle()
        assert (learner.autoencoder is first) == (diversity != "reset")
        before = weights(learner.autoencoder)
        learner.learn(patches())
        assert not torch.equal(weights(learner.autoencoder), before)


@pytest.mark.parametrize(
    ("diversity", "spacing", "expected"),
    [
        ("reset", "geometric", [0, 1, 1, 2, 2, 2, 2, 3] * 2),
        ("reset", "last", [1, 2, 3, 3, 3, 3, 3, 3] * 2),
        ("none", "geometric", [0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3]),  # 2, 6, 16
        ("dropout", "last", [1] * 16),
    ],
)
def test_snapshots_are_taken_when_due(diversity, spacing, expected):
    profile = {"length": 3, "first_step": 2, "diversity": diversity, "spacing": spacing}
    profile["error"] = "absolute"
    training = {"num_cycles": 2, "steps_per_cycle": STEPS, "predictor_updates_per_step": 0}
    learner = make(diversity, profile=profile, training=training)
    images, _ = probe_images()
    counts = []
    for step in range(2 * STEPS):
        if step % STEPS == 0:
            learner.start_cycle()
        learner.learn(patches(seed=step))
        known = counts[-1] if counts else 0
        counts.append(learner.recorder.num_states)
        if counts[-1] > known and diversity != "dropout":  # a new one is of this very step
            newest = learner.recorder.extractor()(images)[:, -1]
            torch.testing.assert_close(newest, current_map(learner, images))
    assert counts == expected


def test_an_empty_minibatch_is_a_step_without_learning():
    learner = make()
    before = weights(learner.autoencoder)
    for step in (1, 2):
        reward, credits = learner.learn(patches(0))
        assert reward == 0.0
        assert len(credits) == 0
        assert learner.num_steps == step
    assert torch.equal(weights(learner.autoencoder), before)
    assert learner.recorder.num_states == 1
    assert "autoencoder/loss" not in learner.figures


def test_structured_dropout_deletes_bottleneck_channels_of_each_patch(monkeypatch):
    learner = make("dropout")
    masks, original = [], learner.autoencoder.forward
    monkeypatch.setattr(
        learner.autoencoder, "forward", lambda x, mask: masks.append(mask) or original(x, mask)
    )
    for _ in range(30):
        learner.learn(patches())
    drawn = torch.stack(masks)
    assert drawn.shape == (30, 4, 6)
    assert set(drawn.unique().tolist()) == {0.0, 2.0}
    assert drawn.mean().item() == pytest.approx(1, abs=0.15)


def test_r_pred_is_zero_until_the_predictor_has_begun():
    learner = make("none", updates_per_step=1)
    rewards = [learner.learn(patches(seed=step))[0] for step in range(STEPS + 2)]
    assert rewards[:STEPS] == [0.0] * STEPS
    assert all(reward < 0 for reward in rewards[STEPS:])
    assert learner.num_predictor_updates == 3
    assert not make().has_profiles


@pytest.mark.parametrize("diversity", ["none", "dropout"])
def test_r_pred_is_minus_the_loss_on_the_labeled_images_with_alpha_as_it_is(diversity):
    learner = complete(diversity)
    rewards = []
    for _ in range(2):
        rewards.append(learner.learn(patches())[0])
        with torch.no_grad():
            profiles = learner.recorder.extractor()(probe_images()[0])
        assert rewards[-1] == pytest.approx(reward_worked_out(learner, profiles), rel=1e-4)
    assert abs(rewards[1] - rewards[0]) > 1e-3  # alpha has fallen


def test_r_pred_in_a_new_cycle_is_of_the_new_the_current_and_the_old_autoencoder():
    learner = complete(num_updates=150, predictor={**EAGER, "inputs": "profile"})
    images, _ = probe_images()
    old = learner.recorder.extractor()(images)
    learner.start_cycle()
    rewards, errors = [], []
    for step in range(3):
        rewards.append(learner.learn(patches(seed=step))[0])
        errors.append(current_map(learner, images))
    reward, (_, snapshot, current) = rewards[-1], errors  # after steps 2 and 3
    profiles = torch.stack([snapshot, current, old[:, 2]], dim=1)
    assert reward == pytest.approx(reward_worked_out(learner, profiles), rel=1e-4)
    for channel, other in ((0, old[:, 0]), (1, old[:, 1]), (1, snapshot), (2, current)):
        wrong = profiles.clone()
        wrong[:, channel] = other
        assert reward != pytest.approx(reward_worked_out(learner, wrong), rel=1e-3)


def test_the_segmenter_has_averaged_weights_and_current_statistics():
    learner = complete(num_updates=0, predictor={"averaging": 0.75})
    average = None
    for _ in range(4):
        learner.update_predictor()
        now = weights(learner.predictor)
        average = now if average is None else 0.75 * average + 0.25 * now
    segmenter = learner.segmenter()
    assert average is not None
    torch.testing.assert_close(weights(segmenter.predictor), average)
    for kept, running in zip(
        segmenter.predictor.buffers(), learner.predictor.buffers(), strict=True
    ):
        assert torch.equal(kept, running)
    before = weights(segmenter)
    learner.update_predictor()
    assert torch.equal(weights(segmenter), before)  # it is a copy
    assert not segmenter.training


def test_members_are_trained_in_turn():
    learner = complete(num_updates=0, predictor={"num_members": 3})
    changed = []
    for _ in range(5):
        before = [weights(member) for member in learner.predictor.members]
        learner.update_predictor()
        now = [weights(member) for member in learner.predictor.members]
        changed.append([not torch.equal(a, b) for a, b in zip(before, now, strict=True)])
    assert changed == [[number == update % 3 for number in range(3)] for update in range(5)]


@pytest.mark.parametrize("mirrored", [True, False])
def test_the_segmenter_scores_as_the_settings_say(mirrored):
    settings = {"mirrored": mirrored, "image_evidence": 0.25}
    segmenter = complete(predictor=settings).segmenter()
    assert segmenter.mirrored is mirrored
    assert segmenter.image_evidence == 0.25


def test_no_more_predictor_updates_than_asked_for():
    training = {"steps_per_cycle": STEPS, "predictor_updates": 5, "predictor_updates_per_step": 0}
    learner = complete(num_updates=5, training=training)
    before = weights(learner.predictor)
    learner.update_predictor()
    assert learner.num_predictor_updates == 5
    assert torch.equal(weights(learner.predictor), before)


def test_the_predictor_learns_an_obvious_mask():
    learner = complete(num_updates=0, predictor=EAGER)
    losses = []
    for _ in range(80):
        learner.update_predictor()
        losses.append(learner.figures["predictor/loss"])
    assert sum(losses[-5:]) / 5 < losses[0] / 5


def test_the_autoencoder_learns_one_patch_by_heart():
    learner = make("none", autoencoder={"learning_rate": 1e-2})
    smooth = torch.nn.functional.interpolate(patches(1)[..., :4, :4], size=32, mode="bilinear")
    losses = []
    for _ in range(150):
        learner.learn(smooth)
        losses.append(learner.figures["autoencoder/loss"])
    assert losses[-1] < losses[0] / 20


def test_the_image_alone_is_learned_without_profiles():
    learner = make(predictor={**EAGER, "inputs": "image", "image_evidence": 0.0})
    before = weights(learner.autoencoder)
    assert learner.has_profiles  # at once: none are needed
    losses = []
    for _ in range(60):
        learner.update_predictor()
        losses.append(learner.figures["predictor/loss"])
    assert sum(losses[-5:]) / 5 < losses[0] / 3
    assert torch.equal(weights(learner.autoencoder), before)
    segmenter = learner.segmenter()
    assert not any("autoencoder" in name for name in segmenter.state_dict())
    images, masks = probe_images()
    with torch.no_grad():
        found = segmenter(images)
    assert found[masks > 0].mean() > found[masks == 0].mean() + 0.3


@pytest.mark.skipif(not has_fast_bfloat16(CPU), reason="no bfloat16 in hardware")
def test_mixed_precision_learns_alike():
    training = {"steps_per_cycle": STEPS, "predictor_updates_per_step": 0}
    losses, dtypes = [], []
    for is_mixed in (False, True):
        learner = complete(
            num_updates=0, predictor=EAGER, training={**training, "mixed_precision": is_mixed}
        )
        for member in learner.predictor.members:
            member.register_forward_hook(lambda *parts: dtypes.append(parts[-1].dtype))
        curve = []
        for _ in range(25):
            learner.update_predictor()
            curve.append(learner.figures["predictor/loss"])
        losses.append(np.array(curve))
        assert {parameter.dtype for parameter in learner.predictor.parameters()} == {torch.float32}
        assert learner.segmenter()(probe_images()[0]).dtype == torch.float32
    assert dtypes == [torch.float32] * 25 + [torch.bfloat16] * 25
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.02)
    assert not np.array_equal(*losses)
    assert losses[0][-5:].mean() == pytest.approx(losses[1][-5:].mean(), rel=0.25)


def test_where_bfloat16_is_slow_or_unwanted_nothing_changes(monkeypatch):
    layer, image = torch.nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)
    for is_fast, is_wanted in ((False, True), (True, False), (False, False)):
        monkeypatch.setattr(devices, "has_fast_bfloat16", lambda device, fast=is_fast: fast)
        with devices.mixed_precision(CPU, enabled=is_wanted):
            assert layer(image).dtype == torch.float32
    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda device: True)
    with devices.mixed_precision(CPU, enabled=True):
        assert layer(image).dtype == torch.bfloat16


def test_no_device_but_cpu_and_cuda_has_fast_bfloat16():
    assert not has_fast_bfloat16(torch.device("mps"))


def credits_of(learner, given):
    """The credits of the next step."""
    return learner.learn(given)[1]


def test_there_is_no_credit_before_the_predictor_or_without_the_setting():
    learner = make(updates_per_step=1)
    assert not any(credits_of(learner, patches(seed=step)).any() for step in range(STEPS))
    learner = complete(reward={"credit": 0.0})
    learner.start_cycle()
    assert not any(credits_of(learner, patches(seed=step)).any() for step in range(3))


def test_credits_are_standardized_over_the_patches():
    learner = complete(num_updates=5)
    learner.start_cycle()
    assert not credits_of(learner, patches()).any()  # a new autoencoder: not measured yet
    for _ in range(3):
        given = credits_of(learner, patches(8))
        assert given.mean().item() == pytest.approx(0, abs=1e-5)
        assert given.std(correction=0).item() == pytest.approx(1, abs=1e-4)


def labeled_views(loader):
    return ViewSource(LABELED, LABELED, loader, ViewSettings(), seed=0).defects(2)


class Counting(LeanAutoencoder):
    """Counts how often it is run."""

    def __init__(self):
        super().__init__(4, 6)
        self.count = 0
        self.eval()

    def forward(self, images, bottleneck_mask=None):
        self.count += 1
        return super().forward(images, bottleneck_mask)


@pytest.mark.parametrize("downscale", [1, 2])
def test_the_probe_runs_only_autoencoders_it_has_not_seen(downscale):
    torch.manual_seed(0)
    a, b, c, d, current = (Counting() for _ in range(5))
    probe = RewardProbe(labeled_views(Spots((SIZE, SIZE), 0)))
    for autoencoders, newest, counts in (
        ([a, b, c], None, [1, 1, 1, 0, 0]),
        ([a, b, c], None, [0, 0, 0, 0, 0]),
        ([a, b, d], None, [0, 0, 0, 1, 0]),
        ([a, b, d], (1, current), [0, 0, 0, 0, 1]),
        ([a, b, d], (2, current), [0, 0, 0, 0, 1]),
        ([a, b, d], None, [0, 0, 0, 0, 0]),
    ):
        before = [each.count for each in (a, b, c, d, current)]
        extractor = ProfileExtractor(autoencoders, None, "log", downscale)
        found = probe.profiles(extractor, newest)
        assert [
            each.count - was for each, was in zip((a, b, c, d, current), before, strict=True)
        ] == counts
        anew = list(autoencoders)
        if newest is not None:
            anew[newest[0]] = newest[1]
        expected = ProfileExtractor(anew, None, "log", downscale)(probe.images)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_probe_looks_at_squares_about_the_defects():
    loader = Spots((256, 192), 0)  # the defect of b: rows 30 to 50, columns 16 to 40
    probe = RewardProbe(labeled_views(loader))
    assert probe.images.shape == (2, 3, PROBE_PX, PROBE_PX)
    for index, sample in enumerate(LABELED):
        window = (..., slice(0, PROBE_PX), slice(0, PROBE_PX))  # it does not reach over the border
        assert torch.equal(probe.images[index], loader.image(sample)[window])
        assert torch.equal(probe.masks[index], loader.mask(sample)[window].float())
