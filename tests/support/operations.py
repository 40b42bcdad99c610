"""Functions that do one operation each, at every number of lanes of a machine, with what numpy says they compute.

A case is a function, its arrays, and the arrays it should leave. `machine` is anything with `architecture`, `features` and
`vector_bits`, such as a `Machine` of ccompile.py.
"""

from __future__ import annotations

import numpy as np

from edgecc.backends.c.isa import isa_of
from edgecc.backends.c.table import HALF_TYPES
from edgecc.ir.scalar import PRIMITIVES, convert_array
from edgecc.ir.types import DType
from edgecc.loop.builder import Builder
from edgecc.loop.ir import Bitcast, Broadcast, Cast, Const, Expr, Horizontal, Lane, Op
from edgecc.loop.math import DEFINED, MAX_ULP

N = 48
GROUPS = {
    "f32": (DType.F32,), "f64": (DType.F64,), "half": (DType.F16, DType.BF16), "i32": (DType.I32, DType.U32),
    "i64": (DType.I64, DType.U64), "narrow": (DType.I8, DType.U8, DType.I16, DType.U16), "bool": (DType.BOOL,),
}
SHIFTS = ("shift_left", "shift_right")


LOOP_TYPES = [dtype for dtype in DType if not dtype.is_stored_only]
"""The types kernels see: others are bytes by then."""


def lanes_of(machine, dtype: DType) -> tuple[int, ...]:
    isa = isa_of(machine.architecture, machine.features, machine.vector_bits)
    return (1, *isa.lanes_of(DType.F32 if dtype is DType.BOOL else dtype))


