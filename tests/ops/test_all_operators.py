"""What holds for every operator: documentation, kinds of fields, half precision, untouched operands."""

from __future__ import annotations

import dataclasses
import typing

import ml_dtypes
import numpy as np
import pytest

import edgecc.ops  # noqa: F401 - fills OPS
from edgecc.ir.dims import symbol
from edgecc.ir.op import OPS, RegionOp
from edgecc.ir.scalar import Arg, ScalarExpr, apply
from edgecc.ir.types import Dim, DType, TensorType
from edgecc.ops.block_quantized import MatMulNBits
from edgecc.ops.convolution import Conv, ConvTranspose, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather, GatherElements, GatherND, ScatterElements, ScatterND
from edgecc.ops.matrix import Determinant, MatMul
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.ops.packing import Pack, Unpack
from edgecc.ops.recurrent import Recurrent
from edgecc.ops.reduction import ArgReduce, BatchNorm, CumProd, CumSum, Normalize, Reduce, Softmax, TopK
from edgecc.ops.resize import Resize
from edgecc.ops.sampling import GridSample, RoiAlign
from edgecc.ops.selection import NonMaxSuppression, NonZero, Unique
from edgecc.ops.sizes import BindSize, Sizes
from edgecc.ops.sparse import BlockSparseMatMul
from edgecc.ops.strings import StringOp
from edgecc.ops.trees import TreeEnsemble
from edgecc.ops.windows import Col2Im, MaxPosition
from edgecc.reference.executor import run_node

ROWS = np.array([[0], [1]])


def ints(numbers):
    return np.array(numbers, np.int32)


# One call of each operator: shapes of float operands, arrays for indices.
CALLS = [
    (Elementwise(apply("mul", Arg(0, DType.F32), Arg(1, DType.F32))), [(2, 3), (3,)]),
    (Conv((1, 1), (1, 1, 1, 1), (1, 1)), [(1, 2, 4, 4), (3, 2, 3, 3), (3,)]),
    (ConvTranspose((2, 2), (0, 0, 0, 0), (1, 1)), [(1, 2, 3, 3), (2, 3, 2, 2), (3,)]),
    (Pool("max", (2, 2), (1, 1), (1, 0, 0, 1), (1, 1)), [(1, 2, 4, 4)]),
    (Pool("average", (2, 2), (1, 1), (1, 0, 0, 1), (1, 1)), [(1, 2, 4, 4)]),
    (MatMul(), [(2, 3), (3, 4), (4,)]),
    (Reduce("sum", (1,)), [(2, 3)]), (Reduce("max", (0,)), [(2, 3)]), (Reduce("l2", (0, 1)), [(2, 3)]),
    (ArgReduce("max", 1), [(2, 3)]), (Softmax(1), [(2, 3)]), (Softmax(1, log=True), [(2, 3)]),
    (Normalize((1,)), [(2, 3), (3,), (3,)]), (BatchNorm(), [(2, 3, 4), (3,), (3,), (3,), (3,)]),
    (CumSum(1), [(2, 3)]), (CumProd(1), [(2, 3)]), (Determinant(), [(2, 3, 3)]), (TopK(2, 1), [(2, 3)]),
    (Transpose((1, 0)), [(2, 3)]), (Reshape((6,)), [(2, 3)]), (Expand((2, 3)), [(3,)]), (Concat(0), [(2, 3), (1, 3)]),
    (Slice((1, 2), (1, 2), (1, -2)), [(2, 3)]), (Pad((1, 0), (0, 1)), [(2, 3), ()]), (Pad((1, 0), (0, 1), "reflect"), [(2, 3)]),
    (BlockSparseMatMul(3), [(2, 3), np.ones((1, 16), np.float32), np.array([1], np.int32), np.array([0, 1], np.int32)]),
    (MatMulNBits(2), [(2, 3), np.array([[1, 9, 15]], DType.U4.numpy), np.ones((1, 2), np.float32)]), (Pack(4), [np.arange(6, dtype=np.uint8)]), (Unpack(4, True, (3,)), [np.arange(2, dtype=np.uint8)]),
    (Gather(0), [(2, 3), ROWS]), (GatherElements(0), [(2, 3), ROWS]), (GatherND(), [(2, 3), ROWS]),
    (ScatterND("add"), [(2, 3), ROWS, (2, 3)]), (ScatterElements(0, "max"), [(2, 3), ROWS, (2, 1)]),
    (Resize("linear", (2, 5), (1.0, 5 / 3)), [(2, 3)]), (Resize("nearest", (2, 5), (1.0, 5 / 3)), [(2, 3)]),
    (Sizes((2, 3), (2, 1)), []), (BindSize(symbol("n", 0, 9)), [np.array(3)]),
    (NonZero(), [(2, 3)]), (Unique(1), [(2, 3)]), (NonMaxSuppression(3), [(1, 4, 4), (1, 2, 4), np.array(3), ()]),
    (TreeEnsemble(1, 1), [(2, 1), ints([0, 0, 0]), (3,), ints([1, 1, 2]), ints([2, 1, 2]), ints([0, 0, 0]), ints([0, 0, 1, 2]), ints([0, 0]), (2,),
                          ints([0])]),
    (MaxPosition((2, 2), (1, 1), (1, 0, 0, 1), (1, 1)), [(1, 2, 4, 4)]),
    (Col2Im((3, 4), (2, 2), (1, 1), (0,) * 4, (1, 1)), [(1, 2, 4, 6)]),
    (GridSample(), [(1, 2, 3, 3), (1, 4, 2)]), (RoiAlign("average", 2, 2), [(1, 2, 4, 4), (1, 4), np.array([0])]),
    (Recurrent("lstm", 2), [(2, 1, 3), (1, 8, 3), (1, 8, 2)]), (Recurrent("gru", 2), [(2, 1, 3), (1, 6, 3), (1, 6, 2)]),
]


