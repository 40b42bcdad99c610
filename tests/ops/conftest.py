"""Fixtures that run one ONNX node by another implementation and compare an operator with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from edgecc.ir.types import TensorType
from edgecc.reference.compare import error_units
from edgecc.reference.executor import run_node, widened
from tests.support import onnxruntime_sessions

OPSET = 23


def node_model(op_type, arrays, attributes, outputs, opset):
    """A model of one node; absent operands are None."""
    names = ["" if a is None else f"x{i}" for i, a in enumerate(arrays)]
    while names and not names[-1]:
        names.pop()
    node = onnx.helper.make_node(op_type, names, [f"y{i}" for i in range(outputs)], **attributes)
    inputs = [onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
              for n, a in zip(names, arrays, strict=False) if n]
    results = [onnx.helper.make_empty_tensor_value_info(f"y{i}") for i in range(outputs)]
    graph = onnx.helper.make_graph([node], "node", inputs, results)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    return model, {n: a for n, a in zip(names, arrays, strict=False) if n}


@pytest.fixture(scope="session")
def by_onnx():
    """Runs a node with onnx.reference: by_onnx("Relu", [x], {...}) -> list of arrays."""
    def run(op_type, arrays, attributes=None, outputs=1, opset=OPSET):
        model, feeds = node_model(op_type, arrays, attributes or {}, outputs, opset)
        with np.errstate(all="ignore"):
            return [np.asarray(r) for r in ReferenceEvaluator(model).run(None, feeds)]
    return run


@pytest.fixture(scope="session")
def by_onnxruntime():
    """Runs a node with onnxruntime, which covers more of the recurrent operators than onnx.reference."""
    pytest.importorskip("onnxruntime")

    def run(op_type, arrays, attributes=None, outputs=1, opset=22):
        model, feeds = node_model(op_type, arrays, attributes or {}, outputs, opset)
        model = onnx.shape_inference.infer_shapes(model)
        return onnxruntime_sessions.run(model, feeds)
    return run


@pytest.fixture(scope="session")
def check_op():
    """check_op(op, operands, expected, units): the shape rule, both modes of the reference, and the magnitudes hold.

    `expected` comes from another implementation that computes in the operands' types; it may be off by `units` of
    roundoff times `Op.magnitude` from the reference on float64 operands.
    """
    def check(op, operands: Sequence, expected: Sequence, units: float = 8.0):
        types = op.infer([None if a is None else TensorType.of(a) for a in operands])
        plain = run_node(op, tuple(operands), types)
        as_wide = tuple(a if a is None or a.dtype.kind in "biu" else a.astype(np.float64) for a in operands)
        wide = run_node(op, as_wide, types, wide=True)
        magnitudes = widened(op).magnitude(as_wide)
        assert len(types) == len(expected)
        for tensor_type, narrow, exact, magnitude, wanted in zip(types, plain, wide, magnitudes, expected, strict=True):
            assert wanted.shape == tensor_type.shape
            assert magnitude.shape == tensor_type.shape
            assert error_units(narrow, exact, magnitude, tensor_type.dtype) <= 1.0
            assert error_units(wanted.astype(tensor_type.dtype.numpy), exact, magnitude, tensor_type.dtype) <= units
    return check


@pytest.fixture
def draw():
    """draw(shape, dtype="f4", low=-2, high=2): numbers that are the same in every run of a test."""
    generator = np.random.default_rng(20)

    def drawn(shape, dtype="f4", low=-2.0, high=2.0):
        if np.dtype(dtype).kind == "b":
            return generator.integers(0, 2, shape).astype(bool)
        if np.dtype(dtype).kind in "iu":
            return generator.integers(int(low), int(high) + 1, shape).astype(dtype)
        return generator.uniform(low, high, shape).astype(dtype)
    return drawn
