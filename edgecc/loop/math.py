"""Mathematical functions of f32 as Loop IR: no back end needs a library for them, on vectors or scalars.

`definition(op, lanes)` gives a function made of the primitives +, *, /, sqrt, fma, comparisons, bit
operations and conversions only, so the same text serves every number of lanes and every instruction
set. With `tables` it may use the operations of edgecc/loop/tables.py, too, for machines that have them; which functions
do is decided here, so that all back ends compute the same bits. `MAX_ULP` states the accuracy of each: the largest error seen in units in the last place of the
correctly rounded result, over dense and special arguments; tests measure it against numpy in float64.
All of them take infinities, NaN, signed zeros and subnormal numbers as IEEE 754 and C99 annex F want.

f64 has no definitions here: back ends call the C library for it, one lane at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

from edgecc.loop import math_exponential, math_power, math_tables, math_trigonometric
from edgecc.loop.math_kit import MathFunction

__all__ = ["DEFINED", "MAX_DECAY_ULP", "MAX_GATED_ULP", "MAX_GELU_ULP", "MAX_ULP", "TABLED", "MathFunction", "definition"]

_DEFINITIONS: Mapping[str, Callable[[int], MathFunction]] = MappingProxyType({
    "exp": math_exponential.exp,
    "decay": math_exponential.decay,
    "log": math_exponential.log,
    "erf": math_exponential.erf,
    "gelu": math_exponential.gelu,
    "gated": math_exponential.gated,
    "tanh": math_exponential.tanh,
    "sigmoid": math_exponential.sigmoid,
    "sinh": math_exponential.sinh,
    "cosh": math_exponential.cosh,
    "asinh": math_exponential.asinh,
    "acosh": math_exponential.acosh,
    "atanh": math_exponential.atanh,
    "sin": math_trigonometric.sin,
    "cos": math_trigonometric.cos,
    "tan": math_trigonometric.tan,
    "asin": math_trigonometric.asin,
    "acos": math_trigonometric.acos,
    "atan": math_trigonometric.atan,
    "pow": math_power.pow,
    "fmod": math_power.fmod,
    "mod": math_power.mod,
})

_TABLED: Mapping[str, Callable[[int], MathFunction]] = MappingProxyType({
    "exp": math_tables.exp,
    "decay": math_tables.decay,
    "erf": math_tables.erf,
    "gelu": math_tables.gelu,
    "gated": math_tables.gated,
    "tanh": math_tables.tanh,
    "sigmoid": math_tables.sigmoid,
})

DEFINED = frozenset(_DEFINITIONS)
"""The primitives, and activations of edgecc/loop/activations.py, that have a definition."""

TABLED = frozenset(_TABLED)
"""Those that have another one for machines with tables in registers."""

MAX_ULP: Mapping[str, float] = MappingProxyType({
    "exp": 1.1, "log": 1.0, "erf": 1.5, "tanh": 1.5, "sigmoid": 2.5, "sinh": 2.0, "cosh": 2.0, "asinh": 2.0, "acosh": 2.0,
    "atanh": 2.5, "sin": 2.0, "cos": 2.0, "tan": 4.0, "asin": 2.5, "acos": 1.5, "atan": 1.5, "pow": 1.0, "fmod": 0.0, "mod": 0.5,
})
"""Bound on the error of each primitive, in units in the last place, with and without hardware fma."""

MAX_GELU_ULP = 2.0
"""Bound on the error of "gelu", in units in the last place of the operand."""
MAX_DECAY_ULP = 1.1
"""Bound on the error of "decay" from -87 to 0, in units in the last place."""
MAX_GATED_ULP = 3.0
"""Bound on the error of "gated" from -87 on, in units in the last place."""


@functools.cache
def definition(op: str, lanes: int, *, tables: bool = False) -> MathFunction:
    """The function of primitive `op` on `lanes` lanes of f32, which must be in `DEFINED`; `tables` says that vectors of so many
    lanes have the operations of edgecc/loop/tables.py."""
    return (_TABLED if tables and op in TABLED else _DEFINITIONS)[op](lanes)
