"""Compiled networks as functions of tensors, which they read and write where these lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from edgecc.artifact.load import Model, Port
from edgecc.errors import EdgeccError
from edgecc.ir.types import DType

Run = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]
"""A network: tensors in the order of its inputs to tensors in the order of its results."""


def caller(model: Model) -> Run:
    """A network of this process as a function of tensors of the CPU; one call at a time.

    Raises: EdgeccError E900 where the network runs elsewhere.
    """
    code = model.code
    if code is None:
        raise EdgeccError("E900", "a network that tensors are given to runs in another process")
    somewhere = code.arena_address  # PyTorch has no address for tensors without elements
    types = [_type_of(port) for port in model.outputs]
    shapes = [port.shape for port in model.outputs]

    def run(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        given = [tensor.resolve_neg().contiguous() for tensor in tensors]
        results = [torch.empty(shape, dtype=dtype) for shape, dtype in zip(shapes, types, strict=True)]
        code.call([tensor.data_ptr() or somewhere for tensor in given], [tensor.data_ptr() or somewhere for tensor in results])
        return results

    def run_open(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        given = [tensor.resolve_neg().contiguous() for tensor in tensors]
        memory = [torch.empty(math.prod(shape), dtype=dtype) for shape, dtype in zip(shapes, types, strict=True)]
        found = code.call_open([tensor.data_ptr() or somewhere for tensor in given], [tensor.shape for tensor in given],
                               [len(shape) for shape in shapes], [tensor.data_ptr() or somewhere for tensor in memory])
        return [_beginning(tensor, shape) for tensor, shape in zip(memory, found, strict=True)]

    return run_open if any(port.is_open for port in (*model.inputs, *model.outputs)) else run


def _beginning(memory: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The first elements as a tensor of this shape, whose memory is no larger than it."""
    elements = math.prod(shape)
    return memory.view(shape) if elements == memory.numel() else memory[:elements].view(shape).clone()


def _type_of(port: Port) -> torch.dtype:
    """The type of an output; numpy has no bf16 of its own, so that PyTorch does not convert it."""
    return torch.bfloat16 if port.dtype == DType.BF16.numpy else torch.from_numpy(np.empty(0, port.dtype)).dtype
