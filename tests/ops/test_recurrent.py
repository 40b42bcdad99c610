import itertools

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType, TensorType
from edgecc.ops.recurrent import ACTIVATION_DEFAULTS, DEFAULT_ACTIVATIONS, GATES, Recurrent

STEPS, BATCH, INPUTS, HIDDEN = 4, 3, 5, 6


@pytest.fixture
def operands(draw):
    """operands(kind, directions, ...) -> arrays for a layer, absent ones None."""
    def make(kind, directions=1, *, bias=True, lens=None, initial=True, peepholes=False):
        rows = GATES[kind] * HIDDEN
        scale = {"low": -0.6, "high": 0.6}
        lstm = kind == "lstm"
        return [draw((STEPS, BATCH, INPUTS)), draw((directions, rows, INPUTS), **scale), draw((directions, rows, HIDDEN), **scale),
                draw((directions, 2 * rows), **scale) if bias else None,
                None if lens is None else np.array(lens, np.int32),
                draw((directions, BATCH, HIDDEN)) if initial else None,
                draw((directions, BATCH, HIDDEN)) if initial and lstm else None,
                draw((directions, 3 * HIDDEN), **scale) if peepholes else None]
    return make


def attributes(op, **more):
    out = {"hidden_size": op.hidden_size, "direction": op.direction, **more}
    if op.activations:
        out["activations"] = list(op.activations)
    if op.activation_alpha:
        out["activation_alpha"] = list(op.activation_alpha)
    if op.activation_beta:
        out["activation_beta"] = list(op.activation_beta)
    if op.clip:
        out["clip"] = op.clip
    return out


def run(oracle, op, arrays, **more):
    kept = arrays if op.kind == "lstm" else arrays[:6]
    return oracle(op.kind.upper(), kept, attributes(op, **more), outputs=3 if op.kind == "lstm" else 2)


def trimmed(op, arrays):
    return arrays if op.kind == "lstm" else arrays[:6]


@pytest.mark.parametrize(("kind", "direction"), list(itertools.product(GATES, ("forward", "reverse", "bidirectional"))))
@pytest.mark.parametrize(("bias", "initial"), [(False, False), (True, True)])
def test_default_layers_agree(operands, by_onnxruntime, check_op, kind, direction, bias, initial):
    op = Recurrent(kind, HIDDEN, direction)
    arrays = operands(kind, op.directions, bias=bias, initial=initial)
    check_op(op, trimmed(op, arrays), run(by_onnxruntime, op, arrays), units=64)


@pytest.mark.parametrize("kind", GATES)
def test_forward_layers_agree_with_the_reference_of_onnx(operands, by_onnx, check_op, kind):
    op = Recurrent(kind, HIDDEN)
    arrays = operands(kind)
    check_op(op, trimmed(op, arrays), run(by_onnx, op, arrays), units=64)


@pytest.mark.parametrize(("kind", "direction"), list(itertools.product(GATES, ("forward", "reverse", "bidirectional"))))
def test_sequence_lengths_agree(operands, by_onnxruntime, check_op, kind, direction):
    op = Recurrent(kind, HIDDEN, direction)
    arrays = operands(kind, op.directions, lens=[2, 4, 1])
    check_op(op, trimmed(op, arrays), run(by_onnxruntime, op, arrays), units=64)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_peepholes_agree(operands, by_onnxruntime, check_op, direction):
    op = Recurrent("lstm", HIDDEN, direction)
    arrays = operands("lstm", op.directions, peepholes=True)
    check_op(op, arrays, run(by_onnxruntime, op, arrays), units=64)


