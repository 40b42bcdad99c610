"""Finds layer and RMS normalisation written as reductions and arithmetic.

    %m = reduce(%x) {kind="mean", axes=A}; %d = %x - %m; %v = reduce(%d * %d) {kind="mean", axes=A}
    %y = %d / sqrt(%v + epsilon)                        ->  %y = normalize(%x) {axes=A, epsilon, rms=false}
    %v = reduce(%x * %x) {kind="mean", axes=A}
    %y = %x / sqrt(%v + epsilon)                        ->  %y = normalize(%x) {axes=A, epsilon, rms=true}
    %n = normalize(%x); %y = %n * %scale + %bias        ->  %y = normalize(%x, %scale, %bias)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.scalar import Apply, Arg, Literal, ScalarExpr
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.reduction import Normalize, Reduce
from edgecc.passes.base import NodePass
from edgecc.passes.rewrite import is_constant, replace, sole_user


@dataclass(frozen=True)
class RecognizeNormalization(NodePass):
    """Replaces the arithmetic of a normalisation by Normalize, and gives it scale and bias.

    It does not matter how the arithmetic is spread over Elementwise nodes; canonicalize must have run.
    The quotient may also be a product with 1 / sqrt(...). What else reads the mean or the variance keeps them.

    Declines when:
    1. The mean is not taken over the last axes.
    2. Scale or bias: the normalisation has another reader or has that operand already, or the operand makes the
       result larger or is not constant.
    """

    name: ClassVar[str] = "recognize-normalization"
    tolerance: ClassVar[float] = 0.0  # equal in exact arithmetic

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrites one quotient, or one scaling."""
        if not isinstance(node.op, Elementwise):
            return False
        return self._affine(graph, node, node.op) or self._normalize(graph, node, node.op)

    def _normalize(self, graph: Graph, node: Node, op: Elementwise) -> bool:
        found = _normalized(Term(op.expr, node))
        if found is None:
            return False
        x, operator = found
        if operator.axes != tuple(range(x.type.rank - len(operator.axes), x.type.rank)):
            return self.decline(node, f"the mean is over axes {list(operator.axes)}, not the last ones")
        if x.type != node.output.type:
            return False
        replace(graph, node, operator, x)
        return True

    def _affine(self, graph: Graph, node: Node, op: Elementwise) -> bool:
        """Absorbs n * scale, n + bias and n * scale + bias."""
        product: ScalarExpr = op.expr
        bias: Value | None = None
        scale: Value | None = None
        match op.expr:
            case Apply("add", (inner, Arg(index=index))):
                product, bias = inner, node.operand(index)
        match product:
            case Apply("mul", (Arg(index=first), Arg(index=second))):
                left, right = node.operand(first), node.operand(second)
                normal, scale = (left, right) if _is_normalize(left) else (right, left)
            case Arg(index=index):
                normal = node.operand(index)
            case _:
                return False
        if bias is not None and not _is_normalize(normal) and _is_normalize(bias) and scale is None:
            normal, bias = bias, normal
        source = normal.producer
        if source is None or not isinstance(source.op, Normalize) or (scale is None and bias is None):
            return False
        own = (*source.inputs[1:], None, None)[:2]
        if sole_user(graph, normal) is not node or normal in (scale, bias) or normal.type != node.output.type:
            return self.decline(node, "the normalisation has another reader, or the result is larger")
        if own[1] is not None or (own[0] is not None and scale is not None):
            return self.decline(node, "the normalisation has this operand already")
        if not all(v is None or is_constant(v) for v in (scale, bias)):
            return self.decline(node, "scale or bias is not constant")
        replace(graph, node, source.op, source.inputs[0], own[0] if scale is None else scale, bias, absorbed=[source])
        return True


def _is_normalize(value: Value) -> bool:
    return value.producer is not None and isinstance(value.producer.op, Normalize)


@dataclass(frozen=True)
class Term:
    """An expression over the operands of a node: one can look through Elementwise nodes from term to term."""

    expr: ScalarExpr
    node: Node

    @property
    def value(self) -> Value | None:
        """The value the term is, if it is nothing but an operand."""
        return self.node.operand(self.expr.index) if isinstance(self.expr, Arg) else None

    def expanded(self) -> Term:
        """The term with its topmost operation visible: operands computed by Elementwise are looked into."""
        term = self
        while (value := term.value) is not None and value.producer is not None:
            producer = value.producer
            if not isinstance(producer.op, Elementwise):
                break
            term = Term(producer.op.expr, producer)
        return term

    def operands(self, op: str) -> tuple[Term, ...] | None:
        """The operands if the topmost operation is `op`."""
        term = self.expanded()
        if isinstance(term.expr, Apply) and term.expr.op == op:
            return tuple(Term(arg, term.node) for arg in term.expr.args)
        return None

    def number(self) -> float | None:
        """The number the term is, if it is a literal."""
        term = self.expanded()
        return float(term.expr.value) if isinstance(term.expr, Literal) else None


def _normalized(root: Term) -> tuple[Value, Normalize] | None:
    """The operand and the operator if `root` is a normalisation without scale and bias."""
    candidates: list[tuple[Term, Term]] = []
    if (quotient := root.operands("div")) is not None:
        candidates.append((quotient[0], quotient[1]))
    if (factors := root.operands("mul")) is not None:
        for numerator, inverse in (factors, factors[::-1]):
            parts = inverse.operands("div")
            if parts is not None and parts[0].number() == 1.0:
                candidates.append((numerator, parts[1]))
    for numerator, denominator in candidates:
        found = _deviation(denominator)
        if found is None:
            continue
        x, mean, operator = found
        if mean is None and numerator.value is x:
            return x, operator
        if mean is not None and _difference(numerator) == (x, mean):
            return x, operator
    return None


def _deviation(term: Term) -> tuple[Value, Value | None, Normalize] | None:
    """(x, mean, operator) if the term is sqrt(mean of (x - mean)**2 + epsilon); mean is None for x**2."""
    root = term.operands("sqrt")
    summands = root[0].operands("add") if root is not None else None
    if summands is None or (epsilon := summands[1].number()) is None or not epsilon >= 0:
        return None
    variance = summands[0].value
    reduce = _mean_of(variance)
    if reduce is None or variance is None:
        return None
    squared, axes = reduce
    if squared.producer is None or not isinstance(squared.producer.op, Elementwise):
        return None
    factors = Term(squared.producer.op.expr, squared.producer).operands("mul")
    if factors is None or factors[0] != factors[1]:
        return None
    difference = _difference(factors[0])
    if difference is not None and _mean_of(difference[1]) == (difference[0], axes):
        return *difference, Normalize(axes, epsilon, rms=False)
    x = factors[0].value
    return None if x is None else (x, None, Normalize(axes, epsilon, rms=True))


def _difference(term: Term) -> tuple[Value, Value] | None:
    """(a, b) if the term is a - b."""
    parts = term.operands("sub")
    if parts is None or parts[0].value is None or parts[1].value is None:
        return None
    return parts[0].value, parts[1].value


def _mean_of(value: Value | None) -> tuple[Value, tuple[int, ...]] | None:
    """(x, axes) if the value is the mean of x over axes, which stay with size 1."""
    producer = None if value is None else value.producer
    match producer:
        case Node(op=Reduce(kind="mean", axes=axes, keepdims=True)) if axes:
            return producer.operand(0), axes
    return None
