"""selftest.c: runs the network on inputs that every language can make, and checks what comes out.

The inputs come from the linear congruential generator s -> 1664525 s + 1013904223 mod 2^32 (W. H. Press
et al., Numerical Recipes, "quick and dirty" generators), which starts at 1 and steps once for each
element, through all inputs in order. An element is (s >> 8) 2^-23 - 1 for floats, a number in [-1, 1),
and s >> 31 for integers and bool, so that numbers used as indices stay small. Arrays of types that are only stored
(floats of 8 bits and less, integers of less than 8 bits) step once for each byte, which is s >> 26. Strings are those of a short list,
by s >> 16.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgecc.backends.base import SelfTest
from edgecc.backends.c import selftest_strings as strings
from edgecc.backends.c.address import Symbols
from edgecc.backends.c.expression import constant_text
from edgecc.backends.c.model import banner
from edgecc.backends.c.names import string_literal
from edgecc.backends.c.sizes import is_open
from edgecc.backends.c.table import STORAGE
from edgecc.ir.packing import unpack
from edgecc.ir.strings import SAMPLES as SAMPLE_STRINGS
from edgecc.ir.strings import string_array
from edgecc.ir.types import Array, DType, TensorType
from edgecc.loop.module import Interface, Module
from edgecc.targets.schema import Target

SAMPLES = 64
"""Elements of each output that are compared, evenly spaced."""

_MULTIPLIER, _INCREMENT, _SEED = 1664525, 1013904223, 1


def inputs(module: Module) -> dict[str, Array]:
    """The input arrays that the self-test of a module uses, by name."""
    state = _SEED
    arrays: dict[str, Array] = {}
    for port in module.inputs:
        if port.type.dtype is DType.STRING:
            picked = []
            for _ in range(port.type.largest.elements):
                state = (_MULTIPLIER * state + _INCREMENT) & 0xFFFFFFFF
                picked.append(SAMPLE_STRINGS[(state >> 16) % len(SAMPLE_STRINGS)])
            arrays[port.name] = string_array(picked, port.type.largest.dims)
            continue
        stored = port.type.dtype.is_stored_only
        states = np.empty(port.type.largest.packed_bytes if stored else port.type.largest.elements, np.uint64)
        for position in range(states.size):
            state = (_MULTIPLIER * state + _INCREMENT) & 0xFFFFFFFF
            states[position] = state
        if stored:
            arrays[port.name] = unpack((states >> np.uint64(26)).astype(np.uint8), port.type.dtype, port.type.dims)
            continue
        if port.type.dtype.is_float:
            values: Array = (states >> np.uint64(8)).astype(np.float64) * 2.0**-23 - 1.0
        else:
            values = states >> np.uint64(31)
        arrays[port.name] = values.astype(port.type.dtype.numpy).reshape(port.type.largest.dims)
    return arrays


_SAME = """static int same(const char *name, const void *a, const void *b, size_t bytes) {
  uint32_t hash = 2166136261u; /* FNV-1a */
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ ((const unsigned char *)a)[i]) * 16777619u;
  const int differs = memcmp(a, b, bytes) != 0;
  printf("%s: %zu bytes, FNV-1a %08x%s\\n", name, bytes, (unsigned)hash, differs ? ", runs DISAGREE" : "");
  return differs;
}
"""


def selftest(module: Module, target: Target, symbols: Symbols, test: SelfTest | None, *, weights_from_file: bool) -> str:
    """The text of selftest.c."""
    name = module.name
    expected = {} if test is None else test.expected
    arrays, fills = _filled_inputs(module, symbols)
    found, checks = _checked_outputs(module, symbols, test or SelfTest({}))
    writes_strings = any(p.type.dtype is DType.STRING for p in module.outputs)
    second_arena = "second_arena" if writes_strings else "arena"
    arrays += [*found, *(f"static const int64_t in_{n}_dims[] = {{{', '.join(map(str, p.type.max_dims))}}};\n"
                         for n, p in zip(symbols.inputs, module.inputs, strict=True) if is_open(p))]
    arguments = [", ".join(f"{prefix}_{n}" + ("" if not is_open(p) else f", in_{n}_dims" if prefix == "in" else ", NULL")
                           for n, p in zip(names, ports, strict=True)) or "0"
                 for prefix, names, ports in (("in", symbols.inputs, module.inputs), ("first", symbols.outputs, module.outputs),
                                              ("second", symbols.outputs, module.outputs))]
    load = _LOAD_WEIGHTS.replace("UPPER", name.upper()).replace("LOWER", name) if weights_from_file else ""
    load_call = "  if (load_weights() != 0) return 2;\n" if weights_from_file else ""
    return f"""{banner(module, target, "Self-test")}
