"""Stores weights and activations in a half-precision type, and computes in it where that is accurate enough.

    %y = conv(%x, %w, %b) {epilogue=`max($0:f32, 0.0:f32)`} : f32[...]
        ->  %x' = elementwise(%x) {expr=`f16($0:f32)`} : f16[...]
            %y' = conv(%x', %w', %b') {epilogue=`max($0:f16, 0.0:f16)`} : f16[...]

A network's inputs and outputs keep their types.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Node, Value
from edgecc.ir.op import Op
from edgecc.ir.scalar import Arg, Convert, ScalarExpr, convert
from edgecc.ir.types import DType
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather, GatherElements, GatherND
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.ops.reduction import Normalize, Reduce, Softmax
from edgecc.ops.resize import Resize
from edgecc.passes.base import GraphPass
from edgecc.passes.epilogue import Contraction
from edgecc.passes.expressions import reads_discontinuously
from edgecc.passes.narrowing import computes_in_f16, fits, in_f16, reading

FOLLOWING = (Transpose, Reshape, Expand, Concat, Slice, Pad, Gather, GatherElements, GatherND, Resize)
"""Operators whose result has the type of what they move."""

STATISTICS = (Softmax, Normalize, Pool)
"""Operators that compute in f32 whatever type they read and write; so do reductions of the kinds below."""

REDUCED = ("mean", "max", "min")
"""Reductions whose result is no larger than their operand; sums and products stay in f32."""

HALF_TYPES = (DType.F16, DType.BF16)

HANDED_ON = (Elementwise, Softmax, *FOLLOWING)
"""Operators through which a need for f32 passes from the result to the operands."""


@dataclass(frozen=True)
class ConvertPrecision(GraphPass):
    """Makes f32 values f16 ("fp16") or bf16 ("bf16") between the operators that gain by it.

    Options: precision; keep, names of nodes of the model that stay in f32, joined by "+".

    1. Conv, ConvTranspose, MatMul read and write the half type. With fp16 an epilogue of cheap operations is computed in
       f16; any other, and with bf16 all, in f32 from the f32 sum (passes/narrowing.py).
    2. Elementwise likewise. Softmax, normalisations, pools, means and extrema read and write the half type and compute
       in f32. What moves elements moves the short ones.
    3. Values keep f32 that reach, by elementwise work, softmax and movement alone: an output of the graph, an integer, a
       comparison or rounding, or an operator that is none of the above. A contraction writes such values as f32, other
       statistics than softmax are converted.
    4. The borders are conversions, or are done by the kernel that computes the value.

    Declines when:
    1. `keep` names the node.
    2. A constant does not fit f16.
    3. The operator is none of the above (recurrent layers, sums, scans, sorting).
    4. With bf16: the number of terms that lie side by side is odd (products come in pairs); the result may still be bf16.

    Values that overflow f16 become infinite: `edgecc verify` shows them.
    """

    name: ClassVar[str] = "convert-precision"
    # Constants are rounded: one unit of the half type for each factor, two factors a product. Measured maximum 2.3.
    tolerance: ClassVar[float] = 8.0

    precision: Literal["fp16", "bf16"] = "fp16"
    keep: str = ""

    @property
    def dtype(self) -> DType:
        """The half type."""
        return DType.F16 if self.precision == "fp16" else DType.BF16

    @property
    def kept(self) -> frozenset[str]:
        """Names of the nodes to keep in f32."""
        return frozenset(filter(None, self.keep.split("+")))

    def run_all(self, graph: Graph) -> bool:
        """Raises: EdgeccError E004 where a node to keep is nowhere in the graph."""
        unknown = sorted(self.kept.difference(name for inner in graph.all_graphs() for node in inner.nodes for name in node.loc))
        if unknown:
            raise EdgeccError("E004", f"keep names {', '.join(unknown)}, which the model has not",
                              hint="names of the model's nodes are wanted; `edgecc inspect` lists them")
        return super().run_all(graph)

    def run(self, graph: Graph) -> bool:
        """See the class."""
        return _Conversion(self, graph, self.kept).run()


class _Conversion:
    """One run of the pass over one graph."""

    def __init__(self, own: ConvertPrecision, graph: Graph, kept: frozenset[str]) -> None:
        self.own = own
        self.dtype = own.dtype
        self.graph = graph
        self.kept = kept
        self.wide = self._needed_wide()
        self.results: dict[Value, Value] = {}
        """What stands for the result of each converted node: of the half type, or f32 where that is wanted."""
        self.halves: dict[Value, Value] = {}
        """The half-precision twins of values."""

    def run(self) -> bool:
        """Converts all nodes, forwards; then hands what is still read as f32 to its readers, backwards."""
        converted = [node for node in self.graph.nodes if self._convert(node)]
        for node in reversed(converted):
            old, new = node.output, self.results[node.output]
            if old.uses or self.graph.is_output(old):
                if new.type.dtype is self.dtype:
                    new = self.graph.add(Elementwise(Convert(Arg(0, self.dtype), DType.F32)), new, before=node, loc=node.loc,
                                         name=old.name)
                    new.layout = old.layout
                self.graph.replace_all_uses(old, new)
            self.graph.erase(node)
        return bool(converted)

    # -- what stays ---------------------------------------------------------------------------

    def _is_candidate(self, node: Node) -> bool:
        """Whether the operator is one that may read and write the half type, and may do so here."""
        if len(node.outputs) != 1 or node.output.type.dtype is not DType.F32 or not self.kept.isdisjoint(node.loc):
            return False
        if any(v is not None and v.type.dtype in HALF_TYPES for v in node.inputs):
            return False  # of another precision already, or done
        if isinstance(node.op, Reduce):
            return node.op.kind in REDUCED
        return isinstance(node.op, (*FOLLOWING, *STATISTICS, Elementwise, Conv, ConvTranspose, MatMul))

    def _needed_wide(self) -> set[Value]:
        """The values that keep f32; see the third case of the class."""
        wide: set[Value] = {v for v in self.graph.outputs if v.producer is not None}
        for node in reversed(self.graph.nodes):
            stays = not self._is_candidate(node)
            handed = isinstance(node.op, HANDED_ON) and node.outputs[0] in wide
            jumps = isinstance(node.op, Elementwise) and bool(reads_discontinuously(node.op.expr))
            if stays:
                wide.update(node.outputs)
                if not self.kept.isdisjoint(node.loc):
                    self.own.decline(node, "it is to be kept in f32")
                elif node.outputs[0].type.dtype is DType.F32 and not isinstance(node.op, Elementwise):
                    self.own.decline(node, f"{node.op.name} is computed in f32")
            if handed or stays or jumps:
                wide.update(v for v in node.inputs if v is not None and v.type.dtype is DType.F32)
        return wide

    # -- conversion ---------------------------------------------------------------------------

    def _convert(self, node: Node) -> bool:
        """Adds the half-precision twin of a node in front of it."""
        if not self._is_candidate(node) or (node.output in self.wide and isinstance(node.op, HANDED_ON)):
            return False
        floats = [v for v in node.inputs if v is not None and v.type.dtype is DType.F32]
        if all(v.constant is not None for v in floats):
            return False
        large = next((v for v in floats if v.constant is not None and not fits(v.constant, self.dtype)), None)
        if large is not None:
            self.wide.add(node.output)
            return self.own.decline(node, f"%{large.name} holds numbers beyond the range of {self.dtype.value}")
        if isinstance(node.op, Contraction):
            new = self._contraction(node, node.op)
        elif isinstance(node.op, Elementwise):
            new = self._elementwise(node, node.op)
        else:
            new = self._add(node, node.op, [self._half(v, node) for v in node.inputs])
        new.layout = node.output.layout
        self.results[node.output] = new
        if new.type.dtype is self.dtype:
            self.halves[node.output] = new
        return True

    def _add(self, node: Node, op: Op, operands: list[Value | None]) -> Value:
        return self.graph.add(op, *operands, before=node, loc=node.loc, name=node.output.name)

    def _half(self, value: Value | None, before: Node) -> Value | None:
        """The twin of an f32 value, converted in front of `before` where there is none; other values as they are."""
        if value is None or value.type.dtype is not DType.F32:
            return value
        twin = self.halves.get(value)
        if twin is None:
            if value.constant is not None:
                twin = self.graph.constant(value.constant.astype(self.dtype.numpy), value.name)
            else:
                loc = before.loc if value.producer is None else value.producer.loc
                twin = self.graph.add(Elementwise(Convert(Arg(0, DType.F32), self.dtype)), self.results.get(value, value),
                                      before=before, loc=loc, name=value.name)
                twin.layout = value.layout
            self.halves[value] = twin
        return twin

    def _contraction(self, node: Node, op: Conv | ConvTranspose | MatMul) -> Value:
        result = DType.F32 if node.output in self.wide else self.dtype
        x, w, bias = [*node.inputs[:3], None, None, None][:3]
        expr, extras = self._expression(op.epilogue, [None, *node.inputs[3:]], node, result)
        if not self._pairs_up(node):
            self.own.decline(node, "an odd number of terms lies side by side")
            if expr is None:
                expr = Convert(Arg(0, DType.F32), result)
        else:
            x, w = self._half(x, node), self._half(w, node)
            if self.dtype is DType.F16 or (bias is not None and bias.constant is None):
                bias = self._half(bias, node)
        return self._add(node, dataclasses.replace(op, epilogue=expr), [x, w, bias, *extras[1:]])

    def _elementwise(self, node: Node, op: Elementwise) -> Value:
        expr, operands = self._expression(op.expr, node.inputs, node, self.dtype)
        return self._add(node, Elementwise(expr or op.expr), operands)

    def _expression(self, expr: ScalarExpr | None, operands: Sequence[Value | None], node: Node,
                    result: DType) -> tuple[ScalarExpr | None, list[Value | None]]:
        """An expression of type `result` over operands that are read in the half type where they have it.

        An operand that is None is the sum of a contraction. Constants are shortened only for arithmetic in f16.
        """
        variables = {i for i, v in enumerate(operands) if v is not None and v.type.dtype is DType.F32 and v.constant is None}
        constants = {i for i, v in enumerate(operands) if v is not None and v.type.dtype is DType.F32 and v.constant is not None}
        short = {i for i in variables if self._is_short(operands[i])}
        native = self.dtype is DType.F16 and result is self.dtype and short == variables
        if native and (expr is None or computes_in_f16(expr)):
            short |= constants
            narrowed = None if expr is None else in_f16(expr)
        else:
            narrowed = convert(reading(expr or Arg(0, DType.F32), short, self.dtype), result)
        return narrowed, [self._half(v, node) if i in short else self.results.get(v, v) if v is not None else None
                          for i, v in enumerate(operands)]

    def _is_short(self, value: Value | None) -> bool:
        """Whether a variable has a twin, or will not be needed in f32 by anyone else."""
        return value is not None and (value in self.halves or (value not in self.wide and value.producer is not None))

    def _pairs_up(self, node: Node) -> bool:
        """Whether kernels find products in pairs along the reduction; always so for f16, which needs none."""
        if self.dtype is DType.F16:
            return True
        w = [size if isinstance(size, int) else 1 for size in node.operand(1).type.shape]  # those of the run come in any number
        if isinstance(node.op, MatMul):
            return (w[-1] if node.op.transpose_b else w[-2]) % 2 == 0
        return w[1] == 1 or (w[1] % 2 == 0 and isinstance(node.op, Conv))
