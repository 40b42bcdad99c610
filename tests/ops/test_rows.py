"""Which rows an operator needs, found out by changing rows and looking which results change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.op import Op
from edgecc.ir.scalar import Arg, apply
from edgecc.ir.types import Array, DType
from edgecc.ops.convolution import Conv, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.movement import Transpose
from edgecc.ops.rows import row_needs

ADD = apply("add", Arg(0, DType.F32), Arg(1, DType.F32))


def needed(op: Op, inputs: list[Array | None], operand: int) -> list[set[int]]:
    """For each row of the result the rows of an operand that it changes with."""
    (before,) = op.reference(inputs)
    rows: list[set[int]] = [set() for _ in range(before.shape[2])]
    for row in range(inputs[operand].shape[2]):  # type: ignore[union-attr]
        changed = [None if a is None else a.copy() for a in inputs]
        changed[operand][:, :, row] += 1000.0  # type: ignore[index]
        (after,) = op.reference(changed)
        for result in np.flatnonzero((after != before).any(axis=(0, 1, 3))):
            rows[result].add(row)
    return rows


def check(op: Op, inputs: list[Array | None], operand: int) -> None:
    (result,) = op.reference(inputs)
    needs = row_needs(op, operand, [None if a is None else a.shape for a in inputs], result.shape)
    assert needs is not None
    assert needs.height == inputs[operand].shape[2]  # type: ignore[union-attr]
    found = needed(op, inputs, operand)
    for row, rows in enumerate(found):
        assert rows <= set(range(needs.first[row], needs.stop[row]))
        # Where the window is not cut off, its first and its last tap count.
        assert not rows or min(rows) == needs.first[row] or needs.first[row] == 0
        assert not rows or max(rows) == needs.stop[row] - 1 or needs.stop[row] == needs.height
    for rows in range(len(found) + 1):
        assert needs.through(rows) >= max((max(r) + 1 for r in found[:rows] if r), default=0)
        assert needs.from_row(rows) <= min((min(r) for r in found[rows:] if r), default=needs.height)


@settings(max_examples=60)
@given(st.data())
def test_windows_need_what_changes_them(data):
    kernel, stride, dilation = (data.draw(st.integers(1, n)) for n in (4, 3, 3))
    pads = (data.draw(st.integers(0, 3)), 0, data.draw(st.integers(0, 3)), 0)
    extent = (kernel - 1) * dilation + 1
    height = max(data.draw(st.integers(1, 12)), extent - pads[0] - pads[2], 1)
    x = np.random.default_rng(0).standard_normal((1, 2, height, 3)).astype(np.float32)
    if data.draw(st.booleans()):
        op: Op = Conv((stride, 1), pads, (dilation, 1), 1, ADD)
        rows = (height + pads[0] + pads[2] - extent) // stride + 1
        inputs = [x, np.ones((2, 2, kernel, 1), np.float32), None, np.ones((1, 2, rows, 3), np.float32)]
        check(op, inputs, 3)
        assert row_needs(op, 1, [None if a is None else a.shape for a in inputs], (1, 2, rows, 3)) is None
    else:
        op, inputs = Pool("average", (kernel, 1), (stride, 1), pads, (dilation, 1), True), [x]
    check(op, inputs, 0)


def test_elementwise_needs_the_same_row_of_what_has_rows():
    a, b = np.zeros((1, 3, 5, 4), np.float32), np.zeros((1, 3, 1, 1), np.float32)
    op = Elementwise(ADD)
    check(op, [a, np.zeros((1, 1, 5, 1), np.float32)], 1)
    shapes = [a.shape, b.shape]
    assert row_needs(op, 0, shapes, a.shape).first == tuple(range(5))
    assert row_needs(op, 1, shapes, a.shape) is None


@pytest.mark.parametrize("dims", [(2, 3, 4, 5), (3, 4, 5)])
def test_other_operators_and_ranks_need_everything(dims):
    assert row_needs(Transpose(tuple(range(len(dims)))), 0, [dims], dims) is None
    assert row_needs(Elementwise(ADD), 0, [dims[-3:], dims[-3:]], dims[-3:]) is None
