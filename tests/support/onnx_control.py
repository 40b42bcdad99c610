"""Random ONNX models with If, Loop and Scan whose choices and ends are known at run time only.

All floats have one shape, so that any value may be a state, a branch's result or an operand. Conditions depend on
truth values, trip counts and numbers of iterations, so that rounding decides nothing; numbers stay within [-8, 8].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgecc.ir.types import Array

ROWS, COLUMNS = 3, 5
SHAPE = [ROWS, COLUMNS]
MOST_TRIPS = 4


@dataclass
class Writer:
    """The nodes of one graph, and the names that are known in it by kind."""

    draw: st.DrawFn
    prefix: str
    floats: list[str]
    flags: list[str]
    counts: list[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        """Adds a node with one result and returns its name."""
        name = f"{self.prefix}v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"{name}_{op}", **attributes))
        return name

    def any(self, names: list[str]) -> str:
        """One of the names, later ones as a rule."""
        return names[-1] if self.draw(st.booleans()) else self.draw(st.sampled_from(names))

    def inner(self, suffix: str) -> Writer:
        """A writer for a graph inside a node, in which all these names are known."""
        return Writer(self.draw, f"{self.prefix}{suffix}_", list(self.floats), list(self.flags), list(self.counts))


@dataclass(frozen=True)
class RandomModel:
    """A model with inputs for it."""

    proto: onnx.ModelProto
    inputs: dict[str, Array]


@st.composite
def control_models(draw: st.DrawFn) -> RandomModel:
    """A model with at least one branch, loop or scan."""
    top = Writer(draw, "", ["x", "z"], ["flag"], ["count"])
    _compute(top)
    for number in range(draw(st.integers(1, 2))):
        _control(top, number, 2)
    _compute(top)
    outputs = list(dict.fromkeys([top.floats[-1], top.any(top.floats[2:])]))
    given = [("x", TensorProto.FLOAT, SHAPE), ("z", TensorProto.FLOAT, SHAPE), ("flag", TensorProto.BOOL, []),
             ("count", TensorProto.INT64, [])]
    weights = np.random.default_rng(1).uniform(-0.5, 0.5, (COLUMNS, COLUMNS)).astype(np.float32)
    constants = {"w": weights, "low": np.float32(-8), "high": np.float32(8), "two": np.int64(2), "yes": np.array(True),
                 **{f"n{i}": np.int64(i) for i in range(MOST_TRIPS + 1)}}
    graph = helper.make_graph(top.nodes, "random", [helper.make_tensor_value_info(*g) for g in given],
                              [helper.make_tensor_value_info(o, TensorProto.FLOAT, SHAPE) for o in outputs],
                              [numpy_helper.from_array(a, n) for n, a in constants.items()])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(proto)
    generator = np.random.default_rng(draw(st.integers(0, 9)))
    inputs: dict[str, Array] = {n: generator.standard_normal(SHAPE).astype(np.float32) for n in ("x", "z")}
    return RandomModel(proto, inputs | {"flag": np.array(draw(st.booleans())), "count": np.array(draw(st.integers(-1, MOST_TRIPS)))})


def _compute(writer: Writer) -> None:
    for _ in range(writer.draw(st.integers(0, 3))):
        kind = writer.draw(st.sampled_from(("Add", "Sub", "Mul", "Max", "Tanh", "Relu", "Neg", "MatMul", "ReduceMean")))
        operand = writer.any(writer.floats)
        if kind == "MatMul":
            result = writer.add("MatMul", operand, "w")
        elif kind == "ReduceMean":
            result = writer.add("Sub", operand, writer.add("ReduceMean", operand))
        elif kind in ("Tanh", "Relu", "Neg"):
            result = writer.add(kind, operand)
        else:
            result = writer.add(kind, operand, writer.any(writer.floats))
        writer.floats.append(writer.add("Clip", result, "low", "high"))


def _control(writer: Writer, number: int, depth: int) -> None:
    {"If": _branch, "Loop": _loop, "Scan": _scan}[writer.draw(st.sampled_from(("If", "Loop", "Loop", "Scan")))](writer, number, depth)


def _inside(writer: Writer, depth: int) -> None:
    _compute(writer)
    if depth > 1 and writer.draw(st.booleans()):
        _control(writer, 0, depth - 1)


def _graph(writer: Writer, inputs: list[onnx.ValueInfoProto], outputs: list[tuple[str, int, list[int]]]) -> onnx.GraphProto:
    """The graph; outputs have types and are nodes of their own, as onnxruntime wants it."""
    typed = [helper.make_tensor_value_info(writer.add("Identity", name), kind, shape) for name, kind, shape in outputs]
    return helper.make_graph(writer.nodes, writer.prefix + "graph", inputs, typed)


def _floats(names: Iterable[str]) -> list[tuple[str, int, list[int]]]:
    return [(name, TensorProto.FLOAT, SHAPE) for name in names]


def _results(writer: Writer, op: str, inputs: list[str], count: int, **attributes: object) -> list[str]:
    names = [f"{writer.prefix}r{len(writer.nodes)}_{i}" for i in range(count)]
    writer.nodes.append(helper.make_node(op, inputs, names, name=f"{names[0]}_{op}", **attributes))
    return names


def _branch(writer: Writer, number: int, depth: int) -> None:
    count = writer.draw(st.integers(1, 2))
    graphs = []
    for side in ("then", "else"):
        inner = writer.inner(f"{side}{number}")
        _inside(inner, depth)
        graphs.append(_graph(inner, [], _floats(inner.any(inner.floats) for _ in range(count))))
    writer.floats += _results(writer, "If", [writer.any(writer.flags)], count, then_branch=graphs[0], else_branch=graphs[1])


def _loop(writer: Writer, number: int, depth: int) -> None:
    """Ends by a trip count of the run or a condition; collects only what has as many rows in each run."""
    draw, inner = writer.draw, writer.inner(f"loop{number}")
    states = [writer.any(writer.floats) for _ in range(draw(st.integers(1, 2)))]
    own = [f"{inner.prefix}s{i}" for i in range(len(states))]
    index, going = f"{inner.prefix}i", f"{inner.prefix}go"
    inner.floats += own
    inner.counts.append(index)
    odd = inner.add("Cast", inner.add("Mod", index, "two"), to=TensorProto.BOOL)
    inner.flags.append(odd)
    _inside(inner, depth)
    ends = draw(st.sampled_from(("never", "flag", "early")))
    rows = draw(st.integers(1, MOST_TRIPS))
    again = {"never": going, "flag": inner.any(inner.flags), "early": inner.add("Less", index, f"n{rows}")}[ends]
    collects = ends == "never" and draw(st.booleans())
    outputs = [(again, TensorProto.BOOL, []), *_floats(inner.any(inner.floats) for _ in range(len(states) + collects))]
    given = [(index, TensorProto.INT64, []), (going, TensorProto.BOOL, []), *((s, TensorProto.FLOAT, SHAPE) for s in own)]
    body = _graph(inner, [helper.make_tensor_value_info(*g) for g in given], outputs)
    trips = f"n{rows}" if collects else draw(st.sampled_from(("count", f"n{rows}", "" if ends == "early" else "count")))
    start = "yes" if collects else draw(st.sampled_from(("", writer.any(writer.flags))))
    results = _results(writer, "Loop", [trips, start, *states], len(outputs) - 1, body=body)
    writer.floats += results[:len(states)]
    if collects:
        writer.floats.append(_flattened(writer, results[-1]))


def _flattened(writer: Writer, stacked: str) -> str:
    """A value of the usual shape that depends on all rows."""
    sums = writer.add("CumSum", stacked, "n0")
    return writer.add("Gather", sums, writer.add("Sub", writer.add("Gather", writer.add("Shape", stacked), "n0"), "n1"), axis=0)


def _scan(writer: Writer, number: int, depth: int) -> None:
    """Over the rows or the columns of a value, in either direction."""
    draw, inner = writer.draw, writer.inner(f"scan{number}")
    axis, back, out_back = draw(st.integers(0, 1)), draw(st.integers(0, 1)), draw(st.integers(0, 1))
    own, row = f"{inner.prefix}s", f"{inner.prefix}row"
    inner.floats.append(own)
    size = SHAPE[1 - axis]
    inner.floats.append(inner.add("Add", own, row if axis == 0 else inner.add("ReduceMean", row)))
    _inside(inner, depth)
    collected = inner.add("Mul", row, inner.add("ReduceMax", inner.any(inner.floats), keepdims=0))
    given = [(own, TensorProto.FLOAT, SHAPE), (row, TensorProto.FLOAT, [size])]
    body = _graph(inner, [helper.make_tensor_value_info(*g) for g in given], [*_floats([inner.any(inner.floats)]), (collected, TensorProto.FLOAT, [size])])
    writer.floats += _results(writer, "Scan", [writer.any(writer.floats), writer.any(writer.floats)], 2, body=body, num_scan_inputs=1,
                              scan_input_axes=[axis], scan_input_directions=[back], scan_output_axes=[axis], scan_output_directions=[out_back])
    writer.floats[-1] = writer.add("Clip", writer.floats[-1], "low", "high")
