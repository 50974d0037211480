"""The paper's method: its networks, loss profiles, images, schedule and training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from patchscout.checks import InputValueError
from patchscout.config import PaperSettings
from patchscout.data.layout import read_dataset
from patchscout.data.loader import ImageLoader
from patchscout.data.split import draw_split
from patchscout.monitor import Monitor
from patchscout.paper import settings as numbers
from patchscout.paper.images import Pool, ProfileBuffer, defects, spread_over_types
from patchscout.paper.networks import PaperAutoencoder, PaperPolicy, PaperPredictor
from patchscout.paper.segmenter import blank_segmenter, draw_masks, loss_profiles
from patchscout.paper.train import AutoencoderStates, train_paper, weighted_cross_entropy
from patchscout.types import Sample

CPU = torch.device("cpu")
SIDE = 96


@pytest.fixture(scope="module")
def split(sample_data):
    return draw_split(read_dataset(sample_data), labeled_per_type=1)


@pytest.fixture(scope="module")
def loader():
    return ImageLoader((SIDE, SIDE), 16)


@pytest.fixture(scope="module")
def autoencoder():
    """One whose running statistics are no longer those of a new one."""
    torch.manual_seed(0)
    network = PaperAutoencoder().train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(2, 3, 64, 64))
    return network


class Small(PaperAutoencoder):
    """As the paper's to all around it, but quick."""

    def __init__(self):
        nn.Module.__init__(self)
        self.down = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.BatchNorm2d(16), nn.LeakyReLU(0.2))
        self.narrow = nn.Conv2d(16, 200, 8)
        self.widen = nn.ConvTranspose2d(200, 16, 8)
        self.up = nn.ConvTranspose2d(32, 3, 8, 8)


@pytest.fixture
def small(monkeypatch):
    for module in ("segmenter", "train"):
        monkeypatch.setattr(f"patchscout.paper.{module}.PaperAutoencoder", Small)


# The networks


NETWORKS = {
    "autoencoder": (PaperAutoencoder, (2, 3, 64, 72)),
    "predictor": (PaperPredictor, (2, 10, 33, 47)),
    "policy": (lambda: PaperPolicy(64), (2, 6, 64, 64)),
}
OUTPUTS = {"autoencoder": [(2, 3, 64, 72)], "predictor": [(2, 33, 47)], "policy": [(2, 9), (2,)]}


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_and_gradients(name):
    torch.manual_seed(0)
    make, input_shape = NETWORKS[name]
    # Evaluating: while training, batch norm takes away again what a bias before it adds.
    network = make().eval()
    results = network(torch.rand(input_shape))
    results = results if isinstance(results, tuple) else (results,)
    assert [tuple(result.shape) for result in results] == OUTPUTS[name]
    torch.stack([(result * torch.randn_like(result)).sum() for result in results]).sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


@torch.no_grad()
def test_folded_reconstructs_as_evaluation_does(autoencoder):
    images, mask = torch.rand(2, 3, 64, 64), torch.ones(1, 200)
    mask[:, ::3] = 0
    network = autoencoder.eval()
    folded, before = network.folded(), network(images)
    torch.testing.assert_close(folded(images), before, atol=1e-5, rtol=0)
    torch.testing.assert_close(folded(images, mask), network(images, mask), atol=1e-5, rtol=0)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


@torch.no_grad()
def test_a_masked_channel_carries_nothing(autoencoder):
    network, images = autoencoder.eval(), torch.rand(2, 3, 64, 64)
    plain = network(images)
    code, skip = network.encode(images)
    mask = torch.ones(2, 200)
    mask[1, :4] = 0
    masked = network(images, mask)
    code[1, :4] = 0
    torch.testing.assert_close(masked, network.decode(code, skip))
    torch.testing.assert_close(masked[0], plain[0])
    assert not torch.equal(masked[1], plain[1])


@pytest.mark.parametrize(("height", "width"), [(68, 64), (64, 65), (8, 64), (66, 130)])
def test_sizes_that_do_not_fit_say_which_to_use(height, width):
    with pytest.raises(ValueError, match="`images` must have sides that are multiples of 8") as e:
        PaperAutoencoder()(torch.rand(1, 3, height, width))
    assert f"at least 64; got {height} x {width}. Resize to " in str(e.value)


# Loss profiles


@torch.no_grad()
def test_each_map_of_a_profile_is_one_mean_absolute_error(autoencoder):
    images, masks = torch.rand(2, 3, 64, 64), draw_masks(0)
    network, other = autoencoder.eval(), PaperAutoencoder().eval()
    by_dropout = loss_profiles(images, [network], masks)
    assert by_dropout.shape == (2, 10, 64, 64)
    expected = (network(images, masks[[3]]) - images).abs().mean(dim=1)
    torch.testing.assert_close(by_dropout[:, 3], expected)
    by_resets = loss_profiles(images, [network, other], None)
    torch.testing.assert_close(by_resets[:, 1], (other(images) - images).abs().mean(dim=1))
    assert not torch.allclose(by_resets[:, 0], by_resets[:, 1])