def data(dtype: DType, seed: int) -> np.ndarray:
    """Random and special values of a type."""
    rng = np.random.default_rng(seed)
    if dtype is DType.BOOL:
        return rng.integers(0, 2, N).astype(np.bool_)
    if dtype.is_float:
        special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 1.5, -2.5, 2.5, 300.0, -300.0, 1e30, -1e30, 3e9, 1e-41, 2e19]
        values = np.concatenate([rng.permutation(np.array(special)), rng.standard_normal(N - len(special) - 8) * 3,
                                 rng.standard_normal(8) * 1e4])
        with np.errstate(all="ignore"):
            return values.astype(dtype.numpy)
    limits = np.iinfo(dtype.numpy)
    values = rng.integers(limits.min, limits.max, N, dtype=dtype.numpy, endpoint=True)
    values[::3] = rng.integers(0 if limits.min == 0 else -4, 5, N)[::3].astype(dtype.numpy)
    values[:4] = rng.permutation(np.array([limits.min, limits.max, 0, limits.max // 2], dtype.numpy))
    return values


def operands(op: str, dtype: DType, arity: int) -> list[np.ndarray]:
    arrays = [data(dtype, seed) for seed in range(arity)]
    if op in SHIFTS:
        arrays[1] = (np.arange(N) % (dtype.size * 8 + 4)).astype(dtype.numpy)
    if op == "pow" and dtype.is_integer:
        arrays = [(np.abs(a.astype(np.int64)) % 6).astype(dtype.numpy) for a in arrays]
    if op == "select":
        arrays[0] = data(DType.BOOL, 9)
    return arrays


def meaning(op: str, dtype: DType, arrays: list[np.ndarray]) -> np.ndarray:
    wide = [a.astype(np.float32) if dtype in HALF_TYPES and a.dtype != np.bool_ else a for a in arrays]
    with np.errstate(all="ignore"):
        result = wide[0] * wide[1] + wide[2] if op == "fma" else PRIMITIVES[op].meaning(*wide)
        if dtype in HALF_TYPES and result.dtype != np.bool_:
            result = result.astype(dtype.numpy)
    return np.asarray(result)


def takes(op: str, dtype: DType) -> bool:
    if op == "fma":
        return dtype is not DType.BOOL
    kind = PRIMITIVES[op].takes
    return {"number": dtype is not DType.BOOL, "float": dtype.is_float, "integer": dtype.is_integer,
            "bool": dtype is DType.BOOL, "any": True}[kind]


def operation_case(op: str, dtype: DType, lanes: int, arity: int):
    b = Builder(f"{op}_{dtype.value}_{lanes}")
    types = [DType.BOOL if op == "select" and i == 0 else dtype for i in range(arity)]
    buffers = [b.buffer(name, own, N, "input") for name, own in zip("abc", types, strict=False)]
    result = DType.BOOL if op in PRIMITIVES and PRIMITIVES[op].result == "bool" else dtype
    out = b.buffer("out", result, N, "output")
    with b.loop("i", N, step=lanes) as i:
        b.store(out, i, Op(op, tuple(b.load(buffer, i, lanes) for buffer in buffers), result, lanes))
    arrays = operands(op, dtype, arity)
    return b.function(), dict(zip("abc", arrays, strict=False)), meaning(op, dtype, arrays)


def tolerance(op: str, dtype: DType) -> float:
    """Relative error allowed: what is not one IEEE operation may differ in the last places."""
    if dtype is DType.F64:
        return 1e-13 if op in DEFINED or op in ("fma", "mod") else 0
    if op in DEFINED:
        return (max(MAX_ULP[op], 1) + 1) * 2 * dtype.unit_roundoff
    return 3 * dtype.unit_roundoff if op == "fma" and dtype.is_float else 0


def check(got: np.ndarray, want: np.ndarray, relative: float, what: str) -> None:
    if relative == 0:
        if got.dtype == DType.BF16.numpy:  # numpy does not know the NaN of this type
            got, want = got.astype(np.float32), want.astype(np.float32)
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    with np.errstate(all="ignore"):
        g, w = got.astype(np.float64), want.astype(np.float64)
        near = (np.abs(g - w) <= relative * np.abs(w) + 1e-44) | (g == w) | (np.isnan(g) & np.isnan(w))
    assert near.all(), f"{what}: {g[~near][:4]} instead of {w[~near][:4]}"


def unary_case(name: str, source: DType, result: DType, lanes: int, make, array: np.ndarray, want: np.ndarray):
    b = Builder(f"{name}_{source.value}_{result.value}_{lanes}")
    a = b.buffer("a", source, N, "input")
    out = b.buffer("out", result, N, "output")
    with b.loop("i", N, step=lanes) as i:
        b.store(out, i, make(b.load(a, i, lanes)))
    return b.function(), {"a": array}, {"out": want}


def cast_meaning(array: np.ndarray, source: DType, result: DType) -> np.ndarray:
    with np.errstate(all="ignore"):
        if result is DType.BF16 and source is not DType.F32:  # ml_dtypes would round twice
            return round_to_bf16(array.astype(np.longdouble))
        return convert_array(array, result)


def round_to_bf16(array: np.ndarray) -> np.ndarray:
    wide = array.astype(np.float64)
    mantissa, exponent = np.frexp(wide)
    rounded = np.ldexp(np.rint(mantissa * 256), exponent - 8)
    return rounded.astype(np.float32).astype(DType.BF16.numpy)


def conversion_cases(machine):
    """Every conversion and reading of bits as another type."""
    cases = []
    for source in LOOP_TYPES:
        for result in LOOP_TYPES:
            if source is result:
                continue
            for lanes in lanes_of(machine, source)[:3]:
                if lanes not in lanes_of(machine, result):
                    continue
                array = data(source, 3)
                want = cast_meaning(array, source, result)
                cases.append(unary_case("cast", source, result, lanes, lambda v, r=result: Cast(v, r), array, want))
                if source.size == result.size and DType.BOOL not in (source, result):
                    finite = np.nan_to_num(array) if source.is_float else np.abs(array) % 100 if result.is_float else array
                    bits = finite.astype(source.numpy)
                    cases.append(unary_case("bits", source, result, lanes, lambda v, r=result: Bitcast(v, r), bits,
                                            bits.view(result.numpy)))
    return cases


def memory_cases(machine):
    """Partial and strided loads and stores, lanes, broadcasts and horizontals."""
    cases = []
    for dtype in LOOP_TYPES:
        for lanes in lanes_of(machine, dtype)[1:]:
            array = data(dtype, 5)
            for valid in (0, *range(1, lanes)):
                for stride in (1, 3) if valid in (0, 1, lanes - 1) else (1,):
                    cases.append(partial_case(dtype, lanes, valid, stride, array))
            cases.append(parts_case(dtype, lanes, array))
    return cases


def partial_case(dtype: DType, lanes: int, valid: int, stride: int, array: np.ndarray):
    """The buffers end with the last element touched, so that sanitizers and neighbours tell of one more."""
    count = valid or lanes
    touched = (count - 1) * stride + 1
    b = Builder(f"partial_{dtype.value}_{lanes}_{valid}_{stride}")
    a = b.buffer("a", dtype, touched, "input")
    loaded, stored = b.buffer("loaded", dtype, lanes, "output"), b.buffer("stored", dtype, touched + 1, "output")
    v = b.let("v", b.load(a, 0, lanes, stride=stride, valid=valid))
    b.store(loaded, 0, v)
    b.store(stored, 0, v, stride=stride, valid=valid)
    want = np.zeros(lanes, dtype.numpy)
    want[:count] = array[:touched:stride][:count]
    before = data(dtype, 8)[:touched + 1]
    after = before.copy()
    after[:touched:stride] = want[:count]
    return b.function(), {"a": array[:touched], "stored": before}, {"loaded": want, "stored": after}


def parts_case(dtype: DType, lanes: int, array: np.ndarray):
    array = np.where(np.isnan(array), 1, array).astype(dtype.numpy) if dtype.is_float else array
    b = Builder(f"parts_{dtype.value}_{lanes}")
    a = b.buffer("a", dtype, N, "input")
    out = {name: b.buffer(name, dtype, size, "output")
           for name, size in (("lane", lanes), ("spread", lanes), ("constant", lanes), ("combined", 4))}
    v = b.let("v", b.load(a, 0, lanes))
    for position in range(lanes):
        b.store(out["lane"], position, Lane(v, position))
    b.store(out["spread"], 0, Broadcast(b.load(a, 1), lanes))
    value = True if dtype is DType.BOOL else 3
    b.store(out["constant"], 0, Const(value, dtype, lanes))
    wants = {"lane": array[:lanes], "spread": np.full(lanes, array[1]), "constant": np.full(lanes, value).astype(dtype.numpy)}
    if dtype is not DType.BOOL:
        combined = np.full(4, 0).astype(dtype.numpy)
        for place, op in enumerate(("add", "mul", "min", "max")):
            b.store(out["combined"], place, Horizontal(op, v))
            combined[place] = halves(op, dtype, array[:lanes])
        wants["combined"] = combined
    return b.function(), {"a": array}, wants


def halves(op: str, dtype: DType, lanes: np.ndarray) -> np.ndarray:
    """Pairwise combination, the upper half with the lower one first."""
    while lanes.size > 1:
        lanes = meaning(op, dtype, [lanes[:lanes.size // 2], lanes[lanes.size // 2:]])
    return lanes[0]


def constant_cases(machine):
    """min and max with a number, shifts by a number, products with one lane of a register."""
    cases = []
    for dtype in (DType.F32, DType.F64, DType.F16, DType.I32, DType.U32, DType.I64, DType.U64, DType.I8, DType.U16):
        for lanes in lanes_of(machine, dtype):
            array = data(dtype, 11)
            number = np.array(2).astype(dtype.numpy)

            def constant(value: int, dtype: DType = dtype, lanes: int = lanes) -> Const:
                return Const(float(value) if dtype.is_float else value, dtype, lanes)

            if dtype.is_float:
                def by_lane(v: Expr, dtype: DType = dtype, lanes: int = lanes) -> Expr:
                    one = Broadcast(Lane(v, lanes - 1), lanes) if lanes > 1 else v
                    return Op("fma", (one, v, Op("mul", (v, one), dtype, lanes)), dtype, lanes)

                for op in ("min", "max"):
                    want = meaning(op, dtype, [array, np.full(N, number)])
                    cases.append(unary_case(f"{op}_right", dtype, dtype, lanes,
                                            lambda v, op=op: Op(op, (v, constant(2)), dtype, lanes), array, want))  # noqa: B023
                    cases.append(unary_case(f"{op}_left", dtype, dtype, lanes,
                                            lambda v, op=op: Op(op, (constant(2), v), dtype, lanes), array, want))  # noqa: B023
            else:
                for op in SHIFTS:
                    for count in (0, 1, dtype.size * 8 - 1):
                        want = meaning(op, dtype, [array, np.full(N, count, dtype.numpy)])
                        cases.append(unary_case(f"{op}_{count}", dtype, dtype, lanes,
                                                lambda v, op=op, c=count: Op(op, (v, constant(c)), dtype, lanes), array, want))  # noqa: B023
    return cases
