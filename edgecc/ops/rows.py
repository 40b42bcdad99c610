"""Which rows of an operand the rows of a result need: what running a chain of operators stripe by stripe rests on.

Rows are positions of axis 2, the height of images [batch, channels, height, width].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecc.ir.op import Op
from edgecc.ops.convolution import Conv, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather

Dims = tuple[int, ...]

ROW_AXIS = 2


@dataclass(frozen=True)
class RowNeeds:
    """For every row of a result, the rows of one operand it is computed from.

    Attributes:
        height: rows of the operand.
        first, stop: row r of the result needs rows [first[r], stop[r]) of the operand, none where these are
            equal. Both never fall from one row to the next.
    """

    height: int
    first: tuple[int, ...]
    stop: tuple[int, ...]

    def through(self, rows: int) -> int:
        """How many rows of the operand, counted from the top, are enough for the first `rows` rows of the result."""
        return self.stop[rows - 1] if rows else 0

    def from_row(self, row: int) -> int:
        """The first row of the operand that rows of the result from `row` on need; `height` where none does."""
        return self.first[row] if row < len(self.first) else self.height


def row_needs(op: Op, operand: int, inputs: Sequence[Dims | None], result: Dims) -> RowNeeds | None:
    """The rows of operand number `operand` that an operator needs; None where it needs the operand as a whole.

    Args:
        inputs, result: shapes. An operand that does not vary along the rows of the result is needed as a whole.
    """
    dims, weights = inputs[operand], inputs[1] if len(inputs) > 1 else None
    if dims is None or len(dims) != len(result) or len(result) <= ROW_AXIS + 1:
        return None
    size, height = dims[ROW_AXIS], result[ROW_AXIS]
    match op:
        case Conv(strides=strides, dilations=dilations, pads=pads) if operand == 0 and weights is not None:
            return window_needs(size, height, weights[ROW_AXIS], strides[0], dilations[0], pads[0])
        case Conv() if operand <= 2:
            return None
        case Gather() if operand != 1 or inputs[0] is None or len(inputs[0]) != 1:
            return None
        case Pool(kernel=kernel, strides=strides, dilations=dilations, pads=pads):
            return window_needs(size, height, kernel[0], strides[0], dilations[0], pads[0])
        case (Conv() | Elementwise() | Gather()) if size == height:
            return RowNeeds(height, tuple(range(height)), tuple(range(1, height + 1)))
    return None


def window_needs(size: int, height: int, kernel: int, stride: int, dilation: int, pad: int) -> RowNeeds:
    """The needs of a window operator along one axis: `height` positions over `size` elements with `pad` before them."""
    first, stop = [], []
    for row in range(height):
        start = row * stride - pad
        first.append(min(max(start, 0), size))
        stop.append(min(max(start + (kernel - 1) * dilation + 1, first[-1]), size))
    return RowNeeds(size, tuple(first), tuple(stop))
