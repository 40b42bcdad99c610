import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph
from edgecc.ir.op import Op
from edgecc.ir.scalar import Arg, apply, convert, literal
from edgecc.ir.types import DType, TensorType
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.reduction import Reduce, TopK
from edgecc.reference.executor import execute, execute_values, run_node, sample_inputs, widened

F32 = DType.F32
X = np.arange(6, dtype="f4").reshape(2, 3) / 7


def scaled(factor):
    return Elementwise(apply("mul", Arg(0, F32), literal(factor, F32)))


@pytest.fixture
def diamond():
    """y = x*3 + x*5, z = x: shared operands, two outputs, one of them an input."""
    graph = Graph("diamond")
    x = graph.add_input(TensorType(F32, (2, 3)), "in put")
    a, b = graph.add(scaled(3.0), x, name="a"), graph.add(scaled(5.0), x, name="b")
    y = graph.add(Elementwise(apply("add", Arg(0, F32), Arg(1, F32))), a, b)
    graph.set_outputs([y, x], ["out/put", "z"])
    return graph


def test_outputs_come_by_interface_name(diamond):
    results = execute(diamond, {"in put": X})
    assert list(results) == ["out/put", "z"]
    np.testing.assert_allclose(results["out/put"], X * 8, rtol=1e-6)
    np.testing.assert_array_equal(results["z"], X)


def test_results_share_nothing_with_inputs_or_constants(diamond):
    held = X.copy()
    results = execute(diamond, {"in put": held})
    results["z"][:] = 9
    assert np.array_equal(held, X)
    graph = Graph()
    graph.add_input(TensorType(F32, ()), "unused")
    constant = graph.constant(X)
    graph.set_outputs([constant, constant], ["p", "q"])
    results = execute(graph, {"unused": np.zeros((), "f4")})
    results["p"][:] = 9
    np.testing.assert_array_equal(results["q"], X)
    np.testing.assert_array_equal(constant.constant, X)


def test_plain_mode_rounds_each_node_and_wide_mode_none(diamond):
    plain, wide = execute(diamond, {"in put": X}), execute(diamond, {"in put": X}, wide=True)
    assert plain["out/put"].dtype == np.float32 and wide["out/put"].dtype == np.float64
    np.testing.assert_array_equal(wide["out/put"], X.astype("f8") * 8)
    np.testing.assert_array_equal(plain["out/put"], X * np.float32(3) + X * np.float32(5))


def test_wide_mode_widens_expressions_without_float_operands():
    graph = Graph()
    x = graph.add_input(TensorType(DType.I64, (1,)), "x")
    graph.set_outputs([graph.add(Elementwise(convert(Arg(0, DType.I64), F32)), x)], ["y"])
    big = {"x": np.array([2**24 + 1])}
    assert execute(graph, big)["y"].item() == 2.0**24
    assert execute(graph, big, wide=True)["y"].item() == 2.0**24 + 1


def test_wide_mode_widens_epilogues(diamond):
    op = Conv((1,), (0, 0), (1,), epilogue=apply("div", Arg(0, F32), literal(3.0, F32)))
    graph = Graph()
    x = graph.add_input(TensorType(F32, (1, 1, 1)), "x")
    graph.set_outputs([graph.add(op, x, graph.constant(np.ones((1, 1, 1), "f4")))], ["y"])
    assert execute(graph, {"x": np.ones((1, 1, 1), "f4")}, wide=True)["y"].item() == 1 / 3
    assert widened(op).epilogue.dtype is DType.F64 and widened(Reduce("sum", (0,))) == Reduce("sum", (0,))


def test_wide_mode_takes_wide_inputs(diamond):
    wide = execute(diamond, {"in put": X.astype("f8") + 1e-12}, wide=True)
    assert np.all(wide["z"] != X)


