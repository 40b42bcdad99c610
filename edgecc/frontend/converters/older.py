"""Operators as opsets before 7 define them, brought into the form that opset 7 gave them.

Most operators are the same in opset 7 as before, or differ by attributes without a meaning for results
(`consumed_inputs`). The others have an adapter here, or are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from edgecc.errors import EdgeccError
from edgecc.frontend.call import Call
from edgecc.frontend.items import Item
from edgecc.frontend.registry import Unsupported
from edgecc.frontend.structure import schema_of

FIRST_CONVERTED = 7
"""Converters are written for this opset and later ones."""

_UNCHANGED = frozenset({
    "Abs", "AveragePool", "Ceil", "Clip", "Elu", "Exp", "Floor", "GlobalLpPool", "HardSigmoid", "InstanceNormalization",
    "LeakyRelu", "Log", "LpNormalization", "LpPool", "Max", "Mean", "Min", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid",
    "Sqrt", "Sum", "Tanh"})
"""Operators whose older versions mean the same, as long as their attributes have the kinds that opset 7 knows."""

_BROADCASTING = ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")


def modernized(call: Call) -> Call:
    """The node as opset 7 states it; the same object where nothing changed.

    Raises: Unsupported where opset 7 defines the operator otherwise and no adapter is written.
    """
    op_type = call.node.op_type
    old, new = schema_of("", op_type, call.version), schema_of("", op_type, FIRST_CONVERTED)
    adapter = _ADAPTERS.get(op_type)
    if old is not None and new is not None and old.since_version == new.since_version:
        return _with(call)
    if adapter is not None:
        return _with(call, adapter(call))
    if op_type in _UNCHANGED:
        return _with(call)
    raise Unsupported(f"opset {call.version} defines it otherwise than opset {FIRST_CONVERTED}",
                      "onnx.version_converter.convert_version can convert the model")


def _with(call: Call, inputs: Sequence[Item | None] | None = None) -> Call:
    return Call(call.importer, call.scope, call.node, FIRST_CONVERTED, call.loc, call.inputs if inputs is None else inputs,
                call.attributes)


def _broadcast(call: Call) -> Sequence[Item | None]:
    """The second operand, whose axes line up with those of the first from attribute axis on, or with the last ones."""
    a, b = call.input(0), call.input(1)
    if not call.flag("broadcast"):
        if a.type.dims != b.type.dims:
            raise EdgeccError("E110", f"the operands {a.type} and {b.type} differ, and broadcast is 0")
        return (a, b)
    if not call.has("axis") or b.type.rank == 0:
        return (a, b)
    missing = a.type.rank - call.axis(call.integer("axis"), max(a.type.rank, 1)) - b.type.rank
    if missing < 0:
        raise EdgeccError("E110", f"the operand {b.type} does not fit into {a.type} from axis {call.integer('axis')} on")
    return (a, call.reshape(b, (*b.type.dims, *[1] * missing)))


def _prelu(call: Call) -> Sequence[Item | None]:
    """The slope: one number, or one for each channel."""
    x, slope = call.input(0), call.input(1)
    if slope.type.rank == 1 and slope.type.elements != 1 and x.type.rank > 2:
        return (x, call.reshape(slope, (*slope.type.dims, *[1] * (x.type.rank - 2))))
    return (x, slope)


def _inference(call: Call) -> Sequence[Item | None]:
    if not call.flag("is_test"):
        raise Unsupported("is_test is 0: the model was exported for training", "export the model for inference")
    return call.inputs


def _reshape(call: Call) -> Sequence[Item | None]:
    """The shape, an attribute before opset 5."""
    return (call.input(0), call.constant(np.array(call.ints("shape") or (), dtype=np.int64)))


def _gemm(call: Call) -> Sequence[Item | None]:
    return tuple(call.input(index) for index in range(3))


_ADAPTERS: Mapping[str, Callable[[Call], Sequence[Item | None]]] = MappingProxyType({
    **dict.fromkeys(_BROADCASTING, _broadcast), "PRelu": _prelu, "BatchNormalization": _inference, "Dropout": _inference,
    "Reshape": _reshape, "Gemm": _gemm})

