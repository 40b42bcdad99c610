"""Packed elements: as onnx packs them, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgecc.ir.packing import as_bytes, pack, unpack
from edgecc.ir.types import DType, TensorType

SHORT = [dtype for dtype in DType if dtype.bits < 8]


@pytest.mark.parametrize("dtype", SHORT, ids=lambda d: d.value)
@given(data=st.data())
def test_bytes_are_those_of_onnx_and_come_back(dtype, data):
    dims = data.draw(st.sampled_from([(), (1,), (3, 5), (4, 4), (0, 3), (17,)]))
    count = int(np.prod(dims))
    bits = data.draw(st.lists(st.integers(0, (1 << dtype.bits) - 1), min_size=count, max_size=count))
    array = np.array(bits, np.uint8).view(dtype.numpy).reshape(dims)
    packed = pack(array)
    assert packed.nbytes == TensorType.of(array).packed_bytes
    tensor = helper.make_tensor("t", dtype.code, dims, packed.tobytes(), raw=True)
    assert numpy_helper.to_array(tensor).tobytes() == array.tobytes()
    again = unpack(packed, dtype, dims)
    assert again.dtype == array.dtype and again.shape == dims and again.tobytes() == array.tobytes()


def test_whole_bytes_stay_as_they_are():
    array = np.arange(3.0)
    assert pack(array) is array and as_bytes(array) is array


def test_a_byte_holds_the_value_of_integers_and_the_bits_of_floats():
    np.testing.assert_array_equal(as_bytes(np.array([-8, 7], DType.I4.numpy)), np.array([-8, 7], np.int8))
    np.testing.assert_array_equal(as_bytes(np.array([15], DType.U4.numpy)), np.array([15], np.uint8))
    np.testing.assert_array_equal(as_bytes(np.array([-1.0], DType.F4E2M1.numpy)), np.array([0b1010], np.uint8))
