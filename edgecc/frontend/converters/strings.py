"""Operators on strings."""

from __future__ import annotations

import dataclasses

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.computed_sizes import first_of
from edgecc.frontend.converters.selection import positions_of
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, convert, literal
from edgecc.ir.strings import string_array
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops import rules
from edgecc.ops.indexing import Gather
from edgecc.ops.movement import Concat
from edgecc.ops.reduction import Reduce
from edgecc.ops.strings import (
    DividingOp,
    IntegersToStrings,
    RegexFullMatch,
    StringCase,
    StringConcat,
    StringSplit,
    StringsToNumbers,
)

MOST_STOP_WORDS = 1024
"""Each is compared with each string."""
STRING_BYTES = 1024
"""What a string counts for among arrays that are made while compiling: little memory, but each pass looks at each string."""
HANDLE_BYTES = 4
"""What it takes in a run."""


def _strings(call: Call, index: int = 0) -> Value:
    x = call.input(index)
    if x.type.dtype is not DType.STRING:
        raise EdgeccError("E110", f"operand {index} is {x.type}, wanted strings")
    return x


@converter("StringConcat", since=20)
def _string_concat(call: Call) -> Value:
    x, y = _strings(call, 0), _strings(call, 1)
    dims = rules.broadcast_dims(StringConcat(), [x.type.shape, y.type.shape], [x.type, y.type])
    call.importer.limits.check_type(TensorType(DType.STRING, dims), "the result of StringConcat")
    return call.add(StringConcat(), call.expand(x, dims), call.expand(y, dims))


@converter("RegexFullMatch", since=20)
def _regex_full_match(call: Call) -> Value:
    return call.add(RegexFullMatch(call.string_value("pattern", "")), _strings(call))


@converter("StringNormalizer", since=10)
def _string_normalizer(call: Call) -> Value:
    """Without the stop words, in upper or lower case; the locale says nothing."""
    x, action = _strings(call), call.text("case_change_action", "NONE")
    if action not in ("NONE", "LOWER", "UPPER"):
        raise EdgeccError("E102", f"case_change_action is '{printable(action)}', wanted LOWER, UPPER or NONE")
    if not (x.type.rank == 1 or (x.type.rank == 2 and x.type.shape[0] == 1)):
        raise EdgeccError("E110", f"the input is {x.type}, wanted [C] or [1,C]")
    stop_words = call.string_data("stopwords")
    if (stop_words is not None and stop_words.size) or x.type.shape[-1] == 0:
        x = _without(call, x, string_array(()) if stop_words is None else stop_words, upper=action == "UPPER")
    return x if action == "NONE" else call.add(StringCase(action == "UPPER"), x)


def _without(call: Call, x: Value, stop_words: Array, *, upper: bool) -> Value:
    """The strings that are no stop words, in order; one empty string where none is left.

    Whether a string is one is told in its own case, or else in the wanted one. The size of the result is the run's.
    """
    if len(stop_words) > MOST_STOP_WORDS:
        raise Unsupported(f"{len(stop_words)} stop words; at most are {MOST_STOP_WORDS}")
    words, keys = call.reshape(x, (x.type.count,)), call.constant(stop_words)
    named = words
    if not call.flag("is_case_sensitive"):
        named, keys = (call.add(StringCase(upper), value) for value in (words, keys))
    count = x.type.elements
    equal = call.map(lambda a, b: convert(apply("eq", a, b), DType.I64), call.reshape(named, (count, 1)), keys)
    kept = call.map(lambda n: apply("eq", n, literal(0, DType.I64)), call.add(Reduce("sum", (1,), keepdims=False), equal))
    positions, found = positions_of(call, kept)
    # Where none is left, the first position is that of the empty string behind all others.
    one = call.map(lambda n: apply("max", n, literal(1, DType.I64)), found)
    padded = call.map(lambda p, i, n: apply("select", apply("lt", i, n), p, literal(count, DType.I64)), call.reshape(positions, (count,)),
                      call.positions(count), found) if count else call.scalar(0, DType.I64)
    taken = first_of(call, call.reshape(padded, (max(count, 1),)), 0, one, "the number of strings that are left")
    left = call.add(Gather(0), call.add(Concat(0), words, call.reshape(call.scalar(0, DType.STRING), (1,))), taken)
    return call.reshape(left, (*x.type.shape[:-1], left.type.shape[0]))


