"""Steps of optimizers, of the domain ai.onnx.preview.training: elementwise over the tensors they adjust."""

from __future__ import annotations

from collections.abc import Callable

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.registry import converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import ScalarExpr, apply, literal
from edgecc.ir.types import DType

_DOMAIN = "ai.onnx.preview.training"


def _groups(call: Call, size: int) -> list[list[Value]]:
    """The operands of each adjusted tensor: x, gradient, states. They come kind by kind after the rate and the step."""
    operands = list(call.values()[2:])
    if not operands or len(operands) % size:
        raise EdgeccError("E102", f"{len(operands)} operands after the step, wanted a multiple of {size}")
    count = len(operands) // size
    groups = [operands[index::count] for index in range(count)]
    for group in groups:
        if any(value.type != group[0].type for value in group):
            raise EdgeccError("E110", f"operands of one tensor differ: {', '.join(str(v.type) for v in group)}")
    return groups


def _scalars(call: Call) -> tuple[Value, Value]:
    """The learning rate and the step as f64 scalars."""
    rate, step = call.input(0), call.input(1)
    if rate.type.elements != 1 or step.type.elements != 1:
        raise EdgeccError("E110", f"the rate {rate.type} and the step {step.type} must be single numbers")
    return call.cast(call.reshape(rate, ()), DType.F64), call.cast(call.reshape(step, ()), DType.F64)


def _number(value: float) -> ScalarExpr:
    return literal(value, DType.F64)


def _regularized(call: Call, x: Value, gradient: Value) -> Value:
    norm = literal(call.number("norm_coefficient", 0.0), x.type.dtype)
    return call.map(lambda a, g: apply("add", apply("mul", norm, a), g), x, gradient)


def _in_turn(results: list[list[Value]]) -> list[Value]:
    """Results kind by kind: all tensors, then all first states, and so on."""
    return [value for kind in zip(*results, strict=True) for value in kind]


@converter("Adagrad", domain=_DOMAIN)
def _adagrad(call: Call) -> list[Value]:
    rate, step = _scalars(call)
    decay = _number(call.number("decay_factor", 0.0))
    slowed = call.map(lambda r, t: apply("div", r, apply("add", _number(1.0), apply("mul", t, decay))), rate, step)
    results = []
    for x, gradient, squares in _groups(call, 3):
        dtype = x.type.dtype
        epsilon = literal(call.number("epsilon", 0.0), dtype)
        g = _regularized(call, x, gradient)
        h = call.map(lambda h, g: apply("add", h, apply("mul", g, g)), squares, g)
        y = call.map(lambda x, g, h, r, e=epsilon: apply("sub", x, apply("div", apply("mul", r, g), apply("add", apply("sqrt", h), e))),
                     x, g, h, call.cast(slowed, dtype))
        results.append([y, h])
    return _in_turn(results)


@converter("Adam", domain=_DOMAIN)
def _adam(call: Call) -> list[Value]:
    rate, step = _scalars(call)
    alpha, beta = call.number("alpha", 0.9), call.number("beta", 0.999)

    def corrected(r: ScalarExpr, t: ScalarExpr) -> ScalarExpr:
        remaining = [apply("sub", _number(1.0), apply("pow", _number(base), t)) for base in (beta, alpha)]
        adjusted = apply("div", apply("mul", r, apply("sqrt", remaining[0])), remaining[1])
        return apply("select", apply("lt", _number(0.0), t), adjusted, r)

    adjusted = call.map(corrected, rate, step)
    results = []
    for x, gradient, momentum, squares in _groups(call, 4):
        dtype = x.type.dtype
        epsilon, kept = literal(call.number("epsilon", 0.0), dtype), literal(1.0 - call.number("norm_coefficient_post", 0.0), dtype)
        g = _regularized(call, x, gradient)
        v = call.map(_blend(alpha), momentum, g)
        h = call.map(_blend(beta), squares, call.map(lambda g: apply("mul", g, g), g))
        y = call.map(lambda x, v, h, r, e=epsilon, k=kept: apply("mul", k, apply("sub", x, apply("mul", r, apply(
            "div", v, apply("add", apply("sqrt", h), e))))), x, v, h, call.cast(adjusted, dtype))
        results.append([y, v, h])
    return _in_turn(results)


def _blend(weight: float) -> Callable[[ScalarExpr, ScalarExpr], ScalarExpr]:
    """weight * old + (1 - weight) * new."""
    return lambda old, new: apply("add", apply("mul", literal(weight, old.dtype), old),
                                  apply("mul", literal(1.0 - weight, new.dtype), new))


@converter("Momentum", domain=_DOMAIN)
def _momentum(call: Call) -> list[Value]:
    rate, step = _scalars(call)
    alpha, mode = call.number("alpha"), call.text("mode")
    if mode not in ("standard", "nesterov"):
        raise EdgeccError("E102", f"mode is '{printable(mode)}', wanted standard or nesterov")
    beta = _number(call.number("beta"))
    weight = call.map(lambda t: apply("select", apply("lt", _number(0.0), t), beta, _number(1.0)), step)
    results = []
    for x, gradient, velocity in _groups(call, 3):
        dtype = x.type.dtype
        kept, r = literal(alpha, dtype), call.cast(rate, dtype)
        g = _regularized(call, x, gradient)
        v = call.map(lambda v, g, w, a=kept: apply("add", apply("mul", a, v), apply("mul", w, g)), velocity, g, call.cast(weight, dtype))
        direction = v if mode == "standard" else call.map(lambda g, v, a=kept: apply("add", g, apply("mul", a, v)), g, v)
        results.append([call.map(lambda x, d, r: apply("sub", x, apply("mul", r, d)), x, direction, r), v])
    return _in_turn(results)
