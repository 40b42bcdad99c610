"""The order in which the elements of tensors lie."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def order_of(strides: Sequence[int]) -> tuple[int, ...] | None:
    """The axes of a tensor from the largest stride to the smallest, or None where they are in order already."""
    axes = sorted(range(len(strides)), key=lambda axis: -strides[axis])
    return None if axes == list(range(len(strides))) else tuple(axes)


def in_order(tensor: torch.Tensor, order: Sequence[int] | None) -> torch.Tensor:
    """The same tensor whose axes lie in memory in this order, from the outermost to the innermost."""
    if order is None:
        return tensor
    return tensor.permute(*order).contiguous().permute(*(order.index(axis) for axis in range(len(order))))
