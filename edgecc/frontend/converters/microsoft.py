"""Operators that onnxruntime's optimizers write (domain com.microsoft), by their documented formulas."""

from __future__ import annotations

import math

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.convolution import convolve
from edgecc.frontend.converters.elementwise import table_row
from edgecc.frontend.converters.matrix import gemm, matmul, scaled
from edgecc.frontend.converters.normalization import layer_norm
from edgecc.frontend.items import Item
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.dims import upper_bound
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, literal
from edgecc.ir.types import DType
from edgecc.ops.elementwise import ELEMENTWISE
from edgecc.ops.indexing import Gather
from edgecc.ops.reduction import Reduce, Softmax

_DOMAIN = "com.microsoft"


def activated(call: Call, x: Value, name: str, parameters: tuple[float, ...]) -> Value:
    """The activation that a fused node names."""
    names = {"Relu": (), "Tanh": (), "Sigmoid": (), "LeakyRelu": ("alpha",), "Clip": ("min", "max"),
             "HardSigmoid": ("alpha", "beta")}
    if name not in names or name not in ELEMENTWISE:
        raise Unsupported(f"activation '{name}'", "export the model without onnxruntime's graph optimisations")
    return table_row(call, name, x, **dict(zip(names[name], parameters, strict=False)))


@converter("FusedConv", domain=_DOMAIN)
def _fused_conv(call: Call) -> Value:
    y, residual = convolve(call, call.input(0), call.input(1), call.optional(2)), call.optional(3)
    if residual is not None:
        y = call.map(lambda a, b: apply("add", a, b), y, residual)
    name = call.text("activation", "")
    return activated(call, y, name, call.floats("activation_params") or ()) if name else y


@converter("FusedGemm", domain=_DOMAIN)
def _fused_gemm(call: Call) -> Value:
    name = call.text("activation", "")
    parameters = tuple(call.number(p) for p in ("activation_alpha", "activation_beta") if call.has(p))
    y = gemm(call)
    return activated(call, y, name, parameters) if name else y


def _turned(call: Call, x: Value, matrix: bool, batch: bool) -> Value:
    """The operand of FusedMatMul as it takes part in the product.

    With `batch` the first of the leading axes stands next to the last one: [m, b1, .., k] means [b1, .., m, k].
    """
    axes = list(range(x.type.rank))
    if batch and len(axes) >= 3:
        axes = [*axes[1:-1], axes[0], axes[-1]]
    if matrix and len(axes) >= 2:
        axes[-2:] = reversed(axes[-2:])
    return call.transpose(x, axes)


@converter("FusedMatMul", "TransposeMatMul", domain=_DOMAIN)
def _fused_matmul(call: Call) -> Value:
    return fused_matmul(call)


def fused_matmul(call: Call) -> Value:
    """The product of operands 0 and 1, turned and scaled as the attributes say."""
    a = _turned(call, call.input(0), call.flag("transA"), call.flag("transBatchA"))
    b = _turned(call, call.input(1), call.flag("transB"), call.flag("transBatchB"))
    alpha = call.number("alpha", 1.0)
    return call.map(lambda x: scaled(x, alpha), matmul(call, a, b))


def biased(call: Call, x: Value, bias: Value | None) -> Value:
    """x + bias, or x without one."""
    return x if bias is None else call.map(lambda a, b: apply("add", a, b), x, bias)


@converter("Gelu", domain=_DOMAIN)
def _gelu(call: Call) -> Value:
    return table_row(call, "Gelu", call.input())


@converter("BiasGelu", domain=_DOMAIN)
def _bias_gelu(call: Call) -> Value:
    return table_row(call, "Gelu", biased(call, call.input(0), call.input(1)))


@converter("FastGelu", domain=_DOMAIN)
def _fast_gelu(call: Call) -> Value:
    return table_row(call, "Gelu", biased(call, call.input(0), call.optional(1)), approximate="tanh")


@converter("QuickGelu", domain=_DOMAIN)
def _quick_gelu(call: Call) -> Value:
    """x * sigmoid(alpha * x)."""
    alpha = call.number("alpha", 1.702)
    return call.map(lambda x: apply("mul", x, apply("sigmoid", apply("mul", x, literal(alpha, x.dtype)))), call.input())


@converter("SkipLayerNormalization", domain=_DOMAIN)
def _skip_layer_normalization(call: Call) -> list[Item | None]:
    """LayerNormalization of input + skip (+ bias); the sum is result 3."""
    total = _skip_sum(call, bias=4)
    results = [*layer_norm(call, total, call.input(2), call.optional(3)), None, None]
    return [*results[:3], total]


@converter("SkipSimplifiedLayerNormalization", domain=_DOMAIN)
def _skip_rms_normalization(call: Call) -> list[Item | None]:
    """RMSNormalization of input + skip (+ bias); the sum is result 3."""
    if call.wants(1) or call.wants(2):
        raise Unsupported("the outputs mean and inv_std_var are used")
    total = _skip_sum(call, bias=3)
    return [layer_norm(call, total, call.input(2), None, rms=True)[0], None, None, total]


