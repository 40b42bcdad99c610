"""Float twins of quantized networks, and how calls of both become rows; what is measured is not judged here."""

from __future__ import annotations

import numpy as np
from onnx.reference import ReferenceEvaluator

from benches.integer_layers import Row, Timed, agreement, named, rows_of, without_quantization
from benches.ties import compared
from edgecc import api
from edgecc.targets.schema import load_target
from tests.support.quantized_models import Quantized, small_network


def test_a_twin_computes_the_same_without_rounding():
    net = Quantized(3)
    x = net.quantize("x", 0.03, 5)
    weights, scales = net.weights(8, 3, 3, 3)
    sums = net.quantize(net.node("Relu", net.node("Conv", x, weights, net.bias(8, scales, 0.03))), 0.2, -128)
    model = net.model(net.quantize(net.node("GlobalAveragePool", sums), 0.1, -128), (1, 3, 9, 9))
    twin = without_quantization(named(model))
    assert [node.op_type for node in twin.graph.node] == ["Conv", "Relu", "GlobalAveragePool", "Identity"]
    x = np.random.default_rng(0).uniform(-2, 2, (1, 3, 9, 9)).astype(np.float32)
    ours, theirs = (ReferenceEvaluator(m).run(None, {"x": x})[0] for m in (model, twin))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.2)
    assert np.abs(ours).max() > 1


def test_rows_hold_every_call_that_stands_for_a_node():
    model = named(small_network(1, np.uint8))
    names = [node.name for node in model.graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    calls = [api.compile_model(form, load_target("generic-c"), api.Options(depth_first="off", name="network")).compiled.lowered.calls
             for form in (model, without_quantization(model))]
    own, twins = ([Timed(call, float(number + 1), 2.0 * number) for number, call in enumerate(found)] for found in calls)
    rows = rows_of(names, own, twins)
    nodes = [name for row in rows for name in row.nodes]
    assert sorted(nodes) == sorted({name for one in own for name in one.call.loc} & set(names))
    assert sum(row.seconds for row in rows) == sum(one.seconds for one in own if set(one.call.loc) & set(names))
    assert sum(row.twin_seconds for row in rows) == sum(one.seconds for one in twins if set(one.call.loc) & set(nodes))
    assert sum(row.cycles for row in rows) == sum(one.cycles for one in own if set(one.call.loc) & set(names))
    assert all(row.gain == row.twin_seconds / row.seconds for row in rows)


def test_the_model_is_judged_by_clear_results():
    def row(gain: float, modelled: float) -> Row:
        return Row((), (), (), 1.0, gain, 10.0, 10.0 * modelled)

    rows = [row(2.0, 3.0), row(1.2, 0.9), row(0.5, 0.4), row(0.4, 0.6), row(0.9, 1.5), row(1.01, 0.2)]
    assert agreement(rows) == ("measured faster on integers: modelled so 1, not so 1; "
                               "measured faster in float: modelled so 2, not so 1; draws 1")


def test_numbers_of_a_small_network_differ_at_ties_only(tmp_path):
    path = tmp_path / "small.onnx"
    path.write_bytes(small_network(2, np.int8).SerializeToString())
    report = compared(path)
    assert report.compared > 1000 and not report.problems and report.differing <= report.compared // 200
