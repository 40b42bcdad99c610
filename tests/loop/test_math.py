"""Accuracy of the mathematical functions, compiled to C for every machine, against numpy in float64."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from scipy import special

from edgecc.ir.scalar import PRIMITIVES
from edgecc.ir.types import DType
from edgecc.loop.activations import ACTIVATIONS
from edgecc.loop.builder import Builder
from edgecc.loop.ir import Op
from edgecc.loop.math import DEFINED, MAX_DECAY_ULP, MAX_GATED_ULP, MAX_GELU_ULP, MAX_ULP, definition
from tests.support.ccompile import AVX2, AVX512, NEON, PORTABLE, run_function

MACHINES = ((PORTABLE, 1), (AVX2, 8), (AVX512, 16), (NEON, 4))
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 1.1754944e-38,
                    1e-40, -1e-40, 3.4028235e38, -3.4028235e38, 88.72, 88.73, 89.3, -87.4, -103.9, -104.1, 9.0, 4.0,
                    0.625, 1.0000001, 0.99999994, 16777216.0, 131072.0, 131073.0, 1e10, -3e30, 1.5707964, 3.1415927,
                    6.2831855, 1e15, 5e-8, 355.0, 1.7e38, 123456789.0], np.float32)
EXACT = {
    **{op: row.meaning for op, row in ACTIVATIONS.items()},
    "erf": special.erf, "sigmoid": lambda x: np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(x) / (1 + np.exp(x))),
}


def reference(op: str, *arrays: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray((EXACT[op] if op in EXACT else PRIMITIVES[op].meaning)(*(a.astype(np.float64) for a in arrays)))


@cache
def every_kind_of_float(count: int, seed: int) -> np.ndarray:
    """Floats of every exponent and sign, NaN and infinity left to SPECIAL."""
    bits = np.random.default_rng(seed).integers(0, 2**32, count, dtype=np.uint32)
    values = bits.view(np.float32)
    return np.where(np.isfinite(values), values, np.float32(1.5))


def arguments(op: str, count: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(7)
    third = (count - SPECIAL.size**2) // 3
    spread = {"exp": 110, "sigmoid": 110, "sinh": 92, "cosh": 92, "tanh": 12, "erf": 5, "asin": 1, "acos": 1, "atanh": 1,
              "sin": 200, "cos": 200, "tan": 200}.get(op, 30)
    near = rng.uniform(-spread, spread, third).astype(np.float32)
    positive = np.exp(rng.uniform(-5, 5, third)).astype(np.float32)
    x = np.concatenate([near, positive, every_kind_of_float(count - 2 * third - SPECIAL.size**2, 1), np.repeat(SPECIAL, SPECIAL.size)])
    if (ACTIVATIONS[op] if op in ACTIVATIONS else PRIMITIVES[op]).arity == 1:
        return (x,)
    scale = np.concatenate([rng.uniform(-8, 8, 2 * third), rng.uniform(-200, 200, x.size - 2 * third)])
    y = scale.astype(np.float32)
    y[third:third + third // 2] = np.round(y[third:third + third // 2])
    x[:third] = np.abs(x[:third])
    y[x.size - SPECIAL.size**2:] = np.tile(SPECIAL, SPECIAL.size)
    if op in ("fmod", "mod"):
        y[2 * third:third * 3] = every_kind_of_float(third, 2)
    return x, y


def ulp_errors(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """|got - want| in units of the last place of want as a float; infinite where kinds (NaN, inf, sign of 0) differ."""
    with np.errstate(all="ignore"):
        rounded = want.astype(np.float32)
        exponent = np.floor(np.log2(np.maximum(np.abs(want), 2.0**-126)))
        error = np.abs(got.astype(np.float64) - want) / 2.0 ** (exponent - 23)
        # Near the largest float both answers are right.
        big = np.abs(want) > 3.4028234e38
        error = np.where(big & (np.abs(got) >= 3.4028234e38) & (np.sign(got) == np.sign(want)), 0, error)
        error = np.where(np.isnan(want), np.where(np.isnan(got), 0, np.inf), error)
        error = np.where(np.isnan(got) & ~np.isnan(want), np.inf, error)
        same_inf = np.isinf(rounded) & (got == rounded)
        error = np.where(same_inf, 0, error)
        zero_sign = (want == 0) & (got == 0) & (np.signbit(got) != np.signbit(rounded))
    return np.where(zero_sign, np.inf, error)


def function_of(op: str, lanes: int, elements: int, arity: int):
    b = Builder(f"run_{op}")
    buffers = [b.buffer(name, DType.F32, elements, "input") for name in "xy"[:arity]]
    out = b.buffer("out", DType.F32, elements, "output")
    with b.loop("i", elements, step=lanes) as i:
        b.store(out, i, Op(op, tuple(b.load(buffer, i, lanes) for buffer in buffers), DType.F32, lanes))
    return b.function()


@pytest.mark.parametrize("machine, lanes", MACHINES, ids=[m.name for m, _ in MACHINES])
@pytest.mark.parametrize("op", sorted(DEFINED - ACTIVATIONS.keys()))
def test_error_stays_within_the_stated_bound(op, machine, lanes):
    count = 48_000 if machine is NEON else 240_000
    if op in ("sin", "cos", "tan") and lanes > 1:
        count //= 4
    xs = arguments(op, count)
    got = run_function(function_of(op, lanes, count, len(xs)), dict(zip("xy", xs, strict=False)), machine, flags=("-O2",))["out"]
    errors = ulp_errors(got, reference(op, *xs))
    worst = int(np.argmax(errors))
    shown = ", ".join(repr(float(x[worst])) for x in xs)
    assert errors[worst] <= MAX_ULP[op], f"{op}({shown}) = {got[worst]!r}, want {reference(op, *xs)[worst]!r}: {errors[worst]} ulp"


@pytest.mark.parametrize("machine, lanes", MACHINES, ids=[m.name for m, _ in MACHINES])
def test_gelu_is_off_by_few_units_of_its_operand(machine, lanes):
    """And near 0 by few of its own; its ends are the limits."""
    (x,) = arguments("gelu", 48_000)
    got = run_function(function_of("gelu", lanes, 48_000, 1), {"x": x}, machine, flags=("-O2",))["out"]
    want, ends = reference("gelu", x), np.isinf(x)
    assert (np.isnan(got) == np.isnan(x)).all() and np.allclose(got[ends], np.maximum(x[ends], 0), rtol=0, atol=1e-30)
    inside = np.abs(x) < 1e38
    x, got, want = x[inside], got[inside], want[inside]
    assert (np.abs(got - want) / np.spacing(np.abs(x))).max() <= MAX_GELU_ULP
    small = np.abs(x) < 0.5
    assert ulp_errors(got[small & (x != 0)], want[small & (x != 0)]).max() <= 3 * MAX_GELU_ULP


@pytest.mark.parametrize("machine, lanes", MACHINES, ids=[m.name for m, _ in MACHINES])
def test_gated_products_are_within_three_units(machine, lanes):
    u = np.resize(np.concatenate([np.linspace(-87, 100, 9000), SPECIAL]), 9600).astype(np.float32)
    y = np.random.default_rng(8).normal(size=9600).astype(np.float32)
    got = run_function(function_of("gated", lanes, 9600, 2), {"x": y, "y": u}, machine, flags=("-O2",))["out"]
    want, far = reference("gated", y, u), u < -87
    assert ulp_errors(got[~far], want[~far]).max() <= MAX_GATED_ULP
    assert np.allclose(got[far], 0, rtol=0, atol=1e-36)


@pytest.mark.parametrize("machine, lanes", MACHINES, ids=[m.name for m, _ in MACHINES])
def test_decay_is_exp_up_to_zero(machine, lanes):
    """It is exactly 1 at 0; what is too small for a normal number may be 0."""
    x = np.resize(np.concatenate([-np.linspace(0, 110, 9000), -np.geomspace(1e-30, 1, 500), SPECIAL[~(SPECIAL > 0)]]), 9600).astype(np.float32)
    got = run_function(function_of("decay", lanes, 9600, 1), {"x": x}, machine, flags=("-O2",))["out"]
    want, far = reference("decay", x), x < -87
    assert ulp_errors(got[~far], want[~far]).max() <= MAX_DECAY_ULP and (got[x == 0] == 1).all()
    assert np.allclose(got[far], want[far], rtol=0, atol=1.2e-38) and (got[x < -104] == 0).all()


@pytest.mark.parametrize("op", ["exp", "log", "erf", "tanh", "sigmoid"])
def test_the_functions_networks_use_are_within_two_and_a_half_ulp(op):
    assert MAX_ULP[op] <= 2.5


def test_a_definition_has_no_call_of_a_function_it_does_not_define():
    for op in DEFINED:
        for lanes in (1, 4, 16):
            function = definition(op, lanes)
            assert function.result.lanes == lanes
            assert all(p.lanes == lanes for p in function.params)
            assert function is definition(op, lanes)