def _skip_sum(call: Call, bias: int) -> Value:
    x, skip = call.input(0), call.input(1)
    if x.type.rank < 1 or skip.type.shape not in (x.type.shape, x.type.shape[-skip.type.rank:], (1, *x.type.shape[1:])):
        raise EdgeccError("E110", f"input is {x.type} and skip is {skip.type}")
    total = call.map(lambda a, b: apply("add", a, b), x, skip)
    return biased(call, total, call.optional(bias))


@converter("SimplifiedLayerNormalization", domain=_DOMAIN)
def _simplified_layer_normalization(call: Call) -> list[Item | None]:
    return layer_norm(call, call.input(0), call.input(1), None, rms=True)


@converter("BiasSplitGelu", domain=_DOMAIN)
def _bias_split_gelu(call: Call) -> Value:
    """The first half of the last axis times Gelu of the second, of input + bias."""
    x = biased(call, call.input(0), call.input(1))
    half = x.type.shape[-1] // 2
    left, right = (call.slice(x, x.type.rank - 1, start, half) for start in (0, half))
    return call.map(lambda a, b: apply("mul", a, b), left, table_row(call, "Gelu", right))


@converter("BiasAdd", domain=_DOMAIN)
def _bias_add(call: Call) -> Value:
    """input + bias + skip."""
    return biased(call, biased(call, call.input(0), call.input(1)), call.input(2))


@converter("BiasSoftmax", domain=_DOMAIN)
def _bias_softmax(call: Call) -> Value:
    """Softmax over the axes from `axis` on of data + bias, which lacks, or has ones for, axes it is repeated along."""
    x, bias = call.input(0), call.input(1)
    axis = call.axis(call.integer("axis", 1), x.type.rank)
    if not call.flag("is_inner_broadcast", True) and bias.type.rank < x.type.rank:
        behind = x.type.rank - axis
        middle = [1] * (x.type.rank - bias.type.rank)
        bias = call.reshape(bias, (*bias.type.shape[:bias.type.rank - behind], *middle, *bias.type.shape[bias.type.rank - behind:]))
    total = biased(call, x, bias)
    rows = call.reshape(total, (math.prod(x.type.shape[:axis]), math.prod(x.type.shape[axis:])))
    return call.reshape(call.add(Softmax(1, False), rows), x.type.shape)


@converter("BiasDropout", domain=_DOMAIN)
def _bias_dropout(call: Call) -> list[Item | None]:
    """input + bias + residual: at inference nothing is dropped."""
    if call.optional(4) is not None and call.known_bool(4, "training_mode"):
        raise Unsupported("dropout in training mode", "export the model for inference")
    y = biased(call, biased(call, call.input(0), call.input(1)), call.optional(2))
    return [y, call.expand(call.scalar(True, DType.BOOL), y.type.shape) if call.wants(1) else None]


@converter("FusedMatMulActivation", domain=_DOMAIN)
def _fused_matmul_activation(call: Call) -> Value:
    given = {name: call.number(f"activation_{name}") for name in ("alpha", "beta", "gamma") if call.has(f"activation_{name}")}
    return activated(call, fused_matmul(call), call.text("activation"), tuple(given.values()))


@converter("GemmFastGelu", domain=_DOMAIN)
def _gemm_fast_gelu(call: Call) -> Value:
    y = biased(call, matmul(call, call.input(0), call.input(1)), call.optional(2))
    return table_row(call, "Gelu", y, approximate="tanh")


@converter("EmbedLayerNormalization", domain=_DOMAIN)
def _embed_layer_normalization(call: Call) -> list[Item | None]:
    """LayerNormalization of the sum of rows of tables: of words, positions and segments.

    Result 1 is the number of ones in each row of the mask, or zeros; result 2 the sum.
    """
    result, count, total = embedded(call, (call.input(2), call.input(3), call.optional(4)), (call.input(5), call.input(6)), call.optional(8))
    return [result, count, total]


def embedded(call: Call, tables: tuple[Value, Value, Value | None], factors: tuple[Value, Value], given: Value | None) -> tuple[Item | None, Value, Value]:
    """EmbedLayerNormalization with tables of words, positions and segments, scale and shift, and maybe the positions."""
    ids, segments, (words, positions, table) = call.input(0), call.optional(1), tables
    batch, rows = ids.type.shape
    if upper_bound(rows) > int(positions.type.shape[0]) and given is None:
        raise EdgeccError("E110", f"the ids are {ids.type}; the table of positions is {positions.type}")
    places = call.slice(positions, 0, 0, rows) if given is None else call.add(Gather(0), positions, given)
    total = call.map(lambda a, b: apply("add", a, b), call.add(Gather(0), words, ids), places)
    if segments is not None and table is not None:
        total = biased(call, total, call.add(Gather(0), table, segments))
    mask = call.optional(7)
    if mask is None:
        count = call.expand(call.scalar(0, DType.I32), (batch,))
    else:
        count = call.reshape(call.add(Reduce("sum", (1,)), call.cast(mask, DType.I32)), (batch,))
    return layer_norm(call, total, *factors)[0], count, total
