"""Operators that make, or look into, strings. (Equality is a scalar expression, and movement moves them as anything else.)"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgecc.ir.op import Op, RegionOp, present, register, required
from edgecc.ir.strings import encoded, string_array
from edgecc.ir.types import Array, DType, TensorType
from edgecc.ops import rules
from edgecc.ops.automaton import Automaton, compile_pattern
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.indexing import Gather, GatherElements, GatherND, ScatterElements, ScatterND
from edgecc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose


@dataclass(frozen=True)
class StringOp(Op):
    """An operator that works on each string by itself, or on those of two operands at one position."""

    def magnitude(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """Nothing is rounded."""
        return self.reference(inputs)

    def checked(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The types of the operands, which are strings. Raises: EdgeccError E110."""
        operands = required(inputs)
        for name, operand in zip(self.inputs, operands, strict=True):
            rules.check_dtype(self, name, operand, DType.STRING, inputs)
        return operands


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
