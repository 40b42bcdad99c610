"""Softmax kernels against the operator's reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, TensorType
from edgecc.kernels.registry import lower
from edgecc.loop.ir import For, Horizontal, Load, expressions, subexpressions, walk
from edgecc.ops.reduction import Softmax
from tests.support import kernels

F32, F16 = DType.F32, DType.F16


@st.composite
def cases(draw):
    dims = draw(kernels.shapes(1, 4, most_elements=400))
    op = Softmax(draw(st.integers(0, len(dims) - 1)), draw(st.booleans()))
    dtype = draw(st.sampled_from((F32, F32, F32, F16, DType.F64)))
    x = kernels.numbers(draw(st.integers(0, 99)), dims, dtype, draw(st.sampled_from((1.0, 30.0))))
    x_type = TensorType.of(x)
    view = draw(kernels.views(x_type))
    output = view if draw(st.booleans()) else draw(kernels.views(x_type))
    return kernels.request_for(op, [x], draw(st.sampled_from(kernels.TARGETS)), inputs=[view], outputs=[output],
                               threads=draw(st.sampled_from((1, 4)))), [x]


@settings(max_examples=150)
@given(cases())
def test_agrees_with_the_reference(case):
    request, arrays = case
    kernels.check(request, arrays, units=8.0)
    if lower(request).in_place:
        kernels.check(request, arrays, units=8.0, in_place=(0, 0))


def test_short_rows_are_read_once():
    x = kernels.numbers(0, (1, 20))
    function = lower(kernels.request_for(Softmax(1), [x])).function
    loads = [e for s in walk(function.body) for r in expressions(s) for e in subexpressions(r)
             if isinstance(e, Load) and e.buffer == "x"]
    assert [(e.lanes, e.valid) for e in loads] == [(8, 0), (8, 0), (8, 4)]


def test_few_classes_of_many_pixels_fill_vectors_with_pixels():
    x = kernels.numbers(0, (1, 60, 2))
    request = kernels.request_for(Softmax(2), [x])
    assert "results" in lower(request).choice
    kernels.check(request, [x])


def test_infinities_and_nans():
    for shape, axis in (((4, 19), 1), ((19, 4), 0)):
        x = kernels.numbers(0, shape)
        x[1, 1] = np.nan
        x[2, 2] = -np.inf
        x[3, 3] = np.inf
        x[0] = -np.inf
        for log in (False, True):
            kernels.check(kernels.request_for(Softmax(axis, log), [x]), [x])


def test_rows_are_divided_among_threads():
    x = kernels.numbers(0, (128, 80))
    request = kernels.request_for(Softmax(1), [x], threads=4)
    assert [s.kind for s in lower(request).function.body if isinstance(s, For)] == ["parallel"]
    kernels.check(request, [x])


@pytest.mark.parametrize("machine", kernels.TARGETS)
def test_compiled_code_agrees(machine):
    x = kernels.numbers(0, (2, 5, 43), scale=4.0)
    for axis in (1, 2):
        for log in (False, True):
            kernels.check(kernels.request_for(Softmax(axis, log), [x], machine), [x], units=8.0, machine=machine)
    short = kernels.numbers(1, (3, 11), F16)
    kernels.check(kernels.request_for(Softmax(1), [short], machine), [short], machine=machine)


@pytest.mark.parametrize("target, together", (("x86-64-v4", 4), ("x86-64-v3", 2)))
@pytest.mark.parametrize("rows", (1, 3, 4, 5, 13))
def test_short_rows_are_worked_on_side_by_side(rows, target, together):
    x = kernels.numbers(rows, (rows, 83), scale=4.0)
    request = kernels.request_for(Softmax(1), [x], target)
    kernels.check(request, [x], units=8.0)
    joined = [e for s in walk(lower(request).function.body) for r in expressions(s) for e in subexpressions(r)
              if isinstance(e, Horizontal) and e.op == "max"]
    assert len(joined) == (rows if rows < together else together + rows % together)
