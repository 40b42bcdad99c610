"""Comparison of results: one operator, a graph before and after a pass, and whole networks end to end.

No comparison here uses a fixed relative tolerance for all data: rounding errors are small against the terms a result
was summed from, not against the result, which may have cancelled.

One operator (`error_units`). The error is divided by u * magnitude, where u is the unit roundoff of the type and
the magnitude comes from `Op.magnitude`: the sum of the magnitudes of the terms. A kernel that adds n terms in some order
stays below about sqrt(n) units, and far below for blocked sums and fused multiply-adds.

A pass (`compare_observations`). Both graphs are executed twice:
- In wide mode (float64 throughout) nothing is rounded to narrow types, so two graphs that are equal in exact
  arithmetic agree to about 2^-53 of their magnitudes. Here a pass shows its algebra: an error in a formula, however
  small against float32 rounding, stands out. What a pass may add is the rounding of constants it computed and stored;
  it states that as `tolerance_units`.
- In plain mode (each operator's results rounded to their types) a pass shows its numerics: an algebraically equal
  form that cancels or overflows is caught. The error against the wide run of the graph before may be at most 8 times
  that of the graph before, plus 8 roundings.
The magnitude of a graph's output is measured, not derived: bounds propagated through dozens of layers grow beyond
use. The wide run is repeated with every element of inputs, constants and results multiplied by 1 + 2^-24 * N(0, 1);
the deviation, divided by 2^-24, is the output's sensitivity to rounding (Monte Carlo arithmetic: D. S. Parker, UCLA
report CSD-970002, 1997). Elements of at most 8 significant bits stay: exponents, masks and limits such as 2, 0, 1 or
0.5 are exact in every type, and a mask of 1 - 6e-8 times -3e38 would be another model. An element's magnitude is |value| + its own largest deviation + the root mean square deviation of
the tensor; the last term makes three runs enough, since by chance single elements deviate little in all of them.
Where a sample changes an integer or bool element, that element depends on rounding (a tie) and is not compared.

A network (`compare_outputs`). See there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph
from edgecc.ir.strings import is_string_array
from edgecc.ir.types import Array, DType, is_float_array
from edgecc.reference.executor import Perturbation, execute

UNIT = 2.0**-24
"""The size of one perturbation, and of one unit of a pass's tolerance in float32 graphs."""

EXACT = 2.0**-30
"""What float64 execution may differ by without any rounding to narrow types, relative to magnitudes: 2^23
roundoffs of float64, room for sums in another order, and 2^6 below the effect of one float32 rounding."""

PLAIN_FACTOR = 8.0
"""How much worse than the graph before, and than one rounding of everything, plain execution may get."""

RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-6
ROUNDOFFS = 16.0
"""What an output may be off by in roundoffs of a type shorter than float32, over its largest magnitude."""

_LEAST_NORMAL = {DType.F64: 2.0**-1022, DType.F32: 2.0**-126, DType.F16: 2.0**-14, DType.BF16: 2.0**-126}


# -- one operator -----------------------------------------------------------------------------------------


def error_units(result: Array, expected: Array, magnitude: Array, dtype: DType) -> float:
    """The largest error of `result`, in units of roundoff of `dtype` times `magnitude`.

    Args:
        result: the result under test.
        expected: the right result, best in float64 (`Op.reference` on float64 operands).
        magnitude: `Op.magnitude` for the same operands.
        dtype: the type in which the result was computed.
    Returns: 0 where all is equal; inf where shapes differ, an integer or bool differs, or NaN or an infinity meets
        something else. Values too large for `dtype` count as infinite, and errors below its least normal number
        as none: kernels may flush such numbers to zero.
    """
    if result.shape != expected.shape:
        return float("inf")
    if not dtype.is_float:
        return 0.0 if np.array_equal(result, expected) else float("inf")
    with np.errstate(all="ignore"):
        got = result.astype(dtype.numpy).astype(np.float64)
        wanted = expected.astype(np.float64)
        rounded = expected.astype(dtype.numpy).astype(np.float64)
        same = (got == wanted) | (got == rounded) | (np.isnan(got) & np.isnan(wanted))
        if not np.all(same | (np.isfinite(got) & np.isfinite(wanted))):
            return float("inf")
        error = np.where(same, 0.0, np.abs(got - wanted))
        error = np.where(error <= _LEAST_NORMAL.get(dtype, 0.0), 0.0, error)
        units = np.where(error == 0.0, 0.0, error / (dtype.unit_roundoff * np.abs(magnitude.astype(np.float64))))
    return float(np.max(np.where(np.isnan(units), np.inf, units), initial=0.0))


