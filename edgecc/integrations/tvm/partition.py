"""Which parts of a Relax module edgecc computes: patterns, and the passes of TVM that make regions of what matches."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from edgecc.integrations.tvm.codegen import EXTERNAL, register
from edgecc.integrations.tvm.importing import CONVERTERS, obstacle
from edgecc.integrations.tvm.recognize import recognize

PRODUCTS = ("relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d", "relax.matmul")
"""Operators whose bias and activation belong to them."""

ACTIVATIONS = ("relax.nn.relu", "relax.clip", "relax.nn.leakyrelu", "relax.sigmoid", "relax.tanh", "relax.nn.silu")

OPERANDS: Mapping[str, tuple[int, ...]] = MappingProxyType({"relax.strided_slice": (4, 5)})
"""How many operands calls of operators have whose description in TVM says otherwise."""


def patterns() -> list[tuple[Any, ...]]:
    """What `FuseOpsByPattern` looks for, the largest first: products with bias and activation, then each operator by itself.

    An operator that edgecc could not take as it is called does not match.
    """
    dpl, ir = importlib.import_module("tvm.relax.dpl"), importlib.import_module("tvm.ir")

    found: list[tuple[Any, ...]] = []
    for product in PRODUCTS:
        base = dpl.is_op(product)(dpl.wildcard(), dpl.wildcard())
        biased = dpl.is_op("relax.add")(base, dpl.wildcard())
        for activation in ACTIVATIONS:
            for kind, inner in (("bias", biased), ("plain", base)):
                extra = (dpl.wildcard(), dpl.wildcard()) if activation == "relax.clip" else ()
                root = dpl.is_op(activation)(inner, *extra)
                found.append((f"{EXTERNAL}.{_short(product)}_{kind}_{_short(activation)}", root, {"0": root, "1": inner, "2": base}, _accepted))
        found.append((f"{EXTERNAL}.{_short(product)}_bias", biased, {"0": biased, "1": base}, _accepted))
    for name in CONVERTERS:
        for count in OPERANDS.get(name, (ir.Op.get(name).num_inputs,)):
            root = dpl.is_op(name)(*(dpl.wildcard() for _ in range(count)))
            found.append((f"{EXTERNAL}.{_short(name)}", root, {"0": root}, _accepted))
    return found


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _accepted(context: Any) -> bool:
    """Whether edgecc takes every operator of a match, and nothing else needs what they compute on the way.

    TVM would make one function of a product and a sum whose other operand is computed from that product, too: one that calls itself.
    """
    leaks = importlib.import_module("tvm.relax.backend.utils").has_leaking_intermediate_variables
    return not leaks(context) and all(obstacle(expr) is None for expr in context.annotated_expr.values())


def partition(module: Any) -> Any:
    """The module with a function for each region that edgecc computes: connected operators that it takes, as many as can be.

    Batch normalisations become part of convolutions, or arithmetic, first.

    Args:
        module: a `tvm.IRModule`; what is to be found stands in dataflow blocks, which importers of TVM make.
    """
    relax, ir = importlib.import_module("tvm.relax"), importlib.import_module("tvm.ir")
    transform = relax.transform
    # Integers that stand for weights have to stay integers; edgecc folds constants itself.
    folding = [] if _is_quantized(module) else [transform.FoldConstant()]
    passes = [transform.FoldBatchnormToConv2D(), transform.DecomposeOpsForInference(), *folding,
              transform.FuseOpsByPattern(patterns(), bind_constants=True), transform.MergeCompositeFunctions()]
    return ir.transform.Sequential(passes)(recognize(module))


def _is_quantized(module: Any) -> bool:
    """Whether numbers of the main function are made of integers."""
    relax = importlib.import_module("tvm.relax")
    found: list[str] = []
    relax.analysis.post_order_visit(module["main"], lambda expr: found.append(str(getattr(getattr(expr, "op", None), "name", ""))))
    return "relax.dequantize" in found


def compile_regions(module: Any, target: str = "host") -> Any:
    """What `partition` gave, with the regions compiled; `tvm.relax.build` then compiles the rest and links both.

    Args:
        target: of edgecc, by name: the processor that TVM compiles for.
    Raises: what TVM makes of an EdgeccError where a region cannot be compiled.
    """
    register()
    transform = importlib.import_module("tvm.relax.transform")
    done = transform.RunCodegen({EXTERNAL: {"target": target}})(module)
    # The weights are in the object files; without this TVM would store those of the regions once more.
    return done.without_attr("const_name_to_constant")


def offload(module: Any, target: str = "host") -> Any:
    """`partition`, then `compile_regions`."""
    return compile_regions(partition(module), target)


@dataclass(frozen=True)
class Share:
    """Multiply-adds of convolutions and matrix products of a partitioned module: those of edgecc's regions, and all."""

    edgecc: int
    total: int
    regions: int


def multiply_adds(module: Any) -> Share:
    """What `partition` has given to edgecc."""
    relax = importlib.import_module("tvm.relax")
    counts: dict[bool, int] = {True: 0, False: 0}
    regions = 0
    for function in module.functions.values():
        if not isinstance(function, relax.Function):
            continue
        inside = function.attrs is not None and str(function.attrs.get("Codegen", "")) == EXTERNAL
        regions += inside
        counts[inside] += _work_of(function)
    return Share(counts[True], counts[True] + counts[False], regions)


def _work_of(function: Any) -> int:
    """Multiply-adds of a function, and of those inside of it as often as they are called: calls with other weights may share one."""
    relax = importlib.import_module("tvm.relax")
    inner: dict[Any, int] = {}
    total = 0
    for block in function.body.blocks:
        for binding in block.bindings:
            if isinstance(binding.value, relax.Function):
                inner[binding.var] = _work_of(binding.value)
            elif isinstance(binding.value, relax.Call):
                total += inner[binding.value.op] if binding.value.op in inner else _work(binding.value)
    return total


def _work(call: Any) -> int:
    """Multiply-adds of one call."""
    name = str(getattr(call.op, "name", ""))
    if name not in PRODUCTS:
        return 0
    result, operand = _dims(call.ty), _dims(call.args[1].ty)
    if name == "relax.matmul":
        return math.prod(result) * _dims(call.args[0].ty)[-1]
    return math.prod(result) * math.prod(operand[1:])


def _dims(ty: Any) -> list[int]:
    return [int(dim) for dim in ty.shape]
