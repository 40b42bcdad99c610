"""Views agree with numpy: reshapes are views exactly where numpy needs no copy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecc.ir.types import Array, DType
from edgecc.kernels.view import View
from edgecc.memory.strides import innermost_axis, operand_view, reshape_strides, row_major, same_memory, view_of
from edgecc.ops.movement import Concat, Expand, Reshape, Slice, Transpose


def shown(memory: Array, offset: int, view: View) -> Array:
    return np.lib.stride_tricks.as_strided(memory[offset:], view.dims, [s * memory.itemsize for s in view.strides])


@st.composite
def factorings(draw: st.DrawFn, elements: int) -> tuple[int, ...]:
    shape: list[int] = []
    while elements > 1:
        shape.append(draw(st.sampled_from([d for d in range(2, elements + 1) if elements % d == 0])))
        elements //= shape[-1]
    for _ in range(draw(st.integers(0, 2))):
        shape.insert(draw(st.integers(0, len(shape))), 1)
    return tuple(shape)


@given(st.data())
def test_reshape_is_a_view_exactly_where_numpy_finds_one(data: st.DataObject) -> None:
    elements = data.draw(st.sampled_from((1, 2, 4, 6, 12, 24, 36)))
    dims = data.draw(factorings(elements))
    memory = np.arange(2 * elements, dtype=np.int8)
    spread = data.draw(st.sampled_from((1, 2)))
    array = memory[::spread][:elements].reshape(dims).transpose(data.draw(st.permutations(range(len(dims)))))
    wanted = data.draw(factorings(elements))
    found = reshape_strides(array.shape, array.strides, wanted)
    try:
        view = array.view()
        view.shape = wanted
    except AttributeError:
        assert found is None
    else:
        assert found is not None
        assert np.array_equal(shown(memory, 0, View(DType.I8, wanted, found)), view)


def test_reshape_of_no_elements() -> None:
    assert reshape_strides((0, 3), (7, 1), (3, 0, 2)) == (0, 2, 1)


@pytest.mark.parametrize("op", [
    Transpose((2, 0, 1)), Reshape((4, 15)), Reshape((20, 3)), Slice((1, 0, 1), (2, 5, 1), (2, 1, 1)),
    Slice((3, 4, 2), (1, 1, 1), (-1, -1, -1)), Expand((2, 4, 5, 3)),
])
def test_views_show_what_the_operator_computes(op: Transpose) -> None:
    x = np.arange(60, dtype=np.float32).reshape(4, 5, 3)
    (expected,) = op.reference((x,))
    found = view_of(op, row_major(View(DType.F32, x.shape, ())), expected.shape)
    assert found is not None
    assert np.array_equal(shown(x.reshape(-1), *found), expected)


@pytest.mark.parametrize("op", [Slice((3, 0, 0), (2, 5, 3), (-1, 1, 1)), Concat(0)])
def test_backward_slices_and_joins_are_no_views(op: Slice) -> None:
    assert view_of(op, View(DType.F32, (4, 5, 3), (15, 3, 1)), (2, 5, 3)) is None


@pytest.mark.parametrize("op", [Transpose((2, 0, 1)), Reshape((20, 3)), Reshape((2, 2, 15))])
def test_operand_views_are_the_inverse(op: Transpose) -> None:
    x = View(DType.F32, (4, 5, 3), (15, 3, 1))
    result_type = op.reference((np.zeros(x.dims),))[0].shape
    found = view_of(op, x, result_type)
    assert found is not None
    back = operand_view(op, found[1], x.dims)
    assert back is not None
    assert same_memory(back, x)


def test_operand_view_of_a_strided_result() -> None:
    assert operand_view(Reshape((2, 6)), View(DType.F32, (2, 6), (10, 1)), (12,)) is None
    assert operand_view(Slice((0,), (1,), (1,)), View(DType.F32, (1,), (1,)), (2,)) is None


def test_same_memory_ignores_axes_of_one_element() -> None:
    assert same_memory(View(DType.F32, (1, 3), (3, 1)), View(DType.F32, (1, 3), (99, 1)))
    assert not same_memory(View(DType.F32, (2, 3), (3, 1)), View(DType.F32, (2, 3), (4, 1)))
    assert not same_memory(View(DType.F32, (3,), (1,)), View(DType.I32, (3,), (1,)))


def test_innermost_axis() -> None:
    assert innermost_axis((0, 2, 3, 1), (1, 8, 4, 4)) == 1
    assert innermost_axis((0, 2, 3, 1), (1, 1, 4, 4)) == 3
    assert innermost_axis((0,), (1,)) is None