# -- a graph before and after a pass ----------------------------------------------------------------------


@dataclass(frozen=True)
class Observation:
    """What a graph computes from certain inputs.

    Attributes:
        wide: its outputs in wide mode, floats as float64.
        plain: its outputs in plain mode.
        magnitudes: for float outputs the magnitude of each element (see the module's docstring); for others whether the
            element depends on rounding. None where it was not measured.
        roundoff: the largest unit roundoff among the float types of inputs and results; 0 without floats. Types
            that only constants have do not count: they are data, and nothing is rounded to them.
    """

    wide: Mapping[str, Array]
    plain: Mapping[str, Array]
    magnitudes: Mapping[str, Array] | None
    roundoff: float


@dataclass(frozen=True)
class OutputChange:
    """How one output of a graph changed.

    Attributes:
        name: the output.
        units: largest change in wide mode, in units of roundoff times magnitude; inf where it cannot be measured.
        tolerance_units: what was allowed.
        plain_ratio: largest error in plain mode over what is allowed; above 1 is a failure.
        ok: whether the change is within what is allowed.
        detail: in words, where not ok.
    """

    name: str
    units: float
    tolerance_units: float
    plain_ratio: float
    ok: bool
    detail: str = ""


def observe_graph(graph: Graph, inputs: Mapping[str, Array], *, samples: int = 3, seed: int = 0) -> Observation:
    """Executes a graph in both modes, and `samples` more times with perturbations to measure magnitudes.

    With samples=0 magnitudes are left out; take them from a graph that means the same with `with_magnitudes`.

    Raises: EdgeccError E005 where the inputs do not fit.
    """
    wide = execute(graph, inputs, wide=True)
    plain = execute(graph, inputs)
    magnitudes = _measured(graph, inputs, wide, samples, seed) if samples else None
    roundoffs = [v.type.dtype.unit_roundoff for v in graph.values()
                 if v.constant is None and v.type.dtype is not DType.F64]
    return Observation(wide, plain, magnitudes, max(roundoffs, default=0.0))


def with_magnitudes(observation: Observation, source: Observation) -> Observation:
    """`observation` with the magnitudes measured for `source`, a graph of the same meaning."""
    return replace(observation, magnitudes=source.magnitudes)


def compare_observations(before: Observation, after: Observation, tolerance_units: float = 0.0) -> tuple[OutputChange, ...]:
    """Compares what a graph computed before and after a pass; `before` carries the magnitudes.

    Args:
        before, after: of the same inputs.
        tolerance_units: error that rounded constants may add, in units of roundoff times magnitude; 0 for passes
            that are exact but for float64 rounding.
    Raises: EdgeccError E900 where the outputs have other names, shapes or types, or magnitudes were not measured.
    """
    if before.magnitudes is None:
        raise EdgeccError("E900", "the graph before the pass was observed without magnitudes")
    if list(before.plain) != list(after.plain):
        raise EdgeccError("E900", f"the outputs were {', '.join(map(printable, before.plain))} and became "
                                  f"{', '.join(map(printable, after.plain))}")
    changes = []
    for name, old in before.plain.items():
        new = after.plain[name]
        if old.shape != new.shape or old.dtype != new.dtype:
            raise EdgeccError("E900", f"output {printable(name)} was {old.dtype}{list(old.shape)} and became "
                                      f"{new.dtype}{list(new.shape)}")
        if not is_float_array(old):
            changes.append(_exact_change(name, before, after, before.magnitudes[name]))
        else:
            changes.append(_float_change(name, before, after, before.magnitudes[name], tolerance_units))
    return tuple(changes)


