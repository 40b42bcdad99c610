"""The numbers a Winograd convolution computes with: floats of one type, or integers of 16 and 32 bits, whose results are exact.

Integers are read in groups of four bytes of neighbouring channels, of which the even and the odd ones are two words each:

    part 0: bytes 0 and 2,    part 1: bytes 1 and 3        word = byte - zero point

Both words of a part travel in one number of 32 bits, as low + 2^16 high modulo 2^32, which sums and products by constants keep so:
transforms treat two channels in one operation. Only where they go into products they become two words of 16 bits. The results are
multiples of what the convolution sums up to. They are known modulo 2^32, which is enough where the power of two among the factors
leaves the sum room: the odd factor has an inverse modulo 2^32, the power is a shift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.kernels.sum_types import convert
from edgecc.loop.builder import add, mul, operation, sub
from edgecc.loop.dot import DOTS
from edgecc.loop.ir import Cast, Expr, Load

LOW_BYTES, SIGNS, WORDS = 0x00FF00FF, 0x80808080, 0x00010001
"""The lower byte of each word, the sign of each byte, and one in each word."""

HALF_WORD = 0x8000

PRODUCT = "dot_s16"
"""The product of pairs of words."""


@dataclass(frozen=True)
class Numbers:
    """Floats.

    Attributes:
        dtype: of the transforms and the sums.
        scale: what the inputs are multiplied by first.
        block: the most terms of a sum in f16.
    """

    dtype: DType
    scale: float = 1.0
    block: int = 0

    @property
    def factors(self) -> DType:
        """The type of the elements that products read."""
        return self.dtype

    @property
    def parts(self) -> int:
        """How many factors there are in an element of the input."""
        return 1

    @property
    def group(self) -> int:
        """How many terms a product adds."""
        return 1

    @property
    def dot(self) -> str:
        """The operation of a product: a multiply-add."""
        return ""

    @property
    def operations(self) -> tuple[float, float, float]:
        """Arithmetic operations of `read`, `factor` and of a result, beside those that all numbers have."""
        return 0.0, 0.0, 0.0

    def read(self, element: Load, part: int) -> Expr:
        """A part of an element of the input, to be transformed."""
        value = convert(element, self.dtype)
        return value if self.scale == 1.0 else mul(value, self.scale)

    def factor(self, transformed: Expr) -> Expr:
        """What products read of a transformed input."""
        return transformed

    def results(self, transform: Callable[[Expr | None], list[Expr]], bias: Expr | None) -> list[Expr]:
        """The sums, made by the last transform of products plus what it is given."""
        return transform(bias)


FLOATS = Numbers(DType.F32)
"""What is computed with unless something shorter is asked for."""


@dataclass(frozen=True)
class Words(Numbers):
    """Integers.

    Attributes:
        zero: the zero point of the inputs.
        flip: whether these are signed.
        multiple: how many times too large the results are.
    """

    zero: int = 0
    flip: bool = False
    multiple: int = 1

    @property
    def factors(self) -> DType:
        """Two words each."""
        return DType.U32

    @property
    def parts(self) -> int:
        """Two of two words each."""
        return 2

    @property
    def group(self) -> int:
        """A pair."""
        return DOTS[PRODUCT].group

    @property
    def dot(self) -> str:
        """The operation of a product."""
        return PRODUCT

    @property
    def operations(self) -> tuple[float, float, float]:
        """Those of `read` are half as many for the even bytes."""
        zero, flip = bool(self.zero) != self.flip, self.flip
        return 1.5 + zero + flip, 2.0, 1.0 + (self.multiple & (self.multiple - 1) > 0)

    def read(self, element: Load, part: int) -> Expr:
        """Two bytes as words without their zero point."""
        group: Expr = operation("bit_xor", element, SIGNS) if self.flip else element
        words = Cast(operation("bit_and", operation("shift_right", group, 8) if part else group, LOW_BYTES), self.dtype)
        zero = self.zero + (128 if self.flip else 0)
        return sub(words, zero * WORDS) if zero else words

    def factor(self, transformed: Expr) -> Expr:
        """low + 2^16 high as two words: the lower one is moved to where it is not negative and back in place."""
        return operation("bit_xor", Cast(add(transformed, HALF_WORD), self.factors), HALF_WORD)

    def results(self, transform: Callable[[Expr | None], list[Expr]], bias: Expr | None) -> list[Expr]:
        """The sums."""
        return [quotient if bias is None else add(quotient, bias) for quotient in map(self._quotient, transform(None))]

    def _quotient(self, value: Expr) -> Expr:
        shift = power_of_two(self.multiple)
        inverse = pow(self.multiple >> shift, -1, 1 << 32)
        signed = inverse - (1 << 32) if inverse >= 1 << 31 else inverse
        odd = value if signed == 1 else mul(value, signed)
        return operation("shift_right", odd, shift) if shift else odd


def power_of_two(number: int) -> int:
    """The exponent of the power of two among the factors of a number."""
    return (number & -number).bit_length() - 1
