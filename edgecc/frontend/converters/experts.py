"""Mixtures of experts (domain com.microsoft): each row goes through the k of E small networks that a router chose for it.

An expert is fc2(activation(fc1(x))). Where fewer experts are wanted than there are, as when one row at a time is computed, the
matrices of the wanted ones are gathered; else all experts compute all rows, and those that were not chosen count with weight 0.

Source of the formulas: onnxruntime, docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.converters.elementwise import table_row
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.dims import upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.packing import unpack
from edgecc.ir.scalar import apply, literal
from edgecc.ir.types import DType
from edgecc.ops.indexing import Gather
from edgecc.ops.matrix import MatMul
from edgecc.ops.reduction import Reduce, Softmax, TopK

_DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class _Layer:
    """x @ matrix' + bias, with a matrix [..., out, in] and maybe a bias [..., out]."""

    matrix: Value
    bias: Value | None

    def taken(self, call: Call, chosen: Value) -> _Layer:
        """The layers of the chosen experts."""
        return _Layer(call.add(Gather(0), self.matrix, chosen), None if self.bias is None else call.add(Gather(0), self.bias, chosen))

    def of(self, call: Call, x: Value) -> Value:
        """The layer's result for x [..., rows, in]: [..., rows, out]."""
        y = call.add(MatMul(transpose_b=True), x, self.matrix)
        if self.bias is None:
            return y
        *outer, width = self.bias.type.shape
        return call.map(lambda a, b: apply("add", a, b), y, call.reshape(self.bias, (*outer, 1, width)))


@converter("MoE", domain=_DOMAIN)
def _mixture(call: Call) -> Value:
    third = call.optional(6)
    return _mixed(call, _Layer(call.input(2), call.optional(3)), _Layer(call.input(4), call.optional(5)),
                  None if third is None else _Layer(third, call.optional(7)))


@converter("QMoE", domain=_DOMAIN)
def _quantized_mixture(call: Call) -> Value:
    """MoE on weights of 4 or 8 bits, which are dequantized when compiling."""
    if call.text("quant_type", "int") != "int" or any(call.optional(index) is not None for index in range(14, 21)):
        raise Unsupported("weights that are not quantized to integers, or separate weights of the router")
    first, second = (_Layer(_dequantized(call, index, zeros), call.optional(index + 2)) for index, zeros in ((2, 11), (5, 12)))
    third = None if call.optional(8) is None else _Layer(_dequantized(call, 8, 13), call.optional(10))
    return _mixed(call, first, second, third)


