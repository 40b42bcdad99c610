"""Elementwise kernels against the operator's reference: any expression, broadcasting, layout and target."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.scalar import Arg, apply, convert, literal
from edgecc.ir.types import DType, Layout, TensorType
from edgecc.kernels.kernel import FromInput
from edgecc.kernels.registry import lower
from edgecc.kernels.view import View
from edgecc.loop.ir import For, Load, subexpressions, walk
from edgecc.loop.ir import expressions as direct_expressions
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.requantize import requantized
from tests.support import kernels

F32, F16, I32, I64, U8, BOOL = DType.F32, DType.F16, DType.I32, DType.I64, DType.U8, DType.BOOL


def binary(op, dtype=F32):
    return Elementwise(apply(op, Arg(0, dtype), Arg(1, dtype)))


@st.composite
def expressions(draw, dtypes, depth=3):
    """Well-typed float expressions over operands of the given types, comparisons and conversions included.

    What is compared is computed without rounding: where a rounding decides between two unlike values, no tolerance holds.
    """

    def value(depth, exact=False):
        kind = draw(st.sampled_from(("arg", "arg", "literal") if depth == 0 else ("arg", "binary", "unary", "select")))
        if kind == "literal":
            return literal(draw(st.sampled_from((0.5, -1.25, 3.0))), F32)
        if kind == "arg":
            index = draw(st.integers(0, len(dtypes) - 1))
            return convert(Arg(index, dtypes[index]), F32)
        if kind == "binary":
            names = ("min", "max") if exact else ("add", "sub", "mul", "min", "max")
            return apply(draw(st.sampled_from(names)), value(depth - 1, exact), value(depth - 1, exact))
        if kind == "unary":
            names = ("neg", "abs", "floor") if exact else ("neg", "abs", "tanh", "sigmoid", "floor")
            return apply(draw(st.sampled_from(names)), value(depth - 1, exact))
        condition = apply(draw(st.sampled_from(("lt", "le"))), value(depth - 1, True), value(depth - 1, True))
        return apply("select", condition, value(depth - 1, exact), value(depth - 1, exact))

    return value(depth)


@st.composite
def cases(draw):
    dims = draw(kernels.shapes(0, 4, most_elements=300))
    dtypes = draw(st.lists(st.sampled_from((F32, F32, I32, F16, BOOL)), min_size=1, max_size=3))
    expr = draw(expressions(dtypes))
    if draw(st.integers(0, 3)) == 0:
        expr = convert(expr, F16)
    arrays, views = [], []
    for position, dtype in enumerate(dtypes):
        own = tuple(1 if draw(st.integers(0, 4)) == 0 else d for d in dims)[draw(st.integers(0, len(dims))) if position else 0:]
        arrays.append(kernels.numbers(position, own, dtype))
        views.append(draw(kernels.views(TensorType(dtype, own))))
    op = Elementwise(expr)
    (result,) = op.infer([TensorType.of(a) for a in arrays])
    output = draw(kernels.views(result))
    return kernels.request_for(op, arrays, draw(st.sampled_from(kernels.TARGETS)), inputs=views, outputs=[output],
                               threads=draw(st.sampled_from((1, 4)))), arrays


@settings(max_examples=120)
@given(cases())
def test_agrees_with_the_reference(case):
    request, arrays = case
    kernels.check(request, arrays, units=4.0)  # four: what a rounding before a jump (floor) counts


@pytest.mark.parametrize("dtype", [I64, U8, DType.I8, DType.F64, I32])
def test_other_types_wrap_as_they_should(dtype):
    arrays = [kernels.numbers(s, (3, 21), dtype) for s in (0, 1)]
    kernels.check(kernels.request_for(binary("mul", dtype), arrays), arrays)


def test_bool_operators():
    arrays = [kernels.numbers(s, (5, 9), BOOL) for s in (0, 1)]
    kernels.check(kernels.request_for(binary("xor", BOOL), arrays), arrays)


def test_results_may_replace_operands_of_the_same_view():
    arrays = [kernels.numbers(s, (4, 37)) for s in (0, 1)]
    request = kernels.request_for(binary("sub"), arrays)
    assert lower(request).in_place == ((0, 0), (0, 1))
    for operand in (0, 1):
        kernels.check(request, arrays, in_place=(0, operand))


def test_no_replacement_across_types_or_broadcasts():
    arrays = [kernels.numbers(0, (4, 8)), kernels.numbers(1, (8,))]
    assert lower(kernels.request_for(binary("add"), arrays)).in_place == ((0, 0),)
    arrays = [kernels.numbers(0, (4, 8), I32)]
    assert lower(kernels.request_for(Elementwise(convert(Arg(0, I32), F32)), arrays)).in_place == ()


def test_scalar_constants_become_code():
    arrays = [kernels.numbers(0, (33,)), np.asarray(2.5, np.float32)]
    request = kernels.request_for(binary("mul"), arrays, constants=[1])
    kernel = lower(request)
    assert FromInput(1) not in kernel.arguments
    kernels.check(request, arrays)


def test_contiguous_axes_are_one_loop():
    arrays = [kernels.numbers(s, (2, 3, 40)) for s in (0, 1)]
    function = lower(kernels.request_for(binary("add"), arrays)).function
    assert sum(isinstance(s, For) for s in walk(function.body)) == 1  # 240 elements: no tail, no remainder


def test_what_does_not_vary_is_loaded_outside_of_the_inner_loop():
    arrays = [kernels.numbers(0, (6, 64)), kernels.numbers(1, (6, 1))]
    function = lower(kernels.request_for(binary("add"), arrays)).function
    inner = [s for s in walk(function.body) if isinstance(s, For)][-1]
    read = [e.buffer for s in walk(inner.body) for root in direct_expressions(s) for e in subexpressions(root)
            if isinstance(e, Load)]
    assert "x1" not in read and "x0" in read


def test_large_work_is_divided_among_threads():
    arrays = [kernels.numbers(s, (1 << 16,)) for s in (0, 1)]
    serial, threaded = (lower(kernels.request_for(binary("add"), arrays, threads=t)).function for t in (1, 4))
    assert {s.kind for s in serial.body if isinstance(s, For)} == {"serial"}
    assert [s.kind for s in threaded.body if isinstance(s, For)] == ["parallel"]
    kernels.check(kernels.request_for(binary("add"), arrays, threads=4), arrays)


def test_transposed_operands_are_visited_in_blocks():
    arrays = [kernels.numbers(s, (50, 37)) for s in (0, 1)]
    across = kernels.laid_out(TensorType(F32, (50, 37)), (1, 0))
    request = kernels.request_for(binary("add"), arrays, inputs=[across])
    assert max(s.extent for s in walk(lower(request).function.body) if isinstance(s, For)) <= 16
    kernels.check(request, arrays)


def test_empty_operands():
    arrays = [kernels.numbers(0, (3, 0, 5))]
    kernels.check(kernels.request_for(Elementwise(apply("neg", Arg(0, F32))), arrays), arrays)


@pytest.mark.parametrize("machine", kernels.TARGETS)
def test_compiled_code_agrees(machine):
    x, y, flag = kernels.numbers(0, (3, 7, 21)), kernels.numbers(1, (21,)), kernels.numbers(2, (7, 1), BOOL)
    expr = apply("select", Arg(2, BOOL), apply("mul", Arg(0, F32), apply("sigmoid", Arg(0, F32))),
                 apply("max", Arg(1, F32), literal(math.pi, F32)))
    views = [kernels.laid_out(TensorType.of(x), (0, 2, 1), (0, 0, 1))]
    request = kernels.request_for(Elementwise(expr), [x, y, flag], machine, inputs=views)
    kernels.check(request, [x, y, flag], units=4.0, machine=machine)
    halves = [kernels.numbers(3, (5, 27), F16), kernels.numbers(4, (27,), F16)]
    request = kernels.request_for(binary("mul", F16), halves, machine)
    kernels.check(request, halves, machine=machine)


def scaled_channels(target, channels, height, width, threads=1):
    """Bytes of an image, channels last, times a byte for each channel: a request, and the operands."""
    random = np.random.default_rng(channels)
    arrays = [random.integers(0, 256, shape).astype(np.uint8) for shape in ((1, channels, height, width), (1, channels, 1, 1))]
    less = [apply("sub", convert(Arg(i, DType.U8), I32), literal(zero, I32)) for i, zero in enumerate((138, 7))]
    op = Elementwise(requantized(apply("mul", *less), literal(0.0048, F32), literal(111.0, F32), DType.U8))
    views = [View(DType.U8, a.shape, Layout.channels_last(4).strides(a.shape)) for a in arrays]
    return kernels.request_for(op, arrays, target, inputs=views, outputs=views[:1], threads=threads), arrays


@pytest.mark.parametrize(("channels", "height", "width"), [(16, 5, 7), (17, 3, 3), (49, 2, 5), (100, 13, 1), (96, 14, 14)])
def test_factors_of_channels(channels, height, width):
    for target, threads in (("x86-64-v4", 1), ("x86-64-v3", 4), ("cortex-a76", 1), ("generic-c", 1)):
        request, arrays = scaled_channels(target, channels, height, width, threads)
        kernels.check(request, arrays, units=0.0)
        kernels.check(request, arrays, units=0.0, in_place=(0, 0))


@pytest.mark.parametrize("machine", ["x86-64-v3", "cortex-a76"])
def test_factors_of_channels_as_c(machine):
    kernels.check(*scaled_channels(machine, 49, 3, 7), units=0.0, machine=machine)


def test_factors_of_channels_are_loaded_once():
    function = lower(scaled_channels("x86-64-v4", 96, 14, 14)[0]).function
    inside = [s for loop in walk(function.body) if isinstance(loop, For) and loop.var.startswith("p") for s in walk(loop.body)]
    loads = {part.buffer for s in inside for e in direct_expressions(s) for part in subexpressions(e) if isinstance(part, Load)}
    assert loads == {"x0"}
