"""Quantizes activations to integers of one sign, the one that a machine multiplies.

    to i8:  %q = quantize(%x, s, z) : u8; %y = (%q - z) * s
                ->  %q = quantize(%x, s, z - 128) : i8; %y = (%q - (z - 128)) * s
    to u8:  the other way around
"""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Apply, Arg, Literal, ScalarExpr, apply, children, convert, literal
from edgecc.ir.types import DType
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Pad, Reshape, Slice, Transpose
from edgecc.ops.reduction import Reduce
from edgecc.ops.requantize import Steps
from edgecc.ops.resize import Resize
from edgecc.passes.base import GraphPass
from edgecc.passes.rewrite import replace
from edgecc.passes.scaled import rounding, scaled

MOVED: Mapping[DType, int] = MappingProxyType({DType.I8: -128, DType.U8: 128})
"""What is added to bytes of the other sign to have them of this one."""

KEEP_NUMBERS = frozenset({"add", "sub", "mul", "neg", "abs", "min", "max", "floor", "ceil", "round", "sigmoid", "tanh", "erf"})
"""Primitives whose results are numbers where their operands are, but for overflows of f32."""

MOVES = (Concat, Pad, Pool, Reshape, Slice, Transpose)
"""Operators of which the same holds."""


@dataclass(frozen=True)
class ActivationSigns(GraphPass):
    """Makes values of bytes between layers i8 or u8, with zero points that are moved by 128; every number stays what it was.

    Machines whose products of bytes take two signed factors (SDOT) would turn around the highest bit of each byte of the
    other sign, in every layer that reads it; so would those whose first factor is unsigned (VPMADDUBSW, VPDPBUSD). There results of
    ReLU, which are unsigned by nature, also need no zero point. Runs while quantization still stands by itself.

    NaN becomes the integer 0 of either type, which stands for different numbers. What may be NaN is quantized as u8, and 128 is
    taken from that:

        %q = quantize(%x, s, z) : u8   ->   %q = i8(i32(quantize(%x, s, z) : u8) - 128)

    A value stays as it is if it is returned; if something else than a dequantization reads it; if what it rounds may be
    NaN and was moved only: passes that move quantization would not see it any more. It does not become u8 if what it rounds may be NaN,
    as pictures may, whose planes are interleaved as they are quantized, which the other steps would prevent, and masks turn signs in a
    first layer anyway; nor if it is the second factor of a product of two computed values, which is signed.
    """

    name: ClassVar[str] = "activation-signs"
    tolerance: ClassVar[float] = 0.0  # the same numbers by other integers
    to: typing.Literal["i8", "u8"] = "i8"

    def run(self, graph: Graph) -> bool:
        """See the class."""
        numbers: set[Value] = set()
        changed = False
        for node in graph.nodes:
            if node not in graph:
                continue
            if _gives_numbers(node, numbers):
                numbers.update(node.outputs)
            changed |= _move(graph, node, DType(self.to), numbers)
        return changed


def _move(graph: Graph, node: Node, to: DType, numbers: set[Value]) -> bool:
    """Makes the integers of a quantization `to`."""
    form = rounding(node)
    if form is None or form.dtype not in MOVED or form.dtype is to or form.steps is None or graph.is_output(node.output):
        return False
    known = [scaled(user.output) if len(user.outputs) == 1 else None for user in node.output.users]
    readers = [one.steps for one in known if one is not None and one.integers is node.output and one.steps is not None]
    if not readers or len(readers) != len(known):
        return False
    is_number = _is_number(form.operand, numbers)
    if to is DType.U8 and (not is_number or any(_is_second_factor(user.output) for user in node.output.users)):
        return False
    expr = _moved(form.steps, to).quantized(Arg(0, DType.F32))
    if not is_number:
        producer = form.operand.producer
        if producer is not None and isinstance(producer.op, MOVES):
            return False
        codes = convert(form.steps.quantized(Arg(0, DType.F32)), DType.I32)
        # A subtraction, which kernels know: they turn the highest bit of bytes that were narrowed already.
        expr = convert(apply("sub", codes, literal(-MOVED[to], DType.I32)), to)
    integers = graph.add(Elementwise(expr), form.operand, before=node, loc=node.loc, name=node.output.name)
    for user, own in zip(node.output.users, readers, strict=True):
        replace(graph, user, Elementwise(_moved(own, to).dequantized(Arg(0, to))), integers)
    if node in graph:
        graph.erase(node)
    return True


def _moved(steps: Steps, to: DType) -> Steps:
    return Steps(steps.scale, steps.zero + MOVED[to], to)


def _is_second_factor(value: Value) -> bool:
    """Whether a product of matrices reads a value, or what is only a view of it, as its second factor."""
    return any((isinstance(use.node.op, MatMul) and use.index == 1) or (isinstance(use.node.op, Reshape | Transpose) and _is_second_factor(use.node.output))
               for use in value.uses)


def _is_number(value: Value, numbers: set[Value]) -> bool:
    """Whether no element is NaN: integers, dequantized or not, and what is made of them."""
    if value.constant is not None:
        return not value.type.dtype.is_float or bool(np.isfinite(value.constant.astype(np.float64)).all())
    return value in numbers or value.type.dtype.is_integer or scaled(value) is not None


def _gives_numbers(node: Node, numbers: set[Value]) -> bool:
    if not all(value is None or _is_number(value, numbers) for value in node.inputs):
        return False
    match node.op:
        case Elementwise(expr=expr):
            return _keeps_numbers(expr)
        case Reduce(kind=kind):
            return kind in ("sum", "mean", "max", "min")
        case Conv(epilogue=epilogue) | ConvTranspose(epilogue=epilogue) | MatMul(epilogue=epilogue):
            return epilogue is None
        case Resize(extrapolation_value=value):
            return math.isfinite(value)
    return isinstance(node.op, MOVES)


def _keeps_numbers(expr: ScalarExpr) -> bool:
    match expr:
        case Apply("div", (dividend, Literal(value=divisor))):
            return float(divisor) != 0 and _keeps_numbers(dividend)
        case Apply(op=op) if op not in KEEP_NUMBERS:
            return False
        case Literal(value=value):
            return math.isfinite(float(value))
    return all(map(_keeps_numbers, children(expr)))
