"""Functions that no operator names: activations that models spell out in primitives (edgecc/kernels/gates.py), and a part of softmax.

    Op("gelu", (x,), f32)      x times the normal distribution function of x; 0 at minus infinity
    Op("gated", (y, u), f32)   y / (1 + e^-u), that is y times the logistic function of u; below -88 it may be 0
    Op("decay", (x,), f32)     e^x for x <= 0, of which nothing is promised for larger x; below -87 it may be 0
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecc.ir.types import Array


def _gelu(x: Any) -> Array:
    def of(value: float) -> float:
        return 0.0 if value == -math.inf else value * math.erfc(-value / math.sqrt(2)) / 2

    return np.asarray(np.vectorize(of, otypes=[np.float64])(np.asarray(x, np.float64)))


def _gated(y: Any, u: Any) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.asarray(y, np.float64) / (1.0 + np.exp(-np.asarray(u, np.float64))))


def _decay(x: Any) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(np.asarray(x, np.float64)))


@dataclass(frozen=True)
class Activation:
    """How many operands a function has, and what it computes, in float64. Operands and result are f32."""

    arity: int
    meaning: Callable[..., Array]


ACTIVATIONS: Mapping[str, Activation] = types.MappingProxyType({"gelu": Activation(1, _gelu), "gated": Activation(2, _gated), "decay": Activation(1, _decay)})
"""All there are."""
