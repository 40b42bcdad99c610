"""Kernels that move elements against the operators' references, over shapes, layouts and types."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, TensorType
from edgecc.kernels.movement import common_axes
from edgecc.kernels.registry import lower
from edgecc.kernels.view import View
from edgecc.loop.ir import For, Load, expressions, subexpressions, walk
from edgecc.ops.movement import PAD_MODES, Concat, Expand, Pad, Reshape, Slice, Transpose
from tests.support import kernels

F32, F16, I64, U8, BOOL = DType.F32, DType.F16, DType.I64, DType.U8, DType.BOOL
TYPES = st.sampled_from((F32, F32, I64, F16, U8, BOOL))


@st.composite
def case(draw, build):
    """A request for `build(draw, dims)` -> (op, arrays) with drawn layouts."""
    dtype = draw(TYPES)
    dims = draw(kernels.shapes(1, 4, most_elements=400))
    op, shapes = build(draw, dims)
    arrays = [kernels.numbers(i, s, dtype) for i, s in enumerate(shapes)]
    inputs = [draw(kernels.views(TensorType.of(a))) for a in arrays]
    (result,) = op.infer([TensorType.of(a) for a in arrays])
    return kernels.request_for(op, arrays, draw(st.sampled_from(kernels.TARGETS)), inputs=inputs,
                               outputs=[draw(kernels.views(result))], threads=draw(st.sampled_from((1, 3)))), arrays


def transposes(draw, dims):
    return Transpose(tuple(draw(st.permutations(range(len(dims)))))), [dims]


def slices(draw, dims):
    starts, sizes, steps = [], [], []
    for d in dims:
        size = draw(st.integers(0 if draw(st.integers(0, 9)) == 0 else 1, d))
        step = draw(st.sampled_from((1, 1, 1, -1, 2, -3)))
        if size and abs(step) * (size - 1) >= d:
            step = int(math.copysign(1, step))
        reach = step * max(size - 1, 0)
        starts.append(draw(st.integers(max(0, -reach), d - 1 - max(0, reach))))
        sizes.append(size)
        steps.append(step)
    return Slice(tuple(starts), tuple(sizes), tuple(steps)), [dims]


def concats(draw, dims):
    axis = draw(st.integers(0, len(dims) - 1))
    sizes = draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
    return Concat(axis), [(*dims[:axis], s, *dims[axis + 1:]) for s in sizes]


def expands(draw, dims):
    own = tuple(1 if draw(st.booleans()) else d for d in dims)[draw(st.integers(0, len(dims))):]
    return Expand(dims), [own]


def reshapes(draw, dims):
    total, shape = math.prod(dims), []
    while total > 1 or not shape:
        shape.append(draw(st.sampled_from([d for d in range(1, total + 1) if total % d == 0])))
        total //= shape[-1]
    return Reshape(tuple(draw(st.permutations(shape)))), [dims]


def pads(draw, dims):
    mode = draw(st.sampled_from(PAD_MODES))
    least = -2 if mode == "constant" else 0
    before = [draw(st.integers(max(least, -d), 4)) for d in dims]
    after = [draw(st.integers(max(least, -d - min(b, 0)), draw(st.sampled_from((1, 3, 9))))) for d, b in zip(dims, before, strict=True)]
    return Pad(tuple(before), tuple(after), mode), [dims, ()] if mode == "constant" and draw(st.booleans()) else [dims]


@pytest.mark.parametrize("build", [transposes, slices, concats, expands, reshapes, pads], ids=lambda f: f.__name__)
def test_agrees_with_the_reference(build):
    @settings(max_examples=60)
    @given(case(build))
    def run(drawn):
        request, arrays = drawn
        kernels.check(request, arrays, units=0.0)

    run()


def loads_of(function):
    return [e for s in walk(function.body) for root in expressions(s) for e in subexpressions(root) if isinstance(e, Load)]


def test_runs_are_copied_as_vectors():
    x = kernels.numbers(0, (4, 6, 32))
    function = lower(kernels.request_for(Slice((1, 2, 0), (2, 3, 32), (1, 1, 1)), [x])).function
    assert {e.lanes for e in loads_of(function)} == {8}


def test_matrices_are_transposed_in_blocks():
    x = kernels.numbers(0, (70, 45))
    request = kernels.request_for(Transpose((1, 0)), [x])
    assert max(s.extent for s in walk(lower(request).function.body) if isinstance(s, For)) <= 16
    kernels.check(request, [x], units=0.0)


def test_reshape_of_a_layout_needs_no_division_where_sizes_share_factors():
    nhwc = kernels.laid_out(TensorType(F32, (1, 24, 5, 6)), (0, 2, 3, 1))
    for dims in ((1, 4, 6, 30), (24, 30), (2, 12, 5, 3, 2), (720,)):
        axes, irregular = common_axes(kernels.row_major(TensorType(F32, dims)), nhwc)
        assert not irregular and math.prod(a.extent for a in axes) == 720


def test_reshape_without_common_factors_divides():
    gapped = View(F32, (6, 4), (5, 1))
    x = kernels.numbers(0, (6, 4))
    request = kernels.request_for(Reshape((8, 3)), [x], inputs=[gapped], outputs=[View(F32, (8, 3), (4, 1))])
    assert "division" in lower(request).choice
    kernels.check(request, [x], units=0.0)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_paddings_much_wider_than_the_operand(mode):
    x = kernels.numbers(0, (2, 3))
    request = kernels.request_for(Pad((40, 31), (5, 60), mode), [x])
    kernels.check(request, [x], units=0.0)
    assert len(lower(request).function.body) <= 32


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5])
@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("constant", [True, False])
def test_fill_values_are_kept_bit_for_bit(value, dtype, constant):
    arrays = [kernels.numbers(0, (3, 9), dtype), np.asarray(value, dtype.numpy)]
    request = kernels.request_for(Pad((1, 2), (3, 4)), arrays, constants=[1] if constant else [])
    (got,) = kernels.run(request, arrays)
    (expected,) = request.op.reference(arrays)
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("machine", kernels.TARGETS)
def test_compiled_code_agrees(machine):
    x = kernels.numbers(0, (2, 9, 20))
    view = kernels.laid_out(TensorType.of(x), (0, 2, 1), (0, 0, 1))
    for op in (Transpose((2, 0, 1)), Reshape((3, 120)), Slice((1, 8, 1), (1, 5, 7), (1, -2, 2)), Expand((4, 2, 9, 20)),
               Pad((0, 2, 5), (1, 0, 3)), Pad((0, 2, 5), (1, 0, 3), "reflect")):
        kernels.check(kernels.request_for(op, [x], machine, inputs=[view]), [x], units=0.0, machine=machine)
    parts = [kernels.numbers(i, (2, n, 20), F16) for i, n in enumerate((3, 1, 6))]
    kernels.check(kernels.request_for(Concat(1), parts, machine), parts, units=0.0, machine=machine)
