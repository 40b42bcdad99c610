"""Rounded sums and products of two bytes by multiply-adds: all 65,536 pairs give the bytes of the operator's definition."""

import numpy as np
import pytest

from edgecc.ir.scalar import Arg, apply, convert, literal
from edgecc.ir.types import DType, TensorType
from edgecc.kernels.byte_pairs import Bytes, product_of, sum_of
from edgecc.kernels.registry import lower
from edgecc.loop.ir import Op, expressions, subexpressions, walk
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.requantize import dequantized, requantized, rounded
from tests.support.kernels import laid_out, request_for, run

F32, I32, I8, U8 = DType.F32, DType.I32, DType.I8, DType.U8
SUM = (0.479912519454956, 0.907639026641846)


def codes(dtype):
    low, high = (int(limit) for limit in dtype.limits)
    return np.arange(low, high + 1).astype(dtype.numpy)


def difference(index, dtype, zero):
    wide = convert(Arg(index, dtype), I32)
    return apply("sub", wide, literal(zero, I32)) if zero else wide


def total(dtype, zeros, scales, zero, result):
    """A rounded sum of two operands."""
    terms = [apply("mul", convert(difference(i, dtype, z), F32), literal(s, F32)) for i, (z, s) in enumerate(zip(zeros, scales, strict=True))]
    return rounded(apply("add", *terms), literal(zero, F32) if zero else None, result)


def product(dtype, zeros, scale, zero):
    """A rounded product of two operands, of their type."""
    return requantized(apply("mul", *(difference(i, dtype, z) for i, z in enumerate(zeros))), literal(scale, F32),
                       literal(zero, F32) if zero else None, dtype)


def forms(request):
    """How many roundings the kernel has, of multiply-adds and of anything else."""
    rounds = [e.args[0] for s in walk(lower(request).function.body) for top in expressions(s) for e in subexpressions(top)
              if isinstance(e, Op) and e.op == "nearest"]
    fused = sum(isinstance(e, Op) and e.op == "fma" for e in rounds)
    return fused, len(rounds) - fused


def check(request, arrays, machine):
    (result,), (expected,) = run(request, arrays, machine), request.op.reference(arrays)
    assert result.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("machine", "dtype", "zeros", "zero"), [
    ("x86-64-v4", U8, (120, 137), 85), ("x86-64-v3", I8, (0, -9), -128), ("cortex-a76", U8, (0, 255), 3)])
def test_sums_of_all_pairs(machine, dtype, zeros, zero):
    x, y = np.repeat(codes(dtype), 256), np.tile(codes(dtype), 256)
    for expr in (total(dtype, zeros, SUM, zero, dtype),
                 dequantized(total(dtype, zeros, SUM, zero, U8), literal(0.05288053, F32), literal(135, I32))):
        request = request_for(Elementwise(expr), [x, y], machine)
        fused, others = forms(request)
        assert fused and not others
        check(request, [x, y], machine)


@pytest.mark.parametrize(("machine", "dtype", "zeros", "zero"), [
    ("x86-64-v4", U8, (90, 0), 85), ("x86-64-v3", I8, (-3, 7), 0), ("cortex-a76", U8, (0, 128), 255)])
@pytest.mark.parametrize("last", [True, False])
def test_products_of_all_pairs_with_a_factor_for_each_channel(machine, dtype, zeros, zero, last):
    x = np.tile(codes(dtype), (256, 1)).reshape(1, 256, 16, 16)
    factor = codes(dtype).reshape(1, 256, 1, 1)
    views = [laid_out(TensorType(dtype, x.shape), (0, 2, 3, 1))] if last else []
    for arrays in ([x, factor], [factor, x]):
        ordered = arrays[0] is x
        op = Elementwise(product(dtype, zeros if ordered else zeros[::-1], 0.004490954, zero))
        request = request_for(op, arrays, machine, inputs=views if ordered else [None, *views], outputs=views)
        fused, others = forms(request)
        assert fused and not others
        check(request, arrays, machine)


def test_forms_stay_where_a_pair_would_change_or_nothing_is_gained():
    x, y = np.repeat(codes(U8), 256), np.tile(codes(U8), 256)
    tied = Elementwise(total(U8, (120, 137), (0.4799, 0.9076), 85, U8))  # thousands of sums are ties but for the rounding of these numbers
    assert sum_of((Bytes(U8, 120), Bytes(U8, 137)), tuple(map(float, np.float32([0.4799, 0.9076]))), 85) is None
    request = request_for(tied, [x, y], "x86-64-v4")
    assert forms(request) == (0, 4)
    check(request, [x, y], "x86-64-v4")
    assert forms(request_for(Elementwise(product(U8, (3, 4), 0.0045, 5)), [x, y], "x86-64-v4")) == (0, 4)
    assert forms(request_for(Elementwise(total(U8, (120, 137), SUM, 85, U8)), [x, y], "generic-c")) == (0, 1)


def test_halves_are_exact_only_with_even_zero_points_inside():
    kinds = (Bytes(U8, 3), Bytes(U8, 4))
    assert sum_of(kinds, (0.5, 0.25), 8) == (0.5, 0.25, 8 - 2.5)
    assert sum_of(kinds, (0.5, 0.25), 7) is None
    assert product_of(kinds, 0.0625, 0) == 0.0625
    assert product_of(kinds, 0.25, 0) is None  # results are too large
