"""Gather and scatter kernels against the operators' references, wild indices included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, TensorType
from edgecc.kernels.kernel import Packed
from edgecc.kernels.registry import lower
from edgecc.loop.ir import Load, expressions, subexpressions, walk
from edgecc.ops.indexing import SCATTER_REDUCTIONS, Gather, GatherElements, GatherND, ScatterElements, ScatterND
from tests.support import kernels

F32, F16, I32, I64, U8, BOOL = DType.F32, DType.F16, DType.I32, DType.I64, DType.U8, DType.BOOL
INDEX_TYPES = (I64, I64, I32, DType.I8, U8, DType.U64)


def indices_for(draw, shape, size):
    """Mostly valid indices, some negative, some far out of range."""
    dtype = draw(st.sampled_from(INDEX_TYPES))
    random = np.random.default_rng(draw(st.integers(0, 999)))
    values = random.integers(-size, size, size=shape)
    wild = random.random(shape) < 0.1
    values = np.where(wild, random.choice([-(2**62), -200, 120, 2**62], size=shape), values)
    if not dtype.is_signed:
        values = np.abs(values)
    info = np.iinfo(dtype.numpy)
    return np.clip(values, info.min, info.max).astype(dtype.numpy)


@st.composite
def case(draw, build):
    dtype = draw(st.sampled_from((F32, F32, F32, F16, I64, I32, U8)))
    op, shapes, indices = build(draw)
    arrays = [kernels.numbers(i, s, dtype) for i, s in enumerate(shapes)]
    arrays.insert(1, indices)
    inputs = [draw(kernels.views(TensorType.of(a))) for a in arrays]
    (result,) = op.infer([TensorType.of(a) for a in arrays])
    output = inputs[0] if inputs[0].dims == result.dims and draw(st.booleans()) else draw(kernels.views(result))
    constants = [1] if draw(st.integers(0, 2)) == 0 else []
    return kernels.request_for(op, arrays, draw(st.sampled_from(kernels.TARGETS)), inputs=inputs, outputs=[output],
                               constants=constants, threads=draw(st.sampled_from((1, 3)))), arrays


def gathers(draw):
    dims = draw(kernels.shapes(1, 3, most_elements=200))
    axis = draw(st.integers(0, len(dims) - 1))
    return Gather(axis), [dims], indices_for(draw, draw(kernels.shapes(0, 2, most_elements=20)), dims[axis])


def gather_elements(draw):
    dims = draw(kernels.shapes(1, 3, most_elements=200))
    axis = draw(st.integers(0, len(dims) - 1))
    shape = tuple(draw(st.integers(1, 9)) if a == axis else draw(st.integers(1, d)) for a, d in enumerate(dims))
    return GatherElements(axis), [dims], indices_for(draw, shape, dims[axis])


def gather_nds(draw):
    dims = draw(kernels.shapes(1, 4, most_elements=200))
    batch = draw(st.integers(0, min(1, len(dims) - 1)))
    depth = draw(st.integers(1, len(dims) - batch))
    shape = (*dims[:batch], *draw(kernels.shapes(0, 2, most_elements=12)), depth)
    return GatherND(batch), [dims], indices_for(draw, shape, min(dims[batch:batch + depth]))


def scatter_nds(draw):
    dims = draw(kernels.shapes(1, 4, most_elements=200))
    depth = draw(st.integers(1, len(dims)))
    rows = draw(kernels.shapes(0, 2, most_elements=12))
    op = ScatterND(draw(st.sampled_from(("none", *SCATTER_REDUCTIONS))))
    return op, [dims, (*rows, *dims[depth:])], indices_for(draw, (*rows, depth), min(dims[:depth]))


def scatter_elements(draw):
    dims = draw(kernels.shapes(1, 3, most_elements=200))
    axis = draw(st.integers(0, len(dims) - 1))
    shape = tuple(draw(st.integers(1, 9)) if a == axis else draw(st.integers(1, d)) for a, d in enumerate(dims))
    op = ScatterElements(axis, draw(st.sampled_from(("none", *SCATTER_REDUCTIONS))))
    return op, [dims, shape], indices_for(draw, shape, dims[axis])


@pytest.mark.parametrize("build", [gathers, gather_elements, gather_nds, scatter_nds, scatter_elements],
                         ids=lambda f: f.__name__)
def test_agrees_with_the_reference(build):
    @settings(max_examples=80)
    @given(case(build))
    def run(drawn):
        request, arrays = drawn
        units = 12.0 if getattr(request.op, "reduction", "none") in ("add", "mul") else 0.0
        kernels.check(request, arrays, units=units)
        if lower(request).in_place:
            kernels.check(request, arrays, units=units, in_place=(0, 0))

    run()


def test_rows_are_copied_as_vectors():
    x, indices = kernels.numbers(0, (50, 64)), np.array([3, -1, 49], np.int64)
    function = lower(kernels.request_for(Gather(0), [x, indices])).function
    loads = [e for s in walk(function.body) for r in expressions(s) for e in subexpressions(r)
             if isinstance(e, Load) and e.buffer == "x"]
    assert {e.lanes for e in loads} == {8}


def loads_of(function):
    return [e for s in walk(function.body) for root in expressions(s) for e in subexpressions(root) if isinstance(e, Load)]


@pytest.mark.parametrize("indices", [1, -1, [0, 2, 4, 6], [7, 6, 5], [3, 3, 3], [-1, -2], [5], [0, 1, 2, 3, 40, 50]])
def test_short_constant_lists_become_strided_copies(indices):
    arrays = [kernels.numbers(0, (3, 8, 20)), np.array(indices)]
    request = kernels.request_for(Gather(1), arrays, constants=[1])
    assert {e.buffer for e in loads_of(lower(request).function)} == {"x"}
    kernels.check(request, arrays, units=0.0)


def test_constant_indices_become_addresses_at_compile_time():
    arrays = [kernels.numbers(0, (7, 30)), np.arange(40).reshape(4, 10) * 5 % 9 - 1]
    request = kernels.request_for(Gather(0), arrays, constants=[1])
    (packed,) = (a for a in lower(request).arguments if isinstance(a, Packed))
    table = packed.pack(arrays[1])
    assert table.dtype == np.int32 and table.tolist() == [min(i, 6) * 30 if i >= 0 else 180 for i in arrays[1].reshape(-1)]
    kernels.check(request, arrays, units=0.0)


def test_channels_last_rows_are_copied_as_vectors():
    x = kernels.numbers(0, (1, 32, 5, 6))
    arrays = [x, np.array([0, 2, 3, 1, 0, 5, 4, 4, 1])]
    view = kernels.laid_out(TensorType.of(x), (0, 2, 3, 1))
    out = kernels.laid_out(TensorType(F32, (1, 32, 9, 6)), (0, 2, 3, 1))
    request = kernels.request_for(Gather(2), arrays, inputs=[view], outputs=[out])
    assert {e.lanes for e in loads_of(lower(request).function) if e.buffer == "x"} == {8}
    kernels.check(request, arrays, units=0.0)


@pytest.mark.parametrize("op, shapes", [
    (Gather(1), [(2, 3), (0,)]), (Gather(0), [(2, 0), (3,)]), (GatherElements(0), [(2, 3), (0, 3)]),
    (GatherND(0), [(2, 3), (0, 1)]), (ScatterND(), [(2, 3), (0, 1), (0, 3)]), (ScatterElements(1), [(2, 3), (2, 0), (2, 0)]),
], ids=str)
@pytest.mark.parametrize("constant", [True, False])
def test_empty_tensors(op, shapes, constant):
    arrays = [np.ones(s, np.int64 if i == 1 else np.float32) for i, s in enumerate(shapes)]
    kernels.check(kernels.request_for(op, arrays, constants=[1] if constant else []), arrays)


def test_the_order_of_updates_does_not_depend_on_the_layout_of_indices():
    x = np.zeros((2, 3), np.float32)
    indices = np.array([[[0, 1], [1, 2]], [[0, 1], [0, 1]]])
    for view in (None, kernels.laid_out(TensorType.of(indices), (1, 0, 2))):
        arrays = [x, indices, np.arange(1, 5, dtype=np.float32).reshape(2, 2)]
        (got,) = kernels.run(kernels.request_for(ScatterND(), arrays, inputs=[None, view]), arrays)
        assert got.tolist() == [[0, 4, 0], [0, 0, 2]]


def test_the_last_of_equal_positions_wins():
    x, updates = np.zeros(4, np.float32), np.arange(6, dtype=np.float32)
    for dtype in (np.int32, np.int64):
        indices = np.array([[1], [2], [1], [-3], [9], [1]], dtype)
        (got,) = kernels.run(kernels.request_for(ScatterND(), [x, indices, updates]), [x, indices, updates])
        assert got.tolist() == [0.0, 5.0, 1.0, 4.0]


def test_bools_are_gathered():
    x, indices = kernels.numbers(0, (5, 7), BOOL), np.array([[4, 0]], np.int64)
    kernels.check(kernels.request_for(Gather(0), [x, indices]), [x, indices])


@pytest.mark.parametrize("machine", kernels.TARGETS)
def test_compiled_code_agrees(machine):
    x = kernels.numbers(0, (6, 5, 21))
    wild = np.array([[2, -1, 2**40], [-(2**63), 0, 5]], np.int64)
    for op in (Gather(0), Gather(1), GatherND()):
        kernels.check(kernels.request_for(op, [x, wild], machine), [x, wild], units=0.0, machine=machine)
    elements = np.resize(wild, (2, 5, 21))
    kernels.check(kernels.request_for(GatherElements(0), [x, elements], machine), [x, elements], machine=machine)
    updates = kernels.numbers(1, (2, 5, 21))
    for reduction in ("none", "add", "max"):
        op = ScatterElements(0, reduction)
        kernels.check(kernels.request_for(op, [x, elements, updates], machine), [x, elements, updates], machine=machine)
        rows = kernels.numbers(2, (2, 21))
        pairs = wild[:, :2]
        kernels.check(kernels.request_for(ScatterND(reduction), [x, pairs, rows], machine), [x, pairs, rows], machine=machine)
