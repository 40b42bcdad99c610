"""Products of two factors of bytes that only the run knows, with zero points of both, against the operator's reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.scalar import Arg, literal
from edgecc.ir.types import DType
from edgecc.kernels.registry import lower
from edgecc.loop.dot import DOTS
from edgecc.loop.ir import Op, expressions, subexpressions, walk
from edgecc.ops.matrix import MatMul
from edgecc.ops.requantize import requantized
from tests.support import kernels
from tests.support.ccompile import distinct

BYTES = (np.int8, np.uint8)
GROUPED = ("x86-64-v3", "x86-64-v4-bf16", "cortex-a76")


def product(target, lead, rows, depth, channels, types=(np.uint8, np.int8), zeros=(0, 0), transposed=False, threads=1, seed=0):
    """A request for such a product, requantized, and its operands, extremes among them."""
    random, arrays = np.random.default_rng(seed), []
    for dtype, shape in zip(types, [(rows, depth), (channels, depth) if transposed else (depth, channels)], strict=True):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        arrays.append(random.choice([low, high, *range(low, high + 1)], (*lead, *shape)).astype(dtype))
    op = MatMul(transpose_b=transposed, a_zero=zeros[0], b_zero=zeros[1],
                epilogue=requantized(Arg(0, DType.I32), literal(0.0009, DType.F32), literal(3.0, DType.F32), DType.U8))
    return kernels.request_for(op, arrays, target, threads=threads), arrays


def groups(request):
    return any(isinstance(part, Op) and part.op in DOTS for stmt in walk(lower(request).function.body)
               for expr in expressions(stmt) for part in subexpressions(expr))


@st.composite
def products(draw):
    types = draw(st.tuples(st.sampled_from(BYTES), st.sampled_from(BYTES)))
    zeros = [draw(st.sampled_from([np.iinfo(t).min, np.iinfo(t).max, 0, 3, np.iinfo(t).min + 128])) for t in types]
    return product(draw(st.sampled_from((*GROUPED, "generic-c", "cortex-a53"))), draw(st.sampled_from([(), (2,), (2, 1, 3)])),
                   draw(st.integers(1, 13)), draw(st.sampled_from([4, 8, 12, 13, 64, 68, 100])), draw(st.sampled_from([1, 3, 8, 13, 17, 49])),
                   types, zeros, draw(st.booleans()), draw(st.sampled_from((1, 2))), draw(st.integers(0, 99)))


@settings(max_examples=25)
@given(products())
def test_products_are_exact(drawn):
    kernels.check(*drawn, units=0.0)


@pytest.mark.parametrize("machine", distinct("host", "x86-64-v3", "cortex-a76"))
def test_products_are_exact_as_c(machine):
    for number, (types, zeros) in enumerate([((np.uint8, np.uint8), (120, 131)), ((np.int8, np.uint8), (-3, 128))]):
        drawn = product(machine, (2,), 13, 68 - 32 * number, 49, types, zeros, bool(number))
        kernels.check(*drawn, units=0.0, machine=machine)


@pytest.mark.parametrize("target", GROUPED)
def test_groups_are_multiplied_where_the_machine_does(target):
    assert groups(product(target, (2,), 13, 64, 49)[0])
    assert not groups(product(target, (2,), 13, 63, 49)[0])  # no whole groups
    assert not groups(product("generic-c", (2,), 13, 64, 49)[0])