def test_coupled_input_and_forget_gates_agree(operands, by_onnxruntime, check_op):
    op = Recurrent("lstm", HIDDEN, input_forget=True)
    arrays = operands("lstm")
    check_op(op, arrays, run(by_onnxruntime, op, arrays, input_forget=1), units=64)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_gru_linear_before_reset_agrees(operands, by_onnxruntime, check_op, direction):
    op = Recurrent("gru", HIDDEN, direction, linear_before_reset=True)
    arrays = operands("gru", op.directions)
    check_op(op, arrays[:6], run(by_onnxruntime, op, arrays, linear_before_reset=1), units=64)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_clip_limits_the_arguments_of_gates(operands, by_onnxruntime, check_op, kind):
    op = Recurrent(kind, HIDDEN, clip=0.25)
    arrays = operands(kind)
    check_op(op, trimmed(op, arrays), run(by_onnxruntime, op, arrays), units=64)


@pytest.mark.parametrize("kind", GATES)
def test_layout_1_is_layout_0_with_axes_swapped(operands, kind):
    plain, swapped = Recurrent(kind, HIDDEN, "bidirectional"), Recurrent(kind, HIDDEN, "bidirectional", layout=1)
    arrays = operands(kind, 2, lens=[4, 2, 3])
    other = [np.swapaxes(a, 0, 1) if i in (0, 5, 6) and a is not None else a for i, a in enumerate(arrays)]
    arrays, other = trimmed(plain, arrays), trimmed(plain, other)
    y, *states = plain.reference(arrays)
    y1, *states1 = swapped.reference(other)
    np.testing.assert_array_equal(y1, y.transpose(2, 0, 1, 3))
    for state, state1 in zip(states, states1, strict=True):
        np.testing.assert_array_equal(state1, np.swapaxes(state, 0, 1))
    assert [t.shape for t in swapped.infer([None if a is None else TensorType.of(a) for a in other])] == [
        a.shape for a in (y1, *states1)] == [m.shape for m in swapped.magnitude(other)]


@pytest.mark.parametrize("name", ACTIVATION_DEFAULTS)
def test_activations_agree(operands, by_onnxruntime, check_op, name):
    alpha, beta = {"Affine": (0.5, 0.1), "LeakyRelu": (0.1, 0.0), "ThresholdedRelu": (0.2, 0.0), "ScaledTanh": (1.2, 0.7),
                   "HardSigmoid": (0.3, 0.4), "Elu": (0.8, 0.0)}.get(name, (0.0, 0.0))
    op = Recurrent("rnn", HIDDEN, activations=(name,), activation_alpha=(alpha,), activation_beta=(beta,))
    arrays = operands("rnn")
    more = {}
    if name in ("Affine", "ScaledTanh", "HardSigmoid"):
        more = {"activation_alpha": [alpha], "activation_beta": [beta]}
    elif alpha:
        more = {"activation_alpha": [alpha]}
    bare = Recurrent("rnn", HIDDEN, activations=(name,))
    expected = by_onnxruntime("RNN", arrays[:6], {**attributes(bare), **more}, outputs=2)
    check_op(op, arrays[:6], expected, units=64)


def test_each_direction_has_its_own_activations(operands, by_onnxruntime, check_op):
    op = Recurrent("lstm", HIDDEN, "bidirectional", activations=("Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Softsign", "Relu"),
                   activation_alpha=(0.0, 0.0, 0.0, 0.2, 0.0, 0.0), activation_beta=(0.0, 0.0, 0.0, 0.5, 0.0, 0.0))
    arrays = operands("lstm", 2)
    given = Recurrent("lstm", HIDDEN, "bidirectional", activations=op.activations)
    expected = by_onnxruntime("LSTM", arrays, {**attributes(given), "activation_alpha": [0.2], "activation_beta": [0.5]}, outputs=3)
    check_op(op, arrays, expected, units=64)


def test_a_sequence_of_no_steps_returns_the_initial_state(operands):
    arrays = operands("lstm")
    arrays[0] = np.zeros((0, BATCH, INPUTS), "f4")
    y, h, c = Recurrent("lstm", HIDDEN).reference(arrays)
    assert y.shape == (0, 1, BATCH, HIDDEN)
    np.testing.assert_array_equal(h, arrays[5])
    np.testing.assert_array_equal(c, arrays[6])


