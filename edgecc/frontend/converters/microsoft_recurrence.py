"""Operators of onnxruntime (domain com.microsoft) for networks whose attention is a recurrence, such as gated delta nets, by their documented formulas."""

from __future__ import annotations

import onnx

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.elementwise import table_row
from edgecc.frontend.converters.experts import swiglu
from edgecc.frontend.items import Item
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply
from edgecc.ir.types import DType
from edgecc.ops.reduction import Normalize

_DOMAIN = "com.microsoft"
_FIRST_IN_ONNX = 27
"""The opset from which on ONNX defines these operators too, by functions of the same attributes and operands."""


@converter("CausalConvWithState", domain=_DOMAIN)
def _causal_convolution(call: Call) -> list[Item | None]:
    return call.importer.run_as_onnx(call, _FIRST_IN_ONNX)


@converter("LinearAttention", domain=_DOMAIN)
def _linear_attention(call: Call) -> list[Item | None]:
    """As in ONNX; here there may also be more values than queries, which then share queries and keys in groups."""
    count, shared = call.integer("q_num_heads"), call.integer("kv_num_heads")
    if not 0 < count < shared or shared % count:
        return call.importer.run_as_onnx(call, _FIRST_IN_ONNX)
    size = int(call.input(0).type.shape[2]) // count
    q, k = (_repeated(call, call.input(index), size, shared) for index in range(2))
    node = onnx.NodeProto()
    node.CopyFrom(call.node)
    del node.attribute[:]
    attributes = {**call.attributes, "q_num_heads": onnx.helper.make_attribute("q_num_heads", shared)}
    node.attribute.extend(attributes.values())
    return call.importer.run_as_onnx(Call(call.importer, call.scope, node, call.version, call.loc, (q, k, *call.inputs[2:]), attributes), _FIRST_IN_ONNX)


def _repeated(call: Call, x: Value, size: int, count: int) -> Value:
    """[B,S,N*size] with each of the N heads so many times in a row that there are `count`."""
    batch, rows, width = x.type.shape
    heads = int(width) // size
    if not heads or int(width) % size or count % heads:
        raise EdgeccError("E110", f"{x.type} cannot be cut into heads of {size} that {count} share")
    if heads == count:
        return x
    wide = call.expand(call.reshape(x, (batch, rows, heads, 1, size)), (batch, rows, heads, count // heads, size))
    return call.reshape(wide, (batch, rows, count * size))


@converter("LinearAttentionGate", domain=_DOMAIN)
def _linear_attention_gate(call: Call) -> list[Item | None]:
    """decay_scale * softplus(a + dt_bias), in f32 until it is rounded, and sigmoid(b)."""
    a, bias, scale, b = call.input(0), call.input(1), call.input(2), call.optional(3)
    raised = call.map(lambda x, y: apply("add", x, y), call.cast(a, DType.F32), bias)
    decay = call.map(lambda x, s: apply("mul", s, x), table_row(call, "Softplus", raised), scale)
    beta = None if b is None else call.map(lambda x: apply("sigmoid", x), b)
    return [call.cast(decay, a.type.dtype), beta]


@converter("GatedRMSNorm", domain=_DOMAIN)
def _gated_rms_norm(call: Call) -> Value:
    """Each C neighbours of x, C the length of the scale, over their root mean square, times scale and activated gate; in f32."""
    x, scale, gate = (call.input(index) for index in range(3))
    *rows, width = x.type.shape
    size = int(scale.type.shape[0])
    if not size or int(width) % size or gate.type.shape != x.type.shape:
        raise EdgeccError("E110", f"rows of {x.type} cannot be cut into {size} each, or the gate {gate.type} is of another shape")
    grouped = call.reshape(call.cast(x, DType.F32), (*rows, int(width) // size, size))
    normal = call.reshape(call.add(Normalize((grouped.type.rank - 1,), call.number("epsilon", 1e-5), True), grouped, call.cast(scale, DType.F32)), x.type.shape)
    name = call.text("activation", "silu")
    if name not in ("silu", "swish", "sigmoid"):
        raise Unsupported(f"activation '{name}'")
    activated = table_row(call, "Sigmoid" if name == "sigmoid" else "Swish", call.cast(gate, DType.F32))
    return call.cast(call.map(lambda n, g: apply("mul", n, g), normal, activated), x.type.dtype)


@converter("GatedAdd", domain=_DOMAIN)
def _gated_add(call: Call) -> Value:
    """x + y * gate."""
    return call.map(lambda x, y, g: apply("add", x, apply("mul", y, g)), *(call.input(index) for index in range(3)))


@converter("SwiGLU", domain=_DOMAIN)
def _swiglu(call: Call) -> Value:
    """As in mixtures of experts, in f32; without a second operand the first one holds both halves."""
    gate, linear = call.input(0), call.optional(1)
    wide = call.cast(gate, DType.F32)
    if linear is None:
        half = int(gate.type.shape[-1]) // 2
        wide, linear = (call.slice(wide, gate.type.rank - 1, start, half) for start in (0, half))
    limit = call.number("limit", 0.0)
    y = swiglu(call, wide, call.cast(linear, DType.F32), call.number("activation_alpha", 1.0), call.number("activation_beta", 0.0),
               limit if limit > 0 else None)
    return call.cast(y, gate.type.dtype)