def compare_before_after(before: Graph, after: Graph, inputs: Mapping[str, Array], *, tolerance_units: float = 0.0,
                         samples: int = 3, seed: int = 0) -> tuple[OutputChange, ...]:
    """Executes and compares a graph before and after a pass. See `compare_observations`.

    Raises: EdgeccError E005 where the inputs do not fit, E900 where the interface of the graph changed.
    """
    return compare_observations(observe_graph(before, inputs, samples=samples, seed=seed),
                                observe_graph(after, inputs, samples=0), tolerance_units)


def perturbation(generator: np.random.Generator) -> Perturbation:
    """Multiplies every element by 1 + 2^-24 * N(0, 1), but those of at most 8 significant bits; see the module's docstring."""

    def perturb(array: Array) -> Array:
        with np.errstate(all="ignore"):
            exact = array.astype(DType.BF16.numpy).astype(np.float64) == array
            return np.asarray(array * np.where(exact, 1.0, 1.0 + UNIT * generator.standard_normal(array.shape)))

    return perturb


def _measured(graph: Graph, inputs: Mapping[str, Array], wide: Mapping[str, Array], samples: int,
              seed: int) -> dict[str, Array]:
    perturb = perturbation(np.random.default_rng(seed))
    deviations: dict[str, Array] = {}
    for _ in range(samples):
        moved = execute(graph, inputs, wide=True, perturb=perturb)
        for name, base in wide.items():
            if not is_float_array(base):
                change = moved[name] != base
                deviations[name] = change | deviations.get(name, np.zeros_like(change))
                continue
            with np.errstate(all="ignore"):
                change = np.abs(moved[name] - base) / UNIT
            change = np.where(np.isfinite(change), change, 0.0)
            deviations[name] = np.maximum(change, deviations.get(name, np.zeros_like(change)))
    out = {}
    for name, base in wide.items():
        deviation = deviations[name]
        if is_float_array(base):
            typical = np.sqrt(np.mean(deviation**2)) if deviation.size else 0.0
            deviation = np.where(np.isfinite(base), np.abs(base), 0.0) + deviation + typical
        out[name] = deviation
    return out


def _exact_change(name: str, before: Observation, after: Observation, unstable: Array) -> OutputChange:
    differ = [int(np.count_nonzero((a[name] != b[name]) & ~unstable))
              for a, b in ((before.wide, after.wide), (before.plain, after.plain))]
    ok = differ[0] == 0
    # In plain mode rounding may move integers that the samples did not; they count only if wide mode differs too.
    detail = "" if ok else f"{differ[0]} of {unstable.size} elements differ"
    return OutputChange(name, 0.0 if ok else float("inf"), 0.0, 0.0, ok, detail)


def _float_change(name: str, before: Observation, after: Observation, magnitude: Array,
                  tolerance_units: float) -> OutputChange:
    old, new = before.wide[name], after.wide[name]
    roundoff = max(before.roundoff, after.roundoff) or UNIT
    kinds_differ = _kinds(old) != _kinds(new)
    if np.any(kinds_differ):
        return OutputChange(name, float("inf"), tolerance_units, 0.0, False,
                            f"{np.count_nonzero(kinds_differ)} of {old.size} elements became or ceased to be NaN or infinite")
    finite = np.isfinite(old)
    with np.errstate(all="ignore"):
        change = np.where(finite, np.abs(new - old), 0.0)
        units = np.where(change == 0.0, 0.0, change / (roundoff * magnitude))
        largest = float(np.max(np.where(np.isnan(units), np.inf, units), initial=0.0))
        allowed = tolerance_units + EXACT / roundoff
        ratio = _plain_ratio(old, before.plain[name], after.plain[name], magnitude, tolerance_units, roundoff)
    details = []
    if largest > allowed:
        details.append(f"changed by {largest:.3g} units of roundoff times magnitude, allowed are {allowed:.3g}")
    if ratio > 1.0:
        details.append(f"rounding errors grew to {ratio:.3g} times what is allowed")
    return OutputChange(name, largest, tolerance_units, ratio, not details, "; ".join(details))


