"""Graphs written as ONNX mean what they meant: imported again, and run by onnxruntime."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.backends.onnx.export import export_onnx, obstacles
from edgecc.backends.onnx.operators import RULES
from edgecc.backends.onnx.scalar import PRIMITIVE_NODES
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.ir.graph import Graph
from edgecc.ir.op import OPS
from edgecc.ir.scalar import PRIMITIVES, Arg, apply, literal
from edgecc.ir.types import DType, TensorType
from edgecc.ops.convolution import Conv
from edgecc.ops.elementwise import ELEMENTWISE, Elementwise
from edgecc.ops.movement import Slice
from edgecc.ops.recurrent import Recurrent
from edgecc.passes.expressions import simplify
from edgecc.pipeline import default_graph_passes, run_passes
from edgecc.reference.executor import execute
from tests.support.onnxruntime_sessions import run

EXAMPLE = "examples/digits/digits.onnx"


def node_cases():
    """Every fourth node test of the onnx package."""
    with contextlib.redirect_stdout(io.StringIO()), np.errstate():
        from onnx.backend.test.case.node import collect_testcases
        return sorted(collect_testcases(), key=lambda case: case.name)[::4]


@pytest.mark.filterwarnings("ignore")
def test_node_tests_survive_the_round_trip():
    """Import, export, import: the two graphs compute the same."""
    done = 0
    for case in node_cases():
        inputs, _ = case.data_sets[0]
        if not all(isinstance(x, np.ndarray | np.generic) for x in inputs):
            continue
        feeds = dict(zip([i.name for i in case.model.graph.input], map(np.asarray, inputs), strict=False))
        try:
            graph = import_model(case.model, inputs=feeds)
        except EdgeccError:
            continue
        try:
            model = export_onnx(graph, opset=23)
        except EdgeccError as error:
            assert error.code == "E114" and error.details, case.name
            continue
        again = execute(import_model(model), feeds)
        for name, want in execute(graph, feeds).items():
            got = again[name]
            assert (got.dtype, got.shape) == (want.dtype, want.shape), case.name
            tolerance = 1e-2 if want.dtype.kind not in "iub" and want.dtype.itemsize == 2 else 1e-5
            # One expression rounds once, a chain of nodes after each of them: another integer at a tie.
            step = 1 if "quantizelinear" in case.name else 1e-6
            with np.errstate(all="ignore"):
                close = np.allclose(got.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=step, equal_nan=True)
            assert close, case.name
        done += 1
    assert done > 250


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("opset", [17, 21])
def test_a_network_runs_in_onnxruntime(fused, opset):
    graph = import_model(EXAMPLE, shapes={"image": (2, 1, 8, 8)})
    image = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    want = execute(graph, {"image": image})["probabilities"]
    if fused:
        run_passes(graph, default_graph_passes())
    model = export_onnx(graph, opset=opset)
    assert [v.name for v in model.graph.input] == ["image"] and [v.name for v in model.graph.output] == ["probabilities"]
    np.testing.assert_allclose(run(model, {"image": image})[0], want, atol=1e-6)
    assert model.SerializeToString(deterministic=True) == export_onnx(graph, opset=opset).SerializeToString(deterministic=True)


def test_epilogues_become_nodes_that_others_know():
    graph = import_model(EXAMPLE, shapes={"image": (1, 1, 8, 8)})
    run_passes(graph, default_graph_passes())
    ops = {node.op_type for node in export_onnx(graph).graph.node}
    assert {"Conv", "Clip", "Relu", "Add", "Gemm", "GlobalAveragePool"} <= ops and not ops & {"Max", "Min"}


ACTIVATIONS = [*((name, {}) for name in ("Relu", "LeakyRelu", "Elu", "HardSigmoid", "HardSwish", "Softplus", "Softsign", "Mish", "Gelu", "Sigmoid", "Tanh")),
               ("Gelu", {"approximate": "tanh"}), ("Elu", {"alpha": 0.75})]


@pytest.mark.parametrize("form", [lambda expr: expr, simplify], ids=["as built", "canonical"])
@pytest.mark.parametrize(("name", "attributes"), ACTIVATIONS)
def test_activations_are_recognised(name, attributes, form):
    """Also of an operand that is an expression itself, and within another one."""
    inner = apply("add", Arg(0, DType.F32), Arg(1, DType.F32))
    expr = apply("mul", ELEMENTWISE[name].build((inner,), attributes), Arg(1, DType.F32))
    graph = Graph()
    a, b = (graph.add_input(TensorType(DType.F32, (5,)), n) for n in "ab")
    graph.set_outputs([graph.add(Elementwise(form(expr)), a, b)], ["y"])
    nodes = export_onnx(graph).graph.node
    assert [node.op_type for node in nodes] == ["Add", name, "Mul"]
    written = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in nodes[1].attribute}
    assert all(written[key] in (value, str(value).encode()) for key, value in attributes.items())


@pytest.mark.parametrize(("slope", "want"), [((3, 1, 1), ["PRelu"]), ((2, 3, 1, 5), ["Less", "Mul", "Where"])])
def test_slopes_that_only_repeat_are_written_as_such(slope, want):
    graph = Graph()
    x, s = graph.add_input(TensorType(DType.F32, (1, 3, 4, 5)), "x"), graph.add_input(TensorType(DType.F32, slope), "s")
    expr = ELEMENTWISE["PRelu"].build((Arg(0, DType.F32), Arg(1, DType.F32)), {})
    graph.set_outputs([graph.add(Elementwise(expr), x, s)], ["y"])
    assert [node.op_type for node in export_onnx(graph).graph.node] == want


@settings(max_examples=40)
@given(st.data())
def test_slices_round_trip(data):
    dims = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    starts, sizes, steps = [], [], []
    for dim in dims:
        step = data.draw(st.sampled_from([1, 2, 3, -1, -2]))
        start = data.draw(st.integers(0, dim - 1))
        reachable = (dim - 1 - start) // step + 1 if step > 0 else start // -step + 1
        starts.append(start), steps.append(step), sizes.append(data.draw(st.integers(0, reachable)))
    graph = Graph()
    x = graph.add_input(TensorType(DType.F32, tuple(dims)), "x")
    graph.set_outputs([graph.add(Slice(tuple(starts), tuple(sizes), tuple(steps)), x)], ["y"])
    array = np.random.default_rng(0).random(dims, np.float32)
    want = execute(graph, {"x": array})["y"]
    np.testing.assert_array_equal(execute(import_model(export_onnx(graph)), {"x": array})["y"], want)


def test_outputs_that_are_inputs_constants_or_given_twice():
    graph = Graph()
    x = graph.add_input(TensorType(DType.F32, (2,)), "x")
    y = graph.add(Elementwise(apply("neg", Arg(0, DType.F32))), x)
    graph.set_outputs([x, y, y, graph.constant(np.arange(3))], ["same", "first", "second", "fixed"])
    array = np.array([1, -2], np.float32)
    same, first, second, fixed = run(export_onnx(graph), {"x": array})
    np.testing.assert_array_equal(same, array)
    np.testing.assert_array_equal(first, -array)
    np.testing.assert_array_equal(second, -array)
    np.testing.assert_array_equal(fixed, [0, 1, 2])


def test_names_of_the_interface_win_over_names_inside():
    graph = Graph()
    x = graph.add_input(TensorType(DType.F32, (2,)), "scalar")
    graph.set_outputs([graph.add(Elementwise(apply("add", Arg(0, DType.F32), literal(1.0, DType.F32))), x)], ["add"])
    (got,) = run(export_onnx(graph), {"scalar": np.zeros(2, np.float32)})
    np.testing.assert_array_equal(got, [1, 1])


def test_every_operator_and_primitive_is_written_or_refused():
    """What has no rule is refused with the node's name; nothing is left to chance."""
    assert set(RULES) <= set(OPS.values())
    assert set(PRIMITIVE_NODES) <= set(PRIMITIVES)


