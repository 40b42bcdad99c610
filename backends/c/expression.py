"""Expressions and indices of the Loop IR as C text."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from edgecc.backends.c import microcontroller
from edgecc.backends.c.names import identifier, is_identifier
from edgecc.backends.c.paired_sums import summed
from edgecc.backends.c.prelude import Prelude
from edgecc.backends.c.saturating import conversion
from edgecc.backends.c.table import HALF_TYPES, NARROW_INTEGERS
from edgecc.backends.c.text import strip_parentheses
from edgecc.backends.c.wrapping import arithmetic, wraps
from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.kernels.shifted_sums import rounds
from edgecc.loop.bounds import least
from edgecc.loop.dot import DOTS
from edgecc.loop.index import Index, IndexOf, IndexOp, LoopVar, const
from edgecc.loop.ir import (
    Bitcast,
    Broadcast,
    Cast,
    Const,
    Expr,
    FromIndex,
    Horizontal,
    Lane,
    Load,
    Op,
    Ref,
)
from edgecc.loop.rewrite import joined_by_shift


@dataclass
class Binding:
    """A name of the Loop IR in scope: its C name, and whether anything read it."""

    c_name: str
    dtype: DType | None = None
    lanes: int = 1
    used: bool = False
    low: int | None = None
    """Least value of a loop variable, where known."""
    is_const: bool = False
    """Of a buffer: whether it is only read."""
    mixed: str = ""
    """Of sums that are mixed with those of another row: C text of them alone (mixed_rows.py)."""
    is_pair: bool = False
    """Of sums: whether they are kept in two registers (paired_sums.py)."""


@dataclass
class Scope:
    """Names visible at a point. Inner names may repeat outer ones: C names never do within a function."""

    names: dict[str, Binding]
    taken: set[str] = field(default_factory=set)
    numbers: dict[str, int] = field(default_factory=dict)
    """The last number added to each name, all smaller ones being taken."""
    pointers: dict[str, dict[Index, str]] = field(default_factory=dict)
    """C pointers to elements of buffers."""

    def nested(self) -> Scope:
        """A scope for an inner block, which sees everything of this one."""
        return Scope(dict(self.names), self.taken, self.numbers, {buffer: dict(known) for buffer, known in self.pointers.items()})

    def bind(self, name: str, dtype: DType | None = None, lanes: int = 1, low: int | None = None, *,
             is_const: bool = False) -> Binding:
        """Adds a name; it hides an older one."""
        binding = Binding(self._fresh(name), dtype, lanes, low=low, is_const=is_const)
        self.names[name] = binding
        return binding

    def point(self, buffer: str, index: Index) -> str:
        """A new C pointer to an element of a buffer, for elements at constant distances from it."""
        pointers = self.pointers.setdefault(buffer, {})
        pointers[index] = self._fresh(f"{buffer}_at")
        return pointers[index]

    def place(self, buffer: str, index: Index) -> tuple[str, Index]:
        """The C pointer to access an element of a buffer by, the nearest there is, and how far the element is from where it points to."""
        distances = ((index - element, pointer) for element, pointer in self.pointers.get(buffer, {}).items())
        near = min(((distance, pointer) for distance, pointer in distances if distance.is_const), key=lambda pair: abs(pair[0].const), default=None)
        if near is not None:
            return near[1], near[0]
        return self.use(buffer).c_name, index

    def _fresh(self, name: str) -> str:
        """A C name like `name` that nothing has yet."""
        base = name if is_identifier(name) and not name.startswith("edgecc") else identifier(name)
        candidate, number = base, self.numbers.get(base, 1)
        while candidate in self.taken:
            candidate, number = f"{base}_{number}", number + 1
        self.numbers[base] = number
        self.taken.add(candidate)
        return candidate

    def use(self, name: str) -> Binding:
        """Looks a name up and notes that it is read.

        Raises: EdgeccError E900 where it is not in scope.
        """
        binding = self.names.get(name)
        if binding is None:
            raise EdgeccError("E900", f"C back end: {name!r} is not in scope")
        binding.used = True
        return binding


def constant_text(value: float | int | bool, dtype: DType) -> str:
    """A scalar constant as its carrier type. Floats print the shortest decimal that reads back."""
    if dtype is DType.BOOL:
        return "1" if value else "0"
    if dtype.is_float:
        number = float(np.asarray(value).astype(dtype.numpy))
        is_double = dtype is DType.F64
        if math.isnan(number):
            return "(double)NAN" if is_double else "NAN"
        if math.isinf(number):
            text = "(double)INFINITY" if is_double else "INFINITY"
            return text if number > 0 else f"(-{text})"
        text = repr(number) if is_double else _shortest(np.float32(number))
        return f"({text})" if text.startswith("-") else text
    number_of = int(value)
    if dtype.is_signed:
        limits = np.iinfo(dtype.numpy)
        if number_of == limits.min and dtype.size >= 4:
            return f"INT{dtype.size * 8}_MIN"
        text = f"INT64_C({abs(number_of)})" if dtype is DType.I64 else str(abs(number_of))
        return f"(-{text})" if number_of < 0 else text
    if dtype is DType.U64:
        return f"UINT64_C({number_of})"
    return f"{number_of}u"


def _shortest(number: np.float32) -> str:
    """Shortest decimal of a float with its suffix."""
    text = str(np.format_float_scientific(number, unique=True, trim="0")
               if abs(number) >= 1e9 or 0 < abs(number) < 1e-4 else np.format_float_positional(number, unique=True, trim="0"))
    return f"{text}f"


class ExpressionPrinter:
    """Prints expressions with the names of a scope and the operations of a prelude."""

    def __init__(self, prelude: Prelude, scope: Scope) -> None:
        self.prelude = prelude
        self.scope = scope

    # -- indices ----------------------------------------------------------------------------------

    def index(self, index: Index) -> str:
        """An index as an expression of type ptrdiff_t, compact and without outer parentheses."""
        text = ""
        for atom, coefficient in index.terms:
            factor = self._atom(atom)
            size = abs(coefficient)
            term = factor if size == 1 else f"{size} * {factor}"
            if not text:
                text = term if coefficient > 0 else f"-{term}"
            else:
                text += f" + {term}" if coefficient > 0 else f" - {term}"
        if not text:
            return str(index.const)
        if index.const:
            text += f" + {index.const}" if index.const > 0 else f" - {-index.const}"
        return text

    def _atom(self, atom: LoopVar | IndexOp | IndexOf) -> str:
        match atom:
            case LoopVar(name=name):
                return self.scope.use(name).c_name
            case IndexOf(expr=expr):
                return f"(ptrdiff_t){self.expr(expr)}"
            case IndexOp(op="min" | "max" as op, args=args):
                function = self.prelude.index_helper(f"edgecc_index_{op}")
                return f"{function}({self.index(args[0])}, {self.index(args[1])})"
            case IndexOp(op="floordiv" | "mod" as op, args=args):
                dividend = self.index(args[0])
                if self._is_non_negative(args[0]):
                    if op == "mod":
                        return f"{self.prelude.index_helper('edgecc_wrap')}({dividend}, {args[1].const})"
                    return f"({dividend if dividend.isidentifier() else f'({dividend})'} / {args[1].const})"
                function = self.prelude.index_helper("edgecc_floordiv" if op == "floordiv" else "edgecc_floormod")
                return f"{function}({dividend}, {args[1].const})"
        raise EdgeccError("E900", f"C back end: no index operation {atom.op!r}")

    def _is_non_negative(self, index: Index) -> bool:
        low = self.least(index)
        return low is not None and low >= 0

    def least(self, index: Index) -> int | None:
        """A number the index certainly is not below; None where there is none."""
        return least(index, lambda name: self.scope.names[name].low if name in self.scope.names else None)

    def element(self, buffer: str, index: Index) -> str:
        """The element of a buffer as an lvalue."""
        name, offset = self.scope.place(buffer, index)
        return f"{name}[{self.index(offset)}]"

    def pointer(self, buffer: str, index: Index) -> str:
        """The address of an element of a buffer."""
        name, offset = self.scope.place(buffer, index)
        return name if offset == Index() else f"&{name}[{self.index(offset)}]"

    def prefetch(self, buffer: str, index: Index) -> str:
        """A prefetch of an element of a buffer, as a statement without its semicolon."""
        return f"EDGECC_PREFETCH({self.scope.use(buffer).c_name}, {self.index(index)})"

    # -- expressions ------------------------------------------------------------------------------

    def saturating(self, value: Expr, dtype: DType) -> str:
        """A vector that saturates to `dtype` as it is stored; conversions of floats need not care for what saturation cares for."""
        found = conversion(value, dtype, self.prelude.has_row)
        if found is None:
            return strip_parentheses(self.expr(value))
        row, operand = found
        return self.prelude.call(row, operand.dtype, operand.lanes, strip_parentheses(self.expr(operand)))

    def expr(self, expr: Expr) -> str:
        """An expression as C text that can stand as an operand of anything."""
        match expr:
            case Const(value=value, dtype=dtype, lanes=lanes):
                return self._constant(value, dtype, lanes)
            case Ref(name=name):
                binding = self.scope.use(name)
                return summed(binding.c_name) if binding.is_pair else binding.mixed or binding.c_name
            case Load():
                return self._load(expr)
            case Op():
                return self._op(expr)
            case Cast(arg=arg, dtype=dtype):
                return self._cast(arg, dtype)
            case Bitcast(arg=arg, dtype=dtype):
                if arg.dtype is dtype:
                    return self.expr(arg)
                return self.prelude.call(f"bitcast:{dtype.value}", arg.dtype, arg.lanes, self.expr(arg))
            case Broadcast(arg=arg, lanes=lanes):
                if isinstance(arg, Const):
                    return self._constant(arg.value, arg.dtype, lanes)
                return self.expr(arg) if lanes == 1 else self._broadcast(self.expr(arg), arg.dtype, lanes)
            case Lane(arg=arg, position=position):
                if arg.lanes == 1:
                    return self.expr(arg)
                return self.prelude.call(f"lane:{position}", arg.dtype, arg.lanes, self.expr(arg))
            case Horizontal(op=op, arg=arg):
                if arg.lanes == 1:
                    return self.expr(arg)
                return self.prelude.call(f"horizontal:{op}", arg.dtype, arg.lanes, self.expr(arg))
            case FromIndex(index=index, dtype=dtype):
                as_i64 = f"(int64_t)({self.index(index)})"
                return as_i64 if dtype is DType.I64 else self.prelude.call(f"cast:{dtype.value}", DType.I64, 1, as_i64)

    def _broadcast(self, text: str, dtype: DType, lanes: int) -> str:
        return self.prelude.call("broadcast", dtype, lanes, text)

    def _constant(self, value: float | int | bool, dtype: DType, lanes: int) -> str:
        if lanes == 1:
            return constant_text(value, dtype)
        if dtype is DType.BOOL:
            return self.prelude.call("ones" if value else "zero", dtype, lanes)
        if value == 0 and not (dtype.is_float and math.copysign(1.0, float(value)) < 0):
            return self.prelude.call("zero", dtype, lanes)
        held = self.prelude.isa.carrier(dtype, lanes)
        return self._broadcast(constant_text(value, held if held.is_integer else dtype), held, lanes)

    def _load(self, load: Load) -> str:
        if load.lanes == 1:
            return self.prelude.call("load", load.dtype, 1, self.element(load.buffer, load.index))
        if load.stride == 0 and load.valid == 0:
            element = self.prelude.call("load", load.dtype, 1, self.element(load.buffer, load.index))
            return self._broadcast(element, load.dtype, load.lanes)
        valid = 0 if load.valid == load.lanes else load.valid
        return self.prelude.load(load.dtype, load.lanes, self.pointer(load.buffer, load.index), valid, str(load.stride))

    def store(self, buffer: str, index: Index, value: Expr, stride: int, valid: int) -> str:
        """A store as a statement without its semicolon."""
        rounded = self._rounding_store(value) if stride == 1 and valid in (0, value.lanes) else ""
        if rounded and isinstance(value, Cast):
            return self.prelude.call(rounded, value.dtype, value.lanes, self.pointer(buffer, index), self.expr(value.arg))
        if isinstance(value, Op) and value.op == "interleave" and stride == 1 and self.prelude.has_row("store_words", value.args[0].dtype, value.lanes):
            return self.prelude.call("store_words", value.args[0].dtype, value.lanes, self.pointer(buffer, index), *map(self.expr, value.args))
        text = self.expr(value)
        if value.lanes == 1:
            return self.prelude.call("store", value.dtype, 1, self.element(buffer, index), strip_parentheses(text))
        valid = 0 if valid == value.lanes else valid
        return self.prelude.store(value.dtype, value.lanes, self.pointer(buffer, index), text, valid, str(stride))

    def _rounding_store(self, value: Expr) -> str:
        """The store that rounds floats to the half-precision type `value` converts them to; "" where there is none."""
        if not (isinstance(value, Cast) and value.arg.dtype is DType.F32 and value.dtype in HALF_TYPES and value.lanes > 1):
            return ""
        # Halves in lanes of f32 are rounded by the store anyway.
        plain = value.dtype is DType.F16 and self.prelude.isa.carrier(DType.F16, value.lanes) is DType.F32
        return next((name for name in ("store_rounded", "store" if plain else "")
                     if name and self.prelude.has_row(name, value.dtype, value.lanes)), "")

    def _op(self, op: Op) -> str:
        args = op.args
        if op.op == "interleave":
            return self._interleave(op)
        if op.op == "join_words":
            return self._join_words(op)
        operand = args[1] if op.op == "select" else args[0]
        dtype, lanes = op.dtype if op.op in DOTS else operand.dtype, op.lanes
        if op.op in ("min", "max") and dtype.is_float:
            for first, second in (args, args[::-1]):
                constant = _constant_of(second)
                if constant is not None and not math.isnan(float(constant.value)):
                    return self._min_max_const(op.op, dtype, lanes, first, second)
        if op.op in ("shift_left", "shift_right"):
            constant = _constant_of(args[1])
            if constant is not None and 0 <= int(constant.value) < dtype.size * 8:
                count = int(constant.value)
                if count == 0:
                    return self.expr(args[0])
                if self.prelude.has_row(f"{op.op}_const", dtype, lanes):
                    return self.prelude.call(f"{op.op}_const", dtype, lanes, self.expr(args[0]), str(count))
        if (op.op in ("fma", "mul") or op.op in DOTS) and lanes > 1:
            by_lane = self._by_lane(op)
            if by_lane is not None:
                return by_lane
        across = microcontroller.across_of(op)
        if across is not None and self.prelude.has_row(microcontroller.DOT_ACROSS, DType.I32, microcontroller.LANES):
            return self.prelude.call(microcontroller.DOT_ACROSS, DType.I32, microcontroller.LANES, *map(self.expr, across))
        if wraps(op):
            return arithmetic(op, self.expr)
        texts = [self.expr(a) for a in args]
        if op.op == "add" and isinstance(args[0], Op) and args[0].op == "mul" and self.prelude.has_row("apart", dtype, lanes) \
                and isinstance(args[1], Const) and rounds(args[1].value):
            texts[0] = self.prelude.call("apart", dtype, lanes, texts[0])
        return self.prelude.call(op.op, dtype, lanes, *texts)

    def _interleave(self, op: Op) -> str:
        """Groups of four bytes: by shuffles where whole vectors are loaded, else by shifts."""
        dtype, lanes = op.args[0].dtype, op.lanes
        first = op.args[0]
        if lanes == 1 and isinstance(first, Load) and op.args == tuple(
                Load(first.buffer, first.index + place, dtype) for place in range(4)) and self.prelude.has_row("group", dtype, 1):
            return self.prelude.call("group", dtype, 1, self.pointer(first.buffer, first.index))
        if lanes > 1 and isinstance(first, Load) and op.args == tuple(
                Load(first.buffer, first.index + place, dtype, lanes, 4) for place in range(4)) and self.prelude.has_row("groups", dtype, lanes):
            return self.prelude.call("groups", dtype, lanes, self.pointer(first.buffer, first.index))
        if self.prelude.has_row("interleave", dtype, lanes):
            parts = [self._bytes(arg) for arg in op.args]
            if all(parts):
                return self.prelude.call("interleave", dtype, lanes, *parts)
        known = sum((int(arg.value) & 0xFF) << 8 * place for place, arg in enumerate(op.args) if isinstance(arg, Const))
        read: list[Expr] = [_byte_at(arg, place) for place, arg in enumerate(op.args) if not isinstance(arg, Const)]
        if known or not read:
            read.append(Const(known, DType.U32, lanes))
        word = read[0]
        for part in read[1:]:
            word = Op("bit_or", (word, part), DType.U32, lanes)
        return self.expr(word)

    def _join_words(self, op: Op) -> str:
        """Pairs of words: by shuffles where whole vectors of bytes are loaded, else by a shift."""
        dtype = op.args[0].dtype
        parts = [self._bytes(arg) for arg in op.args] if self.prelude.has_row(op.op, dtype, op.lanes) else [""]
        if all(parts):
            return self.prelude.call(op.op, dtype, op.lanes, *parts)
        return self.expr(joined_by_shift(op))

    def scalar(self, value: Const | Broadcast) -> str:
        """What stands in every lane, as a scalar."""
        return constant_text(value.value, value.dtype) if isinstance(value, Const) else self.expr(value.arg)

    def joined_bytes(self, low: Op, high: Op) -> list[str] | None:
        """The operands of two interleavings of neighbouring bytes as vectors twice as long; None where they are no neighbours."""
        out = []
        for first, second in zip(low.args, high.args, strict=True):
            match first, second:
                case Load(buffer=buffer, lanes=lanes, valid=0, stride=1), Load(valid=0, stride=1) if (
                        second.buffer == buffer and second.index - first.index == const(lanes)):
                    out.append(self.prelude.call("bytes", first.dtype, 2 * lanes, self.pointer(buffer, first.index)))
                case Const(value=value), Const() if second.value == value:
                    out.append(self.prelude.call("bytes_of", first.dtype, 2 * first.lanes, str(int(value))))
                case _:
                    return None
        return out

    def _bytes(self, arg: Expr) -> str:
        """Bytes as a vector of bytes rather than of 32-bit lanes; "" where they are not just loaded or constant."""
        match arg:
            case Load(buffer=buffer, index=index, dtype=dtype, lanes=lanes, stride=1, valid=valid) if valid in (0, lanes):
                return self.prelude.call("bytes", dtype, lanes, self.pointer(buffer, index))
            case Const(value=value, dtype=dtype, lanes=lanes):
                return self.prelude.call("bytes_of", dtype, lanes, str(int(value)))
        return ""

    def _min_max_const(self, op: str, dtype: DType, lanes: int, value: Expr, constant: Expr) -> str:
        held = self.prelude.isa.carrier(dtype, lanes)
        if self.prelude.has_row(f"{op}_const", held, lanes):
            return self.prelude.call(f"{op}_const", held, lanes, self.expr(value), self.expr(constant))
        return self.prelude.call(op, dtype, lanes, self.expr(value), self.expr(constant))

    def _by_lane(self, op: Op) -> str | None:
        """fma or mul with one factor `Broadcast(Lane(register))`, where one instruction does that."""
        for vector, scalar in ((op.args[1], op.args[0]), (op.args[0], op.args[1]))[:1 if op.op in DOTS else 2]:
            match scalar:
                case Broadcast(arg=Lane(arg=Ref() as register, position=position)):
                    name = f"{op.op}_lane:{register.lanes}"
                    if (op.dtype is not register.dtype and op.op not in DOTS) or not self.prelude.has_row(name, op.dtype, op.lanes):
                        continue
                    addend = "" if op.op == "mul" else self.expr(op.args[2])
                    return self.prelude.call(name, op.dtype, op.lanes, self.expr(vector), self.expr(register), addend,
                                             str(position))
        return None

    def _cast(self, arg: Expr, dtype: DType) -> str:
        return self._cast_text(self.expr(arg), arg.dtype, dtype, arg.lanes)

    def _cast_text(self, text: str, source: DType, dtype: DType, lanes: int) -> str:
        if source is dtype:
            return text
        call, has_row = self.prelude.call, self.prelude.has_row
        if self.prelude.isa.carrier(source, lanes) is DType.F32 and source in HALF_TYPES:
            source = DType.F32  # which holds its values
            if dtype is DType.F32:
                return text
        elif source is DType.F16 and not has_row(f"cast:{dtype.value}", source, lanes) and dtype is not DType.BOOL:
            return self._cast_text(call("cast:f32", source, lanes, text), DType.F32, dtype, lanes)
        if (dtype is DType.F16 and source is not DType.F32 and self.prelude.isa.carrier(dtype, lanes) is dtype
                and lanes > 1):
            # Once is enough: f32 holds what f16 does, and every integer that is finite in f16.
            return call("cast:f16", DType.F32, lanes, self._cast_text(text, source, DType.F32, lanes))
        if lanes == 1 or has_row(f"cast:{dtype.value}", source, lanes):
            return call(f"cast:{dtype.value}", source, lanes, text)
        if dtype is DType.BOOL:
            held = self.prelude.isa.carrier(source, lanes)
            equal = call("eq", held, lanes, text, call("zero", held, lanes))
            return call("not", DType.BOOL, lanes, equal)
        if dtype in HALF_TYPES and source is DType.F32:
            return call("normalize", dtype, lanes, text)
        if source is DType.BOOL:
            return self._cast_i32(call("cast:i32", DType.BOOL, lanes, text), DType.U8, dtype, lanes)
        if source in NARROW_INTEGERS or source is DType.I32:
            return self._cast_i32(text, source, dtype, lanes)
        if dtype in NARROW_INTEGERS and has_row("cast:i32", source, lanes):
            inside = call("cast:i32", source, lanes, text)
            if source.is_float:
                limits = np.iinfo(dtype.numpy)
                for op, bound in (("max", limits.min), ("min", limits.max)):
                    inside = call(op, DType.I32, lanes, inside, self._constant(int(bound), DType.I32, lanes))
                return inside
            return call("normalize", dtype, lanes, inside)
        return call(f"cast:{dtype.value}", source, lanes, text)

    def _cast_i32(self, text: str, source: DType, dtype: DType, lanes: int) -> str:
        """Casts a value of type `source` that is held in 32-bit lanes."""
        if dtype is DType.I32:
            return text
        if dtype in NARROW_INTEGERS:
            return self.prelude.call("normalize", dtype, lanes, text)
        if dtype in HALF_TYPES and source in NARROW_INTEGERS:
            as_float = self.prelude.call("cast:f32", DType.I32, lanes, text)  # exact: 16 bits
            return self.prelude.call("normalize", dtype, lanes, as_float)
        return self.prelude.call(f"cast:{dtype.value}", DType.I32, lanes, text)


def _byte_at(byte: Expr, place: int) -> Expr:
    """A byte in a word of 32 bits, `place` bytes above the lowest one."""
    word: Expr = Cast(byte, DType.U32)
    if byte.dtype.is_signed:
        word = Op("bit_and", (word, Const(0xFF, DType.U32, byte.lanes)), DType.U32, byte.lanes)
    return Op("shift_left", (word, Const(8 * place, DType.U32, byte.lanes)), DType.U32, byte.lanes) if place else word


def _constant_of(expr: Expr) -> Const | None:
    match expr:
        case Const():
            return expr
        case Broadcast(arg=Const() as constant):
            return constant
    return None