def _plain_ratio(exact: Array, old: Array, new: Array, magnitude: Array, tolerance_units: float, roundoff: float) -> float:
    """Largest error of `new` over PLAIN_FACTOR times the errors to expect; elements that overflowed before are left out."""
    old, new = old.astype(np.float64), new.astype(np.float64)
    compared = np.isfinite(exact) & np.isfinite(old)
    if np.any(compared & ~np.isfinite(new)):
        return float("inf")
    old_error = float(np.max(np.where(compared, np.abs(old - exact), 0.0), initial=0.0))
    allowed = PLAIN_FACTOR * (old_error + roundoff * magnitude) + tolerance_units * roundoff * magnitude
    error = np.where(compared, np.abs(new - exact), 0.0)
    return float(np.max(np.where(error == 0.0, 0.0, error / allowed), initial=0.0))


def _kinds(array: Array) -> Array:
    """0 for finite, 1 and -1 for infinite, 2 for NaN."""
    return np.where(np.isnan(array), 2, np.where(np.isinf(array), np.sign(array), 0)).astype(np.int8)


# -- a network end to end ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class OutputComparison:
    """One output of a network against its expected value.

    Attributes:
        name: the output.
        max_abs_err: largest |result - expected|; inf where NaN or an infinity meets something else.
        max_rel_err: largest |result - expected| / |expected| among elements whose |expected| is at least 1e-3 of the
            largest; smaller ones say nothing about the network.
        tolerance: what max_abs_err may be.
        ok: max_abs_err <= tolerance.
        range_err: max_abs_err over the distance of the least and the largest expected element.
        snr_db: mean square of the expected elements over that of the errors, in decibels; inf without errors.
        overflows: elements that are infinite or NaN where a finite one is expected.
    """

    name: str
    max_abs_err: float
    max_rel_err: float
    tolerance: float
    ok: bool
    range_err: float = 0.0
    snr_db: float = math.inf
    overflows: int = 0


def compare_outputs(results: Mapping[str, Array], expected: Mapping[str, Array], *,
                    relative: float = RELATIVE_TOLERANCE, absolute: float = ABSOLUTE_TOLERANCE,
                    margins: Mapping[str, float] | None = None) -> tuple[OutputComparison, ...]:
    """Compares the outputs of a network with expected ones that another implementation computed.

    Integers, bools and strings must be equal. For floats the tolerance of an output is

        relative * max|expected| + absolute        (relative at least 16 roundoffs of a narrower type)

    relative = 1e-4: a layer that sums n products has an error of about sqrt(n) roundoffs of its largest values, and
    errors of d layers of contracting or norm-preserving kind add like a random walk. n = 4096 and d = 100 give
    64 * 10 * 2^-24 = 4e-5 for one implementation; two of them differ by sqrt 2 times that. absolute = 1e-6: an output may be
    small by cancellation of values of order 1, which are known to a few times 2^-24. The measure is the largest
    |expected| of the tensor, not each element, for the same reason. Results of all zeros therefore fail unless all expected
    values are below 1e-6.

    An expected array called PREFIX__NAME, where NAME is an output and the key is none, is a second right answer for
    NAME (implementations may differ by more than rounding, by fast paths for instance); the nearer one counts.

    Args:
        results: what is under test, by output name.
        expected: what it should be; other keys are ignored.
        margins: what outputs may differ by besides, by name: steps of a quantization that others round in their own way.
    Raises: EdgeccError E005 where an output is not in `expected`, or there has another shape or kind of type.
    """
    comparisons = []
    problems = []
    for name, result in results.items():
        candidates = [key for key in expected if key == name or (key not in results and key.endswith(f"__{name}"))]
        if name not in expected:
            problems.append(f"{printable(name)}: missing")
            continue
        options = []
        for key in candidates:
            wanted = np.asarray(expected[key])
            if wanted.shape != result.shape or _kind(wanted) != _kind(result):
                problems.append(f"{printable(key)}: {wanted.dtype}{list(wanted.shape)}, the model gives "
                                f"{result.dtype}{list(result.shape)}")
                break
            compared = _compare_output(name, result, wanted, relative, absolute)
            allowed = compared.tolerance + (margins or {}).get(name, 0.0)
            options.append(replace(compared, tolerance=allowed, ok=compared.ok or compared.max_abs_err <= allowed < math.inf))
        comparisons += sorted(options, key=lambda c: (not c.ok, c.max_abs_err))[:1]
    if problems:
        raise EdgeccError("E005", "the expected outputs do not fit the model", details=problems)
    return tuple(comparisons)


