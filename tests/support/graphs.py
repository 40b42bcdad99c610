"""Random graphs that are well typed and keep their numbers tame: for property tests of passes, kernels and backends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import strategies as st

from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph, Value
from edgecc.ir.op import Op
from edgecc.ir.scalar import Arg, ScalarExpr, apply, convert, literal
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ir.verify import verify
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather
from edgecc.ops.matrix import MatMul
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.ops.reduction import ArgReduce, BatchNorm, CumSum, Normalize, Reduce, Softmax, TopK

F32 = DType.F32
MAX_ELEMENTS = 600


class GraphBuilder:
    """Adds random nodes to a graph; every choice is drawn, so that hypothesis can shrink it."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self.graph = Graph("random")
        self.values: list[Value] = []
        self._constants: dict[tuple[int, ...], list[Value]] = {}
        self._generator = np.random.default_rng(draw(st.integers(0, 2**16)))

    def number(self, low: int, high: int) -> int:
        """A drawn integer, both ends included."""
        return self._draw(st.integers(low, high))

    def choice(self, options: Sequence[object]) -> object:
        """One of the options; earlier ones shrink better."""
        return self._draw(st.sampled_from(options))

    def flag(self) -> bool:
        """True or false."""
        return self._draw(st.booleans())

    def shape(self, rank: int | None = None) -> tuple[int, ...]:
        """Sizes 1 to 5, ones and odd numbers preferred."""
        rank = self.number(1, 4) if rank is None else rank
        return tuple(int(str(self.choice((1, 2, 3, 5, 4)))) for _ in range(rank))

    def add_inputs(self) -> None:
        """One to three inputs; an image among them as a rule."""
        self.values.append(self.graph.add_input(TensorType(F32, (self.number(1, 2), self.number(1, 4), 5, 4)), "image"))
        for index in range(self.number(0, 2)):
            self.values.append(self.graph.add_input(TensorType(F32, self.shape()), f"input {index}"))

    def value(self, rank: int | None = None, least_rank: int = 0) -> Value | None:
        """A float value of the graph, late ones preferred."""
        fitting = [v for v in self.values if v.type.dtype is F32 and v.type.elements
                   and (rank is None or v.type.rank == rank) and v.type.rank >= least_rank]
        if not fitting:
            return None
        return fitting[-1 - min(self.number(0, 4), len(fitting) - 1)]

    def constant(self, dims: Sequence[int], positive: bool = False) -> Value:
        """A constant of these dims: one used before, sometimes, or a new one; equal elements sometimes."""
        known = self._constants.setdefault((*dims, -1) if positive else tuple(dims), [])
        if known and self.flag():
            return known[self.number(0, len(known) - 1)]
        array = self._generator.uniform(0.01, 2.0, dims) if positive else self._generator.standard_normal(dims)
        if self.number(0, 3) == 0:
            array = np.full(dims, float(str(self.choice((1.0, 0.5, 2.0, 3.0)))))
        value = self.graph.constant(np.asarray(array).astype(np.float32))
        known.append(value)
        return value

    def add(self, op: Op, *operands: Value | None) -> Value | None:
        """Adds a node unless its result is too large; remembers its results."""
        try:
            types = op.infer([None if v is None else v.type for v in operands])
        except EdgeccError:
            return None
        if any(t.elements > MAX_ELEMENTS for t in types):
            return None
        node = self.graph.add_node(op, operands, loc=(f"N{len(self.graph)}",))
        self.values += node.outputs
        return node.outputs[0]

    # -- one method for each kind of node ------------------------------------------------------------

    def unary(self) -> None:
        x = self.value()
        if x is not None:
            self.add(Elementwise(UNARY[self.number(0, len(UNARY) - 1)](Arg(0, F32))), x)

    def binary(self) -> None:
        x = self.value()
        if x is None:
            return
        other = self.value()
        if self.flag() or other is None:
            dims = [d if self.flag() else 1 for d in x.type.dims][self.number(0, x.type.rank):]
            other = self.constant(dims)
        pair = [x, other] if self.flag() else [other, x]
        name = str(self.choice(("add", "mul", "sub", "max", "min")))
        self.add(Elementwise(apply(name, Arg(0, F32), Arg(1, F32))), *pair)

    def divide(self) -> None:
        x = self.value()
        if x is not None:
            self.add(Elementwise(apply("div", Arg(0, F32), Arg(1, F32))), x, self.constant((1,) * self.number(0, 2), positive=True))

    def compare_and_select(self) -> None:
        x, y = self.value(), self.value()
        if x is None or y is None:
            return
        mask = self.add(Elementwise(apply(str(self.choice(("lt", "le"))), Arg(0, F32), Arg(1, F32))), x, self.constant(()))
        if mask is not None:
            self.add(Elementwise(apply("select", Arg(0, DType.BOOL), Arg(1, F32), Arg(2, F32))), mask, x, y)

    def half(self) -> None:
        x = self.value()
        if x is not None:
            narrow = self.add(Elementwise(convert(Arg(0, F32), DType.F16)), x)
            if narrow is not None:
                self.add(Elementwise(convert(Arg(0, DType.F16), F32)), narrow)

    def window(self) -> None:
        x = self.value(least_rank=3)
        if x is None:
            return
        rank, channels = x.type.rank - 2, x.type.dims[1]
        strides = tuple(self.number(1, 2) for _ in range(rank))
        pads = tuple(self.number(0, 1) for _ in range(2 * rank)) if self.flag() else (0,) * (2 * rank)
        kernel = tuple(self.number(1, 3) for _ in range(rank))
        ones = (1,) * rank
        kind = self.number(0, 3)
        if kind == 0:
            padded = tuple(min(p, k - 1) for p, k in zip(pads, kernel + kernel, strict=True))
            self.add(Pool(str(self.choice(("max", "average"))), kernel, strides, padded, ones, self.flag()), x)
            return
        group = int(str(self.choice([g for g in (1, 2, 3, 4) if channels % g == 0])))
        per_group = self.number(1, 3)
        bias = self.constant((group * per_group,)) if self.flag() else None
        if kind == 1:
            weights = self.constant((channels, per_group, *kernel))
            y = self.add(ConvTranspose(strides, (0,) * (2 * rank), ones, group), x, weights, bias)
        else:
            weights = self.constant((group * per_group, channels // group, *kernel))
            dilations = tuple(self.number(1, 2) for _ in range(rank))
            before = self.number(0, 3)
            if before == 0:
                x = self.add(BatchNorm(0.1), x, *(self.constant((channels,), positive=i == 3) for i in range(4)))
            elif before == 1:
                x = self.add(Pad((0, 0, *pads[:rank]), (0, 0, *pads[rank:])), x)
            y = self.add(Conv(strides, pads, dilations, group), x, weights, bias)
        if y is not None:
            self.follow(y)

    def follow(self, y: Value) -> None:
        """What models put behind a convolution or matrix product."""
        for _ in range(self.number(0, 2)):
            kind = self.number(0, 4)
            after: Value | None = None
            if kind == 0 and y.type.rank >= 2:
                c = (y.type.dims[1],)
                after = self.add(BatchNorm(0.1 if self.flag() else 1e-5), y, self.constant(c), self.constant(c),
                                 self.constant(c), self.constant(c, positive=True))
            elif kind == 1:
                after = self.add(Elementwise(UNARY[self.number(0, len(UNARY) - 1)](Arg(0, F32))), y)
            elif kind == 2:
                name = str(self.choice(("add", "mul")))
                per_channel = (1, y.type.dims[1], *[1] * (y.type.rank - 2)) if self.flag() else y.type.dims[-1:]
                after = self.add(Elementwise(apply(name, Arg(0, F32), Arg(1, F32))), y, self.constant(per_channel))
            else:
                others = [v for v in self.values if v.type == y.type and v is not y]
                if others:
                    after = self.add(Elementwise(apply("add", Arg(0, F32), Arg(1, F32))), others[-1], y)
            if after is None:
                return
            y = after

    def constant_arithmetic(self) -> None:
        """A value computed from constants alone, and read by something that is not constant."""
        x = self.value(least_rank=1)
        if x is None:
            return
        c = self.add(Transpose(tuple(range(x.type.rank))[::-1]), self.constant(x.type.dims[::-1]))
        if c is not None:
            c = self.add(Elementwise(apply("exp", apply("neg", apply("abs", Arg(0, F32))))), c)
        if c is not None:
            self.add(Elementwise(apply("mul", Arg(0, F32), Arg(1, F32))), c, x)

    def normalize_batch(self) -> None:
        x = self.value(least_rank=2)
        if x is not None:
            c = (x.type.dims[1],)
            self.add(BatchNorm(0.1 if self.flag() else 1e-5), x, self.constant(c), self.constant(c), self.constant(c),
                     self.constant(c, positive=True))

    def matmul(self) -> None:
        a = self.value(least_rank=2)
        if a is None:
            return
        transpose_a, transpose_b = self.number(0, 3) == 0, self.flag()
        inner = a.type.dims[-2] if transpose_a else a.type.dims[-1]
        columns = self.number(1, 4)
        batch = a.type.dims[:-2] if self.flag() else ()
        other = next((v for v in self.values[::-1] if v.type.dtype is F32 and v.type.rank >= 2
                      and v.type.dims[-1 if transpose_b else -2] == inner), None) if self.flag() else None
        b = other or self.constant((*batch, columns, inner) if transpose_b else (*batch, inner, columns))
        y = self.add(MatMul(transpose_a, transpose_b), a, b)
        if y is not None:
            self.follow(y)

    def reduce(self) -> None:
        x = self.value(least_rank=1)
        if x is None:
            return
        axes = tuple(a for a in range(x.type.rank) if self.flag())
        self.add(Reduce(str(self.choice(("mean", "sum", "max", "min", "sum_square", "l1", "l2"))), axes, self.flag()), x)

    def along_axis(self) -> None:
        x = self.value(least_rank=1)
        if x is None:
            return
        axis = self.number(0, x.type.rank - 1)
        kind = self.number(0, 4)
        if kind == 0:
            self.add(Softmax(axis), x)
        elif kind == 1:
            self.add(CumSum(axis, self.flag(), self.flag()), x)
        elif kind == 2:
            self.add(TopK(self.number(1, x.type.dims[axis]), axis, self.flag()), x)
        elif kind == 3:
            self.add(ArgReduce("max", axis, self.flag()), x)
        else:
            tail = x.type.dims[axis:]
            scale = self.constant(tail) if self.flag() else None
            self.add(Normalize(tuple(range(axis, x.type.rank)), 0.01, self.flag()), x, scale)

    def layer_norm(self) -> None:
        """Layer normalisation, or its root mean square form, from single operators."""
        x = self.value(least_rank=1)
        if x is None:
            return
        axes = (x.type.rank - 1,)
        centred: Value | None = x
        if self.flag():
            mean = self.add(Reduce("mean", axes), x)
            centred = None if mean is None else self.add(Elementwise(apply("sub", Arg(0, F32), Arg(1, F32))), x, mean)
        if centred is None:
            return
        square = self.add(Elementwise(apply("pow", Arg(0, F32), literal(2.0, F32))), centred)
        variance = None if square is None else self.add(Reduce("mean", axes), square)
        if variance is None:
            return
        root = self.add(Elementwise(apply("sqrt", apply("add", Arg(0, F32), literal(0.01, F32)))), variance)
        if root is None:
            return
        if self.flag():
            self.add(Elementwise(apply("div", Arg(0, F32), Arg(1, F32))), centred, root)
        else:
            inverse = self.add(Elementwise(apply("div", literal(1.0, F32), Arg(0, F32))), root)
            if inverse is not None:
                self.add(Elementwise(apply("mul", Arg(0, F32), Arg(1, F32))), centred, inverse)
        self.add(Elementwise(apply("mul", Arg(0, F32), Arg(1, F32))), self.values[-1], self.constant(x.type.dims[-1:]))

    def transpose(self) -> None:
        x = self.value(least_rank=2)
        if x is not None:
            self.add(Transpose(tuple(self._draw(st.permutations(range(x.type.rank))))), x)

    def reshape(self) -> None:
        x = self.value()
        if x is None:
            return
        dims = list(x.type.dims)
        for _ in range(self.number(1, 2)):
            kind = self.number(0, 2)
            if kind == 0 and len(dims) > 1:
                at = self.number(0, len(dims) - 2)
                dims[at:at + 2] = [dims[at] * dims[at + 1]]
            elif kind == 1:
                dims.insert(self.number(0, len(dims)), 1)
            elif dims:
                at = self.number(0, len(dims) - 1)
                if dims[at] % 2 == 0:
                    dims[at:at + 1] = [2, dims[at] // 2]
        if len(dims) <= 6:
            self.add(Reshape(tuple(dims)), x)

    def expand(self) -> None:
        x = self.value()
        if x is not None and x.type.rank <= 4:
            dims = [d if d != 1 or self.flag() else 3 for d in x.type.dims]
            self.add(Expand(tuple([self.number(1, 2)] * self.number(0, 1) + dims)), x)

    def concat(self) -> None:
        x = self.value(least_rank=1)
        if x is None:
            return
        axis = self.number(0, x.type.rank - 1)

        def fits(v: Value) -> bool:
            return v.type.dtype is F32 and v.type.rank == x.type.rank and all(
                a == b or i == axis for i, (a, b) in enumerate(zip(v.type.dims, x.type.dims, strict=True)))

        others = [v for v in self.values if fits(v)]
        operands = [x, *(others[self.number(0, len(others) - 1)] for _ in range(self.number(0, 2)))]
        if self.flag():
            operands.insert(self.number(0, len(operands)), self.constant(x.type.dims))
        self.add(Concat(axis), *operands)

    def slice(self) -> None:
        x = self.value(least_rank=1)
        if x is None:
            return
        starts, sizes, steps = [], [], []
        for dim in x.type.dims:
            step = int(str(self.choice((1, 1, 2, -1))))
            size = self.number(1, -(-dim // abs(step)))
            room = dim - 1 - (size - 1) * abs(step)
            first = self.number(0, room)
            starts.append(first if step > 0 else first + (size - 1) * abs(step))
            sizes.append(size)
            steps.append(step)
        self.add(Slice(tuple(starts), tuple(sizes), tuple(steps)), x)

    def pad(self) -> None:
        x = self.value(least_rank=1)
        if x is None:
            return
        rank = x.type.rank
        if self.flag():
            before, after = (tuple(self.number(-1, 1) if d > 2 else self.number(0, 1) for d in x.type.dims) for _ in range(2))
            self.add(Pad(before, after), x, self.constant(()) if self.flag() else None)
        else:
            mode = str(self.choice(("edge", "reflect", "wrap")))
            self.add(Pad((0,) * rank, tuple(self.number(0, 1) for _ in range(rank)), mode), x)

    def gather(self) -> None:
        x = self.value(least_rank=1)
        if x is None:
            return
        axis = self.number(0, x.type.rank - 1)
        size = x.type.dims[axis]
        count = self.number(0, 3)
        indices = np.array([self.number(-size, size - 1) for _ in range(count)] if count else self.number(0, size - 1), np.int64)
        self.add(Gather(axis), x, self.graph.constant(indices))

    def finish(self) -> Graph:
        """Returns the graph with outputs: the last value, and some others that are used as well."""
        computed = [v for v in self.values if v.producer is not None] or self.values
        chosen = [computed[-1]]
        chosen += [computed[self.number(0, len(computed) - 1)] for _ in range(self.number(0, 2))]
        chosen = list(dict.fromkeys(chosen))
        self.graph.set_outputs(chosen, [f"output {i}" for i in range(len(chosen))])
        verify(self.graph)
        return self.graph


Formula = Callable[[ScalarExpr], ScalarExpr]


def _with(name: str, number: float) -> Formula:
    return lambda x: apply(name, x, literal(number, F32))


UNARY: tuple[Formula, ...] = (
    _with("max", 0.0), lambda x: apply("neg", x), lambda x: apply("abs", x), lambda x: apply("sigmoid", x),
    lambda x: apply("tanh", x), lambda x: apply("min", apply("max", x, literal(0.0, F32)), literal(6.0, F32)),
    lambda x: apply("mul", x, apply("sigmoid", x)), _with("div", 4.0), _with("div", 3.0), _with("mul", 1.0), _with("sub", 0.5),
    _with("pow", 2.0), lambda x: apply("sqrt", apply("add", apply("abs", x), literal(1.0, F32))),
    lambda x: apply("exp", apply("neg", apply("abs", x))), lambda x: apply("div", literal(1.0, F32), _softened(x)),
    lambda x: x,
)


def _softened(x: ScalarExpr) -> ScalarExpr:
    return apply("add", apply("exp", apply("neg", x)), literal(1.0, F32))


KINDS: tuple[Callable[[GraphBuilder], None], ...] = (
    GraphBuilder.unary, GraphBuilder.binary, GraphBuilder.window, GraphBuilder.transpose, GraphBuilder.binary,
    GraphBuilder.unary, GraphBuilder.window, GraphBuilder.reshape, GraphBuilder.matmul, GraphBuilder.reduce,
    GraphBuilder.normalize_batch, GraphBuilder.divide, GraphBuilder.compare_and_select, GraphBuilder.half,
    GraphBuilder.along_axis, GraphBuilder.layer_norm, GraphBuilder.expand, GraphBuilder.concat, GraphBuilder.slice,
    GraphBuilder.pad, GraphBuilder.gather, GraphBuilder.constant_arithmetic,
)


@st.composite
def graphs(draw: st.DrawFn, max_nodes: int = 14) -> Graph:
    """Graphs of up to about `max_nodes` nodes of most operators, with shared constants and several outputs."""
    builder = GraphBuilder(draw)
    builder.add_inputs()
    for _ in range(builder.number(1, max_nodes)):
        KINDS[builder.number(0, len(KINDS) - 1)](builder)
    return builder.finish()


def arrays_for(graph: Graph, seed: int) -> dict[str, Array]:
    """Inputs that fit the graph: normal numbers, some of them rounded so that ties and zeros occur."""
    generator = np.random.default_rng(seed)
    out = {}
    for name, value in zip(graph.input_names, graph.inputs, strict=True):
        array = generator.standard_normal(value.type.dims)
        rounded = generator.random(value.type.dims) < 0.2
        out[name] = np.where(rounded, np.round(array), array).astype(value.type.dtype.numpy)
    return out
