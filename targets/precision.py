"""The precisions a network can be compiled in, and what a target needs for each."""

from __future__ import annotations

import types
from collections.abc import Mapping

from edgecc.errors import EdgeccError, printable
from edgecc.ir.types import DType
from edgecc.targets.schema import HOST, Target, list_targets, load_target

FP32 = "fp32"
PRECISIONS: Mapping[str, DType] = types.MappingProxyType({FP32: DType.F32, "fp16": DType.F16, "bf16": DType.BF16})
"""Names of precisions as options give them, and the type weights and activations are stored in."""

NEEDS: Mapping[str, tuple[str, ...]] = types.MappingProxyType({FP32: (), "fp16": ("fp16",), "bf16": ("avx512bf16",)})
"""The features of a target that make a precision faster than fp32; without them it is refused."""


def precision_name(dtype: DType) -> str:
    """The precision that stores `dtype`."""
    return next(name for name, stored in PRECISIONS.items() if stored is dtype)


def precision_type(precision: str, target: Target) -> DType:
    """The type of a precision that `target` computes in.

    Raises: EdgeccError E001 for an unknown precision, or one the target has no instructions for.
    """
    if precision not in PRECISIONS:
        raise EdgeccError("E001", f"precision {printable(precision)!r} is not one of {', '.join(PRECISIONS)}",
                          hint="--quantize int8 with --calibration DATA makes integers of a model" if precision.startswith("int") else "")
    if not target.has(*NEEDS[precision]):
        able = [name for name in list_targets() if name != HOST and load_target(name).has(*NEEDS[precision])]
        raise EdgeccError("E001", f"target {target.name} has no arithmetic for {precision} (feature {', '.join(NEEDS[precision])})",
                          hint=f"targets that have: {', '.join(able)}")
    return PRECISIONS[precision]