/* Runs the network twice on generated inputs, with an arena full of zeros and one full of ones, and checks
 * that the results agree byte by byte{" and with reference results" if expected else ""}. Inputs: s = 1664525 s + 1013904223 mod 2^32,
 * starting at 1, one step an element; floats are (s >> 8) 2^-23 - 1, bytes of short types s >> 26, everything else is s >> 31. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "{name}.h"

static _Alignas({module.arena_align}) unsigned char arena[{name.upper()}_ARENA_BYTES];
{strings.second_arena(module) if writes_strings else ""}{"".join(arrays)}
static uint32_t state = 1;

static uint32_t next(void) {{
  state = 1664525u * state + 1013904223u;
  return state;
}}
{_helpers(module, expected, checks)}
{_SAME if any("same(" in check for check in checks) else ""}{load}
int main(void) {{
  int failures = 0;
{load_call}{"".join(fills) or "  (void)next;" + chr(10)}
  const {name}_inputs in = {{{arguments[0]}}};
  const {name}_outputs first = {{{arguments[1]}}}, second = {{{arguments[2]}}};
  memset(arena, 0, sizeof arena);
  if ({name}_run(&in, &first, arena) != 0) return 3;
  memset({second_arena}, 0xFF, sizeof {second_arena});
  if ({name}_run(&in, &second, {second_arena}) != 0) return 3;
{"".join(checks)}  printf("%s\\n", failures ? "FAILED" : "ok");
  return failures != 0;
}}
"""


def _filled_inputs(module: Module, symbols: Symbols) -> tuple[list[str], list[str]]:
    """The arrays of the inputs, and the statements that fill them."""
    arrays, fills = list[str](), list[str]()
    for c_name, port in zip(symbols.inputs, module.inputs, strict=True):
        if port.type.dtype is DType.STRING:
            arrays.append(strings.input_array(c_name, port.type.largest.elements))
            fills += strings.fill(c_name, port.type.largest.elements)
            continue
        ctype, dtype, elements = STORAGE[port.type.dtype], port.type.dtype, _array_length(port.type.largest)
        arrays.append(f"static {ctype} in_{c_name}[{max(1, elements)}];\n")
        value = "(uint8_t)(next() >> 26)" if dtype.is_stored_only else {
            DType.F32: "real()", DType.F64: "real()", DType.F16: "half_bits(real())", DType.BF16: "bfloat_bits(real())",
        }.get(dtype, f"({ctype})(next() >> 31)")
        if elements:  # compilers warn of a count that is always 0
            fills.append(f"  for (size_t i = 0; i < {elements}; ++i) in_{c_name}[i] = {value};\n")
    return arrays, fills


def _checked_outputs(module: Module, symbols: Symbols, test: SelfTest) -> tuple[list[str], list[str]]:
    """The arrays of the outputs of both runs with the tables of expected values, and the statements that compare."""
    arrays, checks = list[str](), list[str]()
    for c_name, port in zip(symbols.outputs, module.outputs, strict=True):
        if port.type.dtype is DType.STRING:
            arrays.append(strings.output_arrays(c_name, port.type.largest.elements))
            table, check = strings.checks(c_name, port, test.expected.get(port.name))
            arrays.append(table)
            checks.append(check)
            continue
        size = port.type.largest.packed_bytes
        for copy in ("first", "second"):
            arrays.append(f"static {STORAGE[port.type.dtype]} {copy}_{c_name}[{max(1, _array_length(port.type.largest))}];\n")
        literal = string_literal(port.name)
        checks.append(f"  failures += same({literal}, first_{c_name}, second_{c_name}, {size});\n")
        if port.name in test.expected:
            table, check = _samples(c_name, literal, port, test)
            arrays.append(table)
            checks.append(check)
    return arrays, checks


def _helpers(module: Module, expected: Mapping[str, Array], checks: Sequence[str]) -> str:
    """The functions that fills and checks call."""
    read = {p.type.dtype for p in module.inputs if p.type.largest.elements}
    compared = {p.type.dtype for p in module.outputs
                if p.name in expected and p.type.largest.elements and p.type.dtype is not DType.STRING}
    return "".join([
        _real(module), _HALF_BITS if DType.F16 in read else "", _BFLOAT_BITS if DType.BF16 in read else "",
        _HALF_VALUE if DType.F16 in compared else "", _BFLOAT_VALUE if DType.BF16 in compared else "",
        *(_value_table(dtype) for dtype in DType if dtype in compared and dtype.is_stored_only),
        _FAR if any("far(" in check for check in checks) else "",
        strings.helpers(DType.STRING in read, any(p.type.dtype is DType.STRING for p in module.outputs)),
    ])


def _real(module: Module) -> str:
    if not any(p.type.dtype.is_float and not p.type.dtype.is_stored_only and p.type.largest.elements for p in module.inputs):
        return ""
    return "\nstatic float real(void) {\n  return (float)(next() >> 8) * 0x1p-23f - 1.0f;\n}\n"


def _samples(c_name: str, literal: str, port: Interface, test: SelfTest) -> tuple[str, str]:
    """A table of reference values, and the statement that compares with it."""
    flat, dtype = np.ascontiguousarray(test.expected[port.name]).reshape(-1), port.type.dtype
    if flat.size == 0:
        return "", ""
    count = min(SAMPLES, flat.size)
    positions = [i * (flat.size - 1) // max(1, count - 1) for i in range(count)]
    values = ", ".join(constant_text(float(flat[p]), DType.F64) for p in positions)
    element = f"first_{c_name}[positions_{c_name}[i]]"
    if dtype.is_stored_only:
        per_byte, place = 8 // dtype.bits, f"positions_{c_name}[i]"
        code = element if per_byte == 1 else (f"first_{c_name}[{place} / {per_byte}] >> {dtype.bits} * ({place} % {per_byte}) & "
                                              f"{(1 << dtype.bits) - 1}")
        element = f"values_{dtype.value}[{code}]"
    value = {DType.F16: f"half_value({element})", DType.BF16: f"bfloat_value({element})"}.get(dtype, f"(double){element}")
    table = (f"static const size_t positions_{c_name}[{count}] = {{{', '.join(map(str, positions))}}};\n"
             f"static const double expected_{c_name}[{count}] = {{{values}}};\n")
    absolute, relative = constant_text(test.absolute, DType.F64), constant_text(test.relative, DType.F64)
    if port.name in test.errors:
        errors = np.broadcast_to(test.errors[port.name], test.expected[port.name].shape).reshape(-1)
        table += f"static const double errors_{c_name}[{count}] = {{{', '.join(constant_text(float(errors[p]), DType.F64) for p in positions)}}};\n"
        absolute, relative = f"errors_{c_name}[i]", "0"
    check = (f"  for (size_t i = 0; i < {count}; ++i)\n"
             f"    failures += far({literal}, positions_{c_name}[i], {value}, expected_{c_name}[i], {absolute}, {relative});\n")
    return table, check


def _array_length(tensor_type: TensorType) -> int:
    """Elements of the C array of a tensor: bytes where elements are packed."""
    return tensor_type.packed_bytes if tensor_type.dtype.bits < 8 else tensor_type.elements


def _value_table(dtype: DType) -> str:
    """The number for each pattern of bits of a type that is only stored."""
    codes = np.arange(1 << dtype.bits, dtype=np.uint8).view(dtype.numpy)
    values = ", ".join(constant_text(float(code), DType.F64) for code in codes.astype(np.float64))
    return f"\nstatic const double values_{dtype.value}[{len(codes)}] = {{{values}}};\n"


_FAR = """
static int far(const char *name, size_t position, double got, double want, double absolute, double relative) {
  if (got == want || (got != got && want != want) || fabs(got - want) <= absolute + relative * fabs(want)) return 0;
  printf("%s: element %zu is %g instead of %g\\n", name, position, got, want);
  return 1;
}
"""

# The generated floats have 24 bits and are never subnormal halves, so rounding is all there is to do.
_HALF_BITS = """
static uint16_t half_bits(float value) {
  if (value == 0) return 0;
  int exponent;
  const float fraction = frexpf(fabsf(value), &exponent); /* in [0.5, 1) */
  const int low = exponent < -13 ? -13 : exponent;          /* subnormal halves have the exponent of 2^-14 */
  const float units = rintf(ldexpf(fraction, 11 + exponent - low));
  const unsigned bits = (unsigned)units + (unsigned)(low + 13) * 1024u;
  return (uint16_t)(bits | (value < 0 ? 0x8000u : 0u));
}
"""

_BFLOAT_BITS = """
static uint16_t bfloat_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}
"""

_HALF_VALUE = """
static double half_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 0x3FF;
  double value = exponent == 0 ? ldexp(mantissa, -24) : ldexp(mantissa + 1024, exponent - 25);
  if (exponent == 31) value = mantissa ? (double)NAN : (double)INFINITY;
  return bits & 0x8000 ? -value : value;
}
"""

_BFLOAT_VALUE = """
static double bfloat_value(uint16_t half) {
  const uint32_t bits = (uint32_t)half << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
"""

_LOAD_WEIGHTS = """
static _Alignas(UPPER_ARENA_ALIGN) unsigned char weights[UPPER_WEIGHTS_BYTES + 1];

static int load_weights(void) {
  FILE *file = fopen("weights.bin", "rb");
  if (file == NULL) return 1;
  const size_t bytes = fread(weights, 1, UPPER_WEIGHTS_BYTES + 1, file);
  fclose(file);
  return LOWER_init(weights, bytes);
}
"""
