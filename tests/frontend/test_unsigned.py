"""Operators on unsigned integers, among whose attributes are numbers below zero."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from edgecc.frontend import import_model
from edgecc.reference.executor import execute
from tests.support.onnx_models import model


@pytest.mark.parametrize(("kind", "dtype"), [(TensorProto.UINT8, np.uint8), (TensorProto.UINT64, np.uint64)])
def test_no_unsigned_number_lies_below_a_limit(kind, dtype):
    graph = import_model(model([("Shrink", "x", "y", {"lambd": 10.0, "bias": 2.0})], {"x": [4]}, kind=kind))
    (y,) = execute(graph, {"x": np.array([0, 10, 11, 200], dtype)}).values()
    assert y.tolist() == [0, 0, 9, 198]


def test_attributes_with_fractions_count_on_integers():
    graph = import_model(model([("Shrink", "x", "y", {"bias": 0.25})], {"x": [4]}, kind=TensorProto.INT8))
    (y,) = execute(graph, {"x": np.array([-3, 0, 1, 100], np.int8)}).values()
    assert y.tolist() == [-2, 0, 0, 99]
