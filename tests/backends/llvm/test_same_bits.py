"""The bits of LLVM code are those of C: every mathematical function on whole registers, and every activation and normalization."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgecc import api
from edgecc.artifact.load import load
from edgecc.backends.base import EmitOptions
from edgecc.backends.llvm.backend import LlvmBackend
from edgecc.backends.llvm.jit import load_here
from edgecc.ir.types import DType
from edgecc.loop.arithmetic import operation
from edgecc.loop.ir import Bitcast, Const, Expr, Let, Op, Ref
from edgecc.loop.math import DEFINED, TABLED, definition
from edgecc.targets.schema import load_target
from tests.loop.test_math import arguments, function_of
from tests.support import ccompile, llvm

TARGETS = ("x86-64-v4", "cortex-a76")
COUNT = 6000

CUSTOM = "com.microsoft"
ACTIVATIONS = {
    **{op: {} for op in ("Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "LeakyRelu", "LogSoftmax", "Mish", "Relu", "Selu", "Sigmoid", "Sin",
                         "Cos", "Sinh", "Softmax", "Softplus", "Softsign", "Tan", "Tanh", "Atan", "Asinh", "Celu", "ThresholdedRelu")},
    "Gelu": {"approximate": "none"}, "Gelu/tanh": {"approximate": "tanh"}, "Softmax/channels": {"axis": 1}, "Swish": {"alpha": 1.5},
    "LpNormalization": {"axis": -1}, "MeanVarianceNormalization": {}, "LRN": {"size": 3},
    "BiasGelu": {}, "FastGelu": {}, "QuickGelu": {"alpha": 1.7},
}
NORMALIZATIONS = {
    "LayerNormalization": ((19,), (19,)), "RMSNormalization": ((19,),), "InstanceNormalization": ((6,), (6,)),
    "GroupNormalization": ((6,), (6,)), "BatchNormalization": ((6,), (6,), (6,), (6,)),
}
ATTRIBUTES = {"GroupNormalization": {"num_groups": 2}}


def same_bits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where two arrays of f32 have equal bits, or are both NaN."""
    return (first.view(np.uint32) == second.view(np.uint32)) | (np.isnan(first) & np.isnan(second))


def evaluated(expr: Expr, values: dict[str, np.ndarray]) -> np.ndarray:
    """An expression of a mathematical function on arrays of one column for each lane."""
    match expr:
        case Const(value=value, dtype=dtype):
            return np.asarray(value, dtype.numpy)
        case Ref(name=name):
            return values[name]
        case Bitcast(arg=arg, dtype=dtype):
            return np.ascontiguousarray(evaluated(arg, values)).view(dtype.numpy)
        case Op(op=op, args=args, dtype=dtype):
            return np.asarray(operation(op, args[-1].dtype, dtype)(*(evaluated(arg, values) for arg in args)))
    raise AssertionError(expr)


def test_functions_on_the_longest_vectors():
    target = load_target("x86-64-v4")
    lanes = target.vector.bits // 32
    cases = []
    for op in sorted(DEFINED):
        xs = [x[:COUNT // lanes * lanes] for x in arguments(op, COUNT)]
        cases.append((function_of(op, lanes, xs[0].size, len(xs)), dict(zip("xy", xs, strict=False))))
    of_c, of_llvm = ccompile.run_functions(cases, target, flags=("-O2",)), llvm.run_functions(cases, target)
    for (function, _), first, second in zip(cases, of_c, of_llvm, strict=True):
        assert same_bits(first["out"], second["out"]).all(), function.name


@pytest.mark.parametrize("op", sorted(TABLED))
def test_tables_mean_to_both_what_they_mean_to_numpy(op):
    target = load_target("x86-64-v4")
    operands = [each[:COUNT // 16 * 16] for each in arguments(op, COUNT)]
    function = definition(op, 16, tables=True)
    values = {param.name: each for param, each in zip(function.params, operands, strict=True)}
    with np.errstate(all="ignore"):
        for stmt in function.statements:
            assert isinstance(stmt, Let)
            values[stmt.name] = evaluated(stmt.value, values)
        want = np.asarray(evaluated(function.result, values), DType.F32.numpy)
    case = (function_of(op, 16, operands[0].size, len(operands)), dict(zip("xy", operands, strict=False)))
    assert same_bits(llvm.run_functions([case], target)[0]["out"], want).all()


def layers() -> onnx.ModelProto:
    """One network with every layer beside the others, on a tensor whose sizes are no multiples of a register."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 6, 7, 19])
    nodes, outputs, constants = [], [], []
    rng = np.random.default_rng(3)

    def layer(kind: str, parameters: tuple[tuple[int, ...], ...], attributes: dict[str, object], domain: str = "") -> None:
        op, out = kind.partition("/")[0], f"y{len(nodes)}"
        names = [f"{out}_{place}" for place in range(len(parameters))]
        constants.extend(onnx.numpy_helper.from_array(rng.uniform(0.5, 2, shape).astype(np.float32), name)
                         for name, shape in zip(names, parameters, strict=True))
        nodes.append(helper.make_node(op, ["x", *names], [out], name=kind.replace("/", "_"), domain=domain, **attributes))
        outputs.append(helper.make_tensor_value_info(out, TensorProto.FLOAT, None))

    for kind, attributes in ACTIVATIONS.items():
        ours = kind in ("BiasGelu", "FastGelu", "QuickGelu")
        layer(kind, ((19,),) if kind == "BiasGelu" else (), attributes, CUSTOM if ours else "")
    for kind, shapes in NORMALIZATIONS.items():
        layer(kind, shapes, ATTRIBUTES.get(kind, {}))
    graph = helper.make_graph(nodes, "layers", [x], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24), helper.make_opsetid(CUSTOM, 1)], ir_version=11)


@pytest.mark.parametrize("name", TARGETS)
def test_activations_and_normalizations(name, tmp_path):
    target = load_target(name)
    ccompile.require(target)
    onnx.save(layers(), tmp_path / "layers.onnx")
    done = api.compile_model(tmp_path / "layers.onnx", target, api.Options())
    x = np.random.default_rng(1).normal(size=(2, 6, 7, 19)).astype(np.float32) * 3
    cc = "gcc" if target.architecture == "x86_64" else "aarch64-linux-gnu-gcc"
    if target.architecture == "x86_64":
        own = load_here(done.compiled.module, target)
    else:
        own = load(LlvmBackend().emit(done.compiled.module, target, EmitOptions(form="obj")), cc=cc)
    with own, load(done.artifact, cc=cc) as other:
        results, wanted = own.run({"x": x}), other.run({"x": x})
    kinds = [*ACTIVATIONS, *NORMALIZATIONS]
    assert len(results) == len(kinds)
    assert not [kind for kind, out in zip(kinds, wanted, strict=True) if not same_bits(results[out], wanted[out]).all()]
