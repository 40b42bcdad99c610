"""Modelled cycles of one call of a kernel: its arithmetic, and what it reads and writes."""

from __future__ import annotations

from edgecc.kernels.cost import combine, read_cycles, weight_cycles
from edgecc.kernels.request import Request
from edgecc.kernels.view import View


def call_cycles(request: Request, arithmetic: float, alone: float = 0.0) -> float:
    """Modelled cycles of a call: arithmetic, operands and results through the level that holds them together, and weights.

    `alone`: cycles of what does not overlap with the rest.
    """
    operands = [operand for operand in request.inputs if operand is not None]
    moved = sum(view_bytes(view) for view in (*(o.view for o in operands if not o.is_constant), *request.outputs))
    weights = sum(view_bytes(o.view) for o in operands if o.is_constant)
    return alone + combine(arithmetic, read_cycles(moved, moved, request.target) + weight_cycles(weights, request.target), request.target)


def view_bytes(view: View) -> int:
    """Bytes of the elements of a view."""
    return view.elements * view.dtype.size
