"""Moves dequantization behind operators that only move or compare elements, and quantization in front of them.

    %x = (%p - z) * s; %y = reshape(%x)              ->  %q = reshape(%p); %y = (%q - z) * s
    %y = concat(%a, %b); %q = quantize(%y, s, z)     ->  %q = concat(quantize(%a, s, z), quantize(%b, s, z))

Rounding keeps the order of numbers, so the largest one may be found before or after it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.op import Op
from edgecc.ir.scalar import Arg
from edgecc.ir.types import DType
from edgecc.ops.convolution import Pool, window_extents
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather, GatherElements, GatherND
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.ops.reduction import ArgReduce, Reduce
from edgecc.ops.requantize import Steps
from edgecc.ops.resize import Resize
from edgecc.ops.rules import NARROW_INTEGERS
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import replace, uniform_element
from edgecc.passes.scaled import rounding, scaled

FEWER = (Gather, GatherElements, GatherND, Slice, Pool, Reduce)
"""Operators whose result may have far fewer elements than their operand."""


@dataclass(frozen=True)
class MoveQuantization(NodePass):
    """Lets operators that move elements, or take the largest or smallest, work on the integers.

    Reshape, Transpose, Slice, Concat, Expand, Pad, gathering, nearest Resize, maximum pools and reductions, positions of extrema.

    1. All operands that are moved are dequantized with the same scale and zero point: the result is dequantized instead.
    2. Everyone who reads the result quantizes it: the operands are quantized instead.

    Declines when:
    3. Operands are dequantized differently and the result is not quantized, or elements have scales of their own.
    4. In 2, the operator may take few elements of an operand that has other readers: more would be quantized.
    5. What is put around the elements is no quantized number.
    """

    name: ClassVar[str] = "move-quantization"
    tolerance: ClassVar[float] = 0.0  # the same numbers in other places

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one operator, and those in front of it whose results are then quantized."""
        operands = _moved(node)
        if not operands:
            return False
        known = [scaled(value) for value in operands]
        first = None if known[0] is None else known[0].steps
        if first is not None and first.dtype in NARROW_INTEGERS and all(one is not None and one.steps == first for one in known):
            return self._dequantize_behind(graph, node, first, [one.integers for one in known if one is not None])
        if any(one is not None for one in known) and not self._is_quantized(graph, node):
            return self.decline(node, "an operand is in float" if None in known else
                                "operands are dequantized in different ways" if len(known) > 1 else "elements have scales of their own")
        pending, changed = [node], False
        while pending:
            found = pending.pop()
            if found not in graph or not self._is_quantized(graph, found):
                continue
            sources = _moved(found)
            if self._quantize_in_front(graph, found, sources):
                changed = True
                pending += [v.producer for v in sources if v.producer is not None and _moved(v.producer)]
        return changed

    @staticmethod
    def _is_quantized(graph: Graph, node: Node) -> bool:
        """Whether all readers of the result quantize it."""
        result = node.output
        readers = [rounding(user) for user in result.users]
        return bool(readers) and not graph.is_output(result) and all(
            r is not None and r.operand is result and r.steps is not None and r.dtype in NARROW_INTEGERS for r in readers)

    def _dequantize_behind(self, graph: Graph, node: Node, steps: Steps, integers: Sequence[Value]) -> bool:
        form = _on_integers(graph, node, steps, exactly=True)
        if form is None:
            return self.decline(node, "what is put around the elements is no quantized number")
        op, others = form
        if isinstance(op, ArgReduce):
            replace(graph, node, op, *integers)
            return True
        moved = graph.add(op, *integers, *others, before=node, loc=node.loc, name=node.output.name)
        replace(graph, node, Elementwise(steps.dequantized(Arg(0, steps.dtype))), moved)
        return True

    def _quantize_in_front(self, graph: Graph, node: Node, operands: Sequence[Value]) -> bool:
        if isinstance(node.op, FEWER) and any(
                v.constant is None and scaled(v) is None and not graph.has_single_use(v) for v in operands):
            return self.decline(node, "more elements than the result has would be quantized")
        users = node.output.users
        forms = [form.steps for form in map(rounding, users) if form is not None and form.steps is not None]
        moved = [_on_integers(graph, node, steps, exactly=False) for steps in forms]
        if None in moved:
            return self.decline(node, "what is put around the elements is no quantized number")
        for user, steps, found in zip(users, forms, moved, strict=True):
            if found is None:
                continue
            quantize = Elementwise(steps.quantized(Arg(0, DType.F32)))
            integers = [graph.add(quantize, value, before=user, loc=user.loc, name=value.name) for value in operands]
            replace(graph, user, found[0], *integers, *found[1], absorbed=[node])
        return True


def _moved(node: Node) -> list[Value]:
    """The operands in f32 whose elements an operator moves or compares; none where it does something else."""
    match node.op:
        case Concat():
            count = len(node.inputs)
        case Pool(kind="max") | Reduce(kind="max" | "min") | Resize(mode="nearest") | ArgReduce():
            count = 1
        case Reshape() | Transpose() | Slice() | Expand() | Pad() | Gather() | GatherElements() | GatherND():
            count = 1
        case _:
            return []
    operands = [node.operand(i) for i in range(count)]
    return operands if all(v.type.dtype is DType.F32 for v in operands) else []


def _on_integers(graph: Graph, node: Node, steps: Steps, *, exactly: bool) -> tuple[Op, list[Value | None]] | None:
    """The operator on integers, and its further operands; None where what it makes up is none of them (`exactly`), or computed."""
    op, others = node.op, list(node.inputs[len(_moved(node)):])
    match op:
        case Pad(mode="constant"):
            value = 0.0 if not others or others[0] is None else uniform_element(others[0])
            if value is None or (exactly and not steps.holds(float(value))):
                return None
            return op, [graph.constant(np.asarray(steps.code_of(float(value)), steps.dtype.numpy), "around")]
        case Resize(extrapolation_value=value):
            if exactly and not steps.holds(value):
                return None
            return dataclasses.replace(op, extrapolation_value=float(steps.code_of(value))), others
        case Pool(pads=pads):
            rank = len(pads) // 2
            extents = window_extents(op.kernel, op.dilations)
            # A window of padding alone gives -inf, for which there is no integer.
            return None if exactly and any(pad >= extents[i % rank] for i, pad in enumerate(pads)) else (op, others)
        case Reduce():
            return None if exactly and node.operand(0).type.count == 0 else (op, others)
    return op, others