def _dequantized(call: Call, index: int, zeros: int) -> Value:
    """Weights [E,N,K/(8/bits)] of bytes with scales [E,N] or [E,N,blocks] as floats [E,N,K]."""
    packed, scale = call.known(index, "the weights"), call.known(index + 1, "the scales")
    bits, block = call.integer("expert_weight_bits", 4), call.integer("block_size", 0)
    if packed.dtype != np.uint8 or packed.ndim != 3 or bits not in (4, 8) or scale.ndim not in (2, 3):
        raise EdgeccError("E110", f"the weights have type {packed.dtype} and rank {packed.ndim}, {bits} bits, and scales of rank {scale.ndim}")
    experts, rows, width = packed.shape
    depth = width * 8 // bits
    blocks = -(-depth // block) if block > 0 else 1
    if scale.shape[:2] != (experts, rows) or scale.size != experts * rows * blocks:
        raise EdgeccError("E110", f"the scales {list(scale.shape)} do not fit weights [{experts}, {rows}, {depth}] in {blocks} blocks")
    call.reserve((experts, rows, depth), "the weights", 4)
    codes = unpack(np.ascontiguousarray(packed).reshape(-1), DType.U4 if bits == 4 else DType.U8, (experts, rows, depth)).astype(np.float32)
    points = np.full((experts, rows, blocks), 1 << (bits - 1), np.float32)
    if call.optional(zeros) is not None:
        given = call.known(zeros, "the zero points")
        width = -(-blocks * bits // 8)
        if given.dtype != np.uint8 or given.size != experts * rows * width:
            raise EdgeccError("E110", f"{given.size} zero points do not fit weights [{experts}, {rows}, {depth}] in {blocks} blocks")
        points = unpack(np.ascontiguousarray(given).reshape(-1), DType.U4 if bits == 4 else DType.U8,
                        (experts, rows, width * 8 // bits))[:, :, :blocks].astype(np.float32)
    length = min(block, depth) if block > 0 else depth
    wide = [np.repeat(part.reshape(experts, rows, blocks), length, axis=2)[:, :, :depth] for part in (points, scale.astype(np.float32))]
    return call.constant((codes - wide[0]) * wide[1])


def _mixed(call: Call, first: _Layer, second: _Layer, third: _Layer | None) -> Value:
    x, router = call.input(0), call.input(1)
    k, width = call.integer("k", 1), x.type.shape[-1] if x.type.rank else 0
    if call.flag("use_sparse_mixer"):
        raise Unsupported("the sparse mixer")
    rows = math.prod(x.type.shape[:-1]) if x.type.rank in (2, 3) else 0
    layers = (first, second) if third is None else (first, second, third)
    experts = first.matrix.type.dims[0]
    if router.type.shape != (rows, experts) or not 1 <= k <= experts or any(layer.matrix.type.dims[0] != experts for layer in layers):
        raise EdgeccError("E110", f"the input is {x.type}, the router {router.type}, k is {k} and fc1 is {first.matrix.type}; "
                                  "wanted [rows, width], [rows, experts] and [experts, inner, width]")
    scores = call.cast(router, DType.F32)
    normalized = call.flag("normalize_routing_weights")
    best, chosen = call.add_all(TopK(k, 1, True), scores if normalized else call.add(Softmax(1), scores))
    share = call.add(Softmax(1), best) if normalized else best  # [rows, k]
    flat = call.reshape(x, (rows, width))
    if upper_bound(rows) * k < experts:
        y = _experts(call, call.reshape(flat, (rows, 1, 1, width)), *(layer.taken(call, chosen) for layer in layers))  # [rows, k, 1, width]
        total = call.add(Reduce("sum", (1,), keepdims=False), call.map(lambda a, s: apply("mul", a, s), call.reshape(y, (rows, k, width)),
                                                                    call.cast(call.reshape(share, (rows, k, 1)), y.type.dtype)))
        return call.reshape(total, x.type.shape)
    y = _experts(call, call.reshape(flat, (1, rows, width)), *layers)  # [experts, rows, width]
    numbers = call.constant(np.arange(experts, dtype=np.int64).reshape(1, 1, experts))
    spread = call.map(lambda c, n, s: apply("select", apply("eq", c, n), s, literal(0.0, DType.F32)), call.reshape(chosen, (rows, k, 1)), numbers,
                      call.reshape(share, (rows, k, 1)))
    share = call.reshape(call.transpose(call.add(Reduce("sum", (1,), keepdims=False), spread), (1, 0)), (experts, rows, 1))
    total = call.add(Reduce("sum", (0,), keepdims=False), call.map(lambda a, s: apply("mul", a, s), y, call.cast(share, y.type.dtype)))
    return call.reshape(total, x.type.shape)


def _experts(call: Call, x: Value, first: _Layer, second: _Layer, third: _Layer | None = None) -> Value:
    """fc2(activation(fc1(x))); with fc3 the activation is multiplied by fc3(x)."""
    kind = call.text("activation_type", "relu")
    inner = first.of(call, x)
    if kind == "swiglu":
        inner = _gated(call, inner)
    elif kind in _ACTIVATIONS:
        name = _ACTIVATIONS[kind]
        if name == "silu":
            inner = call.map(lambda a: apply("mul", a, apply("sigmoid", a)), inner)
        elif name:
            inner = table_row(call, name, inner)
    else:
        raise EdgeccError("E102", f"activation_type is '{printable(kind)}', wanted swiglu, {', '.join(_ACTIVATIONS)}")
    if third is not None:
        inner = call.map(lambda a, b: apply("mul", a, b), inner, third.of(call, x))
    return second.of(call, inner)


_ACTIVATIONS = {"relu": "Relu", "gelu": "Gelu", "silu": "silu", "identity": ""}


def _gated(call: Call, x: Value) -> Value:
    """g * sigmoid(alpha * g) * (l + beta), g and l every other entry (swiglu_fusion 1) or the halves (2), both clamped by swiglu_limit."""
    fusion, alpha, beta = call.integer("swiglu_fusion", 0), call.number("activation_alpha", 1.0), call.number("activation_beta", 0.0)
    *outer, size = x.type.shape
    width = int(size)
    if fusion not in (1, 2) or width % 2:
        raise Unsupported(f"swiglu_fusion {fusion} of {x.type}", "use 1 or 2")
    apart = call.reshape(x, (*outer, width // 2, 2) if fusion == 1 else (*outer, 2, width // 2))
    axis = len(outer) + (1 if fusion == 1 else 0)
    gate, linear = (call.reshape(call.slice(apart, axis, part, 1), (*outer, width // 2)) for part in range(2))
    return swiglu(call, gate, linear, alpha, beta, call.number("swiglu_limit") if call.has("swiglu_limit") else None)


def swiglu(call: Call, gate: Value, linear: Value, alpha: float, beta: float, limit: float | None) -> Value:
    """gate * sigmoid(alpha * gate) * (linear + beta), both clamped by a limit."""
    if limit is not None:
        gate = call.map(lambda g: apply("min", g, literal(limit, g.dtype)), gate)
        linear = call.map(lambda v: apply("max", apply("min", v, literal(limit, v.dtype)), literal(-limit, v.dtype)), linear)
    return call.map(lambda g, v: apply("mul", apply("mul", g, apply("sigmoid", apply("mul", g, literal(alpha, g.dtype)))),
                                       apply("add", v, literal(beta, v.dtype))), gate, linear)
