"""Fixtures that build small ONNX models, import them and compare with onnx.reference or onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgecc.frontend import import_model, import_model_with_report
from edgecc.reference.executor import execute
from tests.support import onnxruntime_sessions

OPSET = 22


def value_info(name, array_or_dims, dtype=None):
    """A declared input or output: of an array's type, or of given dims (numbers, names, None)."""
    if isinstance(array_or_dims, np.ndarray):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array_or_dims.dtype), array_or_dims.shape)
    return helper.make_tensor_value_info(name, dtype or TensorProto.FLOAT, array_or_dims)


def model_of(nodes, inputs, outputs=("y",), constants=None, opset=OPSET, domains=(), ir_version=10, functions=(), name="g"):
    """A model. `inputs`: name -> array or dims; `constants`: name -> array or TensorProto; outputs are names."""
    declared = [i if isinstance(i, onnx.ValueInfoProto) else value_info(*i) for i in
                (inputs.items() if isinstance(inputs, dict) else inputs)]
    stored = [c if isinstance(c, TensorProto) else numpy_helper.from_array(np.asarray(c), n) for n, c in (constants or {}).items()]
    results = [o if isinstance(o, onnx.ValueInfoProto) else helper.make_empty_tensor_value_info(o) for o in outputs]
    graph = helper.make_graph(list(nodes), name, declared, results, stored)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, functions=list(functions))


def node(op_type, inputs, outputs=("y",), **attributes):
    """A node; operands and results as one text with spaces, or as lists ("" for an absent operand)."""
    return helper.make_node(op_type, inputs.split() if isinstance(inputs, str) else list(inputs),
                            outputs.split() if isinstance(outputs, str) else list(outputs), **attributes)


def run_onnx(model, feeds):
    """The outputs by onnx.reference."""
    with np.errstate(all="ignore"):
        return [np.asarray(r) for r in ReferenceEvaluator(model).run(None, feeds)]


def run_ort(model, feeds):
    """The outputs by onnxruntime without graph optimisations."""
    pytest.importorskip("onnxruntime")
    return onnxruntime_sessions.run(model, feeds)


def assert_close(got, expected, tolerance=2e-6):
    """Types and shapes are equal; floats differ by `tolerance` of the largest magnitude, the rest not at all."""
    expected = np.asarray(expected)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if got.dtype.kind == "f":
        scale = np.nanmax(np.abs(np.where(np.isinf(expected), 0, expected)), initial=1.0)
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * scale)
    else:
        np.testing.assert_array_equal(got, expected)


ORACLES = {"onnx": run_onnx, "ort": run_ort}


@pytest.fixture(scope="session")
def make():
    """make(nodes, inputs, outputs, constants, opset, ...) -> ModelProto; see `model_of`."""
    return model_of


@pytest.fixture(scope="session")
def op():
    """op("Add", "a b", "y", **attributes) -> NodeProto; see `node`."""
    return node


@pytest.fixture(scope="session")
def info():
    """info(name, dims, dtype) -> ValueInfoProto."""
    return value_info


@pytest.fixture(scope="session")
def check():
    """check(model, feeds, by="onnx"|"ort"|arrays) imports, runs and compares; returns the graph."""
    def run(model, feeds, by="onnx", tolerance=2e-6):
        graph, report = import_model_with_report(model, inputs=feeds)
        expected = ORACLES[by](model, feeds) if isinstance(by, str) else by
        got = execute(graph, feeds)
        assert len(got) == len(expected)
        for result, wanted in zip(got.values(), expected, strict=True):
            assert_close(result, wanted, tolerance)
        assert not [n for n in report.notes if "infers" in n], report.notes
        return graph
    return run


@pytest.fixture(scope="session")
def check_node(check):
    """check_node("Gemm", {"a": x, "b": y}, constants={...}, opset=13, by="ort", **attributes): one node.

    Operands are the inputs and constants in the order of `order`, by default inputs first; "" is an absent one.
    """
    def run(op_type, inputs, constants=None, *, outputs="y", order=None, opset=OPSET, by="onnx", domain="", tolerance=2e-6,
            **attributes):
        constants = constants or {}
        operands = list(order) if order is not None else [*inputs, *constants]
        made = helper.make_node(op_type, operands, outputs.split(), domain=domain, **attributes)
        domains = [(domain, 1)] if domain else []
        model = model_of([made], inputs, [o for o in outputs.split() if o], constants, opset, domains)
        return check(model, dict(inputs), by, tolerance)
    return run


@pytest.fixture
def random():
    """random(2, 3, dtype=np.float32) -> array of standard normal numbers; random.integers(low, high, shape)."""
    return Random(np.random.default_rng(7))


class Random:
    """Random arrays of chosen types."""

    def __init__(self, generator):
        self.generator = generator

    def __call__(self, *shape, dtype=np.float32):
        return np.asarray(self.generator.standard_normal(shape)).astype(dtype)

    def integers(self, low, high, shape, dtype=np.int64):
        return self.generator.integers(low, high, shape).astype(dtype)


@pytest.fixture(scope="session")
def ops_of():
    """ops_of(model, **arguments of import_model) -> names of the core operators, in order."""
    return lambda model, **arguments: [n.op.name for n in import_model(model, **arguments).nodes]
