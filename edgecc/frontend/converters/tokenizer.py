"""Words of texts: the operator Tokenizer of the domain com.microsoft, with which sklearn-onnx writes text classifiers."""

from __future__ import annotations

import itertools

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.computed_sizes import first_of
from edgecc.frontend.converters.strings import divided
from edgecc.frontend.registry import Unsupported, converter
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply, literal
from edgecc.ir.strings import string_array
from edgecc.ir.types import DType
from edgecc.ops.movement import Concat
from edgecc.ops.regex import Characters, parse_pattern
from edgecc.ops.strings import StringTokens

_FIRST, _LAST = "\x02", "\x03"
"""What stands around the tokens of a text where `mark` is set."""


@converter("Tokenizer", domain="com.microsoft")
def _tokenizer(call: Call) -> Value:
    """The tokens of each text along a new last axis, as long as the most tokens of one; behind the last of a text, the padding."""
    x, least, pad = call.input(), call.integer("mincharnum"), call.string_value("pad_value", "")
    if x.type.dtype is not DType.STRING or x.type.rank not in (1, 2):
        raise EdgeccError("E110", f"the input is {x.type}, wanted strings of 1 or 2 axes")
    if least < 1:
        raise EdgeccError("E102", f"mincharnum is {least}")
    parts, counts, largest = divided(call, x, StringTokens(0, _pattern(call), least))
    axis = x.type.rank
    if call.flag("mark"):
        first, last = (call.expand(call.constant(string_array([text])), (*x.type.shape, 1)) for text in (_FIRST, _LAST))
        parts = call.add(Concat(axis), first, parts, last)
        counts = call.map(lambda n: apply("add", n, literal(1, DType.I64)), counts)
        largest = call.map(lambda n: apply("select", apply("lt", literal(0, DType.I64), n), apply("add", n, literal(2, DType.I64)), n), largest)
    numbers, places = call.reshape(counts, (*x.type.shape, 1)), call.positions(parts.type.shape[axis])
    if call.flag("mark"):
        parts = call.map(lambda p, i, n, end: apply("select", apply("eq", i, n), end, p), parts, places, numbers, call.constant(string_array([_LAST])))
        numbers = call.map(lambda n: apply("add", n, literal(1, DType.I64)), numbers)
    filled = call.map(lambda p, i, n, other: apply("select", apply("lt", i, n), p, other), parts, places, numbers, call.constant(string_array([pad])))
    return first_of(call, filled, axis, largest, "the most tokens of a text")


def _pattern(call: Call) -> str:
    """What tokens match: the given expression, any character, or runs of characters that separate nothing."""
    expression, separators = call.string_value("tokenexp", ""), call.string_data("separators")
    if expression:
        return expression
    if separators is None or separators.size == 0:
        raise EdgeccError("E102", "attribute tokenexp or separators is missing")
    if separators.tolist() == [""]:
        return "(?s:.)"
    trees = [parse_pattern(text) for text in separators.tolist()]
    ranges = [tree.ranges for tree in trees if isinstance(tree, Characters)]
    if len(ranges) < len(trees):
        listed = printable(", ".join(map(repr, separators.tolist())), 200)
        raise Unsupported(f"separators of more than one character ({listed})", "give the Tokenizer a tokenexp that matches the words")
    return "[^" + "".join(rf"\x{{{low:x}}}-\x{{{high:x}}}" for low, high in itertools.chain(*ranges)) + "]+"
