"""Random numbers, statistics of the batch, and optimizers."""

import numpy as np
import pytest
from onnx import TensorProto

from edgecc.errors import EdgeccError
from edgecc.frontend import import_model, import_model_with_report
from edgecc.reference.executor import execute
from tests.support.onnx_models import model as model_of

F = np.float32
_PREVIEW = "ai.onnx.preview.training"


def run(make, op, op_type, feeds, constants=None, *, outputs="y", name="n", **attributes):
    model = make([op(op_type, [*feeds, *(constants or {})], outputs, name=name, **attributes)], feeds, outputs.split(), constants)
    graph, report = import_model_with_report(model, inputs=feeds)
    return list(execute(graph, feeds).values()), report


def test_random_numbers_follow_from_the_seed(make, op):
    normal = np.random.RandomState(5)
    (got,), report = run(make, op, "RandomNormal", {}, shape=[3, 700], mean=2.0, scale=0.5, seed=5.0)
    np.testing.assert_allclose(got, (2.0 + 0.5 * normal.standard_normal((3, 700))).astype(F))
    assert any("drawn while compiling" in note for note in report.notes)
    (got,), _ = run(make, op, "RandomUniformLike", {"x": np.zeros((40, 50), F)}, low=-1.0, high=3.0, dtype=TensorProto.DOUBLE)
    assert got.dtype == np.float64 and -1 <= got.min() < -0.9 and 2.9 < got.max() < 3


def test_without_a_seed_numbers_follow_from_the_name(make, op):
    first, again, other = (run(make, op, "RandomUniform", {}, shape=[8], name=name)[0][0] for name in ("a", "a", "b"))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_bernoulli_and_multinomial_keep_their_probabilities(make, op):
    p = np.array([0.0, 0.2, 0.9, 1.0], F).reshape(4, 1).repeat(2000, 1)
    (got,), _ = run(make, op, "Bernoulli", {"p": p}, seed=1.0)
    np.testing.assert_allclose(got.mean(axis=1), [0, 0.2, 0.9, 1], atol=0.03)
    odds = np.log(np.array([[0.5, 0.1, 0.4], [0.001, 0.998, 0.001]], F))
    (got,), _ = run(make, op, "Multinomial", {"x": odds}, sample_size=4000)
    assert got.dtype == np.int32
    for row, wanted in zip(got, np.exp(odds), strict=True):
        np.testing.assert_allclose(np.bincount(row, minlength=3) / 4000, wanted, atol=0.03)


def test_dropout_in_training_mode_keeps_the_mean(make, op):
    x = np.ones((100, 100), F)
    (y, mask), _ = run(make, op, "Dropout", {"x": x}, {"r": F(0.25), "t": np.array(True)}, outputs="y mask", seed=3)
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.75], rtol=1e-6)
    assert np.array_equal(mask, y != 0) and abs(mask.mean() - 0.75) < 0.02


@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 7), (2, 3, 4, 5)])
def test_batch_normalization_by_the_statistics_of_the_batch(check_node, random, shape):
    channels = shape[1]
    feeds = {"x": 3 + 2 * random(*shape), "s": random(channels), "b": random(channels), "m": random(channels), "v": np.abs(random(channels))}
    check_node("BatchNormalization", feeds, outputs="y mean var", by="onnx", tolerance=1e-5, training_mode=1, momentum=0.7)


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize(("op_type", "states", "attributes"), [
    ("Adagrad", 1, {"decay_factor": 0.1, "epsilon": 1e-5, "norm_coefficient": 0.01}),
    ("Adam", 2, {"alpha": 0.95, "beta": 0.85, "epsilon": 1e-2, "norm_coefficient": 0.01, "norm_coefficient_post": 0.02}),
    ("Momentum", 1, {"mode": "standard", "alpha": 0.9, "beta": 0.8, "norm_coefficient": 0.01}),
    ("Momentum", 1, {"mode": "nesterov", "alpha": 0.9, "beta": 0.8, "norm_coefficient": 0.01})])
def test_optimizers_adjust_several_tensors(make, op, random, op_type, states, attributes, step):
    from onnx.reference import ReferenceEvaluator

    feeds = {"r": np.array(0.1, F), "t": np.array(step)}
    for kind in range(2 + states):
        feeds |= {f"{kind}_{i}": np.abs(random(*shape)) for i, shape in enumerate([(3,), (2, 4)])}
    outputs = [f"y{i}" for i in range(2 * (1 + states))]
    model = make([op(op_type, " ".join(feeds), " ".join(outputs), domain=_PREVIEW, **attributes)], feeds, outputs, domains=[(_PREVIEW, 1)])
    wanted = ReferenceEvaluator(model).run(None, feeds)
    for got, expected in zip(execute(import_model(model, inputs=feeds), feeds).values(), wanted, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-6)


