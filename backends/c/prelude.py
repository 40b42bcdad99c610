"""Helper functions of the generated code: each is printed once, and only if something calls it.

A helper is the body of a table row, a mathematical function of edgecc.loop.math, or, where an
instruction set has no form of an operation on vectors, a loop over the lanes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from edgecc.backends.c import avx, pairs
from edgecc.backends.c.isa import Isa
from edgecc.backends.c.signature import COMPARISONS, signature
from edgecc.backends.c.table import CARRIED_INTEGER, HALF_TYPES, STORAGE, Key, Row, helper_name
from edgecc.backends.c.text import call_text, filled
from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.loop import math
from edgecc.loop.dot import DOTS

_UNCHANGED_RANGE = COMPARISONS | {"min", "max", "select", "min_const", "max_const", "bit_and", "bit_or",
                                   "abs", "neg", "floor", "ceil", "round", "sign"}
"""Operations on a carrier whose results need no `normalize` for f16 and bf16 values."""
_IN_RANGE_INTEGER = frozenset({"min", "max", "select", "lt", "le", "eq", "bit_and", "bit_or", "sign"})

INDEX_HELPERS = {
    "edgecc_floordiv": "static inline ptrdiff_t edgecc_floordiv(ptrdiff_t a, ptrdiff_t b) {\n"
                       "  return a / b - (a % b < 0);\n}\n",
    "edgecc_floormod": "static inline ptrdiff_t edgecc_floormod(ptrdiff_t a, ptrdiff_t b) {\n"
                       "  return a % b + (a % b < 0 ? b : 0);\n}\n",
    # Of numbers that are not negative: unsigned, so that no case is needed for the others.
    "edgecc_wrap": "static inline ptrdiff_t edgecc_wrap(ptrdiff_t a, size_t b) {\n"
                   "  return (ptrdiff_t)((size_t)a % b);\n}\n",
    "edgecc_index_min": "static inline ptrdiff_t edgecc_index_min(ptrdiff_t a, ptrdiff_t b) {\n"
                        "  return a < b ? a : b;\n}\n",
    "edgecc_index_max": "static inline ptrdiff_t edgecc_index_max(ptrdiff_t a, ptrdiff_t b) {\n"
                        "  return a > b ? a : b;\n}\n",
}


class Prelude:
    """The helpers used so far, and the way from an operation to C text.

    `print_math` prints the helper of a mathematical function; it is given by the statement printer,
    which itself needs a prelude.
    """

    def __init__(self, isa: Isa, print_math: Callable[[Prelude, math.MathFunction, str], str]) -> None:
        self.isa = isa
        self._print_math = print_math
        self._helpers: dict[str, str] = {}

    @property
    def text(self) -> str:
        """All helpers used, each after those it calls."""
        return "\n".join(self._helpers.values())

    def index_helper(self, name: str) -> str:
        """Notes the use of a helper for indices and returns its name."""
        self._helpers.setdefault(name, INDEX_HELPERS[name])
        return name

    def has_row(self, op: str, dtype: DType, lanes: int) -> bool:
        """Whether the instruction table has the operation."""
        if self.isa.is_pair(dtype, lanes):
            return Key(op, dtype, lanes) in self.isa.rows or (op not in pairs.NEVER and self.has_row(op, dtype, lanes // 2))
        return Key(op, dtype, lanes) in self.isa.rows

    def call(self, op: str, dtype: DType, lanes: int, *operands: str) -> str:
        """C text of an operation on operands of `dtype` (the type read, for casts).

        Raises: EdgeccError E900 where no such operation exists.
        """
        key = Key(op, dtype, lanes)
        row = self.isa.rows.get(key)
        # Machines have forms of their own for vectors only: scalars of f32 are the same everywhere, whatever the C library computes.
        if dtype is DType.F32 and op in math.DEFINED and (row is None or lanes == 1):
            return call_text(self._math_helper(key), operands)
        if row is not None:
            return self._apply(key, row, operands)
        if self.isa.is_pair(dtype, lanes) and self._gives_pair(key):
            return self._twice(key, operands)
        held = self.isa.carrier(dtype, lanes)
        if held is not dtype:
            carried = self._carried(op, dtype, held, lanes, operands)
            if carried is not None:
                return carried
        if lanes > 1:
            return call_text(self._lane_by_lane(key), operands)
        raise EdgeccError("E900", f"C back end: no operation {op} on {dtype.value}")

    # -- resolution -------------------------------------------------------------------------------

    def _apply(self, key: Key, row: Row, operands: tuple[str, ...]) -> str:
        if row.body:
            return call_text(self._row_helper(key, row), operands)
        for used in row.uses:
            self._require(used)
        return filled(row.text, operands)

    def _require(self, key: Key) -> None:
        """Makes sure that the helper of a row exists."""
        if key in avx.HELPERS:
            self._helpers.setdefault(helper_name(key), avx.HELPERS[key])
            return
        row = self.isa.rows[key]
        if row.body:
            self._row_helper(key, row)
        else:
            for used in row.uses:
                self._require(used)

    def _row_helper(self, key: Key, row: Row) -> str:
        name = helper_name(key)
        if name not in self._helpers:
            for used in row.uses:
                self._require(used)
            self._helpers[name] = self._function(name, key, row.text)
        return name

    def _math_helper(self, key: Key) -> str:
        name = helper_name(key)
        if name not in self._helpers:
            text = self._print_math(self, math.definition(key.op, key.lanes, tables=self.isa.has_tables(key.lanes)), name)
            self._helpers[name] = text  # after the helpers it calls
        return name

    def _gives_pair(self, key: Key) -> bool:
        """Whether the result of an operation on pairs is a pair as well, or a scalar."""
        kind, _, detail = key.op.partition(":")
        return kind not in ("cast", "bitcast") or self.isa.is_pair(DType(detail), key.lanes)

    def _twice(self, key: Key, operands: tuple[str, ...]) -> str:
        """An operation on a pair of vectors.

        Raises: EdgeccError E900 where it needs lanes in the order of memory, and pairs have another one.
        """
        op, dtype, lanes = key
        ctype, kind = self.isa.type_name(dtype, lanes), op.split(":")[0]
        if self.isa.mixed_pairs and kind in pairs.BY_PLACE:
            raise EdgeccError("E900", f"C back end: no operation {op} on {lanes} lanes of {dtype.value}")

        def half(name: str, *parts: str) -> str:
            if name in ("load", "store"):
                return self._load(dtype, lanes // 2, *parts) if name == "load" else self._store(dtype, lanes // 2, *parts)
            return self.call(name, dtype, lanes // 2, *parts)

        if kind in pairs.INLINE:
            return pairs.inline_text(key, ctype, operands, half)
        name = helper_name(key)
        if op.endswith("_const") and kind.startswith("shift"):  # the number of bits must be a literal in the text
            count = operands[-1]
            name, operands = f"{name}_{count}", operands[:1]
            if name not in self._helpers:
                both = ", ".join(half(op, f"a.val[{i}]", count) for i in range(2))
                self._helpers[name] = (f"static inline {ctype} {name}({ctype} a) {{\n  return ({ctype}){{{{{both}}}}};\n}}\n")
        elif name not in self._helpers:
            own = signature(self.isa, key)
            body = pairs.helper_body(key, own.result, len(own.parameters), half)
            self._helpers[name] = self._function(name, key, body)
        return call_text(name, operands)

    def _carried(self, op: str, dtype: DType, held: DType, lanes: int, operands: tuple[str, ...]) -> str | None:
        """The operation done on the type that holds `dtype`, or None where that would not be the same."""
        if op.startswith(("cast:", "bitcast:", "load", "store", "gather", "scatter", "normalize")):
            return None
        if op in ("broadcast", "zero") or op.startswith("lane:"):
            return self.call(op, held, lanes, *operands)
        if dtype in HALF_TYPES:
            done = self.call(op, held, lanes, *operands)
            stays = op in _UNCHANGED_RANGE or op.startswith("horizontal:m")
            scalar = lanes if not op.startswith("horizontal:") else 1
            return done if stays else self.call("normalize", dtype, scalar, done)
        if op not in CARRIED_INTEGER or (op == "shift_right" and dtype.is_signed):
            return None
        done = self.call(op, held, lanes, *operands)
        return done if op in _IN_RANGE_INTEGER else self.call("normalize", dtype, lanes, done)

    # -- helpers ----------------------------------------------------------------------------------

    def _function(self, name: str, key: Key, body: str) -> str:
        return f"{signature(self.isa, key).declaration(name)} {{\n{textwrap.indent(body, '  ')}\n}}\n"

    def _lane_by_lane(self, key: Key) -> str:
        """A helper that goes through memory, for what no instruction does; only loads and stores must exist."""
        name = helper_name(key)
        if name not in self._helpers:
            body = self._lane_loop(key)
            self._helpers[name] = self._function(name, key, body)
        return name

    def _lane_loop(self, key: Key) -> str:
        op, dtype, lanes = key
        kind, _, detail = op.partition(":")
        memory = STORAGE[dtype]
        loop = f"for (int i = 0; i < {lanes}; ++i)"
        if kind in ("load", "gather"):
            count = int(detail) if detail else lanes
            stride = "i * b" if kind == "gather" else "i"
            return (f"{memory} lanes[{lanes}] = {{0}};\nfor (int i = 0; i < {count}; ++i) lanes[i] = a[{stride}];\n"
                    f"return {self._load(dtype, lanes, 'lanes')};")
        if kind in ("store", "scatter"):
            count = int(detail) if detail else lanes
            stride, value = ("i * b", "c") if kind == "scatter" else ("i", "b")
            return (f"{memory} lanes[{lanes}];\n{self._store(dtype, lanes, 'lanes', value)};\n"
                    f"for (int i = 0; i < {count}; ++i) a[{stride}] = lanes[i];")
        if kind == "lane":
            return (f"{memory} lanes[{lanes}];\n{self._store(dtype, lanes, 'lanes', 'a')};\n"
                    f"return {self.call('load', dtype, 1, f'lanes[{detail}]')};")
        if kind == "horizontal":
            scalar = self.isa.type_name(dtype, 1)
            combined = self.call(detail, dtype, 1, "v[i]", "v[i + n]")
            loaded = self.call("load", dtype, 1, "lanes[i]")
            return (f"{memory} lanes[{lanes}];\n{scalar} v[{lanes}];\n{self._store(dtype, lanes, 'lanes', 'a')};\n"
                    f"{loop} v[i] = {loaded};\n"
                    f"for (int n = {lanes // 2}; n > 0; n /= 2)\n  for (int i = 0; i < n; ++i) v[i] = {combined};\n"
                    "return v[0];")
        result = dtype
        operands = [dtype] * len(signature(self.isa, key).parameters)
        if kind in ("cast", "bitcast"):
            result = DType(detail)
        elif op in COMPARISONS:
            result = DType.BOOL
        elif op == "select":
            operands[0] = DType.BOOL
        elif op == "nearest":
            result = DType.I32
        elif op in DOTS:
            operands[:2] = [DType.U32, DType.U32]
        if kind == "broadcast":
            return f"{memory} lanes[{lanes}];\n{loop} {self.call('store', dtype, 1, 'lanes[i]', 'a')};\n" \
                   f"return {self._load(dtype, lanes, 'lanes')};"
        lines = []
        for letter, operand in zip("abc", operands, strict=False):
            lines.append(f"{STORAGE[operand]} {letter}_lanes[{lanes}];")
            lines.append(f"{self._store(operand, lanes, f'{letter}_lanes', letter)};")
        lines.append(f"{STORAGE[result]} lanes[{lanes}];")
        loaded_lanes = [self.call("load", operand, 1, f"{letter}_lanes[i]")
                        for letter, operand in zip("abc", operands, strict=False)]
        value = self.call(op, dtype, 1, *loaded_lanes)
        lines.append(f"{loop} {self.call('store', result, 1, 'lanes[i]', value)};")
        lines.append(f"return {self._load(result, lanes, 'lanes')};")
        return "\n".join(lines)

    def _load(self, dtype: DType, lanes: int, pointer: str) -> str:
        if self.has_row("load", dtype, lanes):
            return self.call("load", dtype, lanes, pointer)
        # A narrow type without a load of so many lanes: its carrier is filled one by one.
        held = self.isa.carrier(dtype, lanes)
        name = f"edgecc_fill_{dtype.value}x{lanes}"
        if held is dtype or not self.has_row("load", held, lanes):
            raise EdgeccError("E900", f"C back end: no vectors of {lanes} lanes of {dtype.value}")
        if name not in self._helpers:
            element = self.call("load", dtype, 1, "a[i]")
            self._helpers[name] = (
                f"static inline {self.isa.type_name(dtype, lanes)} {name}(const {STORAGE[dtype]} *a) {{\n"
                f"  {STORAGE[held]} lanes[{lanes}];\n  for (int i = 0; i < {lanes}; ++i) lanes[i] = {element};\n"
                f"  return {self.call('load', held, lanes, 'lanes')};\n}}\n")
        return f"{name}({pointer})"

    def _store(self, dtype: DType, lanes: int, pointer: str, value: str) -> str:
        if self.has_row("store", dtype, lanes):
            return self.call("store", dtype, lanes, pointer, value)
        held = self.isa.carrier(dtype, lanes)
        name = f"edgecc_spread_{dtype.value}x{lanes}"
        if held is dtype or not self.has_row("store", held, lanes):
            raise EdgeccError("E900", f"C back end: no vectors of {lanes} lanes of {dtype.value}")
        if name not in self._helpers:
            element = self.call("store", dtype, 1, "a[i]", f"({STORAGE[self.isa.carrier(dtype, 1)]})lanes[i]")
            self._helpers[name] = (
                f"static inline void {name}({STORAGE[dtype]} *a, {self.isa.type_name(dtype, lanes)} b) {{\n"
                f"  {STORAGE[held]} lanes[{lanes}];\n  {self.call('store', held, lanes, 'lanes', 'b')};\n"
                f"  for (int i = 0; i < {lanes}; ++i) {element};\n}}\n")
        return f"{name}({pointer}, {value})"

    def load(self, dtype: DType, lanes: int, pointer: str, valid: int, stride: str) -> str:
        """A load of the first `valid` lanes (0: all) from `pointer` on; `stride` is C text, "1" for neighbours."""
        if stride == "1":
            if valid:
                return self.call(f"load:{valid}", dtype, lanes, pointer)
            return self._load(dtype, lanes, pointer)
        return self.call(f"gather:{valid}" if valid else "gather", dtype, lanes, pointer, stride)

    def store(self, dtype: DType, lanes: int, pointer: str, value: str, valid: int, stride: str) -> str:
        """A store of the first `valid` lanes (0: all); the text is a statement without its semicolon."""
        if stride == "1":
            if valid:
                return self.call(f"store:{valid}", dtype, lanes, pointer, value)
            return self._store(dtype, lanes, pointer, value)
        return self.call(f"scatter:{valid}" if valid else "scatter", dtype, lanes, pointer, stride, value)
