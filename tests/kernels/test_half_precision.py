"""Kernels of f16 and bf16 values against the operators: sums in f16 on machines that have them, pairs of bf16 on others.

The same operators run in the interpreter, where each access is checked, and as C: f16 under qemu, bf16 on this machine.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.op import Op
from edgecc.ir.scalar import Apply, Arg, Convert, ScalarExpr, apply, convert, literal
from edgecc.ir.types import DType, TensorType
from edgecc.kernels import half_sums
from edgecc.kernels.half_sums import Reduction
from edgecc.kernels.registry import lower
from edgecc.kernels.request import Request
from edgecc.kernels.view import View
from edgecc.loop.index import const
from edgecc.loop.ir import Declare, Store, walk
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.matrix import MatMul
from edgecc.ops.reduction import Reduce, Softmax
from tests.support.kernels import Array, check, laid_out, numbers, request_for

F16, BF16, F32 = DType.F16, DType.BF16, DType.F32
TARGET = {F16: "cortex-a76", BF16: "x86-64-v4-bf16"}


def clamp(dtype: DType) -> ScalarExpr:
    """Relu6: of the sum in the half type for f16, of the f32 sum for bf16."""
    kind = dtype if dtype is F16 else F32
    return convert(apply("min", apply("max", Arg(0, kind), literal(0.0, kind)), literal(6.0, kind)), dtype)


def residual(dtype: DType) -> ScalarExpr:
    if dtype is F16:
        return apply("add", Arg(0, F16), Arg(1, F16))
    return convert(apply("add", Arg(0, F32), Convert(Arg(1, dtype), F32)), dtype)


def swish(dtype: DType) -> ScalarExpr:
    """An epilogue that is computed in f32 on every machine."""
    return convert(apply("mul", Arg(0, F32), apply("sigmoid", Arg(0, F32))), dtype)


EPILOGUES = {"none": None, "clamp": clamp, "residual": residual, "swish": swish}


def requested(op: Op, arrays: list[Array | None], constants: tuple[int, ...], dtype: DType, *, channels_last: bool = True) -> Request:
    def view(array: Array) -> View:
        order = (0, *range(2, array.ndim), 1) if channels_last and array.ndim > 2 else tuple(range(array.ndim))
        return laid_out(TensorType.of(array), order)

    (result,) = op.infer([None if a is None else TensorType.of(a) for a in arrays])
    out = view(np.zeros(result.dims, result.dtype.numpy))
    request = request_for(op, arrays, TARGET[dtype], inputs=[None if a is None else view(a) for a in arrays],
                          outputs=[out], constants=constants)
    return dataclasses.replace(request, precision=dtype)


def units(dtype: DType, terms: int) -> float:
    """Sums in f16 round at each term; sums in f32 round once, at the end."""
    return 4.0 + (2.0 * np.sqrt(terms) if dtype is F16 else 0.0)


def convolution(dtype: DType, *, inputs: int, outputs: int, size: tuple[int, int], kernel: int = 1, group: int = 1, stride: int = 1,
                epilogue: str = "none", bias: bool = True, seed: int = 0) -> tuple[Request, list[Array | None], float]:
    make = EPILOGUES[epilogue]
    pad = kernel // 2
    op = Conv((stride,) * 2, (pad,) * 4, (1, 1), group, None if make is None else make(dtype))
    scale = 1.0 / np.sqrt(inputs // group * kernel * kernel)
    arrays: list[Array | None] = [numbers(seed, (1, inputs, *size), dtype), numbers(seed + 1, (outputs, inputs // group, kernel, kernel), dtype, scale),
                                  numbers(seed + 2, (outputs,), dtype if seed % 2 else F32) if bias else None]
    if epilogue == "residual":
        out = op.infer([None if a is None else TensorType.of(a) for a in [*arrays, np.zeros(1, dtype.numpy)]])[0].dims
        arrays.append(numbers(seed + 3, out, dtype))
    return requested(op, arrays, (1, 2), dtype), arrays, units(dtype, inputs // group * kernel * kernel)


@st.composite
def convolutions(draw: st.DrawFn, dtype: DType):
    depthwise = draw(st.booleans())
    inputs = draw(st.sampled_from((1, 2, 6, 8, 13, 16, 24, 40)))
    return convolution(dtype, inputs=inputs, outputs=inputs if depthwise else draw(st.sampled_from((1, 4, 8, 13, 17, 24, 33))),
                       size=(draw(st.integers(1, 4)), draw(st.sampled_from((1, 5, 7, 13, 17)))), kernel=draw(st.sampled_from((1, 1, 3))),
                       group=inputs if depthwise else 1, stride=draw(st.sampled_from((1, 1, 2))),
                       epilogue=draw(st.sampled_from(tuple(EPILOGUES))), bias=draw(st.booleans()), seed=draw(st.integers(0, 99)))


@pytest.mark.parametrize("dtype", [F16, BF16], ids=lambda d: d.value)
def test_convolutions(dtype):
    @settings(max_examples=12)
    @given(convolutions(dtype))
    def run(case):
        request, arrays, bound = case
        check(request, arrays, bound)

    run()


@pytest.mark.parametrize("dtype", [F16, BF16], ids=lambda d: d.value)
def test_matrix_products(dtype):
    @settings(max_examples=10)
    @given(st.sampled_from((1, 3, 7, 13)), st.sampled_from((2, 8, 9, 24, 34)), st.sampled_from((1, 8, 17, 40)), st.booleans(), st.booleans(),
           st.integers(0, 99))
    def run(rows, depth, channels, transposed, constant, seed):
        op = MatMul(transpose_b=transposed, epilogue=Convert(Arg(0, F32), F32))
        a = numbers(seed, (2, rows, depth), dtype)
        shape = (channels, depth) if transposed else (depth, channels)
        b = numbers(seed + 1, shape if constant else (2, *shape), dtype, 1.0 / np.sqrt(depth))
        request = requested(op, [a, b], (1,) if constant else (), dtype, channels_last=False)
        bound = units(dtype, depth)
        # The result is f32: its units are smaller than those in which f16 sums round.
        check(request, [a, b], bound * (F16.unit_roundoff / F32.unit_roundoff if dtype is F16 else 4.0))

    run()


def hard_swish(dtype: DType) -> ScalarExpr:
    x = Arg(0, dtype)
    inside = apply("min", apply("max", apply("add", x, literal(3.0, dtype)), literal(0.0, dtype)), literal(6.0, dtype))
    return apply("mul", apply("mul", x, inside), literal(1 / 6, dtype))


def others(dtype: DType) -> list[tuple[Op, list[Array | None], tuple[int, ...]]]:
    """Operators that are no contractions (but one, of interleaved phases), with odd sizes."""
    maps = numbers(5, (1, 13, 5, 7), dtype)
    wide = convert(apply("exp", Convert(Arg(0, dtype), F32)), dtype)
    return [
        (Elementwise(hard_swish(dtype)), [maps], ()),
        (Elementwise(apply("add", Arg(0, dtype), Arg(1, dtype))), [maps, numbers(6, (13, 1, 1), dtype)], ()),
        (Elementwise(wide), [maps], ()),
        (Elementwise(Convert(Arg(0, F32), dtype)), [numbers(7, (1, 3, 5, 9), F32)], ()),
        (Elementwise(Convert(Arg(0, dtype), F32)), [maps], ()),
        (Elementwise(Apply("select", (Apply("lt", (Arg(0, dtype), literal(0.0, dtype)), DType.BOOL), literal(0.5, dtype), Arg(0, dtype)), dtype)),
         [maps], ()),
        (Pool("max", (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)), [maps], ()),
        (Pool("average", (2, 2), (2, 2), (0, 0, 0, 0), (1, 1)), [maps], ()),
        (Reduce("mean", (2, 3), True), [maps], ()),
        (Softmax(1), [numbers(8, (5, 17), dtype)], ()),
        (ConvTranspose((2, 2), (0, 0, 0, 0), (1, 1)), [maps, numbers(9, (13, 9, 2, 2), dtype, 0.2)], (1,)),
    ]


@pytest.mark.parametrize("dtype", [F16, BF16], ids=lambda d: d.value)
def test_other_operators(dtype):
    for op, arrays, constants in others(dtype):
        check(requested(op, arrays, constants, dtype), arrays, units(dtype, 16))


@pytest.mark.parametrize("target", ["cortex-a76", "cortex-a55"])
def test_f16_as_c(target):
    cases = [convolution(F16, inputs=24, outputs=33, size=(7, 7), epilogue="clamp"),
             convolution(F16, inputs=13, outputs=17, size=(3, 13), kernel=3, epilogue="residual", seed=1),
             convolution(F16, inputs=17, outputs=17, size=(5, 17), kernel=3, group=17, stride=2, epilogue="swish", seed=2)]
    cases += [(requested(op, arrays, constants, F16), arrays, units(F16, 16)) for op, arrays, constants in others(F16)[:7]]
    for request, arrays, bound in cases if target == "cortex-a76" else cases[:2]:
        check(dataclasses.replace(request, target=dataclasses.replace(request.target, name=target)), arrays, bound, machine=target)


def test_bf16_as_c():
    cases = [convolution(BF16, inputs=100, outputs=49, size=(7, 7), epilogue="clamp"),
             convolution(BF16, inputs=10, outputs=17, size=(3, 13), kernel=3, epilogue="residual", seed=1),
             convolution(BF16, inputs=17, outputs=17, size=(5, 17), kernel=3, group=17, epilogue="swish", seed=2)]
    for request, arrays, bound in cases:
        check(request, arrays, bound, machine=TARGET[BF16])


def test_products_of_bf16_are_taken_in_pairs_where_terms_lie_side_by_side():

    assert "2 terms a step" in lower(convolution(BF16, inputs=10, outputs=16, size=(3, 5))[0]).choice
    assert "terms a step" not in lower(convolution(BF16, inputs=9, outputs=16, size=(3, 5))[0]).choice


def test_sums_of_f16_have_as_many_lanes_as_the_register_holds():

    request = convolution(F16, inputs=16, outputs=16, size=(3, 5))[0]
    assert "vectors of 8" in lower(request).choice
    assert "vectors of 4" in lower(dataclasses.replace(request, precision=F32)).choice


@pytest.mark.parametrize("terms", [(600,), (513,), (1000,), (3, 200), (3, 3, 700), (2, 3, 64)], ids=lambda t: "x".join(map(str, t)))
def test_long_sums_are_cut_into_blocks_that_hold_every_term_once(terms):
    loops = [Reduction(f"r{i}", const(0), const(n)) for i, n in enumerate(terms)]
    blocks = half_sums.cut(loops)
    assert (blocks == ()) == (math.prod(terms) <= half_sums.LONGEST)
    count = 0
    for block in blocks:
        inner = math.prod(loop.extent for loop in block.inner)
        assert inner <= half_sums.BLOCK
        count += inner * math.prod(loop.extent for loop in block.outer)
    assert not blocks or count == math.prod(terms)


@pytest.mark.parametrize(("machine", "inputs", "kernel"), [("", 1000, 1), ("", 97, 3), ("cortex-a76", 1203, 1), ("cortex-a76", 260, 3),
                                                          ("cortex-a76", 16 * 576 + 1, 1)])
def test_long_sums_are_as_accurate_as_their_blocks(machine, inputs, kernel):
    request, arrays, _ = convolution(F16, inputs=inputs, outputs=9, size=(2, 5), kernel=kernel, epilogue="clamp", seed=3)
    bound = 4.0 + np.sqrt(half_sums.BLOCK) / 2
    check(request, arrays, bound, machine=machine)
    function = lower(request).function
    assert any(b.dtype is F16 for b in function.buffers)
    few = inputs <= half_sums.HALF_BLOCKS * half_sums.BLOCK
    assert kernel > 1 or {s.value.dtype for s in walk(function.body) if isinstance(s, Declare) and s.name == "total"} == {F16 if few else F32}


@pytest.mark.parametrize(("machine", "inputs", "outputs", "size", "epilogue"), [
    ("", 640, 33, (3, 5), "residual"), ("cortex-a76", 960, 41, (7, 7), "clamp"), ("cortex-a76", 1920, 24, (1, 13), "residual")])
def test_blocks_of_long_sums_wait_in_memory_where_they_fill_the_registers(machine, inputs, outputs, size, epilogue):
    request, arrays, _ = convolution(F16, inputs=inputs, outputs=outputs, size=size, epilogue=epilogue, seed=4)
    function = lower(request).function
    assert {s.dtype for s in function.buffers if s.role == "workspace"} == {F16}
    assert not any(isinstance(s, Declare) and s.name == "total" for s in walk(function.body))
    check(request, arrays, 4.0 + np.sqrt(half_sums.BLOCK) / 2, machine=machine)


@pytest.mark.parametrize("depth", [64, 72, 128, 480, 576, 960, 1000, 4608, 20000])
@pytest.mark.parametrize("most", [64, 576])
def test_blocks_of_even_size_cover_the_sum(depth, most):
    blocks = half_sums.blocks_of(depth, most)
    if blocks is None:
        assert depth <= most or depth > most * half_sums.HALF_BLOCKS or depth % 16
    else:
        assert blocks.count * blocks.terms == depth
        assert blocks.terms <= most
        assert 2 <= blocks.count <= half_sums.HALF_BLOCKS


def test_short_sums_are_not_cut_where_the_border_has_fewer_terms():
    request = convolution(F16, inputs=3, outputs=8, size=(5, 7), kernel=3, stride=2)[0]
    assert not any(isinstance(s, Declare) and s.name == "total" for s in walk(lower(request).function.body))
    long = convolution(F16, inputs=90, outputs=8, size=(5, 7), kernel=3)[0]
    assert any(isinstance(s, Declare) and s.name == "total" for s in walk(lower(long).function.body))


@pytest.mark.parametrize(("channels", "size", "alternates"), [
    (3, (2, 17), True), (2, (1, 13), True), (4, (3, 100), True), (5, (1, 49), False), (3, (1, 7), False)])
def test_planes_become_pixels_by_stores_that_interleave(channels, size, alternates):
    dims = (1, channels, *size)
    planes = [numbers(1, dims, F32), numbers(2, dims, F32)]
    op = Elementwise(Convert(apply("mul", Arg(0, F32), Arg(1, F32)), F16))
    out = laid_out(TensorType(F16, dims), (0, 2, 3, 1))
    request = dataclasses.replace(request_for(op, planes, "cortex-a76", outputs=[out]), precision=F16)
    stores = [s for s in walk(lower(request).function.body) if isinstance(s, Store)]
    assert any(s.stride == channels for s in stores) == alternates
    check(request, planes, 0.0)
    if alternates:
        check(request, planes, 0.0, machine="cortex-a76")
