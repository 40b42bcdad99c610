"""Calls of functions on elements, as operators of Relax again.

Importers of TVM write some operators as loops at once, Clip of ONNX among them. Patterns do not see what such loops compute, so
those that apply one operator to each element of tensors, or of a tensor and a scalar, become calls of that operator first.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

OPERATORS: Mapping[str, str] = MappingProxyType({
    "Max": "maximum", "Min": "minimum", "Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide"})
"""The operator of Relax for each class of expressions that TVM has below it."""


def recognize(module: Any) -> Any:
    """The module with operators in the place of calls of such functions; the functions stay."""
    functor = importlib.import_module("tvm.relax.expr_functor")
    relax = importlib.import_module("tvm.relax")
    found = {variable: computed for variable, function in module.functions.items()
             if not isinstance(function, relax.Function) and (computed := operator_of(function)) is not None}

    class Rewriter(functor.PyExprMutator):  # type: ignore[misc, name-defined]
        def visit_call_(self, call: Any) -> Any:
            call = self.visit_expr_post_order(call)
            computed = found.get(call.args[0]) if getattr(call.op, "name", "") == "relax.call_tir" else None
            if computed is None or not isinstance(call.args[1], relax.Tuple):
                return call
            name, order = computed
            fields = call.args[1].fields
            result = self.builder_.normalize(getattr(relax.op, name)(*(fields[index] for index in order)))
            return result if str(result.ty) == str(call.ty) else call

    rewriter = functor.mutator(Rewriter)(module)
    for variable, function in module.functions.items():
        if found and isinstance(function, relax.Function):
            rewriter.builder_.update_func(variable, rewriter.visit_expr(function))
    return rewriter.builder_.get()


def operator_of(function: Any) -> tuple[str, tuple[int, ...]] | None:
    """The operator that a function of loops applies to each element, and which of its parameters are the operands; else None."""
    block: Any = getattr(getattr(function.body, "block", None), "body", None)
    loops = []
    while type(block).__name__ == "For":
        loops.append(block.loop_var)
        block = block.body
    if type(block).__name__ != "SBlockRealize" or not _same(block.iter_values, loops):
        return None
    at, store = [each.var for each in block.block.iter_vars], block.block.body
    if block.block.init is not None or type(store).__name__ != "BufferStore" or not _same(store.indices, at):
        return None
    name = OPERATORS.get(type(store.value).__name__)
    if name is None:
        return None
    order = []
    for operand in (store.value.a, store.value.b):
        if type(operand).__name__ != "TensorLoad" or (len(operand.indices) and not _same(operand.indices, at)):
            return None
        order.append(next((index for index, parameter in enumerate(function.params) if parameter.same_as(operand.source)), -1))
    return (name, tuple(order)) if min(order) >= 0 and len(function.params) == len({*order}) + 1 else None


def _same(got: Any, wanted: Any) -> bool:
    return len(got) == len(wanted) and all(a.same_as(b) for a, b in zip(got, wanted, strict=True))