def test_every_operator_is_called_here():
    # Those with regions are in test_control.py, those on strings in test_strings.py.
    assert {type(op).name for op, _ in CALLS} == {name for name, cls in OPS.items() if not issubclass(cls, RegionOp | StringOp)}


def operands(draw, call, dtype):
    return [a if isinstance(a, np.ndarray) else draw(a, "f4", 0.5, 2.0).astype(dtype) for a in call]


def retyped(op, dtype):
    """The operator with its expression over operands of `dtype`."""
    if isinstance(op, Elementwise):
        return Elementwise(apply("mul", Arg(0, dtype), Arg(1, dtype)))
    return op


@pytest.mark.parametrize(("op", "call"), CALLS, ids=lambda x: type(x).name if hasattr(x, "infer") else "")
@pytest.mark.parametrize("dtype", [DType.F64, DType.F32, DType.F16, DType.BF16])
def test_float_types_round_once(draw, check_op, op, call, dtype):
    op, arrays = retyped(op, dtype), operands(draw, call, dtype.numpy)
    exact = retyped(op, DType.F64).reference([a.astype("f8") if a.dtype == dtype.numpy else a for a in arrays])
    check_op(op, arrays, exact, units=1.0)
    for result, wanted in zip(op.reference(arrays), op.infer([TensorType.of(a) for a in arrays]), strict=True):
        assert result.dtype == wanted.dtype.numpy


@pytest.mark.parametrize(("op", "call"), CALLS, ids=lambda x: type(x).name if hasattr(x, "infer") else "")
@pytest.mark.parametrize("wide", [False, True])
def test_references_do_not_write_to_read_only_operands(draw, op, call, wide):
    arrays = operands(draw, call, "f8" if wide else "f4")
    held = [a.copy() for a in arrays]
    for array in arrays:
        array.setflags(write=False)
    types_ = op.infer([TensorType(DType.F32, a.shape) if a.dtype.kind == "f" else TensorType.of(a) for a in arrays])
    run_node(op, tuple(arrays), types_, wide=wide)
    op.magnitude(arrays)
    for array, copy in zip(arrays, held, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_operators_document_themselves(op):
    for word in ("Shapes:", "Attributes:", "Raises: E110", "Source:"):
        assert word in op.__doc__


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_fields_are_of_kinds_that_the_textual_form_has(op):
    plain = {int, Dim, int | None, float, bool, bool | None, str, DType, ScalarExpr, ScalarExpr | None}
    plain |= {tuple[t, ...] for t in (int, float, bool, str, Dim)}
    hints = typing.get_type_hints(op)
    for field in dataclasses.fields(op):
        assert hints[field.name] in plain, field


def test_bfloat16_is_the_type_of_ml_dtypes():
    assert DType.BF16.numpy == ml_dtypes.bfloat16
