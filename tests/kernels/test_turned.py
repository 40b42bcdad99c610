"""Convolutions over columns of one pixel are computed as over rows, and give the same numbers."""

import numpy as np
import pytest

from edgecc.ir.types import Layout, TensorType
from edgecc.kernels.registry import lower
from edgecc.kernels.turned import turned
from edgecc.ops.convolution import Conv
from tests.kernels.test_convolution import add_residual, array
from tests.support import kernels
from tests.support.kernel_check import Given, check_kernel, request_for

LAST = Layout.channels_last(4)


@pytest.mark.parametrize("target", ["cortex-a76", "x86-64-v3", "cortex-m55"])
@pytest.mark.parametrize("layout", [None, LAST], ids=["channels first", "channels last"])
@pytest.mark.parametrize(("group", "stride", "dilation", "pads"), [(1, 1, 1, (2, 0, 2, 0)), (1, 2, 1, (0, 0, 3, 0)), (1, 1, 3, (6, 0, 0, 0)), (3, 1, 1, (1, 0, 3, 0)),
                                                                    (12, 2, 1, (2, 0, 2, 0)), (1, 1, 1, (0, 1, 0, 0))])
def test_columns_agree_with_the_reference(target, layout, group, stride, dilation, pads):
    op = Conv((stride, 2 if pads[1] else 1), pads, (dilation, 1), group, add_residual())
    x, w = array(1, 2, 12, 17, 1), array(2, 12, 12 // group, 5, 1)
    result = Conv(op.strides, pads, op.dilations, group).reference([x, w])[0].shape
    assert result[3] == 1
    for residual in (result, (12, 1, 1), (result[2], 1), ()):  # what is added may repeat along any axes
        operands = [Given(x, layout=layout), Given(w, constant=True), Given(array(3, 12), constant=True),
                    Given(array(4, *residual), layout=layout if len(residual) == 4 else None)]
        request = request_for(op, operands, target, [layout])
        assert turned(request, op) is not None
        check_kernel(op, operands, target, [layout])


@pytest.mark.parametrize("target", ["cortex-a76", "cortex-a53", "x86-64-v3", "x86-64-v4-bf16", "cortex-m55", "generic-c"])
@pytest.mark.parametrize(("dtype", "zero", "group"), [(np.int8, -128, 1), (np.uint8, 3, 1), (np.int8, 5, 8), (np.uint8, 255, 8)])
def test_columns_of_bytes_agree_with_the_reference(target, dtype, zero, group):
    """Weights are packed by sums over taps, of which borders leave some out."""
    random = np.random.default_rng(zero % 7)
    x = random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, (1, 8, 17, 1)).astype(dtype)
    w = random.integers(-128, 128, (16, 8 // group, 5, 1)).astype(np.int8)
    op = Conv((2, 1), (2, 0, 3, 0), (1, 1), group, None, zero)
    arrays = [x, w, random.integers(-999, 999, 16).astype(np.int32)]
    (result,) = op.infer([TensorType.of(a) for a in arrays])
    request = kernels.request_for(op, arrays, target, inputs=[kernels.laid_out(TensorType.of(x), LAST.order)],
                                  outputs=[kernels.laid_out(result, LAST.order)], constants=[1, 2])
    assert turned(request, op) is not None
    kernels.check(request, arrays)


def test_a_tile_takes_several_pixels_of_a_column():
    op = Conv((1, 1), (2, 0, 2, 0), (1, 1), 1)
    choices = [lower(request_for(op, [Given(array(1, 1, 64, *size), layout=LAST), Given(array(2, 64, 64, *window), constant=True)], "x86-64-v3", [LAST])).choice
               for op, size, window in ((op, (96, 1), (5, 1)), (Conv((1, 1), (0, 2, 0, 2), (1, 1), 1), (1, 96), (1, 5)))]
    assert choices[0] == choices[1] and "tile 1 x" not in choices[0]


def test_other_convolutions_stay_as_they_are():
    for size, window in (((9, 2), (5, 1)), ((1, 1), (1, 1))):
        op = Conv((1, 1), (0, 0, 0, 0), (1, 1), 1)
        operands = [Given(np.ones((1, 4, *size), np.float32)), Given(np.ones((4, 4, *window), np.float32), constant=True)]
        assert turned(request_for(op, operands, "generic-c", [None]), op) is None