def test_each_mask_deletes_as_many_channels_and_keeps_the_sum():
    masks = draw_masks(1)
    assert masks.shape == (10, 200)
    assert ((masks == 0).sum(dim=1) == 60).all()
    torch.testing.assert_close(masks.sum(dim=1), torch.full((10,), 200.0))
    assert len(masks.unique(dim=0)) == 10
    assert torch.equal(masks, draw_masks(1))
    assert not torch.equal(masks, draw_masks(2))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("diversity", ["dropout", "reset"])
def test_a_blank_segmenter_takes_the_weights_of_another(diversity, tmp_path):
    settings = PaperSettings(diversity=diversity)
    torch.manual_seed(0)
    first, blank = blank_segmenter(settings), blank_segmenter(settings)
    state = {name: value.contiguous() for name, value in first.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        probability = first(images)
        assert not torch.equal(blank(images), probability)
        blank.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        assert torch.equal(blank(images), probability)
    assert probability.shape == (1, 64, 64)
    assert ((probability > 0) & (probability < 1)).all()
    assert len(first.autoencoders) == (1 if diversity == "dropout" else 10)


# Images


def test_patches_are_picked_from_normal_images_and_six_fixed_copies_of_each_labeled_one(
    split, loader
):
    pool = Pool(split, loader, seed=0)
    assert len(pool) == len(split.train_normal) + 6 * len(split.labeled)
    seen = {}
    for _ in range(12):
        chosen, images = pool.draw(16)
        for number, image in zip(chosen.tolist(), images, strict=True):
            assert torch.equal(seen.setdefault(number, image), image)
    normal = {n: image for n, image in seen.items() if n < len(split.train_normal)}
    assert normal
    for number, image in normal.items():
        assert torch.equal(image, loader.image(split.train_normal[number]))


def test_profiles_move_with_their_masks_and_old_ones_make_room(split, loader, monkeypatch):
    monkeypatch.setattr(numbers, "NUM_PROFILES", 12)
    buffer = ProfileBuffer(split, loader, seed=0)
    masks = []
    laid = buffer._view
    monkeypatch.setattr(buffer, "_view", lambda: masks.append(laid()) or masks[-1])

    def with_mask_as_profile(images):
        return torch.stack([mask.float().expand(10, -1, -1) for _, mask in masks[-len(images) :]])

    counts, profiles = [], torch.empty(0)
    for _ in range(4):
        buffer.renew(with_mask_as_profile)
        profiles, target = buffer.batch()
        assert torch.equal(profiles[:, 4], target)
        counts.append(len(masks))
    assert counts == [8, 16, 20, 24]  # eight while there is room, then four
    assert len(profiles) == 6
    assert [mask.any().item() for _, mask in masks].count(False) < 20
    assert any(mask.any() for _, mask in masks)


def test_the_reward_is_measured_about_defects_of_each_type(split, loader, monkeypatch):
    monkeypatch.setattr(numbers, "REWARD_PX", 32)
    images, masks = defects(split.labeled, loader)
    assert images.shape == (4, 3, 32, 32)
    assert masks.shape == (4, 32, 32)
    assert masks.amax(dim=(1, 2)).eq(1).all()


def test_types_take_turns(tmp_path):
    samples = [Sample(tmp_path / str(n), kind) for n, kind in enumerate("aaabbc")]
    chosen = [sample.image_path.name for sample in spread_over_types(samples, 5)]
    assert chosen == ["0", "3", "5", "1", "4"]


# Training


def test_alpha_weighs_normal_pixels_only():
    logits, target = torch.tensor([[[0.3, -0.8]]]), torch.tensor([[[1.0, 0.0]]])
    odds = np.log1p(np.exp([-0.3, -0.8]))
    for alpha in (1.0, 0.25, 0.0):
        found = weighted_cross_entropy(logits, target, alpha).item()
        assert found == pytest.approx((odds[0] + alpha * odds[1]) / 2)


class Shift(PaperAutoencoder):
    """Stands in for a state of the autoencoder; its error is the number it is made with."""

    def __init__(self, error):
        nn.Module.__init__(self)
        self.error = error

    def forward(self, images, mask=None):
        return images + self.error


@pytest.mark.usefixtures("small")
def test_with_resets_a_profile_is_of_the_latest_states_of_one_autoencoder(monkeypatch):
    monkeypatch.setattr(numbers, "PROFILE_LENGTH", 3)
    states = AutoencoderStates(None, CPU)
    profiles, newest = [], []
    for step in range(8):
        if step % 4 == 0:
            before = states._autoencoder
            states.start_cycle()
            assert states._autoencoder is not before
        monkeypatch.setattr(states._autoencoder, "folded", lambda error=step: Shift(error))
        states.keep()
        if states.has_profiles:
            images = torch.zeros(1, 3, 64, 64)
            profiles.append(states.profiles(images)[0, :, 0, 0].tolist())
            newest.append(states.profiles(images, newest=True)[0, :, 0, 0].tolist())
    # Steps 0 to 3 are one cycle, 4 to 7 the next; profiles begin with the third state.
    assert profiles == [[0, 1, 2], [1, 2, 3], [1, 2, 3], [1, 2, 3], [4, 5, 6], [5, 6, 7]]
    assert newest == [[0, 1, 2], [1, 2, 3], [4, 2, 3], [4, 5, 3], [4, 5, 6], [5, 6, 7]]


@pytest.mark.usefixtures("small")
def test_with_dropout_one_autoencoder_is_used_for_ever():
    states = AutoencoderStates(draw_masks(0), CPU)
    first = states._autoencoder
    patches = torch.rand(4, 3, 64, 64)
    images = torch.rand(1, 3, 64, 64)
    losses, profiles = [], []
    for _ in range(3):
        states.start_cycle()
        losses.append(states.update(patches))
        states.keep()
        assert len(states.complete) == 1
        profiles.append(states.profiles(images))
        assert torch.equal(profiles[-1], states.profiles(images, newest=True))
    assert states._autoencoder is first
    assert losses[-1] < losses[0]
    assert not torch.allclose(profiles[0], profiles[1])
    assert not torch.allclose(profiles[-1][:, 0], profiles[-1][:, 1])


class Kept(Monitor):
    """Keeps the figures of each step."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.figures = []
        self.stop_at = stop_at

    def log(self, step, figures):
        if step == self.stop_at:
            raise KeyboardInterrupt
        self.figures.append(figures)


@pytest.fixture
def train(split, loader, small, monkeypatch):
    monkeypatch.setattr(numbers, "GEOMETRY", replace(numbers.GEOMETRY, num_walkers=4, window=64))
    monkeypatch.setattr(numbers, "FRESH_PROFILES", 1)
    monkeypatch.setattr(numbers, "NUM_PROFILES", 8)

    def train(monitor, **settings):
        return train_paper(split, PaperSettings(**settings), 0, CPU, loader, monitor)

    return train


def test_training_lowers_both_losses_and_follows_the_schedule(train, split):
    monitor = Kept()
    result = train(monitor, num_steps=24)
    assert result.is_complete
    assert result.num_steps == 24 == len(monitor.figures)
    for name in ("autoencoder/loss", "predictor/loss"):
        losses = [figures[name] for figures in monitor.figures if name in figures]
        assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    # A policy update at the end of each cycle, but nothing is learned from the first 14 steps.
    updated = [n for n, figures in enumerate(monitor.figures) if "sampler/policy_loss" in figures]
    assert updated == [19]
    shared = [figures["sampler/reward_shared"] for figures in monitor.figures]
    assert shared[0] == 0  # beta is 1, and there is no predictor yet
    assert all(reward < 0 for reward in shared[1:])
    probability = result.segmenter(torch.rand(1, 3, SIDE, SIDE))
    assert probability.shape == (1, SIDE, SIDE)
    blank_segmenter(PaperSettings()).load_state_dict(result.segmenter.state_dict())


def test_with_resets_training_begins_with_the_first_complete_profile(train):
    monitor = Kept()
    result = train(monitor, num_steps=11, diversity="reset")
    trained = ["predictor/loss" in figures for figures in monitor.figures]
    assert trained == [False] * 9 + [True] * 2
    settings = PaperSettings(diversity="reset")
    blank_segmenter(settings).load_state_dict(result.segmenter.state_dict())


def test_ctrl_c_ends_it_with_what_there_is(train):
    result = train(Kept(stop_at=1), num_steps=20)
    assert not result.is_complete
    assert result.num_steps == 2
    assert train(Kept(stop_at=1), num_steps=20, diversity="reset") is None


def test_the_seed_decides_everything(train):
    def weights():
        return train(Kept(), num_steps=10).segmenter.predictor.state_dict()

    first, second = weights(), weights()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_without_labels_it_says_what_to_do(split, loader):
    unlabeled = replace(split, labeled=())
    with pytest.raises(InputValueError, match="`labeled_per_type` must be at least 1"):
        train_paper(unlabeled, PaperSettings(), 0, CPU, loader, Monitor())
