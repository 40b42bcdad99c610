"""Activations that have a mathematical function of their own, where models spell them out in primitives (edgecc/kernels/gates.py).

    Op("gelu", (x,), f32)   x times the normal distribution function of x; 0 at minus infinity
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgecc.ir.types import Array


def _gelu(x: Any) -> Array:
    def of(value: float) -> float:
        return 0.0 if value == -math.inf else value * math.erfc(-value / math.sqrt(2)) / 2

    return np.asarray(np.vectorize(of, otypes=[np.float64])(np.asarray(x, np.float64)))


ACTIVATIONS: Mapping[str, Callable[[Any], Array]] = types.MappingProxyType({"gelu": _gelu})
"""Each with what it computes, in float64. Operand and result are f32."""
