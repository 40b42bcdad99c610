"""Tensors of PyTorch as arrays and back, without a copy where they are dense."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from edgecc.ir.types import Array, DType

BF16 = DType.BF16.numpy
"""numpy has no such type of its own, so that PyTorch does not convert it."""


def to_array(tensor: torch.Tensor) -> Array:
    """The elements of a tensor of the CPU; a view of them where that is possible."""
    tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        return np.asarray(tensor.contiguous().view(torch.int16).numpy()).view(BF16)
    return np.asarray(tensor.resolve_conj().resolve_neg().numpy())


def to_tensor(array: Array) -> torch.Tensor:
    """An array as a tensor that shares its memory."""
    return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16) if array.dtype == BF16 else torch.from_numpy(array)


def order_of(strides: Sequence[int]) -> tuple[int, ...] | None:
    """The axes of a tensor from the largest stride to the smallest, or None where they are in order already."""
    axes = sorted(range(len(strides)), key=lambda axis: -strides[axis])
    return None if axes == list(range(len(strides))) else tuple(axes)


def in_order(tensor: torch.Tensor, order: Sequence[int] | None) -> torch.Tensor:
    """The same tensor whose axes lie in memory in this order, from the outermost to the innermost."""
    if order is None:
        return tensor
    return tensor.permute(*order).contiguous().permute(*(order.index(axis) for axis in range(len(order))))
