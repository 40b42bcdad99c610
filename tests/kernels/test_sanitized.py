"""Kernels compiled with address and undefined-behaviour sanitizers: no access outside of a buffer, no overflow.

Sizes leave tails, views have gaps, and one operator of each family runs at its least convenient.
"""

import numpy as np
import pytest

from edgecc.ir.scalar import Arg, apply
from edgecc.ir.types import DType, TensorType
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather, ScatterND
from edgecc.ops.movement import Concat, Pad, Reshape, Slice, Transpose
from edgecc.ops.recurrent import Recurrent
from edgecc.ops.reduction import ArgReduce, CumSum, Normalize, Reduce, Softmax, TopK
from tests.support import ccompile, kernels

F32 = DType.F32
X = kernels.numbers(0, (3, 7, 27))
WILD = np.array([[-(2**63), 2**63 - 1], [-1, 2]], np.int64)
CASES = {
    "elementwise": (Elementwise(apply("mul", Arg(0, F32), Arg(1, F32))), [X, kernels.numbers(1, (7, 1))]),
    "integers": (Elementwise(apply("mul", Arg(0, DType.I64), Arg(0, DType.I64))), [WILD]),
    "transpose": (Transpose((2, 0, 1)), [X]),
    "reshape": (Reshape((27, 21)), [X]),
    "slice": (Slice((2, 6, 26), (2, 3, 9), (-1, -2, -3)), [X]),
    "empty": (Slice((0, 0, 0), (0, 7, 27), (1, 1, 1)), [X]),
    "concat": (Concat(1), [X, kernels.numbers(1, (3, 0, 27)), X]),
    "pad": (Pad((1, 2, 3), (3, 2, 1), "reflect"), [kernels.numbers(0, (4, 7, 27))]),
    "reduce": (Reduce("max", (2,)), [X]),
    "mean": (Reduce("mean", (0, 1)), [X]),
    "arg_reduce": (ArgReduce("min", 1), [X]),
    "softmax": (Softmax(2), [X]),
    "layer_norm": (Normalize((2,)), [X, kernels.numbers(1, (27,))]),
    "gather": (Gather(1), [X, WILD]),
    "scatter": (ScatterND("add"), [X, WILD, kernels.numbers(1, (2, 27))]),
    "cum_sum": (CumSum(1, reverse=True), [X]),
    "insertion": (TopK(5, 2), [X]),
    "sort": (TopK(70, 0), [kernels.numbers(0, (71, 2))]),
    "gru": (Recurrent("gru", 11), [kernels.numbers(0, (3, 2, 5)), kernels.numbers(1, (1, 33, 5)), kernels.numbers(2, (1, 33, 11)),
                                   None, np.array([9, -4], np.int32)]),
}


@pytest.mark.parametrize("machine", ["generic-c", "x86-64-v3"])
@pytest.mark.parametrize("name", CASES)
def test_is_clean(name, machine):
    op, arrays = CASES[name]
    inputs = [None if a is None else kernels.laid_out(TensorType.of(a), tuple(range(a.ndim)), (0,) * (a.ndim - 1) + (1,))
              for a in arrays]
    for views in ((), inputs) if machine != "generic-c" else (inputs,):
        request = kernels.request_for(op, arrays, machine, inputs=views)
        kernels.check(request, arrays, units=64.0, machine=machine, flags=("-O1", *ccompile.SANITIZERS))
