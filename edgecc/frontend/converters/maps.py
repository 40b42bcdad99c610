"""Operators that read maps, which are tensors with a column for each key here (edgecc/frontend/map_inputs.py)."""

from __future__ import annotations

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.converters.classical import DOMAIN
from edgecc.frontend.map_inputs import keys_read
from edgecc.frontend.registry import converter
from edgecc.ir.graph import Value
from edgecc.ir.types import DType

TYPES = {"TO_FLOAT": DType.F32, "TO_INT64": DType.I64, "TO_STRING": DType.STRING}


def _columns(call: Call) -> Value:
    x, keys = call.input(), keys_read(call.node)
    if keys is None or x.type.dims != (1, len(keys)):
        raise EdgeccError("E110", f"the operand is {x.type}, wanted a map that is an input of the model, with keys that the operator knows")
    return x


@converter("DictVectorizer", domain=DOMAIN)
def _dict_vectorizer(call: Call) -> Value:
    """The values in the order of the vocabulary."""
    return call.reshape(_columns(call), call.input().type.shape)


@converter("CastMap", domain=DOMAIN)
def _cast_map(call: Call) -> Value:
    """The values in the order of the keys 0, 1, ..., as another type."""
    kind = call.text("cast_to", "TO_FLOAT")
    if kind not in TYPES:
        raise EdgeccError("E102", f"cast_to is '{printable(kind)}', wanted one of {', '.join(TYPES)}")
    return call.cast(_columns(call), TYPES[kind])
