import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecc import api
from edgecc.cli.verify import allowance_text
from edgecc.frontend import import_model
from edgecc.reference.compare import compare_outputs, perturbation
from edgecc.reference.executor import execute
from edgecc.reference.sensitivity import LARGEST, allow_for_rounding, decided_by_rounding
from edgecc.targets.schema import load_target

STEP, SIZE = 0.1, 16


def network(*, rounds=True, integers=False):
    """x -> (quantized in steps of 0.1) -> a product with weights; with `integers` the largest result's position."""
    weights = np.random.default_rng(1).standard_normal((SIZE, SIZE)).astype(np.float32)
    stored = {"scale": np.float32(STEP), "zero": np.int8(0), "w": weights}
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]), helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"])]
    nodes = [*(nodes if rounds else [helper.make_node("Relu", ["x"], ["d"])]), helper.make_node("MatMul", ["d", "w"], ["m"])]
    nodes += [helper.make_node("ArgMax", ["m"], ["y"], axis=1, keepdims=0)] if integers else [helper.make_node("Identity", ["m"], ["y"])]
    y = helper.make_tensor_value_info("y", TensorProto.INT64 if integers else TensorProto.FLOAT, [4] if integers else [4, SIZE])
    graph = helper.make_graph(nodes, "ties", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, SIZE])], [y],
                              [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()])
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


@pytest.fixture
def ties():
    """Every element in the middle between two steps, so that the last bit decides."""
    steps = np.random.default_rng(0).integers(-100, 100, (4, SIZE))
    return {"x": ((steps + 0.5) * STEP).astype(np.float32)}


def judged(graph, inputs, results):
    expected = execute(graph, inputs)
    return allow_for_rounding(graph, inputs, results, expected, compare_outputs(results, expected))


def off_by_a_roundoff(graph, inputs, seed=77):
    moved = execute(graph, inputs, wide=True, perturb=perturbation(np.random.default_rng(seed)))
    return {name: array if array.dtype.kind != "f" else array.astype(np.float32) for name, array in moved.items()}


def test_results_that_differ_by_decisions_of_rounding_are_allowed_and_others_are_not(ties):
    graph = import_model(network())
    results = off_by_a_roundoff(graph, ties)
    plain = compare_outputs(results, execute(graph, ties))
    assert not plain[0].ok
    (one,), (allowance,) = judged(graph, ties, results)
    assert one.ok and allowance.granted and one.tolerance == allowance.allowed > plain[0].tolerance
    assert "allowed" in allowance_text(allowance)
    for wrong in (results["y"] * 1.5, results["y"] + 3 * allowance.sensitivity, np.zeros_like(results["y"]), np.full_like(results["y"], np.nan)):
        (one,), (allowance,) = judged(graph, ties, {"y": wrong})
        assert not one.ok and not allowance.granted
        assert "does not explain" in allowance_text(allowance)


def test_an_error_everywhere_is_not_hidden_by_a_few_elements_that_move(ties):
    graph = import_model(network())
    inputs = {"x": np.where(np.arange(4)[:, None] == 0, ties["x"], np.round(ties["x"] / STEP) * STEP).astype(np.float32)}
    expected = execute(graph, inputs)["y"]
    (one,), (allowance,) = judged(graph, inputs, {"y": expected + np.float32(0.9 * allowance_of(graph, inputs).sensitivity)})
    assert not one.ok and one.max_abs_err <= allowance.allowed


def allowance_of(graph, inputs):
    return judged(graph, inputs, {"y": np.full((4, SIZE), np.nan, np.float32)})[1][0]


def test_networks_that_round_nothing_are_allowed_nothing(ties):
    graph = import_model(network(rounds=False))
    assert decided_by_rounding(graph) == frozenset()
    results = {"y": execute(graph, ties)["y"] * np.float32(1.001)}
    assert judged(graph, ties, results) == (compare_outputs(results, execute(graph, ties)), ())


def test_where_rounding_decides_everything_nothing_is_allowed():
    graph = import_model(network())
    inputs = {"x": np.full((4, SIZE), 0.5 * STEP, np.float32)}  # 0 or a step, each of them
    (one,), (allowance,) = judged(graph, inputs, off_by_a_roundoff(graph, inputs))
    assert not one.ok and not allowance.granted and allowance.sensitivity > LARGEST * np.max(np.abs(execute(graph, inputs)["y"]))


def test_an_integer_may_be_what_a_sample_has_and_nothing_else():
    graph = import_model(network(integers=True))
    steps = np.random.default_rng(0).integers(-100, 100, (4, SIZE))
    inputs = {"x": ((steps + 0.5) * STEP).astype(np.float32)}
    expected = execute(graph, inputs)["y"]
    samples = [execute(graph, inputs, wide=True, perturb=perturbation(np.random.default_rng([0, n])))["y"] for n in range(4)]
    for sample in samples:
        assert judged(graph, inputs, {"y": sample})[0][0].ok
    wrong = (expected + 1) % SIZE
    wrong = np.where(np.any([sample == wrong for sample in samples], axis=0), (expected + 2) % SIZE, wrong)
    (one,), (allowance,) = judged(graph, inputs, {"y": wrong})
    assert not one.ok and not allowance.granted and not allowance.floats


def test_verification_allows_ties_and_fails_where_code_is_wrong(ties):
    done = api.compile_for(network(), load_target("host"), api.Options(inputs=ties))
    expected = off_by_a_roundoff(done.graph, ties)
    allowed = api.verify_compilation(done, inputs=ties, expected=expected, cc="gcc")
    assert allowed.ok and [a.granted for a in allowed.allowances] == [True]
    text = done.artifact.files["kernels.c"].decode()
    assert without_last_step(text) != text
    broken = {**done.artifact.files, "kernels.c": without_last_step(text).encode()}
    refused = api.verify_compilation(replace(done, artifact=replace(done.artifact, files=broken)), inputs=ties, expected=expected, cc="gcc")
    assert not refused.ok and [a.granted for a in refused.allowances] == [False]


def without_last_step(text):
    """The loops over the terms of sums end one step early."""
    return re.sub(r"(for \(ptrdiff_t (k\w*) = 0; \2 < )(\d+)", lambda found: f"{found[1]}{int(found[3]) - 1}", text)
