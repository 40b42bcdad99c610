"""Instructions of microcontrollers (Cortex-M) within portable C: compilers that have them use them, all others get what they mean.

Sources: SMLAD, SXTB16 and VCVTR of the Armv7-M Architecture Reference Manual (DDI 0403), the functions of Arm C Language Extensions
(IHI 0053), section 5.4 of the edition of 2024.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType
from edgecc.loop.ir import Const, Expr, Horizontal, Op

DSP, HELIUM = "dsp", "mve"
"""Features: pairs of 16 bits are multiplied and added at once; all products of two vectors of bytes are added to a register."""

LANES, VECTOR_BITS, DOT_ACROSS = 4, 128, "dot_s8_across"
"""Groups in a vector, its bits, and the row that adds all products of two vectors to a scalar sum."""

HEADER = """\
#if defined(__ARM_FEATURE_DSP)
#include <arm_acle.h>
#endif
"""

VECTORS = """\
#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
typedef int8x16_t edgecc_bytes16;
#else
typedef struct { int8_t byte[16]; } edgecc_bytes16;
#endif
"""

DOT = """\
uint32_t sum = (uint32_t)c;
for (int i = 0; i < 32; i += 8) sum += (uint32_t)((int8_t)(a >> i & 0xFFu) * (int8_t)(b >> i & 0xFFu));
return (int32_t)sum;"""

WORDS = """\
uint32_t low = (uint32_t)((int16_t)(a & 0xFFFFu) * (int16_t)(b & 0xFFFFu));
uint32_t high = (uint32_t)((int16_t)(a >> 16) * (int16_t)(b >> 16));
return (int32_t)((uint32_t)c + low + high);"""

_WORDS_AT_ONCE = f"""\
#if defined(__ARM_FEATURE_DSP)
return __smlad((int16x2_t)a, (int16x2_t)b, c);
#else
{WORDS}
#endif"""

_PAIRS = f"""\
#if defined(__ARM_FEATURE_DSP)
int32_t sum = __smlad(__sxtb16((int8x4_t)a), __sxtb16((int8x4_t)b), c);
return __smlad(__sxtb16((int8x4_t)__ror(a, 8)), __sxtb16((int8x4_t)__ror(b, 8)), sum);
#else
{DOT}
#endif"""


_NEAREST = """\
#if defined(__GNUC__) && defined(__arm__) && defined(__ARM_FP)
float bits;
int32_t result;
__asm__("vcvtr.s32.f32 %0, %1" : "=t"(bits) : "t"(a));
memcpy(&result, &bits, sizeof result);
return result;
#else
return (int32_t)rintf(a);
#endif"""


def scalar_rows() -> Iterator[tuple[Key, Row]]:
    """The grouped product: the even bytes of both groups, widened to 16 bits, then the odd ones. Rounding by the conversion itself,
    which no function of C does: cores such as Cortex-M4 have no instruction that rounds and stays in float."""
    yield Key("dot_s8", DType.I32, 1), Row(_PAIRS, (DSP,), body=True)
    yield Key("dot_s16", DType.I32, 1), Row(_WORDS_AT_ONCE, (DSP,), body=True)
    yield Key("nearest", DType.F32, 1), Row(_NEAREST, (DSP,), body=True)


_LOAD = """\
#if defined(__ARM_FEATURE_MVE)
return vldrbq_s8((const int8_t *)a);
#else
edgecc_bytes16 bytes;
memcpy(&bytes, a, sizeof bytes);
return bytes;
#endif"""

_ACROSS = """\
#if defined(__ARM_FEATURE_MVE)
return vmladavaq_s8(c, a, b);
#else
uint32_t sum = (uint32_t)c;
for (int i = 0; i < 16; ++i) sum += (uint32_t)(a.byte[i] * b.byte[i]);
return (int32_t)sum;
#endif"""


def vector_rows() -> Iterator[tuple[Key, Row]]:
    """Loads of vectors of bytes, and their products; rounding as compilers can do it to vectors.

    Source: VMLADAV of the Armv8-M Architecture Reference Manual (DDI 0553).
    """
    yield Key("nearest", DType.F32, 1), Row("(int32_t)rintf({0})")
    yield Key("load", DType.U32, LANES), Row(_LOAD, (HELIUM,), body=True)
    yield Key(DOT_ACROSS, DType.I32, LANES), Row(_ACROSS, (HELIUM,), body=True)


def across_of(op: Op) -> tuple[Expr, Expr, Expr] | None:
    """Both vectors and the scalar sum where an operation adds all products of two vectors of groups to one; else None."""
    match op:
        case Op(op="add", args=(total, Horizontal(op="add", arg=Op(op="dot_s8", args=(a, b, Const(value=0)), lanes=lanes)))) if lanes == LANES:
            return a, b, total
    return None


def vector_type(dtype: DType, lanes: int) -> str:
    """C type of a vector of groups."""
    if (dtype, lanes) != (DType.U32, LANES):
        raise ValueError(f"no vectors of {lanes} x {dtype.value}")
    return "edgecc_bytes16"


def lanes_of(dtype: DType, widest: int) -> tuple[int, ...]:
    """Lanes of vectors: groups have some."""
    return (LANES,) if dtype is DType.U32 else ()
