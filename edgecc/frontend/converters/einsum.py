"""Einsum as transposes, sums, and matrix products or elementwise products."""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.registry import converter
from edgecc.ir.dims import Dim
from edgecc.ir.graph import Value
from edgecc.ir.scalar import apply
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Slice
from edgecc.ops.reduction import Reduce


@dataclass(frozen=True)
class _Term:
    """A value with one label for each of its axes; labels are distinct."""

    value: Value
    labels: tuple[str, ...]

    def size(self, label: str) -> Dim:
        return self.value.type.shape[self.labels.index(label)]


@converter("Einsum")
def _einsum(call: Call) -> Value:
    values = call.values()
    operands, result = _parse(call.text("equation"), [v.type.rank for v in values])
    terms = [_without_repeats(call, value, labels) for value, labels in zip(values, operands, strict=True)]
    total = terms[0]
    for position, term in enumerate(terms[1:], 1):
        later = {label for other in terms[position + 1:] for label in other.labels} | set(result)
        total = _product(call, total, term, later)
    total = _summed(call, total, result)
    return call.transpose(total.value, [total.labels.index(label) for label in result])


def _parse(equation: str, ranks: Sequence[int]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Labels of each operand and of the result; axes under an ellipsis are labelled "0", "1", ... from the last."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        raise EdgeccError("E110", f"equation '{printable(equation)}' has {len(parts)} terms for {len(ranks)} operands")
    covered = 0
    operands = []
    for part, rank in zip(parts, ranks, strict=True):
        letters = part.replace("...", "", 1)
        hidden = rank - len(letters) if "..." in part else 0
        if hidden < 0 or len(letters) + hidden != rank:
            raise EdgeccError("E110", f"term '{printable(part)}' of the equation does not fit an operand of rank {rank}")
        covered = max(covered, hidden)
        operands.append(_labels(part, hidden))
    if arrow:
        result = _labels(right, covered)
    else:
        counts = [label for labels in operands for label in labels]
        result = (*_hidden(covered), *sorted(x for x in set(counts) if x in string.ascii_letters and counts.count(x) == 1))
    known = {label for labels in operands for label in labels}
    if len(set(result)) != len(result) or not set(result) <= known:
        raise EdgeccError("E110", f"the result of equation '{printable(equation)}' names an axis twice or an unknown one")
    return operands, result


def _hidden(count: int) -> tuple[str, ...]:
    return tuple(str(position) for position in reversed(range(count)))


def _labels(part: str, hidden: int) -> tuple[str, ...]:
    before, dots, after = part.partition("...")
    if any(letter not in string.ascii_letters for letter in before + after):
        raise EdgeccError("E110", f"term '{printable(part)}' of the equation has characters that are no letters")
    return (*before, *(_hidden(hidden) if dots else ()), *after)


def _without_repeats(call: Call, value: Value, labels: tuple[str, ...]) -> _Term:
    """Takes the diagonal over labels that an operand names twice."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            if value.type.dims[first] != value.type.dims[second]:
                raise EdgeccError("E110", f"label '{label}' has sizes {value.type.dims[first]} and {value.type.dims[second]}")
            rest = [axis for axis in range(len(labels)) if axis not in (first, second)]
            moved = call.transpose(value, [*rest, first, second])
            outer, size = moved.type.dims[:-2], moved.type.dims[-1]
            flat = call.reshape(moved, (*outer, size * size))
            value = call.add(Slice((0,) * len(flat.type.dims), (*outer, size), (*[1] * len(outer), size + 1)), flat)
            labels = (*(labels[axis] for axis in rest), label)
    return _Term(value, labels)


def _summed(call: Call, term: _Term, kept: Iterable[str]) -> _Term:
    """Sums over the axes whose labels are not in `kept`."""
    keep = set(kept)
    axes = tuple(axis for axis, label in enumerate(term.labels) if label not in keep)
    if not axes:
        return term
    return _Term(call.add(Reduce("sum", axes, keepdims=False), term.value), tuple(x for x in term.labels if x in keep))


def _product(call: Call, a: _Term, b: _Term, later: set[str]) -> _Term:
    """The product of two terms, summed over the labels that nothing later needs."""
    a = _summed(call, a, later | set(b.labels))
    b = _summed(call, b, later | set(a.labels))
    shared = [label for label in a.labels if label in b.labels]
    inner = [label for label in shared if label not in later and a.size(label) == b.size(label)]
    left_over = [label for label in shared if label not in later and label not in inner]
    batch = [label for label in shared if label in later]
    rows = [label for label in a.labels if label not in shared]
    columns = [label for label in b.labels if label not in shared]
    if not inner or left_over:
        labels = (*shared, *rows, *columns)
        value = call.map(lambda x, y: apply("mul", x, y), _arranged(call, a, labels), _arranged(call, b, labels))
        return _summed(call, _Term(value, labels), later)
    inner_size = math.prod(a.size(label) for label in inner)
    x = call.transpose(a.value, [a.labels.index(label) for label in (*batch, *rows, *inner)])
    y = call.transpose(b.value, [b.labels.index(label) for label in (*batch, *inner, *columns)])
    row_sizes, column_sizes = [a.size(label) for label in rows], [b.size(label) for label in columns]
    x = call.reshape(x, (*(a.size(label) for label in batch), math.prod(row_sizes), inner_size))
    y = call.reshape(y, (*(b.size(label) for label in batch), inner_size, math.prod(column_sizes)))
    product = call.add(MatMul(), x, y)
    value = call.reshape(product, (*product.type.shape[:-2], *row_sizes, *column_sizes))
    return _Term(value, (*batch, *rows, *columns))


def _arranged(call: Call, term: _Term, labels: Sequence[str]) -> Value:
    """The term's value with its axes in the order of `labels`, size 1 where it has none."""
    order = [label for label in labels if label in term.labels]
    moved = call.transpose(term.value, [term.labels.index(label) for label in order])
    return call.reshape(moved, [term.size(label) if label in term.labels else 1 for label in labels])
