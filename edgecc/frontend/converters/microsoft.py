"""Operators that onnxruntime's optimizers write (domain com.microsoft), by their documented formulas."""

from __future__ import annotations

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.converters.convolution import convolve
from edgecc.frontend.converters.elementwise import table_row
from edgecc.frontend.converters.matrix import gemm, matmul, scaled
from edgecc.frontend.converters.normalization import layer_norm
from edgecc.frontend.items import Item
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, literal
from edgecc.ops.elementwise import ELEMENTWISE

_DOMAIN = "com.microsoft"


def _activated(call: Call, x: Value, name: str, parameters: tuple[float, ...]) -> Value:
    """The activation that a fused node names."""
    names = {"Relu": (), "Tanh": (), "Sigmoid": (), "LeakyRelu": ("alpha",), "Clip": ("min", "max"),
             "HardSigmoid": ("alpha", "beta")}
    if name not in names or name not in ELEMENTWISE:
        raise Unsupported(f"activation '{name}'", "export the model without onnxruntime's graph optimisations")
    return table_row(call, name, x, **dict(zip(names[name], parameters, strict=False)))


@converter("FusedConv", domain=_DOMAIN)
def _fused_conv(call: Call) -> Value:
    y, residual = convolve(call), call.optional(3)
    if residual is not None:
        y = call.map(lambda a, b: apply("add", a, b), y, residual)
    name = call.text("activation", "")
    return _activated(call, y, name, call.floats("activation_params") or ()) if name else y


@converter("FusedGemm", domain=_DOMAIN)
def _fused_gemm(call: Call) -> Value:
    name = call.text("activation", "")
    parameters = tuple(call.number(p) for p in ("activation_alpha", "activation_beta") if call.has(p))
    y = gemm(call)
    return _activated(call, y, name, parameters) if name else y


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
    a = _turned(call, call.input(0), call.flag("transA"), call.flag("transBatchA"))
    b = _turned(call, call.input(1), call.flag("transB"), call.flag("transBatchB"))
    alpha = call.number("alpha", 1.0)
    return call.map(lambda x: scaled(x, alpha), matmul(call, a, b))


def _biased(call: Call, x: Value, bias: Value | None) -> Value:
    return x if bias is None else call.map(lambda a, b: apply("add", a, b), x, bias)


@converter("Gelu", domain=_DOMAIN)
def _gelu(call: Call) -> Value:
    return table_row(call, "Gelu", call.input())


@converter("BiasGelu", domain=_DOMAIN)
def _bias_gelu(call: Call) -> Value:
    return table_row(call, "Gelu", _biased(call, call.input(0), call.input(1)))


@converter("FastGelu", domain=_DOMAIN)
def _fast_gelu(call: Call) -> Value:
    return table_row(call, "Gelu", _biased(call, call.input(0), call.optional(1)), approximate="tanh")


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
    if x.type.rank < 1 or (skip.type.dims != x.type.dims and skip.type.dims != x.type.dims[-skip.type.rank:]
                           and skip.type.dims != (1, *x.type.dims[1:])):
        raise EdgeccError("E110", f"input is {x.type} and skip is {skip.type}")
    total = call.map(lambda a, b: apply("add", a, b), x, skip)
    return _biased(call, total, call.optional(bias))


@converter("SimplifiedLayerNormalization", domain=_DOMAIN)
def _simplified_layer_normalization(call: Call) -> list[Item | None]:
    return layer_norm(call, call.input(0), call.input(1), None, rms=True)