def test_inputs_are_not_written_to(operands):
    arrays = operands("lstm", initial=True)
    copies = [None if a is None else a.copy() for a in arrays]
    Recurrent("lstm", HIDDEN).reference([None if a is None else a.astype("f8") for a in arrays])
    for a, b in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(a, b)


def kinds(kind, **replaced):
    rows = GATES[kind] * HIDDEN
    types = {"x": (STEPS, BATCH, INPUTS), "w": (1, rows, INPUTS), "r": (1, rows, HIDDEN), "b": (1, 2 * rows), **replaced}
    names = [n.rstrip("?") for n in Recurrent.inputs]
    return [None if types.get(n) is None else TensorType(DType.F32, types[n]) for n in names]


@pytest.mark.parametrize(("op", "types", "message"), [
    (Recurrent("elman", HIDDEN), kinds("rnn"), "kind is 'elman'"),
    (Recurrent("rnn", HIDDEN, "both"), kinds("rnn"), "direction is 'both'"),
    (Recurrent("rnn", HIDDEN, activations=("Tanh", "Tanh")), kinds("rnn"), "activations has 2 entries, wanted 1 or none"),
    (Recurrent("rnn", HIDDEN, activations=("Sin",)), kinds("rnn"), "activation 'Sin' is not known"),
    (Recurrent("rnn", 0), kinds("rnn"), "hidden_size is 0"),
    (Recurrent("rnn", HIDDEN, clip=-1.0), kinds("rnn"), "clip -1.0"),
    (Recurrent("lstm", HIDDEN), kinds("gru"), "w has shape [1, 18, 5], wanted [1, 24, 5]"),
    (Recurrent("gru", HIDDEN, "bidirectional"), kinds("gru"), "wanted [2, 18, 5]"),
    (Recurrent("gru", HIDDEN), kinds("gru", p=(1, 18)), "p is given, which only lstm has"),
    (Recurrent("lstm", HIDDEN), kinds("lstm", initial_h=(1, 2, 6)), "initial_h has shape [1, 2, 6], wanted [1, 3, 6]"),
    (Recurrent("lstm", HIDDEN), kinds("lstm", sequence_lens=(3,)), "sequence_lens has type f32, wanted an integer"),
    (Recurrent("lstm", HIDDEN), kinds("lstm", x=(4, 5)), "x has rank 2"),
])
def test_shape_rule_says_what_is_wrong(op, types, message):
    with pytest.raises(EdgeccError) as caught:
        op.infer(types)
    assert caught.value.code == "E110" and message in caught.value.message


def test_defaults_name_known_activations():
    assert {name for names in DEFAULT_ACTIVATIONS.values() for name in names} <= set(ACTIVATION_DEFAULTS)


@pytest.mark.parametrize(("kind", "layout"), [("lstm", 0), ("gru", 1), ("rnn", 0)])
def test_inputs_may_be_multiplied_by_the_weights_already(operands, kind, layout):
    op = Recurrent(kind, HIDDEN, "bidirectional", layout=layout)
    arrays = operands(kind, 2, initial=False)[:4]
    if layout:
        arrays[0] = np.swapaxes(arrays[0], 0, 1)
    x, w = (a.astype(np.float64) for a in arrays[:2])
    wide = [a if a is None else a.astype(np.float64) for a in arrays]
    projected = [np.einsum("abi,dgi->abdg", x, w).reshape(*x.shape[:2], -1), None, *wide[2:]]
    for own, other in zip(op.reference(wide), op.reference(projected), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-12, atol=1e-12)
    assert op.infer([None if a is None else TensorType.of(a) for a in projected])[0].dims == op.reference(wide)[0].shape


def test_projected_inputs_have_a_column_for_each_gate():
    op = Recurrent("gru", HIDDEN)
    with pytest.raises(EdgeccError, match="wanted 18"):
        op.infer([TensorType(DType.F32, (4, 1, 17)), None, TensorType(DType.F32, (1, 18, HIDDEN))])
