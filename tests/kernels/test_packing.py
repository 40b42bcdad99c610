"""Kernels between packed elements and bytes."""

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.kernels.registry import lower
from edgecc.kernels.view import View
from edgecc.ops.packing import Pack, Unpack
from tests.support import kernels


@pytest.mark.parametrize("machine", ["", "cortex-a76"])
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("count", [1, 7, 33, 100])
def test_packed_and_back(bits, count, machine):
    random = np.random.default_rng(count)
    row = random.integers(0, 256, -(-count * bits // 8)).astype(np.uint8)
    for signed in (False, True):
        kernels.check(kernels.request_for(Unpack(bits, signed, (count,)), [row], "cortex-a76"), [row], machine=machine)
        elements = random.integers(-128 if signed else 0, 128, count).astype(np.int8 if signed else np.uint8)
        kernels.check(kernels.request_for(Pack(bits), [elements], "cortex-a76"), [elements], machine=machine)


def test_elements_in_another_order_are_refused():
    elements = np.zeros((3, 4), np.uint8)
    transposed = View(DType.U8, (3, 4), (1, 3))
    with pytest.raises(EdgeccError, match="row-major") as caught:
        lower(kernels.request_for(Pack(4), [elements], inputs=[transposed]))
    assert caught.value.code == "E112"
