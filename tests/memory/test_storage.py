"""Graphs over bytes mean what the graphs with short types mean, in the reference and as C."""

import dataclasses

import numpy as np
import pytest

from edgecc.artifact.load import load
from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph
from edgecc.ir.packing import pack
from edgecc.ir.scalar import Arg, Bitcast, Convert, apply, literal
from edgecc.ir.types import DType, TensorType
from edgecc.ir.verify import verify
from edgecc.memory.storage import in_bytes
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.movement import Concat, Transpose
from edgecc.ops.packing import Unpack
from edgecc.ops.reduction import Reduce
from edgecc.pipeline import compile_graph, emit_c
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target
from tests.support.ccompile import require

SHORT = [dtype for dtype in DType if dtype.is_stored_only and dtype is not DType.STRING]
DIMS = (5, 7)
WIDE = (DType.F64, DType.F32, DType.F16, DType.BF16, DType.I64, DType.I8, DType.U8, DType.BOOL)


def any_bits(dtype, seed=0, dims=DIMS):
    least = 1 if dtype is DType.F8E8M0 else 0  # 2^-127 is subnormal in bf16, which some machines flush
    return np.random.default_rng(seed).integers(least, 1 << dtype.bits, dims).astype(np.uint8).view(dtype.numpy)


def network(dtype):
    """Everything that can be done with a type that is only stored."""
    graph, inputs, outputs = Graph("short"), {}, {}

    def given(name, array):
        inputs[name] = array
        return graph.add_input(TensorType.of(array), name)

    x = given("x", any_bits(dtype))
    sign = given("sign", np.random.default_rng(1).standard_normal(DIMS).astype(np.float32))
    for wide in WIDE:
        with np.errstate(all="ignore"):
            numbers = (np.random.default_rng(2).standard_normal(DIMS) * 9).astype(wide.numpy)
        outputs[f"to {wide.value}"] = graph.add(Elementwise(Convert(Arg(0, dtype), wide)), x)
        outputs[f"from {wide.value}"] = graph.add(Elementwise(Convert(Arg(0, wide), dtype)), given(f"as {wide.value}", numbers))
    outputs["through"] = graph.add(Elementwise(Convert(Convert(Arg(0, DType.F32), dtype), DType.F32)), sign)
    outputs["moved"] = graph.add(Transpose((1, 0)), x)
    outputs["itself"] = x
    stored = graph.constant(any_bits(dtype, 3))
    few = graph.constant(any_bits(dtype, 4, (1, 7)))
    outputs["joined"] = graph.add(Concat(0), x, stored, few)
    chosen = apply("select", apply("lt", Arg(1, DType.F32), literal(0.0, DType.F32)), Arg(0, dtype), Arg(2, dtype))
    outputs["chosen"] = graph.add(Elementwise(chosen), x, sign, stored)
    if dtype.bits == 8:
        outputs["bits"] = graph.add(Elementwise(Bitcast(Arg(0, dtype), DType.I8)), x)
        outputs["from bits"] = graph.add(Elementwise(Bitcast(Bitcast(Arg(0, dtype), DType.U8), dtype)), x)
    graph.set_outputs(list(outputs.values()), list(outputs))
    verify(graph)
    return graph, inputs


def assert_same(got, want):
    for name, expected in want.items():
        assert got[name].dtype == expected.dtype and got[name].shape == expected.shape
        np.testing.assert_array_equal(got[name].astype(np.float64), expected.astype(np.float64), err_msg=name)


