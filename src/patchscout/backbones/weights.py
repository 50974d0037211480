"""Where weights come from: a local file, or a download that the user allowed; never a surprise."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import safetensors.torch
import torch
from torch import Tensor

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.files.seal import sha256

StateDict = Mapping[str, Tensor]


def read_weights(path: Path) -> StateDict:
    """Return the tensors in a file.

    Args:
        path: Ends in .safetensors, or holds a state dict that `torch.save` wrote. A pickle is read
            for its tensors alone: nothing in it is executed.

    Raises:
        InputNotFoundError: If it is not there.
        InputValueError: If it holds anything else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputNotFoundError(
            f"The weights {path} cannot be read: {error.strerror}. Name a .safetensors file, or a"
            " state dict that `torch.save` wrote."
        ) from None
    return parse_weights(content, path)


def parse_weights(content: bytes, path: Path) -> StateDict:
    """Return the tensors in the content of a file; `read_weights` says which files there are."""
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load(content)
        else:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - whatever a damaged or hostile file raises
        state = None
    tensors = state.values() if isinstance(state, dict) else ()
    if not tensors or not all(isinstance(one, Tensor) for one in tensors):
        raise InputValueError(
            f"{path} is not a file of weights: it is damaged, or holds something else than tensors"
            " by name. Name a .safetensors file, or what `torch.save(model.state_dict(), path)`"
            " wrote."
        )
    return cast(StateDict, state)


def check_weights(
    weights: StateDict, shapes: Mapping[str, torch.Size], unused: str, path: Path, network: str
) -> None:
    """Refuse the weights of another network.

    Args:
        weights: By name.
        shapes: What the network has, by name.
        unused: A regular expression that matches the names of what the published file has besides.
        path: Where they come from, for the error.
        network: Whose weights they should be, for the error.

    Raises:
        InputValueError: If a tensor is missing, has another shape, or is not known; names the
            first.
    """
    wrong = None
    for name, shape in shapes.items():
        if name not in weights:
            wrong = f"'{name}' is missing"
        elif weights[name].shape != shape:
            wrong = f"'{name}' must have the shape {list(shape)}, not {list(weights[name].shape)}"
        if wrong:
            break
    else:
        unknown = (name for name in weights if name not in shapes and not re.match(unused, name))
        if (name := next(unknown, None)) is not None:
            wrong = f"'{name}' is not among its tensors"
    if wrong:
        raise InputValueError(f"{path} does not hold the weights of {network}: {wrong}.")


def download(url: str, digest: str, network: str, *, may_download: bool) -> Path:
    """Return where a published file lies on this machine, fetching it if that is allowed.

    Args:
        url: Where it is published. What was fetched is kept in PyTorch's folder of checkpoints.
        digest: Its SHA-256 as 64 hexadecimal digits.
        network: Whose weights it holds, for the error.
        may_download: Whether to fetch it.

    Raises:
        InputNotFoundError: If it is not there and may not, or could not, be fetched.
        InputValueError: If the file there is not the published one.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        if sha256(path.read_bytes()) != digest:
            raise InputValueError(
                f"{path} is not the published file of weights: it is damaged or was changed, and is"
                " not read. Delete it, and download it again."
            )
        return path
    if not may_download:
        raise InputNotFoundError(
            f"The weights of {network} are not on this machine. Download {url} and name the file"
            " with `weights`, or allow the download with `may_download`."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), digest)
    except (OSError, RuntimeError) as error:
        raise InputNotFoundError(
            f"The weights of {network} could not be downloaded from {url}: {error}. Download them"
            " elsewhere, and name the file with `weights`."
        ) from None
    return path
