"""Recurrent kernels against the operator's reference, over every option of the operator."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, TensorType
from edgecc.kernels.kernel import Packed
from edgecc.kernels.registry import lower
from edgecc.loop.ir import Declare, For, walk
from edgecc.ops.recurrent import DEFAULT_ACTIVATIONS, GATES, Recurrent
from tests.support import kernels

F32, F16, F64 = DType.F32, DType.F16, DType.F64
UNITS = 64.0
"""Errors grow along the sequence; one roundoff of the largest sum of a step counts as one unit (`Recurrent.magnitude`)."""


def layer(op, steps, batch, inputs, *, seed=0, dtype=F32, b=True, lens=None, h0=False, c0=False, p=False):
    """Operands of a layer."""
    d, hidden, rows = op.directions, op.hidden_size, GATES[op.kind] * op.hidden_size
    state = (batch, d, hidden) if op.layout else (d, batch, hidden)

    def numbers(position, shape, scale=1.0):
        return kernels.numbers(seed + position, shape, dtype, scale)

    x = numbers(0, (batch, steps, inputs) if op.layout else (steps, batch, inputs))
    arrays = [x, numbers(1, (d, rows, inputs), inputs**-0.5), numbers(2, (d, rows, hidden), hidden**-0.5),
              numbers(3, (d, 2 * rows), 0.3) if b else None, lens, numbers(4, state) if h0 else None,
              numbers(5, state) if c0 else None, numbers(6, (d, 3 * hidden)) if p else None]
    while arrays[-1] is None:
        arrays.pop()
    return arrays


@st.composite
def cases(draw):
    kind = draw(st.sampled_from(("lstm", "gru", "rnn")))
    direction = draw(st.sampled_from(("forward", "reverse", "bidirectional")))
    count = len(DEFAULT_ACTIVATIONS[kind]) * (2 if direction == "bidirectional" else 1)
    names = st.sampled_from(("Relu", "Tanh", "Sigmoid", "HardSigmoid", "Affine", "Softsign", "LeakyRelu", "Elu", "ScaledTanh"))
    op = Recurrent(kind, draw(st.sampled_from((1, 2, 3, 5, 8, 13, 20, 40))), direction,
                   activations=tuple(draw(names) for _ in range(count)) if draw(st.integers(0, 2)) == 0 else (),
                   clip=draw(st.sampled_from((0.0, 0.0, 0.5))), linear_before_reset=kind == "gru" and draw(st.booleans()),
                   input_forget=kind == "lstm" and draw(st.booleans()), layout=draw(st.integers(0, 1)))
    steps, batch, inputs = (draw(st.integers(1, n)) for n in (4, 3, 9))
    dtype = draw(st.sampled_from((F32, F32, F32, F64, F16)))
    lens = np.array([draw(st.integers(0, steps + 1)) for _ in range(batch)], np.int32) if draw(st.booleans()) else None
    is_lstm = kind == "lstm"
    projected = draw(st.booleans())
    arrays = layer(op, steps, batch, GATES[kind] * op.directions * op.hidden_size if projected else inputs,
                   seed=draw(st.integers(0, 50)), dtype=dtype, b=draw(st.booleans()), lens=lens,
                   h0=draw(st.booleans()), c0=is_lstm and draw(st.booleans()), p=is_lstm and draw(st.booleans()))
    if projected:
        arrays[1] = None
    views = [None if a is None else draw(kernels.views(TensorType.of(a))) for a in arrays]
    types = [None if a is None else TensorType.of(a) for a in arrays]
    outputs = [draw(kernels.views(t)) for t in op.infer(types)]
    constants = [i for i in (1, 2, 3, 7) if i < len(arrays) and draw(st.integers(0, 3))]
    return kernels.request_for(op, arrays, draw(st.sampled_from(kernels.TARGETS)), inputs=views, outputs=outputs,
                               constants=[i for i in constants if arrays[i] is not None],
                               threads=draw(st.sampled_from((1, 4)))), arrays


@settings(max_examples=100)
@given(cases())
def test_agrees_with_the_reference(case):
    request, arrays = case
    # Activations without bounds multiply errors from step to step; a wrong formula is off by far more.
    kernels.check(request, arrays, units=64 * UNITS if request.op.activations else UNITS)


def test_members_of_a_large_batch_are_divided_among_threads():
    op = Recurrent("gru", 16)
    arrays = layer(op, 4, 16, 12, h0=True)
    request = kernels.request_for(op, arrays, constants=[1, 2, 3], threads=4)
    assert [s.kind for s in lower(request).function.body if isinstance(s, For)] == ["parallel"]
    kernels.check(request, arrays, units=UNITS)


@pytest.mark.parametrize(("kind", "hidden", "target", "sums"), [
    ("lstm", 128, "cortex-a76", 8), ("lstm", 128, "x86-64-v4", 8), ("gru", 16, "cortex-a76", 9), ("gru", 16, "x86-64-v4", 6),
    ("rnn", 64, "x86-64-v3", 8)])
def test_enough_sums_run_side_by_side(kind, hidden, target, sums):
    op = Recurrent(kind, hidden)
    arrays = layer(op, 1, 1, 16)
    kernel = lower(kernels.request_for(op, arrays, target, constants=[1, 2, 3]))
    blocks = [s for s in walk(kernel.function.body) if isinstance(s, For)] or [kernel.function]
    most = max(sum(isinstance(s, Declare) for s in b.body) for b in [*blocks, kernel.function])
    assert most >= sums


def test_constant_weights_are_packed_and_others_are_not_required():
    op = Recurrent("lstm", 12)
    arrays = layer(op, 2, 1, 5, p=True)
    for constants in ((1, 2, 3, 7), ()):
        request = kernels.request_for(op, arrays, constants=constants)
        assert any(isinstance(a, Packed) for a in lower(request).arguments) == bool(constants)
        kernels.check(request, arrays, units=UNITS)


@pytest.mark.parametrize("machine", kernels.TARGETS)
def test_compiled_code_agrees(machine):
    lens = np.array([4, 2], np.int32)
    for op, extra in ((Recurrent("lstm", 24, "bidirectional"), {"lens": lens, "p": True}),
                      (Recurrent("gru", 16, linear_before_reset=True, layout=1), {"h0": True}),
                      (Recurrent("gru", 9, "reverse", clip=3.0), {}), (Recurrent("rnn", 33), {})):
        arrays = layer(op, 4, 2, 10, **extra)
        constants = [i for i in (1, 2, 3, 7) if i < len(arrays) and arrays[i] is not None]
        request = kernels.request_for(op, arrays, machine, constants=constants)
        kernels.check(request, arrays, units=UNITS, machine=machine)


@pytest.mark.parametrize("machine", kernels.TARGETS)
@pytest.mark.parametrize("hidden", [13, 16, 100])
def test_inputs_that_are_multiplied_already(machine, hidden):
    for op in (Recurrent("lstm", hidden, "bidirectional"), Recurrent("gru", hidden), Recurrent("gru", hidden, linear_before_reset=True)):
        arrays = layer(op, 3, 2, GATES[op.kind] * hidden * op.directions)
        arrays[1] = None
        kernels.check(kernels.request_for(op, arrays, machine, constants=[2, 3]), arrays, units=UNITS, machine=machine)