@pytest.mark.parametrize("dtype", SHORT, ids=lambda d: d.value)
def test_bytes_mean_the_same(dtype):
    graph, inputs = network(dtype)
    expected = execute(graph, inputs)
    bytewise = in_bytes(graph)
    verify(bytewise)
    assert not any(value.type.dtype.is_stored_only for value in bytewise.values())
    outputs = execute(bytewise, {name: pack(a).view(np.uint8) if a.dtype == dtype.numpy else a for name, a in inputs.items()})
    for name, want in expected.items():
        raw = pack(want).view(np.uint8).reshape(-1) if want.dtype == dtype.numpy else want
        numbers = ~np.isnan(want.astype(np.float64)).reshape(-1)
        mask = numbers if raw.size == numbers.size else slice(None)
        np.testing.assert_array_equal(outputs[name].reshape(-1)[mask], raw.reshape(-1)[mask], err_msg=name)


@pytest.mark.parametrize("name", ["generic-c", "host", "cortex-a76"])
def test_compiled_networks_agree_with_the_reference(name):
    target = load_target(name)
    require(target)
    if name != "cortex-a76":
        target = dataclasses.replace(target, toolchain=dataclasses.replace(target.toolchain, gcc_triple="", zig_target=""))
    graph, inputs = Graph("short"), {}
    outputs, names = [], []
    for dtype in SHORT:
        part, given = network(dtype)
        values = {id(v): graph.add_input(v.type, f"{dtype.value} {n}") for v, n in zip(part.inputs, part.input_names, strict=True)}
        inputs |= {f"{dtype.value} {n}": array for n, array in given.items()}
        for node in part.nodes:
            operands = [values.get(id(v)) or v for v in node.inputs]
            values[id(node.output)] = graph.add(node.op, *operands)
        outputs += [values[id(v)] for v in part.outputs]
        names += [f"{dtype.value} {n}" for n in part.output_names]
    graph.set_outputs(outputs, names)
    with load(emit_c(compile_graph(graph, target, name="short"))) as model:
        assert_same(model.run(inputs), execute(graph, inputs))


def test_a_graph_without_short_types_is_itself():
    graph = Graph("plain")
    graph.set_outputs([graph.add_input(TensorType(DType.F32, (2,)), "x")], ["y"])
    assert in_bytes(graph) is graph


@pytest.mark.parametrize("dtype", SHORT, ids=lambda d: d.value)
def test_types_that_only_expressions_pass_through(dtype):
    """As fusion leaves them: no value has the type, and numbers are rounded to it all the same."""
    graph = Graph("through")
    x = graph.add_input(TensorType(DType.F32, DIMS), "x")
    there_and_back = Convert(Convert(apply("min", apply("max", Arg(0, DType.F32), literal(0.25, DType.F32)), literal(1.0, DType.F32)), dtype), DType.F32)
    graph.set_outputs([graph.add(Elementwise(apply("neg", there_and_back)), x)], ["y"])
    inputs = {"x": np.random.default_rng(0).uniform(0, 1, DIMS).astype(np.float32)}
    rewritten = in_bytes(graph)
    assert rewritten is not graph
    np.testing.assert_array_equal(execute(rewritten, inputs)["y"], execute(graph, inputs)["y"])
    emit_c(compile_graph(graph, load_target("generic-c"), name="net"))


def test_large_constants_are_packed_and_few_elements_are_not():
    graph = Graph("constants")
    large, few = graph.constant(any_bits(DType.I4, dims=(6, 6))), graph.constant(any_bits(DType.I4, dims=(6, 1)))
    graph.set_outputs([graph.add(Concat(1), large, few)], ["y"])
    bytewise = in_bytes(graph)
    assert [n.op for n in bytewise.nodes if isinstance(n.op, Unpack)] == [Unpack(4, True, (36,))]
    assert sorted(str(c.type) for c in bytewise.constants()) == ["i8[6,1]", "u8[18]"]


def test_computing_with_them_is_refused():
    graph = Graph("sum")
    x = graph.add_input(TensorType(DType.I4, (4, 4)), "x")
    graph.set_outputs([graph.add(Reduce("sum", (1,)), x)], ["y"])
    with pytest.raises(EdgeccError, match="reduce does not compute with i4") as caught:
        in_bytes(graph)
    assert caught.value.code == "E112"