def test_values_inside_can_be_asked_for(diamond):
    a, b = (node.output for node in diamond.nodes[:2])
    found = execute_values(diamond, {"in put": X}, [b, a, a])
    np.testing.assert_array_equal(found[0], X * np.float32(5))
    np.testing.assert_array_equal(found[1], found[2])


def test_every_node_is_observed_in_order(diamond):
    seen = []
    execute(diamond, {"in put": X}, observe=lambda node, results: seen.append((node, results[0].copy())))
    assert [node for node, _ in seen] == list(diamond.nodes)
    np.testing.assert_array_equal(seen[1][1], X * np.float32(5))


def test_perturbations_reach_inputs_constants_and_results_but_not_integers():
    graph = Graph()
    x, i = graph.add_input(TensorType(F32, (2, 2)), "x"), graph.add_input(TensorType(DType.I32, (1,)), "i")
    y = graph.add(MatMul(), x, graph.constant(np.eye(2, dtype="f4")))
    graph.set_outputs([y, i], ["y", "i"])
    feeds = {"x": np.ones((2, 2), "f4"), "i": np.array([3], "i4")}
    results = execute(graph, feeds, wide=True, perturb=lambda a: a * 2)
    assert results["y"].tolist() == [[8, 8], [8, 8]] and results["i"].tolist() == [3]


def test_several_results_and_unused_ones():
    graph = Graph()
    x = graph.add_input(TensorType(F32, (5,)), "x")
    node = graph.add_node(TopK(2, 0), [x])
    graph.set_outputs([node.outputs[1]], ["where"])
    assert execute(graph, {"x": np.array([1, 9, 3, 7, 5], "f4")})["where"].tolist() == [1, 3]


def test_memory_of_dead_values_is_released():
    """A chain of 50 results of 8 MB each runs within a few of them."""
    graph = Graph()
    value = graph.add_input(TensorType(F32, (2**21,)), "x")
    for _ in range(50):
        value = graph.add(Reduce("l1", ()), value)
    graph.set_outputs([value], ["y"])
    import tracemalloc
    tracemalloc.start()
    execute(graph, {"x": np.ones(2**21, "f4")})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 2**23


@pytest.mark.parametrize(("feeds", "detail"), [
    ({}, "in put: missing, wanted f32[2,3]"),
    ({"in put": X[0]}, "in put: got f32[3], wanted f32[2,3]"),
    ({"in put": X.astype("f8")}, "in put: got f64[2,3], wanted f32[2,3]"),
    ({"in put": X.astype("c8")}, "in put: got complex64[2, 3], wanted f32[2,3]"),
    ({"in put": X, "other\x1b": X}, r"other\x1b: the model has no such input"),
])
def test_inputs_that_do_not_fit_are_all_named(diamond, feeds, detail):
    with pytest.raises(EdgeccError) as caught:
        execute(diamond, feeds)
    assert caught.value.code == "E005" and detail in caught.value.details and "in put f32[2,3]" in caught.value.hint


def test_a_reference_that_breaks_its_shape_rule_is_caught():
    class Broken(Op):
        name = "broken"

        def reference(self, inputs):
            return (inputs[0][0],)

    with pytest.raises(EdgeccError) as caught:
        run_node(Broken(), (X,), (TensorType(F32, (2, 3)),), where="conv1")
    assert caught.value.code == "E900" and "f32[3]" in caught.value.message and caught.value.where == "conv1"
    with pytest.raises(EdgeccError, match="gave 1 results, wanted 2"):
        run_node(Broken(), (X,), (TensorType(F32, (3,)),) * 2)


def test_sample_inputs_fit_and_repeat():
    graph = Graph()
    for position, dtype in enumerate(DType):
        graph.add_input(TensorType(dtype, (3, position)), f"x{position}")
    graph.set_outputs(list(graph.inputs), [f"y{i}" for i in range(len(graph.inputs))])
    drawn = sample_inputs(graph, 4)
    execute(graph, drawn)
    for name, array in sample_inputs(graph, 4).items():
        np.testing.assert_array_equal(array, drawn[name])
