"""Operators that make, or look into, strings. (Equality is a scalar expression, and movement moves them as anything else.)"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.errors import EdgeccError, printable
from edgecc.ir.op import Op, RegionOp, present, register, required
from edgecc.ir.strings import decoded, encoded, string_array
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops import rules
from edgecc.ops.automaton import Automaton, compile_pattern
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather, GatherElements, GatherND, ScatterElements, ScatterND
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from edgecc.ops.regex import has_assertions, parse_pattern


@dataclass(frozen=True)
class StringOp(Op):
    """An operator that works on each string by itself, or on those of two operands at one position."""

    results: ClassVar[int] = 1
    """How many it gives."""
    operand_type: ClassVar[DType] = DType.STRING

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Nothing is rounded."""
        return self.reference(inputs)

    def checked(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The types of the operands, which are `operand_type`. Raises: EdgeccError E110."""
        operands = required(inputs)
        for name, operand in zip(self.inputs, operands, strict=True):
            rules.check_dtype(self, name, operand, self.operand_type, inputs)
        return operands


@dataclass(frozen=True)
class DividingOp(StringOp):
    """An operator that makes several strings of each: (parts, counts).

    Shapes: x strings of any shape -> parts strings [*x, room], empty behind the last one of each; counts i64 of the shape of x.
    Raises: E110 for other types; E407 where a string has more parts than there is room for.
    """

    inputs: ClassVar[tuple[str, ...]] = ("x",)
    results: ClassVar[int] = 2

    room: int

    def divided(self, text: str) -> list[str]:
        """The parts of one string."""
        raise NotImplementedError

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """One axis more, and a number for each string."""
        (x,) = self.checked(inputs)
        return TensorType(DType.STRING, (*x.shape, self.room)), x.with_dtype(DType.I64)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """String by string."""
        (x,) = present(inputs)
        rows = [self.divided(text) for text in x.reshape(-1)]
        if max(map(len, rows), default=0) > self.room:
            raise EdgeccError("E407", f"a string has {max(map(len, rows))} parts; there is room for {self.room}")
        parts = [part for row in rows for part in (*row, *[""] * (self.room - len(row)))]
        return string_array(parts, (*x.shape, self.room)), np.array([len(row) for row in rows], np.int64).reshape(x.shape)


@register
@dataclass(frozen=True)
class StringSplit(DividingOp):
    """The parts of each string between delimiters, or between runs of blanks where the delimiter is empty.

    Shapes: x strings of any shape -> parts strings [*x, room], counts i64 of the shape of x.
    Attributes: delimiter; most, how many delimiters count from the left, all where it is negative; room.
    Raises: E110 for other types; E407 where a string has more parts than there is room for.
    Source: ONNX StringSplit-20; what is blank is what Python's str.split takes for it.
    """

    name: ClassVar[str] = "string_split"

    delimiter: str = ""
    most: int = -1

    def divided(self, text: str) -> list[str]:
        """As Python divides them."""
        return text.split(self.delimiter or None, max(self.most, -1))


@register
@dataclass(frozen=True)
class StringTokens(DividingOp):
    """The parts of each string that match a pattern, from left to right, each the longest match at the first place that has one.

    Shapes: x strings of any shape -> parts strings [*x, room], counts i64 of the shape of x.
    Attributes: pattern, without assertions, in the syntax of `RegexFullMatch`; least, the number of characters that a match needs
        to be a part; room.
    Raises: E110 for other types; E407 for more parts than there is room for; E105 for a pattern that is not understood, has assertions, or needs too large a table.
    Source: com.microsoft Tokenizer, as onnxruntime computes it.
    """

    name: ClassVar[str] = "string_tokens"

    pattern: str = "."
    least: int = 1

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """One axis more, and a number for each string."""
        if has_assertions(parse_pattern(self.pattern)):
            raise EdgeccError("E105", f"pattern {printable(self.pattern, 80)!r} looks at what is around a match (^, $ or \\b)",
                              hint="write the pattern without assertions: longest matches end at word boundaries by themselves")
        pattern_automaton(self.pattern)
        return super().infer(inputs)

    def divided(self, text: str) -> list[str]:
        """Follows the automaton from each place behind the last match."""
        data, automaton = encoded(text), pattern_automaton(self.pattern)
        found, place = [], 0
        while place < len(data):
            end = automaton.longest(data, place)
            if end > place and sum(byte & 0xC0 != 0x80 for byte in data[place:end]) >= self.least:
                found.append(decoded(data[place:end]))
                place = end
            else:
                place += 1
        return found


@register
@dataclass(frozen=True)
class StringConcat(StringOp):
    """z[p] = x[p] followed by y[p].

    Shapes: x, y strings of one shape -> z of that shape.
    Attributes: none.
    Raises: E110 for other types, or shapes that differ.
    Source: ONNX StringConcat-20. The frontend broadcasts.
    """

    name: ClassVar[str] = "string_concat"
    inputs: ClassVar[tuple[str, ...]] = ("x", "y")

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The type of the operands."""
        x, y = self.checked(inputs)
        rules.check_dims(self, "y", y, x.shape, inputs)
        return (x,)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """One after the other."""
        x, y = present(inputs)
        return (string_array([a + b for a, b in zip(x.reshape(-1), y.reshape(-1), strict=True)], x.shape),)


@register
@dataclass(frozen=True)
class StringCase(StringOp):
    """y[p] = x[p] with all letters in lower or in upper case.

    Each character is replaced by the one that Unicode's case mapping gives, of the version that this Python knows,
    whatever the locale; a character whose mapping is several characters stays.

    Shapes: x strings of any shape -> y of that shape.
    Attributes: upper.
    Raises: E110 for other types.
    Source: The Unicode Standard, section 5.18, simple case conversion.
    """

    name: ClassVar[str] = "string_case"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    upper: bool = False

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The type of the operand."""
        return self.checked(inputs)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Character by character."""
        (x,) = present(inputs)
        return (string_array(["".join(other_case(c, upper=self.upper) for c in text) for text in x.reshape(-1)], x.shape),)


def other_case(character: str, *, upper: bool) -> str:
    """The character in upper or lower case; itself where that would be several."""
    mapped = character.upper() if upper else character.lower()
    return mapped if len(mapped) == 1 else character


@register
@dataclass(frozen=True)
class IntegersToStrings(StringOp):
    """y[p] = x[p] in decimal.

    Shapes: x i64 of any shape -> y strings of that shape.
    Attributes: none.
    Raises: E110 for other types.
    Source: ONNX Cast-25 to string.
    """

    name: ClassVar[str] = "integers_to_strings"
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    operand_type: ClassVar[DType] = DType.I64

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Strings of the shape of the operand."""
        (x,) = self.checked(inputs)
        return (x.with_dtype(DType.STRING),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """As Python writes them."""
        (x,) = present(inputs)
        return (string_array(map(str, x.reshape(-1).tolist()), x.shape),)


@register
@dataclass(frozen=True)
class StringsToNumbers(StringOp):
    """y[p] = the number that x[p] is in decimal; see `number_of`.

    Shapes: x strings of any shape -> y of that shape.
    Attributes: dtype, i64 or f64.
    Raises: E110 for other types; E408 for a string that is no number.
    Source: ONNX Cast-25 from string.
    """

    name: ClassVar[str] = "strings_to_numbers"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    dtype: DType

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Numbers of the shape of the operand."""
        (x,) = self.checked(inputs)
        if self.dtype not in (DType.I64, DType.F64):
            raise EdgeccError("E110", f"{self.name} gives i64 or f64, not {self.dtype.value}")
        return (x.with_dtype(self.dtype),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """String by string."""
        (x,) = present(inputs)
        return (np.array([number_of(text, self.dtype) for text in x.reshape(-1)], self.dtype.numpy).reshape(x.shape),)


_NUMBER = re.compile(r"[ \t-\r]*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?(?:inf(?:inity)?|nan))[ \t-\r]*", re.IGNORECASE | re.ASCII)


def number_of(text: str, dtype: DType) -> float | int:
    """A number in decimal, of a float with or without an exponent, or INF or NaN in any case; blanks around it do not count.

    Floats are the nearest ones. Raises: EdgeccError E408 where the text is no number of this kind, or an integer beyond 64 bits.
    """
    found = _NUMBER.fullmatch(text)
    if found is not None and dtype.is_float:
        return float(found[1])
    if found is not None and found[1].lstrip("+-").isdigit() and -2**63 <= (value := int(found[1])) < 2**63:
        return value
    raise EdgeccError("E408", f"'{printable(text, 40)}' is no number of type {dtype.value}",
                      hint="give inputs whose strings are numbers")


@register
@dataclass(frozen=True)
class RegexFullMatch(StringOp):
    """y[p] = whether all of x[p] matches the pattern. A string that is not UTF-8 matches none.

    Shapes: x strings of any shape -> y bool of that shape.
    Attributes: pattern, in the syntax of RE2 as far as edgecc/ops/regex.py says.
    Raises: E110 for other types; E105 for a pattern that is not understood, or needs too large a table.
    Source: ONNX RegexFullMatch-20.
    """

    name: ClassVar[str] = "regex_full_match"
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    pattern: str

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Truth values of the shape of the operand."""
        (x,) = self.checked(inputs)
        pattern_automaton(self.pattern)
        return (x.with_dtype(DType.BOOL),)

    def reference(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Runs the automaton of the pattern."""
        (x,) = present(inputs)
        automaton = pattern_automaton(self.pattern)
        return (np.array([automaton.matches(encoded(text)) for text in x.reshape(-1)], np.bool_).reshape(x.shape),)


pattern_automaton: Callable[[str], Automaton] = functools.lru_cache(maxsize=16)(compile_pattern)
"""The automaton of a pattern; a few are kept, as shape rule, reference and lowering ask for the same ones."""


MOVES_STRINGS: tuple[type[Op], ...] = (Transpose, Reshape, Expand, Concat, Slice, Pad, Gather, GatherElements, GatherND, ScatterElements,
                                       ScatterND, RegionOp, Elementwise)
"""Operators that move strings, or (`Elementwise`) check the types of their operands themselves."""


def takes_strings(op: Op) -> bool:
    """Whether an operator may have strings as operands."""
    return isinstance(op, (StringOp, *MOVES_STRINGS))
