"""What onnxruntime computes for the tests is exact where its own kernels saturate."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

pytest.importorskip("onnxruntime")

from tests.support.onnxruntime_sessions import run, with_unsigned_operands

LARGEST = np.full((4, 8), 255, np.uint8)
WEIGHTS = np.where(np.arange(8 * 6).reshape(8, 6) % 7, 127, -128).astype(np.int8)


def model_of(op: str, operands: list[str], given: dict[str, np.ndarray], constants: dict[str, np.ndarray], **attributes) -> onnx.ModelProto:
    graph = helper.make_graph([helper.make_node(op, operands, ["y"], **attributes)], "g",
                              [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in given.items()],
                              [helper.make_empty_tensor_value_info("y")], [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=8)


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("zero", [None, np.int8(-3), np.arange(-3, 3, dtype=np.int8)], ids=["no zero point", "a zero point", "one for each column"])
@pytest.mark.parametrize("stored", [False, True], ids=["computed", "stored"])
def test_products_of_u8_and_s8_do_not_saturate(stored: bool, zero: np.ndarray | None, optimized: bool) -> None:
    given, constants = {"a": LARGEST}, {} if zero is None else {"z": zero}
    (constants if stored else given)["b"] = WEIGHTS
    model = model_of("MatMulInteger", ["a", "b", *([] if zero is None else ["", "z"])], given, constants)
    want = LARGEST.astype(np.int32) @ (WEIGHTS.astype(np.int32) - (0 if zero is None else zero))
    np.testing.assert_array_equal(run(model, given, optimized=optimized)[0], want)


@pytest.mark.parametrize("stored", [False, True], ids=["computed", "stored"])
def test_convolutions_of_s8_by_u8_do_not_saturate(stored: bool) -> None:
    x = np.where(np.arange(2 * 25).reshape(1, 2, 5, 5) % 7, 127, -128).astype(np.int8)
    w, given, constants = np.full((3, 2, 3, 3), 255, np.uint8), {"x": x}, {"z": np.int8(5)}
    (constants if stored else given)["w"] = w
    (got,) = run(model_of("ConvInteger", ["x", "w", "z"], given, constants, pads=[1, 1, 1, 1]), given)
    padded = np.pad(x.astype(np.int32) - 5, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    np.testing.assert_array_equal(got, np.einsum("nchwij,ocij->nohw", windows, w.astype(np.int32)))


def test_operands_of_equal_signs_stay() -> None:
    for a, b in ((np.uint8, np.uint8), (np.int8, np.int8), (np.int8, np.uint8)):
        model = model_of("MatMulInteger", ["a", "b"], {"a": LARGEST.astype(a)}, {"b": WEIGHTS.astype(b)})
        assert with_unsigned_operands(model) is model