@pytest.mark.parametrize("length", [None, 8, 9, 4, 13])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_real_signal_from_one_side_of_its_spectrum(check_node, random, length, axis):
    x = random(5, 6, 2)
    constants = {"n": np.array(length or 2 * (x.shape[axis] - 1)), "a": np.array(axis)}
    signal = np.fft.irfft(x[..., 0] + 1j * x[..., 1], n=length, axis=axis)[..., None].astype(F)
    check_node("DFT", {"x": x}, constants, by=[signal], inverse=1, onesided=1)


@pytest.mark.parametrize(("bands", "length", "rate", "low", "high"), [(8, 16, 8192, 0.0, 4096.0), (40, 512, 16000, 20.0, 7600.0), (13, 100, 8000, 100.0, 3000.0)])
def test_mel_weights(check, make, op, bands, length, rate, low, high):
    constants = {"b": np.array(bands), "n": np.array(length), "r": np.array(rate), "l": F(low), "h": F(high)}
    check(make([op("MelWeightMatrix", " ".join(constants), "y")], {}, ["y"], constants), {})


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize(("shape", "axis"), [((2, 3, 7, 5), -2), ((2, 7, 5), 1), ((3, 4, 7), 2)])
def test_rows_of_a_cache_are_overwritten(check_node, random, mode, shape, axis):
    update = list(shape)
    update[axis] = 3
    starts = np.array([2, 0, 4][:shape[0]]) + (2 if mode == "circular" else 0)
    check_node("TensorScatter", {"c": random(*shape), "u": random(*update), "w": starts}, mode=mode, axis=axis, opset=24)
    check_node("TensorScatter", {"c": random(*shape), "u": random(*update)}, mode=mode, axis=axis, opset=24)


@pytest.mark.parametrize("nodes", [
    [("Mul", "a b", "c"), ("Add", "c a", "y")], [("Sub", "a b", "c"), ("Div", "c b", "d"), ("Tanh", "d", "y")],
    [("Exp", "a", "c"), ("Sigmoid", "b", "d"), ("Mul", "c d", "e"), ("Neg", "e", "f"), ("Sqrt", "c", "g"), ("Add", "f g", "y")],
    [("Reshape", "a s", "c"), ("Sin", "c", "d"), ("Cos", "b", "e"), ("Mul", "d e", "y")]])
def test_gradients_are_those_of_small_differences(make, op, nodes):
    """Operands are broadcast, so that gradients are summed where they were."""
    feeds = {"a": np.array([[0.5], [1.5]], np.float64), "b": np.array([0.75, 1.25, 2.0])}
    made = [op(*names) for names in nodes] + [op("Gradient", "a b", "da db", domain=_PREVIEW, xs=["a", "b"], y="y")]
    model = make(made, feeds, ["y", "da", "db"], {"s": np.array([2, 1])}, domains=[(_PREVIEW, 1)])
    graph = import_model(model)
    _, *gradients = execute(graph, feeds).values()
    for name, gradient in zip(feeds, gradients, strict=True):
        for place in np.ndindex(feeds[name].shape):
            moved = []
            for step in (1e-6, -1e-6):
                other = feeds[name].copy()
                other[place] += step
                moved.append(execute(graph, feeds | {name: other})["y"].sum())
            np.testing.assert_allclose(gradient[place], (moved[0] - moved[1]) / 2e-6, rtol=1e-6)


def test_gradients_of_other_operators_are_refused(make, op):
    nodes = [op("Softmax", "a", "y"), op("Gradient", "a", "da", domain=_PREVIEW, xs=["a"], y="y")]
    with pytest.raises(EdgeccError) as caught:
        import_model(make(nodes, {"a": [2, 3]}, ["y", "da"], domains=[(_PREVIEW, 1)]))
    assert caught.value.code == "E105" and "softmax" in caught.value.details[0]


def test_random_numbers_are_no_texts():
    with pytest.raises(EdgeccError) as raised:
        import_model(model_of([("RandomUniform", "", "y", {"shape": [3], "dtype": TensorProto.STRING})], {}))
    assert raised.value.code == "E110" and "strings" in raised.value.message