def test_what_onnx_cannot_say_is_named():
    graph = Graph()
    x = graph.add_input(TensorType(DType.F32, (3, 1, 12)), "x")
    r = graph.constant(np.zeros((1, 12, 3), np.float32))
    layer = graph.add_node(Recurrent(kind="lstm", hidden_size=3), [x, None, r], loc=["the layer"])
    graph.set_outputs([layer.outputs[0]], ["y"])
    assert obstacles(graph) == ("the layer: a recurrent layer whose input is multiplied already has no form in ONNX",)
    with pytest.raises(EdgeccError, match="1 node has no form in ONNX") as caught:
        export_onnx(graph)
    assert caught.value.code == "E114"


def test_types_that_an_older_opset_does_not_take():
    graph = Graph()
    x = graph.add_input(TensorType(DType.BF16, (1, 1, 3, 3)), "x")
    w = graph.constant(np.ones((1, 1, 1, 1), DType.BF16.numpy))
    conv = Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    graph.set_outputs([graph.add(conv, x, w)], ["y"])
    with pytest.raises(EdgeccError) as caught:
        export_onnx(graph, opset=17)
    assert caught.value.code == "E114" and caught.value.hint
    export_onnx(graph, opset=23)
    with pytest.raises(EdgeccError, match="opset 3 cannot be written"):
        export_onnx(graph, opset=3)
