"""Convolutions to few channels, with input channels in the lanes."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.ir.scalar import Arg, apply, literal
from edgecc.ir.types import DType, Layout
from edgecc.kernels.registry import candidates, lower
from edgecc.ops.convolution import Conv
from edgecc.targets.schema import load_target
from tests.kernels.test_rows import Case
from tests.support import ccompile
from tests.support.kernel_check import Given, check_kernel, request_for, run_lowered

LAST = Layout.channels_last(4)
WAY = "lanes of input channels"
RELU_OF_SUM = apply("max", apply("add", Arg(0, DType.F32), Arg(1, DType.F32)), literal(0.0, DType.F32))
SIGMOID = apply("sigmoid", Arg(0, DType.F32))

# batch, inputs, outputs, size, kernel, strides, dilations, pads, epilogue
CASES = (
    (1, 16, 3, (4, 11), (7, 9), (1, 1), (1, 1), (3, 4, 3, 4), None),
    (2, 20, 1, (5, 17), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), SIGMOID),
    (1, 48, 5, (7, 49), (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), RELU_OF_SUM),
    (1, 64, 2, (1, 100), (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), None),
    (1, 24, 8, (8, 11), (3, 2), (2, 3), (1, 1), (0, 1, 2, 0), RELU_OF_SUM),
    (1, 8, 4, (13, 30), (3, 3), (1, 1), (3, 2), (3, 2, 3, 2), SIGMOID),
    (1, 4, 3, (6, 7), (2, 5), (1, 2), (1, 1), (1, 3, 0, 2), None),
)


def array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def convolution(case):
    batch, inputs, outputs, size, kernel, strides, dilations, pads, epilogue = case
    operands = [Given(array(1, batch, inputs, *size), layout=LAST), Given(array(2, outputs, inputs, *kernel) * 0.1, constant=True),
                Given(array(3, outputs), constant=True) if epilogue is not None else None]
    if epilogue is RELU_OF_SUM:
        shape = Conv(strides, pads, dilations, 1).reference([g and g.array for g in operands])[0].shape
        operands.append(Given(array(4, *shape), layout=LAST))
    return Conv(strides, pads, dilations, 1, epilogue), operands


@pytest.mark.parametrize("target", ["x86-64-v4", "x86-64-v3", "cortex-a76", "cortex-a55"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]}-{case[2]}-{'x'.join(map(str, case[4]))}")
def test_agrees_with_the_reference(case, target):
    op, operands = convolution(case)
    check_kernel(op, operands, target, [LAST], choice=WAY, threads=2 if case[0] == 2 else 1)


@pytest.mark.parametrize("target", ["x86-64-v4", "cortex-a76"])
def test_compiled_code_agrees(target):
    prepared, calls = [], []
    for case in CASES:
        op, operands = convolution(case)
        request = request_for(op, operands, target, [LAST])
        kernel = lower(request, WAY)

        def collect(function, buffers):
            calls.append((function, buffers))

        run_lowered(request, kernel, operands, collect)
        prepared.append((op, operands))
    for (op, operands), found in zip(prepared, ccompile.run_functions(calls, load_target(target)), strict=True):
        want = op.reference([g and g.array for g in operands])[0]
        np.testing.assert_allclose(found["y"].reshape(-1), want.transpose(0, 2, 3, 1).reshape(-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rings", [False, True])
def test_ranges_of_rows_agree(rings):
    op = Conv((1, 1), (1, 1, 1, 1), (1, 1), 1)
    Case(op, [array(1, 1, 16, 12, 13), array(2, 3, 16, 3, 3), array(3, 3)], (0, 1, 5, 9, 12), rings, "x86-64-v4", WAY).interpret()


def names(inputs: int, outputs: int, kernel: int, target: str = "x86-64-v4", *, layout: Layout | None = LAST) -> list[str]:
    """The candidates of a layer, the best one first."""
    op = Conv((1, 1), (kernel // 2,) * 4, (1, 1), 1)
    operands = [Given(array(1, 1, inputs, 32, 32), layout=layout), Given(array(2, outputs, inputs, kernel, kernel), constant=True)]
    found = candidates(request_for(op, operands, target, [LAST]))
    return [c.name for c in sorted(found, key=lambda c: c.cycles)]


@pytest.mark.parametrize(("inputs", "outputs", "kernel"), [(16, 3, 9), (64, 3, 3), (64, 1, 1), (32, 1, 3)])
def test_it_is_chosen_where_results_fill_few_lanes(inputs, outputs, kernel):
    assert names(inputs, outputs, kernel)[0].startswith(WAY)
    assert names(inputs, 1, kernel, "cortex-a76")[0].startswith(WAY)


def test_it_is_not_chosen_where_results_fill_vectors_or_offered_where_inputs_do_not():
    assert not names(64, 8, 1)[0].startswith(WAY)
    for found in (names(64, 16, 3), names(13, 3, 3), names(64, 3, 3, layout=None), names(64, 3, 3, "generic-c")):
        assert not any(name.startswith(WAY) for name in found)


def test_it_is_not_offered_for_groups():
    operands = [Given(array(1, 1, 32, 9, 9), layout=LAST), Given(array(2, 4, 16, 3, 3), constant=True)]
    found = candidates(request_for(Conv((1, 1), (1, 1, 1, 1), (1, 1), 2), operands, "x86-64-v4", [LAST]))
    assert found and not any(c.name.startswith(WAY) for c in found)
