"""Score one image with ONNX Runtime alone: no PyTorch, no PatchScout.

`python examples/score_onnx.py run/model.onnx image.png`, after `patchscout export run` and
`pip install onnxruntime pillow`. Rules on regions are left out.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(model_path: str, image_path: str) -> None:
    """Print what was found, and write the mask beside the image."""
    session = onnxruntime.InferenceSession(model_path)
    opened = ImageOps.exif_transpose(Image.open(image_path))  # as cameras mean it
    if opened.mode[0] in "IF":
        sys.exit(f"{image_path} has more than 8 bits a pixel: export with `--pixels uint16`.")
    image = np.asarray(opened.convert("RGB"))
    anomaly_map, pred_mask, image_score = session.run(None, {"image": image[None]})
    if not np.isfinite(anomaly_map).all():
        sys.exit(f"{model_path} is damaged: it gives values that are not finite.")
    facts = json.loads(session.get_modelmeta().custom_metadata_map["patchscout"])
    found = "defective" if image_score[0] >= facts["decision"]["image_threshold"] else "good"
    print(f"{image_path}: score {image_score[0]:.3f}, {pred_mask[0].sum()} px: {found}")
    Image.fromarray(pred_mask[0]).save(f"{image_path}.mask.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
