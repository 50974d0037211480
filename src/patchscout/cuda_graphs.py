"""Recordings of what a GPU does: one start for all of it, in place of one for each operation.

The networks are small, so that a GPU is done with each operation before the next one is started.
On other devices there are no recordings, and everything runs as it is.

References:
    CUDA graphs, https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

WARM_UPS = 3
"""So often something is run before it is recorded: libraries choose and load their kernels."""


class Recording:
    """What a function does on a CUDA device with a tensor of one shape, to be replayed for others.

    Args:
        function: Takes a tensor and returns one, without gradient. What it does may not depend on
            the values in the tensor.
        example: A tensor of the shape.
    """

    @torch.no_grad()
    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> None:
        self._input = example.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(example.device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    function(self._input)
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(self._graph):
                self._output = function(self._input)

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return what the function returns; the next call overwrites it."""
        self._input.copy_(tensor)
        self._graph.replay()
        return self._output


def record_for_training(network: nn.Module, example: Tensor) -> None:
    """Let a network in training replay its forward and backward pass on a CUDA device.

    Running statistics, which recording would change, are put back.

    Args:
        network: In training mode; takes a tensor and returns one. If it uses autocast, without its
            cache.
        example: A tensor of the shape that all to come will have.
    """
    # Gradients come from the stream of the recording, which newer PyTorch is wary of.
    warns = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", None)
    if warns is not None:
        warns(False)
    before = [buffer.clone() for buffer in network.buffers()]
    with torch.cuda.device(example.device):
        torch.cuda.make_graphed_callables(network, (example.clone(),), WARM_UPS)
    for buffer, value in zip(network.buffers(), before, strict=True):
        buffer.copy_(value)
