"""A network from float to integers: the model that comes out, and the report about it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.quantization import driver, observe
from edgecc.quantization.accuracy import Goal
from edgecc.quantization.driver import quantize
from edgecc.quantization.network import Network
from edgecc.quantization.prepare import prepared
from edgecc.quantization.report import decibels
from edgecc.quantization.scheme import Scheme
from edgecc.reference.executor import execute
from tests.quantization.networks import convolutions, network, samples
from tests.support.onnxruntime_sessions import run

pytestmark = pytest.mark.usefixtures("no_compiler")


@pytest.fixture(scope="module")
def plain(no_compiler):
    """The convolutions quantized by the default scheme."""
    return quantize(convolutions(), samples(8), Scheme())


def noise(float_model, quantized, feeds):
    wanted, got = run(float_model, feeds)[0].astype(np.float64), run(quantized, feeds)[0]
    return decibels(float((wanted**2).sum()), float(((got - wanted) ** 2).sum()))


def test_the_model_is_in_qdq_form(plain):
    model = plain.model
    onnx.checker.check_model(model, full_check=True)
    assert [v.name for v in model.graph.input] == ["x"] and [v.name for v in model.graph.output] == ["y"]
    net = Network(model)
    for node in net.nodes:
        if node.op_type == "Conv":
            assert all(net.producers[name].op_type == "DequantizeLinear" for name in node.input)
            assert net.constants[net.producers[node.input[1]].input[0]].dtype == np.int8
            assert len(node.input) == 3, "a bias, the mean error of the weights at least"
            assert net.constants[net.producers[node.input[2]].input[0]].dtype == np.int32
    kinds = [node.op_type for node in net.nodes]
    assert kinds.count("QuantizeLinear") == 5 and kinds.index("Relu") == kinds.index("Conv") + 1
    assert net.constants.keys() <= {name for node in net.nodes for name in node.input}, "no initializer is left over"


def test_it_computes_what_the_float_model_does(plain):
    assert noise(convolutions().model, plain.model, samples(1, seed=5)[0]) > 24
    assert plain.outputs["y"] > 24


def test_the_compiler_reads_it(plain):
    feeds = samples(1, seed=6)[0]
    got = execute(import_model(plain.model), feeds)["y"]
    scale = max(np.abs(got).max() / 127, 1e-6)
    assert np.abs(got - run(plain.model, feeds)[0]).max() <= 1.01 * 2 * scale


def test_the_report_names_every_layer(plain):
    assert [(v.layer, v.operator) for v in plain.values] == [
        ("x", "input"), ("first", "Conv"), ("second", "Conv"), ("third", "Conv"), ("sum", "Add")]
    assert all(v.total <= v.own + 1 and 0 <= v.clipping <= 1 for v in plain.values)
    assert {v.cause for v in plain.values} <= {"clipping", "scale", "weights", "inherited"}


def test_the_same_input_gives_the_same_bytes(plain):
    again = quantize(convolutions(), samples(8), Scheme())
    assert again.model.SerializeToString(deterministic=True) == plain.model.SerializeToString(deterministic=True)


def test_16_bits_are_better_than_8(plain):
    wide = quantize(convolutions(), samples(8), Scheme(activations="int16"))
    onnx.checker.check_model(wide.model, full_check=True)
    assert wide.outputs["y"] > plain.outputs["y"] + 6


def test_equalizing_and_rounding_adaptively_help_coarse_weights():
    feeds = samples(8)
    coarse = quantize(convolutions(), feeds, Scheme(per_channel=False, activations="int16", correct_bias=False))
    better = quantize(convolutions(), feeds, Scheme(per_channel=False, activations="int16", round_adaptively=True, equalize=True))
    assert better.outputs["y"] > coarse.outputs["y"] and better.notes == ("1 pair of layers equalized",)


def test_constants_of_a_sum_are_quantized_too():
    nodes = [helper.make_node("Mul", ["x", "c"], ["m"], "mul"), helper.make_node("Add", ["m", "d"], ["y"], "add")]
    constants = {"c": np.float32([2, -3, 0.5]), "d": np.float32([[1.0]])}
    net = network(nodes, {"x": [2, 3]}, {"y": [2, 3]}, constants)
    done = quantize(net, samples(4, (2, 3)), Scheme())
    onnx.checker.check_model(done.model, full_check=True)
    assert noise(net.model, done.model, samples(1, (2, 3), seed=9)[0]) > 20


def test_excluded_and_wide_nodes():
    done = quantize(convolutions(), samples(2), Scheme(exclude=frozenset({"second"}), wide=frozenset({"third"})))
    net = Network(done.model)
    second = next(node for node in net.nodes if node.name == "second")
    assert list(second.input[1:]) == ["w2", "b2"]
    assert {choice.layer: choice.reason for choice in done.layers}["second"] == "asked for"
    assert net.constants[net.readers["c3"][0].input[2]].dtype == np.int16


def test_a_wanted_ratio_is_reached_by_more_bits(plain):
    wanted = plain.outputs["y"] + 6
    done = quantize(convolutions(), samples(8), Scheme(), goal=Goal(least_ratio=wanted))
    assert done.outputs["y"] >= wanted
    types = {array.dtype for array in Network(done.model).constants.values()}
    assert np.dtype(np.int16) in types and np.dtype(np.int8) in types, "what needs no more bits keeps 8"
    chosen = {choice.layer: choice.precision for choice in done.layers}
    assert chosen["first"] == "float" or "int16" in chosen.values()
    assert all(choice.reason for choice in done.layers if choice.precision != "int8")
    far = quantize(convolutions(), samples(2), Scheme(), goal=Goal(least_ratio=45.0))
    assert far.outputs["y"] >= 45 and "layers in float" in far.notes[0]
    with pytest.raises(EdgeccError, match=r"not even with 16 bits and float.*comes to \d+\.\d dB at its worst output where 500\.0 are asked for"):
        quantize(convolutions(), samples(2), Scheme(), goal=Goal(least_ratio=500.0))


def test_a_network_that_is_wanted_in_float_stays_there_on_its_way_to_code_only():
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    net = network([helper.make_node("Conv", ["x", "w"], ["y"], "only")], {"x": [1, 3, 9, 7]}, {"y": [1, 4, 7, 5]}, {"w": weights})
    done = quantize(net, samples(2), Scheme(), goal=Goal(least_ratio=200.0), not_slower=True)
    assert done.outputs["y"] == np.inf and [choice.precision for choice in done.layers] == ["float"]
    assert {node.op_type for node in Network(done.model).nodes} == {"Conv"}
    with pytest.raises(EdgeccError, match="leaves nothing in 8 or 16 bits"):
        quantize(net, samples(2), Scheme(), goal=Goal(least_ratio=200.0))


def test_noise_of_single_layers_adds_up(plain):
    ranked = quantize(convolutions(), samples(8), Scheme(), rank=True)
    assert [s.noise for s in ranked.sources] == sorted((s.noise for s in ranked.sources), reverse=True)
    assert {(s.kind, s.node) for s in ranked.sources} == {
        ("rounding", "x"), ("rounding", "act1"), ("rounding", "act2"), ("rounding", "third"), ("rounding", "sum"),
        ("weights", "first"), ("weights", "second"), ("weights", "third")}
    assert abs(decibels(1.0, sum(s.noise for s in ranked.sources)) - plain.outputs["y"]) < 2
    assert ranked.model.SerializeToString(deterministic=True) == plain.model.SerializeToString(deterministic=True), "asking changes nothing"


def test_no_network_is_built_twice(plain, monkeypatch):
    built = []
    monkeypatch.setattr(observe, "runner", lambda model, run=observe.runner: built.append(model) or run(model))
    quantize(convolutions(), samples(8), Scheme(), goal=Goal(least_ratio=plain.outputs["y"] - 1, most_drop=1.0, metric=lambda *_: 0.0))
    assert len(built) == 2, "the float one and the quantized one, for ranges, noise and scores"


def test_layers_that_would_be_slower_stay_in_float(monkeypatch):
    costs = {"first": (30.0, 10.0), "second": (10.0, 30.0), "third": (11.0, 10.0)}
    quick = driver.Costs({n: c[0] for n, c in costs.items()}, {}, {n: c[1] for n, c in costs.items()})
    monkeypatch.setattr(driver._Calibration, "costs", lambda *_: quick)
    done = quantize(convolutions(), samples(2), Scheme(), not_slower=True)
    chosen = {choice.layer: choice for choice in done.layers}
    assert [chosen[n].precision for n in ("first", "act1", "second", "third")] == ["float", "float", "int8", "int8"]
    assert "slower" in chosen["first"].reason and "1 layer in float" in done.notes[0]
    assert chosen["act1"].reason == "belongs to the layer in front"
    everything = driver.Costs(dict.fromkeys(("first", "second", "third", "sum"), 30.0), {}, dict.fromkeys(("first", "second", "third", "sum"), 10.0))
    monkeypatch.setattr(driver._Calibration, "costs", lambda *_: everything)
    none = quantize(convolutions(), samples(2), Scheme(), not_slower=True)
    assert "4 layers in float" in none.notes[0] and {choice.precision for choice in none.layers} == {"float"}
    assert not any(node.op_type == "QuantizeLinear" for node in none.model.graph.node)


def test_scores_decide_where_they_are_asked_for():
    net, data = convolutions(), samples(4)

    def closeness(outputs, reference, label):
        assert label in (3, 4, 5, 6)
        return -float(np.abs(outputs["y"] - reference["y"]).max())

    labels = (3, 4, 5, 6)
    easy = quantize(net, data, Scheme(), goal=Goal(most_drop=1e9, labels=labels, metric=closeness))
    drop = easy.scores[0] - easy.scores[1]
    assert easy.scores[0] == 0 and drop > 0 and not easy.notes
    hard = quantize(net, data, Scheme(), goal=Goal(most_drop=drop / 2, labels=labels, metric=closeness))
    assert hard.scores[0] - hard.scores[1] <= drop / 2 and "to reach what was asked for" in hard.notes[0]


def test_a_model_that_is_quantized_already_is_said_to_be(plain):
    assert prepared(convolutions().model).notes == ()
    (note,) = prepared(plain.model).notes
    assert note.startswith("5 values of the model are quantized already")


def test_names_that_are_not_there():
    with pytest.raises(EdgeccError, match="no node 'nobody'"):
        quantize(convolutions(), samples(1), Scheme(exclude=frozenset({"nobody"})))
    exponent = network([helper.make_node("Exp", ["x"], ["y"], "e")], {"x": [2]}, {"y": [2]}, {})
    with pytest.raises(EdgeccError, match="no operator that is quantized"):
        quantize(exponent, samples(1, (2,)), Scheme())


def test_what_softmax_masks_is_no_part_of_a_range():
    random = np.random.default_rng(5)
    constants = {name: (random.standard_normal((16, 16)) / 4).astype(np.float32) for name in ("wq", "wk", "wv")}
    nodes = [*(helper.make_node("MatMul", ["x", f"w{n}"], [n], n) for n in "qkv"), helper.make_node("Transpose", ["k"], ["kt"], "turn", perm=[0, 2, 1]),
             helper.make_node("MatMul", ["q", "kt"], ["scores"], "scores"), helper.make_node("Add", ["scores", "mask"], ["masked"], "add"),
             helper.make_node("Softmax", ["masked"], ["p"], "softmax", axis=-1), helper.make_node("MatMul", ["p", "v"], ["y"], "mix")]
    net = network(nodes, {"x": [1, 10, 16], "mask": [1, 1, 10]}, {"y": [1, 10, 16]}, constants)
    for lowest in (-10000.0, -np.inf):
        mask = np.where(np.arange(10) < 6, 0.0, lowest).astype(np.float32).reshape(1, 1, 10)
        done = quantize(net, [{"x": random.standard_normal((1, 10, 16)).astype(np.float32), "mask": mask} for _ in range(3)], Scheme())
        assert done.outputs["y"] > 25
        assert {v.name: v.total > 25 for v in done.values if v.name in ("masked", "p")} == {"masked": True, "p": True}


def detector():
    """Boxes in pixels beside probabilities, as detectors return them, and what a reader of both makes of the latter."""
    random = np.random.default_rng(6)
    constants = {"wb": (random.standard_normal((4, 3, 1, 1)) * 200).astype(np.float32), "wp": random.standard_normal((2, 3, 1, 1)).astype(np.float32),
                 "begin": np.int64([4]), "end": np.int64([6]), "axis": np.int64([1]), "half": np.float32(0.5)}
    nodes = [helper.make_node("Conv", ["x", "wb"], ["b"], "boxes"), helper.make_node("Conv", ["x", "wp"], ["l"], "logits"),
             helper.make_node("Sigmoid", ["l"], ["p"], "sigmoid"), helper.make_node("Concat", ["b", "p"], ["both"], "join", axis=1),
             helper.make_node("Reshape", ["both", "shape"], ["y"], "flat"), helper.make_node("Slice", ["y", "begin", "end", "axis"], ["s"], "part"),
             helper.make_node("Mul", ["s", "half"], ["z"], "scale")]
    constants["shape"] = np.int64([1, 6, 16])
    return network(nodes, {"x": [1, 3, 4, 4]}, {"y": [1, 6, 16], "z": [1, 2, 16]}, constants)


def test_boxes_and_probabilities_keep_scales_of_their_own():
    net, data = detector(), samples(4, (1, 3, 4, 4))
    done = quantize(net, data, Scheme())
    assert "1 concatenation in float" in done.notes[0] and done.outputs["z"] > 30
    wanted, got = (run(model, data[0])[0][:, 4:] for model in (net.model, done.model))
    assert abs(got - wanted).max() < 0.02, "in steps of the boxes every probability is 0"
    known = Network(done.model)
    assert [node.op_type for node in known.readers["y"]] == ["Slice"] and known.producers["y"].op_type == "Reshape"


def test_a_concatenation_that_is_computed_with_has_one_scale():
    constants = {"a": np.float32([[0.001]]), "b": np.ones((2, 1), np.float32)}
    nodes = [helper.make_node("Mul", ["x", "a"], ["small"], "scale"), helper.make_node("Concat", ["x", "small"], ["both"], "join", axis=1),
             helper.make_node("MatMul", ["both", "b"], ["y"], "product")]
    assert not quantize(network(nodes, {"x": [1, 1]}, {"y": [1, 1]}, constants), samples(4, (1, 1)), Scheme()).notes


def test_each_reader_of_a_constant_has_its_own():
    nodes = [helper.make_node("Mul", ["x", "c"], ["a"], "first"), helper.make_node("Mul", ["a", "c"], ["y"], "second")]
    done = quantize(network(nodes, {"x": [1, 3]}, {"y": [1, 3]}, {"c": np.float32([1, 2, 3])}), samples(4, (1, 3)), Scheme())
    net = Network(done.model)
    stored = [node.input for node in net.nodes if node.op_type == "DequantizeLinear" and node.input[0] in net.constants]
    assert len(stored) == 2 and len({name for inputs in stored for name in inputs}) == 6


def test_16_bits_raise_the_opset_and_give_biases_of_sequences_two_axes():
    constants = {"w": np.eye(4, dtype=np.float32), "bias": np.ones(4, np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"], "product"), helper.make_node("Add", ["p", "bias"], ["s"], "sum"),
             helper.make_node("Sigmoid", ["s"], ["y"], "sigmoid")]
    net = network(nodes, {"x": [1, 3, 4]}, {"y": [1, 3, 4]}, constants)
    net.model.opset_import[0].version, net.model.ir_version = 20, 9
    for wide, opset, dims in ((frozenset(), 20, (4,)), (frozenset({"sigmoid"}), 21, (1, 4))):
        done = Network(quantize(net, samples(2, (1, 3, 4)), Scheme(wide=wide)).model)
        onnx.checker.check_model(done.model, full_check=True)
        assert done.model.opset_import[0].version == opset
        assert done.constants[next(node for node in done.nodes if node.name == "sum").input[1]].shape == dims
