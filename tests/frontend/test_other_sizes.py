"""Sizes given in place of those that the file fixes."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

import edgecc
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.frontend.importing import import_model_with_report
from edgecc.ir.dims import upper_bound
from edgecc.reference.executor import execute
from tests.support.hostile import info, ints, model, node


def shuffled(shape, flat=(1, -1)):
    """Halves of the channels shuffled as exporters write it: by constant shapes of one item."""
    weights = [numpy_helper.from_array(np.linspace(-1, 1, 4 * 4 * 9, dtype=np.float32).reshape(4, 4, 3, 3), "w"),
               numpy_helper.from_array(np.linspace(-1, 1, 2 * 36 * 3, dtype=np.float32).reshape(72, 3), "m"),
               ints("pairs", 2, 2, 36), ints("back", 2, -1, 2, 6, 6), ints("zero", 0), ints("flat", *flat)]
    nodes = [node("Conv", "x w", "a", pads=[1, 1, 1, 1]), node("Reshape", "a pairs", "b"), node("Transpose", "b", "c", perm=[1, 0, 2]),
             node("Reshape", "c back", "d"), node("Gather", "d zero", "e0", axis=0), node("Squeeze", "e0 zero", "e"),
             node("Reshape", "e flat", "f"), node("MatMul", "f m", "y")]
    return model(nodes, inputs=[info("x", shape)], weights=weights)


@pytest.mark.parametrize("flat", [(1, -1), (1, 72), (-1, 72), (0, -1), (-1, 2 * 36)])
def test_items_of_an_opened_batch_are_computed_as_if_alone(flat, random):
    single = import_model(shuffled((1, 4, 6, 6), flat))
    opened, report = import_model_with_report(shuffled((1, 4, 6, 6), flat), shapes={"x": (edgecc.Range(1, 5), 4, 6, 6)})
    assert upper_bound(opened.outputs[0].type.shape[0]) == 5 and "instead of 1, which the file fixes" in report.notes[0]
    x = random(3, 4, 6, 6)
    alone = [execute(single, {"x": x[i:i + 1]})["y"] for i in range(3)]
    np.testing.assert_allclose(execute(opened, {"x": x})["y"], np.concatenate(alone), rtol=1e-5, atol=1e-5)


def test_a_batch_and_a_height_are_opened_together(random):
    pooled = model([node("GlobalAveragePool", "x", "p"), node("Reshape", "p s")], inputs=[info("x", (1, 4, 6, 6))], weights=[ints("s", 1, 4)])
    graph = import_model(pooled, shapes={"x": (edgecc.Range(1, 5), 4, edgecc.Range(4, 9), 6)})
    x = random(3, 4, 7, 6)
    np.testing.assert_allclose(execute(graph, {"x": x})["y"], x.mean((2, 3)), rtol=1e-5)


def test_an_opened_batch_verifies():
    result = edgecc.verify(shuffled((1, 4, 6, 6)), target="generic-c", shapes={"x": (edgecc.Range(1, 5), 4, 6, 6)})
    assert result.ok


def test_numbers_inside_that_do_not_fit_are_named():
    for shape in ((1, 4, 8, 6), (2, 4, 6, 6), (1, 4, edgecc.Range(4, 9), 6)):
        with pytest.raises(EdgeccError) as caught:
            import_model(shuffled((1, 4, 6, 6)), shapes={"x": shape})
        assert caught.value.code == "E110" and "Reshape_1" in caught.value.where
        assert "the file fixes this size" in caught.value.hint


def test_other_fixed_sizes_are_followed():
    pooled = model([node("GlobalAveragePool", "x", "p"), node("Flatten", "p")], inputs=[info("x", (1, 4, 6, 6))])
    graph, report = import_model_with_report(pooled, shapes={"x": (2, 4, 9, edgecc.Range(3, 8))})
    assert graph.inputs[0].type.shape[:3] == (2, 4, 9) and graph.outputs[0].type.shape == (2, 4)
    assert "dimension 2 of 'x' is 9 instead of 6" in report.notes[0]


def test_a_question_mark_is_the_size_of_the_file():
    graph = import_model(shuffled((1, 4, 6, 6)), shapes={"x": (edgecc.Range(1, 5), 4, edgecc.Range(), edgecc.Range())})
    assert graph.inputs[0].type.shape[1:] == (4, 6, 6)


def test_quantized_models_of_one_item_take_several(random):
    scales = [numpy_helper.from_array(np.array(value, kind), name) for name, value, kind in (
        ("s", 0.05, np.float32), ("z", 3, np.uint8), ("t", 0.01, np.float32), ("u", 5, np.uint8))]
    nodes = [node("QuantizeLinear", "x s z", "q"),
             helper.make_node("QLinearGlobalAveragePool", ["q", "s", "z", "t", "u"], ["p"], domain="com.microsoft"),
             node("Reshape", "p flat", "r"), node("DequantizeLinear", "r t u")]
    quantized = model(nodes, inputs=[info("x", (1, 4, 6, 6))], weights=[*scales, ints("flat", 1, 4)], domains=["com.microsoft"])
    graph = import_model(quantized, shapes={"x": (edgecc.Range(1, 5), 4, 6, 6)})
    x = random(3, 4, 6, 6)
    alone = [execute(import_model(quantized), {"x": x[i:i + 1]})["y"] for i in range(3)]
    np.testing.assert_array_equal(execute(graph, {"x": x})["y"], np.concatenate(alone))
