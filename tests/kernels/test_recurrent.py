"""Recurrent kernels against the operator's reference, executed by the interpreter."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ops.recurrent import ACTIVATION_DEFAULTS, GATES, Recurrent
from tests.support.kernel_check import Given, check_kernel

TARGETS = ("cortex-a76", "x86-64-v4", "x86-64-v3", "generic-c")
PER_DIRECTION = {"lstm": 3, "gru": 2, "rnn": 1}


@st.composite
def layers(draw):
    kind = draw(st.sampled_from(["lstm", "gru", "rnn"]))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    directions = 2 if direction == "bidirectional" else 1
    hidden, depth = draw(st.sampled_from([1, 3, 5, 16, 19, 37])), draw(st.integers(1, 9))
    batch, steps = draw(st.integers(1, 2)), draw(st.integers(1, 4))
    activations = ()
    if draw(st.booleans()):
        names = sorted(set(ACTIVATION_DEFAULTS) - {"Softplus"})
        activations = tuple(draw(st.sampled_from(names)) for _ in range(PER_DIRECTION[kind] * directions))
    op = Recurrent(kind, hidden, direction, activations, clip=draw(st.sampled_from([0.0, 0.5])),
                   linear_before_reset=draw(st.booleans()), input_forget=draw(st.booleans()), layout=draw(st.integers(0, 1)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    constant = draw(st.sampled_from([True, True, False]))

    def array(*shape, scale=0.5):
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    rows = GATES[kind] * hidden
    state = (batch, directions, hidden) if op.layout else (directions, batch, hidden)
    x = Given(array(*((batch, steps, depth) if op.layout else (steps, batch, depth))))
    operands = [x, Given(array(directions, rows, depth), constant), Given(array(directions, rows, hidden), constant)]
    operands.append(Given(array(directions, 2 * rows), constant) if draw(st.booleans()) else None)
    operands.append(Given(rng.integers(0, steps + 1, (batch,)).astype(np.int32)) if draw(st.booleans()) else None)
    operands.append(Given(array(*state)) if draw(st.booleans()) else None)
    operands.append(Given(array(*state)) if kind == "lstm" and draw(st.booleans()) else None)
    operands.append(Given(array(directions, 3 * hidden), constant) if kind == "lstm" and draw(st.booleans()) else None)
    while operands[-1] is None:
        operands.pop()
    return op, operands, draw(st.sampled_from(TARGETS))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(layers())
def test_recurrent_agrees_with_the_reference(case):
    op, operands, target = case
    check_kernel(op, operands, target, units=200)