def relative_tolerance(graph: Graph, unit_roundoff: float = 0.0) -> float:
    """The relative tolerance of `compare_outputs`: the usual one, or 16 roundoffs of the narrowest type a run rounds to.

    The outputs may be wider than what they were computed from. Values computed from constants alone do not
    count: they are the same for everybody.

    Args:
        unit_roundoff: of the type that the run stores values in, where it is not that of the graph.
    """
    varying = {id(value): value for value in graph.inputs}
    for node in graph.nodes:
        if any(operand is not None and id(operand) in varying for operand in node.inputs):
            varying |= {id(result): result for result in node.outputs}
    return max(RELATIVE_TOLERANCE, ROUNDOFFS * max(unit_roundoff, *(value.type.dtype.unit_roundoff for value in varying.values()), 0.0))


def output_tolerance(expected: Array, stored: DType, relative: float, absolute: float = ABSOLUTE_TOLERANCE) -> float:
    """What the elements of an output of floats may be off by; see `compare_outputs`.

    Args:
        stored: the type of the results, which may be another than that of `expected`.
    """
    # Of a type that is only stored one step at most may differ, which is two roundoffs.
    roundings = max(dtype.unit_roundoff * (2.0 if dtype.is_stored_only else ROUNDOFFS) for dtype in (stored, DType.from_numpy(expected.dtype)))
    wanted = expected.astype(np.float64)
    return max(relative, roundings) * float(np.max(np.abs(wanted), where=np.isfinite(wanted), initial=0.0)) + absolute


def _kind(array: Array) -> str:
    if is_string_array(array):
        return "string"
    return "float" if is_float_array(array) else "bool" if array.dtype.kind == "b" else "integer"


def _compare_output(name: str, result: Array, expected: Array, relative: float, absolute: float) -> OutputComparison:
    if _kind(result) == "string":
        error = float(np.any(result != expected))
        return OutputComparison(name, error, error, 0.0, error == 0.0)
    if _kind(result) != "float":
        differences = np.abs(result.astype(np.float64) - expected.astype(np.float64))
        # Integers beyond 2^53 may be unequal and yet equal as float64; they then differ by at least 1.
        error = float(np.max(np.where(result == expected, 0.0, np.maximum(differences, 1.0)), initial=0.0))
        return OutputComparison(name, error, _relative_error(differences, expected.astype(np.float64)), 0.0, error == 0.0)
    got, wanted = result.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(wanted)
    tolerance = output_tolerance(expected, DType.from_numpy(result.dtype), relative, absolute)
    if np.any(_kinds(got) != _kinds(wanted)):
        return OutputComparison(name, math.inf, math.inf, tolerance, False, math.inf, -math.inf,
                                int(np.count_nonzero(~np.isfinite(got) & finite)))
    with np.errstate(all="ignore"):
        differences = np.where(finite, np.abs(got - wanted), 0.0)
    error = float(np.max(differences, initial=0.0))
    return OutputComparison(name, error, _relative_error(differences, np.where(finite, wanted, 0.0)), tolerance,
                            error <= tolerance, *_spread(differences, wanted[finite]))


def _spread(differences: Array, expected: Array) -> tuple[float, float]:
    """Largest difference over the range of the expected elements, and the signal to noise ratio in decibels."""
    largest, noise = float(np.max(differences, initial=0.0)), float(np.mean(differences**2)) if differences.size else 0.0
    if noise == 0.0:
        return 0.0, math.inf
    extent = float(np.max(expected) - np.min(expected))
    signal = float(np.mean(expected**2))
    return largest / extent if extent > 0 else math.inf, 10.0 * math.log10(signal / noise) if signal > 0 else -math.inf


def _relative_error(differences: Array, expected: Array) -> float:
    scale = float(np.max(np.abs(expected), initial=0.0))
    relevant = (np.abs(expected) >= 1e-3 * scale) & (expected != 0.0)
    return float(np.max(differences[relevant] / np.abs(expected[relevant]), initial=0.0))