@converter("StringSplit", since=20)
def _string_split(call: Call) -> list[Value]:
    """The parts of each string between delimiters, or between runs of blanks, and their number."""
    most = max(call.integer("maxsplit"), -1) if call.has("maxsplit") else -1
    parts, counts, largest = divided(call, _strings(call), StringSplit(0, call.string_value("delimiter", ""), most), most + 1)
    return [first_of(call, parts, parts.type.rank - 1, largest, "the most parts of a string"), counts]


def divided(call: Call, x: Value, op: DividingOp, bound: int = 0) -> tuple[Value, Value, Value]:
    """The parts of strings with room for as many as there may be, how many each has, and the largest of these numbers.

    `bound`: the most there can be, as far as the operator says (0: it does not).
    """
    if x.constant is not None:
        room = max((len(op.divided(text)) for text in x.constant.reshape(-1)), default=0)
    else:
        room = min(bound or call.importer.limits.string_parts, call.importer.limits.string_parts)
    call.reserve((*x.type.shape, room), f"the result of {call.node.op_type}", STRING_BYTES if x.constant is not None else HANDLE_BYTES)
    parts, counts = call.add_all(dataclasses.replace(op, room=room), x)
    flat = call.add(Concat(0), call.reshape(counts, (counts.type.count,)), call.constant(np.zeros(1, np.int64)))
    return parts, counts, call.add(Reduce("max", (0,), keepdims=False), flat)


def cast_of_strings(call: Call, x: Value, dtype: DType) -> Value:
    """Numbers as text, or text as numbers.

    Floats are written with as few digits as tell them from all others of their type, integers in decimal.

    Raises: Unsupported for floats and u64 that are written at run time; EdgeccError E110 where a constant string is no number.
    """
    if x.constant is not None:
        return call.constant(_cast_constant(call, x.constant, dtype))
    if dtype is DType.STRING:
        if x.type.dtype is DType.BOOL:
            return call.map(lambda a, yes, no: apply("select", a, yes, no), x, *(call.constant(string_array([text])) for text in ("True", "False")))
        if not x.type.dtype.is_integer or x.type.dtype is DType.U64:
            raise Unsupported(f"{x.type} is written as text at run time", "write the numbers in the program around the model")
        return call.add(IntegersToStrings(), call.cast(x, DType.I64))
    if dtype is DType.BOOL:
        return call.map(lambda a: apply("ne", a, literal(0.0, DType.F64)), call.add(StringsToNumbers(DType.F64), x))
    if dtype is DType.U64:
        raise Unsupported("text is read as u64 at run time", "cast to int64")
    return call.cast(call.add(StringsToNumbers(DType.F64 if dtype.is_float else DType.I64), x), dtype)


def _cast_constant(call: Call, data: Array, dtype: DType) -> Array:
    call.reserve(data.shape, "numbers written or read as text", STRING_BYTES)
    if dtype is DType.STRING:
        return string_array([_written(element) for element in data.reshape(-1)], data.shape)
    return np.array([_number(text, dtype) for text in data.reshape(-1)], dtype=np.float64 if dtype.is_float else None).reshape(data.shape).astype(dtype.numpy)


def _written(element: np.generic) -> str:
    value = element.item() if element.dtype.kind in "biu" else element
    if element.dtype.kind in "biu":
        return str(int(value)) if element.dtype.kind != "b" else str(bool(value))
    number = float(element)
    if not np.isfinite(number):
        return "NaN" if np.isnan(number) else "INF" if number > 0 else "-INF"
    return str(element) if element.dtype.kind == "f" else repr(number)


def _number(text: str, dtype: DType) -> float | int:
    try:
        if dtype.is_float:
            return float(text)
        return int(text) if dtype is not DType.BOOL else float(text) != 0.0
    except ValueError:
        raise EdgeccError("E110", f"'{printable(text, 40)}' is no number of type {dtype.value}") from None
