"""Networks learn: the autoencoder a patch by heart, the whole chain a defect."""

import pytest
import torch

from patchscout import PatchScout, preset_config
from patchscout.data.synthetic import write_sample
from patchscout.networks.autoencoder import FeatureAutoencoder, patch_losses


def test_the_autoencoder_learns_one_patch_by_heart():
    torch.manual_seed(0)
    network = FeatureAutoencoder([24, 40, 112]).eval()  # without dropout
    patch = [torch.randn(1, channels, 8, 8) for channels in (24, 40, 112)]
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    losses = []
    for _ in range(300):
        loss = patch_losses(network.errors(patch)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


@pytest.mark.parametrize("labeled_per_type", [0, 2])
def test_even_the_shortest_training_is_better_than_chance(tmp_path, labeled_per_type):
    data = write_sample(tmp_path, num_train=8, num_test_normal=3, num_per_type=5, size_px=96)
    config = preset_config(
        "fast",
        labeled_per_type=labeled_per_type,
        device="cpu",
        data={"image_size": (96, 96)},
        profile={"snapshots": (5, 40), "num_cycles": 1},
        predictor={"updates": 40, "batch_size": 4, "crop_px": 96, "base_channels": 8},
    )
    scout = PatchScout(config).fit(data)
    metrics = scout.evaluate(data)
    assert metrics["pixel_auroc"] > 0.6
