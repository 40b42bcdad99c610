"""Vectors of AArch64 in arm_neon.h: Advanced SIMD of Armv8.0-A, which every 64-bit Arm core has.

Lanes: 2 and 4 of 32-bit types (64- and 128-bit registers), 2 of 64-bit types. Masks are unsigned
integer vectors of 32-bit lanes, also for 64-bit types. Source of the meaning of intrinsics: Arm
Neon Intrinsics Reference (IHI0073) and the Arm Architecture Reference Manual (DDI 0487); in
particular FMIN and FMAX propagate NaN and FCVTZS saturates, as the Loop IR wants it.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecc.backends.c import interleaved_stores, interleaving, mixed_rows, paired_sums, saturating
from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType

F32, F64, I32, U32, I64, U64, BOOL = (DType.F32, DType.F64, DType.I32, DType.U32, DType.I64, DType.U64, DType.BOOL)
NEON = ("neon",)

KEEP = """\
/* gcc orders instructions without regard to registers before it assigns them, and copies accumulators around. With
 * this, and each sum tied to its register, all accumulators of a tile stay in registers. Other compilers need no help. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-schedule-insns")
#define EDGECC_KEEP(sum) __extension__({ __typeof__(sum) kept = (sum); __asm__("" : "+w"(kept)); kept; })
#define EDGECC_KEEP_ORDER(sum) EDGECC_KEEP(sum)
#else
#define EDGECC_KEEP(sum) (sum)
#endif
/* clang begins to close the first sums of integers while the last ones are open, and spills. */
#if defined(__clang__)
#define EDGECC_KEEP_ORDER(sum) __extension__({ __typeof__(sum) kept = (sum); __asm__ volatile("" : "+w"(kept)); kept; })
#elif !defined(__GNUC__)
#define EDGECC_KEEP_ORDER(sum) (sum)
#endif
"""

APART = """\
/* A product that is rounded before it is added to: contracted into one instruction the sum would be another one. */
#if defined(__GNUC__)
#define EDGECC_APART(product) __extension__({ __typeof__(product) rounded = (product); __asm__("" : "+w"(rounded)); rounded; })
#else
#define EDGECC_APART(product) (product)
#endif
"""

_FMLA_LANE = """\
#define EDGECC_FMLA_LANE(fma, sum, vector, factors, lane) __extension__({ float32x4_t added = (sum); \\
  __asm__ volatile("fmla %0.4s, %1.4s, %2.s[" #lane "]" : "+w"(added) : "w"(vector), "w"(factors)); added; })
#else
#define EDGECC_FMLA_LANE(fma, sum, vector, factors, lane) fma(sum, vector, factors, lane)
#endif
"""

_FMLA_LANE_F16 = """\
#define EDGECC_FMLA_HALF_LANE_F16(fma, sum, vector, factors, lane) \\
  EDGECC_FMLA_LANE_F16(fma, sum, vector, EDGECC_WIDENED(factors), lane)
#define EDGECC_FMLA_LANE_F16(fma, sum, vector, factors, lane) __extension__({ float16x8_t added = (sum); \\
  __asm__ volatile("fmla %0.8h, %1.8h, %2.h[" #lane "]" : "+w"(added) : "w"(vector), "x"(factors)); added; })
#else
#define EDGECC_FMLA_LANE_F16(fma, sum, vector, factors, lane) fma(sum, vector, factors, lane)
#define EDGECC_FMLA_HALF_LANE_F16(fma, sum, vector, factors, lane) fma(sum, vector, factors, lane)
#endif
/* clang takes whole registers only where it is told to take one of the lower ones. */
#if defined(__clang__)
#define EDGECC_WIDENED(half) __builtin_shufflevector(half, half, 0, 1, 2, 3, -1, -1, -1, -1)
#else
#define EDGECC_WIDENED(half) (half)
#endif
"""


_SDOT_LANE = """\
#define EDGECC_SDOT(dot, sum, groups, factors, source, lane) __extension__({ int32x4_t added = (sum); \\
  __asm__ volatile("sdot %0.4s, %1.16b, %2.4b[" #lane "]" : "+w"(added) : "w"(groups), "w"(factors)); added; })
#else
#define EDGECC_SDOT(dot, sum, groups, factors, source, lane) dot(sum, vreinterpretq_s8_u32(groups), source(factors), lane)
#endif
"""


def by_lane(*, in_order: bool, half: bool) -> tuple[str, ...]:
    """The macros of multiply-adds and products of groups by lane, those of f16 apart; `half`: whether there are any."""
    if in_order:
        why = "/* The order of these is the order in which the core will execute them: no compiler moves them past one another. */\n"
        where = "#if defined(__GNUC__)\n"
    else:
        why = "/* As instructions that gcc does not look into, multiply-adds keep their order, and each sum its register: no tile spills. */\n"
        where = "#if defined(__GNUC__) && !defined(__clang__)\n"
    return tuple(why + where + text for text in (_FMLA_LANE, *((_FMLA_LANE_F16,) if half else ()), _SDOT_LANE))


SHORT_PRODUCTS = {
    4: "int8x16_t x = vreinterpretq_s8_u32(a), y = vreinterpretq_s8_u32(b);\n"
       "return vpadalq_s16(c, vpaddq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(y)), vmull_high_s8(x, y)));",
    2: "int16x8_t products = vmull_s8(vreinterpret_s8_u32(a), vreinterpret_s8_u32(b));\n"
       "return vpadal_s16(c, vpadd_s16(vget_low_s16(products), vget_high_s16(products)));"}
"""Bodies for vectors of four and two groups. The sum of two products needs 16 bits where no factor of one side is -128."""

_SUFFIX = {F32: "f32", F64: "f64", I32: "s32", U32: "u32", I64: "s64", U64: "u64", BOOL: "u32"}
_TYPES = {F32: "float32", F64: "float64", I32: "int32", U32: "uint32", I64: "int64", U64: "uint64", BOOL: "uint32",
          DType.F16: "float16"}
_ROUNDINGS = {"floor": "vrndm", "ceil": "vrndp", "round": "vrndn"}
_COMPARE = {"lt": "vclt", "le": "vcle", "eq": "vceq"}


def lanes_of(dtype: DType, widest: int) -> tuple[int, ...]:
    """Usable numbers of lanes, most first, on a machine with vectors of up to `widest` bits."""
    if widest < 128:
        return ()
    return (2,) if dtype.size == 8 else (4, 2)


def vector_type(dtype: DType, lanes: int) -> str:
    """C type of a vector of a carrier type or of bool."""
    return f"{_TYPES[dtype]}x{lanes}_t"


def vector_rows() -> Iterator[tuple[Key, Row]]:
    """All rows."""
    for dtype, lanes in ((F32, 4), (F32, 2), (F64, 2)):
        yield from _common_rows(dtype, lanes)
        yield from _float_rows(dtype, lanes)
    for dtype, lanes in ((I32, 4), (I32, 2), (U32, 4), (U32, 2), (I64, 2), (U64, 2)):
        yield from _common_rows(dtype, lanes)
        yield from _integer_rows(dtype, lanes)
    for lanes in (4, 2):
        yield from _mask_rows(lanes)
        yield from _casts(lanes)
        yield from _narrow_rows(lanes)
    yield from _half_rows()
    yield from saturating.neon_rows()
    yield from interleaved_stores.byte_rows()
    yield from paired_sums.neon_rows()
    yield from mixed_rows.neon_rows()
    yield from interleaving.neon_rows()
    for lanes, q in ((4, "q"), (2, "")):
        groups = ", ".join(f"vreinterpret{q}_s8_u32({{{i}}})" for i in range(2))
        yield Key("nearest", F32, lanes), Row(f"vcvtn{q}_s32_f32({{0}})", NEON)
        yield Key("dot_s8_short", I32, lanes), Row(SHORT_PRODUCTS[lanes], NEON, body=True)
        yield Key("dot_s8", I32, lanes), Row(f"vdot{q}_s32({{2}}, {groups})", (*NEON, "dotprod"))
        for count, own in ((4, "q"), (2, "")):
            dot, source = f"vdot{q}_lane{own}_s32", f"vreinterpret{own}_s8_u32"
            yield Key(f"dot_s8_lane:{count}", I32, lanes), Row(
                f"EDGECC_SDOT({dot}, {{2}}, {{0}}, {{1}}, {source}, {{3}})" if lanes == 4 else
                f"{dot}({{2}}, vreinterpret_s8_u32({{0}}), {source}({{1}}), {{3}})", (*NEON, "dotprod"))
        yield Key("apart", F32, lanes), Row("EDGECC_APART({0})", NEON)
        for keep in ("keep", "keep_lane"):
            yield Key(keep, I32, lanes), Row("EDGECC_KEEP_ORDER({0})", NEON)


def _q(dtype: DType, lanes: int) -> str:
    """Letter that marks intrinsics on 128-bit registers."""
    return "q" if lanes * max(4, dtype.size) == 16 else ""


def _common_rows(dtype: DType, lanes: int) -> Iterator[tuple[Key, Row]]:
    q, s, vector = _q(dtype, lanes), _SUFFIX[dtype], vector_type(dtype, lanes)

    def row(op: str, text: str, *, body: bool = False) -> tuple[Key, Row]:
        return Key(op, dtype, lanes), Row(text, NEON, body=body)

    yield row("load", f"vld1{q}_{s}({{0}})")
    yield row("store", f"vst1{q}_{s}({{0}}, {{1}})")
    yield row("broadcast", f"vdup{q}_n_{s}({{0}})")
    zero = "0.0f" if dtype is F32 else "0"
    yield row("zero", f"vdup{q}_n_{s}({zero})")
    for op in ("add", "sub"):
        yield row(op, f"v{op}{q}_{s}({{0}}, {{1}})")
    for op, name in _COMPARE.items():
        compared = f"{name}{q}_{s}({{0}}, {{1}})"
        yield row(op, f"vmovn_u64({compared})" if dtype.size == 8 else compared)
    mask = "vreinterpretq_u64_s64(vmovl_s32(vreinterpret_s32_u32({0})))" if dtype.size == 8 else "{0}"
    yield row("select", f"vbsl{q}_{s}({mask}, {{1}}, {{2}})")
    for position in range(lanes):
        yield row(f"lane:{position}", f"vget{q}_lane_{s}({{0}}, {position})")
    places = ["", *(f" + {'b' if lane == 1 else f'{lane} * b'}" for lane in range(1, lanes))]
    for count in range(1, lanes + 1):
        form = "" if count == lanes else f":{count}"
        unused = "(void)b;\n" if count == 1 else ""
        moves = [f"v = vld1{q}_lane_{s}(a{place}, v, {lane});" for lane, place in enumerate(places[:count])]
        yield row(f"gather{form}", "\n".join([f"{unused}{vector} v = vdup{q}_n_{s}(0);", *moves, "return v;"]), body=True)
        moves = [f"vst1{q}_lane_{s}(a{place}, c, {lane});" for lane, place in enumerate(places[:count])]
        yield row(f"scatter{form}", unused + "\n".join(moves), body=True)
    if lanes == 2:
        yield row("load:1", f"vld1{q}_lane_{s}({{0}}, vdup{q}_n_{s}(0), 0)")
        yield row("store:1", f"vst1{q}_lane_{s}({{0}}, {{1}}, 0)")
    else:
        zero_half = f"vdup_n_{s}(0)"
        yield row("load:1", f"vld1q_lane_{s}({{0}}, vdupq_n_{s}(0), 0)")
        yield row("load:2", f"vcombine_{s}(vld1_{s}({{0}}), {zero_half})")
        yield row("load:3", f"return vcombine_{s}(vld1_{s}(a), vld1_lane_{s}(a + 2, {zero_half}, 0));", body=True)
        yield row("store:1", f"vst1q_lane_{s}({{0}}, {{1}}, 0)")
        yield row("store:2", f"vst1_{s}({{0}}, vget_low_{s}({{1}}))")
        yield row("store:3", f"vst1_{s}(a, vget_low_{s}(b));\nvst1q_lane_{s}(a + 2, b, 2);", body=True)
    if dtype.size == 4:
        for op in ("add", "min", "max"):
            yield row(f"horizontal:{op}", _horizontal(op, dtype, lanes), body=True)


def _horizontal(op: str, dtype: DType, lanes: int) -> str:
    """Body that combines the upper half with the lower one until one lane is left."""
    s, half = _SUFFIX[dtype], vector_type(dtype, 2)
    pair = f"v{op}_{s}(vget_low_{s}(a), vget_high_{s}(a))" if lanes == 4 else "a"
    return f"{half} pair = {pair};\nreturn vget_lane_{s}(vp{op}_{s}(pair, pair), 0);"


def _float_rows(dtype: DType, lanes: int) -> Iterator[tuple[Key, Row]]:
    q, s = _q(dtype, lanes), _SUFFIX[dtype]

    def row(op: str, text: str, *, body: bool = False) -> tuple[Key, Row]:
        return Key(op, dtype, lanes), Row(text, NEON, body=body)

    for op in ("mul", "div", "min", "max"):
        yield row(op, f"v{op}{q}_{s}({{0}}, {{1}})")
    for op in ("sqrt", "neg", "abs"):
        yield row(op, f"v{op}{q}_{s}({{0}})")
    for op, name in _ROUNDINGS.items():
        yield row(op, f"{name}{q}_{s}({{0}})")
    yield row("fma", f"vfma{q}_{s}({{2}}, {{0}}, {{1}})")
    yield row("keep", "EDGECC_KEEP({0})")
    yield row("keep_lane", "{0}" if dtype is F32 and lanes == 4 else "EDGECC_KEEP({0})")
    yield from _kind_rows(dtype, lanes)
    # Operand 0 is the vector, 1 the vector that has the lane, 2 the addend.
    if dtype is F32:
        for source, lane in ((4, "laneq"), (2, "lane")):
            multiply_add = f"vfma{q}_{lane}_{s}"
            yield row(f"fma_lane:{source}", f"EDGECC_FMLA_LANE({multiply_add}, {{2}}, {{0}}, {{1}}, {{3}})" if lanes == 4 else
                      f"{multiply_add}({{2}}, {{0}}, {{1}}, {{3}})")
            yield row(f"mul_lane:{source}", f"vmul{q}_{lane}_{s}({{0}}, {{1}}, {{3}})")
    else:
        yield row("fma_lane:2", f"vfmaq_laneq_{s}({{2}}, {{0}}, {{1}}, {{3}})")
        yield row("mul_lane:2", f"vmulq_laneq_{s}({{0}}, {{1}}, {{3}})")
    for integer in (I32, U32, I64, U64):
        if integer.size == dtype.size:
            other = _SUFFIX[integer]
            yield row(f"bitcast:{integer.value}", f"vreinterpret{q}_{other}_{s}({{0}})")
            yield Key(f"bitcast:{dtype.value}", integer, lanes), Row(f"vreinterpret{q}_{s}_{other}({{0}})", NEON)
            yield row(f"cast:{integer.value}", f"vcvt{q}_{other}_{s}({{0}})")
            yield Key(f"cast:{dtype.value}", integer, lanes), Row(f"vcvt{q}_{s}_{other}({{0}})", NEON)


def _kind_rows(dtype: DType, lanes: int) -> Iterator[tuple[Key, Row]]:
    """isnan, isinf and sign."""
    q, s, ctype = _q(dtype, lanes), _SUFFIX[dtype], "float" if dtype is F32 else "double"

    def mask(compared: str) -> str:
        return f"vmovn_u64({compared})" if dtype is F64 else compared

    def number(value: str) -> str:
        return f"vdup{q}_n_{s}({value})"

    not_a_number = f"vmvn{q if dtype is F32 else ''}_u32({mask(f'vceq{q}_{s}(a, a)')})"
    yield Key("isnan", dtype, lanes), Row(f"return {not_a_number};", NEON, body=True)
    infinite = mask(f"vceq{q}_{s}(vabs{q}_{s}({{0}}), {number(f'({ctype})INFINITY')})")
    yield Key("isinf", dtype, lanes), Row(infinite, NEON)
    below = f"vbsl{q}_{s}(vclt{q}_{s}(a, {number('0')}), {number('-1')}, a)"  # zero and NaN stay
    yield Key("sign", dtype, lanes), Row(f"return vbsl{q}_{s}(vcgt{q}_{s}(a, {number('0')}), {number('1')}, {below});",
                                         NEON, body=True)


def _integer_rows(dtype: DType, lanes: int) -> Iterator[tuple[Key, Row]]:
    q, s = _q(dtype, lanes), _SUFFIX[dtype]

    def row(op: str, text: str, *, body: bool = False) -> tuple[Key, Row]:
        return Key(op, dtype, lanes), Row(text, NEON, body=body)

    if dtype.size == 4:
        for op in ("mul", "min", "max"):
            yield row(op, f"v{op}{q}_{s}({{0}}, {{1}})")
        yield row("bit_not", f"vmvn{q}_{s}({{0}})")
    for op, name in (("bit_and", "vand"), ("bit_or", "vorr"), ("bit_xor", "veor")):
        yield row(op, f"{name}{q}_{s}({{0}}, {{1}})")
    if dtype is I32:
        yield row("sign", f"vmax{q}_s32(vmin{q}_s32({{0}}, vdup{q}_n_s32(1)), vdup{q}_n_s32(-1))")
    if dtype.is_signed:
        yield row("neg", f"vneg{q}_{s}({{0}})")
        yield row("abs", f"vabs{q}_{s}({{0}})")
    yield row("shift_left_const", f"vshl{q}_n_{s}({{0}}, {{1}})")
    yield row("shift_right_const", f"vshr{q}_n_{s}({{0}}, {{1}})")
    twin = {I32: U32, U32: I32, I64: U64, U64: I64}[dtype]
    for op in ("bitcast", "cast"):
        yield row(f"{op}:{twin.value}", f"vreinterpret{q}_{_SUFFIX[twin]}_{s}({{0}})")
    if dtype is U32:
        # USHL shifts by the signed low byte of a lane, and to the right if that is negative.
        count = f"vreinterpret{q}_s32_u32(vmin{q}_u32(b, vdup{q}_n_u32(32)))"
        yield row("shift_left", f"return vshl{q}_u32(a, {count});", body=True)
        yield row("shift_right", f"return vshl{q}_u32(a, vneg{q}_s32({count}));", body=True)


def _mask_rows(lanes: int) -> Iterator[tuple[Key, Row]]:
    q = "q" if lanes == 4 else ""

    def row(op: str, text: str, *, body: bool = False) -> tuple[Key, Row]:
        return Key(op, BOOL, lanes), Row(text, NEON, body=body)

    for op, name in (("and", "vand"), ("or", "vorr"), ("xor", "veor"), ("eq", "vceq")):
        yield row(op, f"{name}{q}_u32({{0}}, {{1}})")
    yield row("not", f"vmvn{q}_u32({{0}})")
    yield row("select", f"vbsl{q}_u32({{0}}, {{1}}, {{2}})")
    yield row("zero", f"vdup{q}_n_u32(0)")
    yield row("ones", f"vdup{q}_n_u32(UINT32_MAX)")
    yield row("broadcast", f"vdup{q}_n_u32(0u - (uint32_t){{0}})")
    yield row("cast:i32", f"vreinterpret{q}_s32_u32(vshr{q}_n_u32({{0}}, 31))")
    yield row("cast:f32", f"vreinterpret{q}_f32_u32(vand{q}_u32({{0}}, vdup{q}_n_u32(0x3F800000)))")
    if lanes == 4:
        yield row("load", "uint32_t bytes;\nmemcpy(&bytes, a, 4);\n"
                          "uint32x4_t lanes = vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bytes)))));\n"
                          "return vtstq_u32(lanes, lanes);", body=True)
        yield row("store", "uint16x4_t words = vmovn_u32(vshrq_n_u32(b, 31));\n"
                           "uint32_t bytes = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words))), 0);\n"
                           "memcpy(a, &bytes, 4);", body=True)
    else:
        yield row("load", "uint32x2_t lanes = vset_lane_u32(a[1], vdup_n_u32(a[0]), 1);\n"
                          "return vtst_u32(lanes, lanes);", body=True)
        yield row("store", "a[0] = (uint8_t)(vget_lane_u32(b, 0) & 1u);\n"
                           "a[1] = (uint8_t)(vget_lane_u32(b, 1) & 1u);", body=True)


def _casts(lanes: int) -> Iterator[tuple[Key, Row]]:
    if lanes != 2:
        return
    yield Key("cast:f64", F32, 2), Row("vcvt_f64_f32({0})", NEON)
    yield Key("cast:f32", F64, 2), Row("vcvt_f32_f64({0})", NEON)
    yield Key("cast:f64", I32, 2), Row("vcvtq_f64_s64(vmovl_s32({0}))", NEON)
    yield Key("cast:f64", U32, 2), Row("vcvtq_f64_u64(vmovl_u32({0}))", NEON)
    yield Key("cast:i32", F64, 2), Row("vqmovn_s64(vcvtq_s64_f64({0}))", NEON)
    yield Key("cast:u32", F64, 2), Row("vqmovn_u64(vcvtq_u64_f64({0}))", NEON)
    for wide, narrow in ((I64, I32), (U64, U32)):
        w, n = _SUFFIX[wide], _SUFFIX[narrow]
        yield Key(f"cast:{wide.value}", narrow, 2), Row(f"vmovl_{n}({{0}})", NEON)
        yield Key(f"cast:{narrow.value}", wide, 2), Row(f"vmovn_{w}({{0}})", NEON)


def _narrow_rows(lanes: int) -> Iterator[tuple[Key, Row]]:
    """8- and 16-bit integers held in signed 32-bit lanes."""
    q = "q" if lanes == 4 else ""
    for dtype in (DType.I8, DType.I16):
        shift = 32 - dtype.size * 8
        yield Key("normalize", dtype, lanes), Row(f"vshr{q}_n_s32(vshl{q}_n_s32({{0}}, {shift}), {shift})", NEON)
    for dtype in (DType.U8, DType.U16):
        mask = (1 << dtype.size * 8) - 1
        yield Key("normalize", dtype, lanes), Row(f"vand{q}_s32({{0}}, vdup{q}_n_s32({mask:#x}))", NEON)
    if lanes == 2:
        for dtype in (DType.I8, DType.U8, DType.I16, DType.U16):
            ctype = {DType.I8: "int8_t", DType.U8: "uint8_t", DType.I16: "int16_t", DType.U16: "uint16_t"}[dtype]
            yield Key("load", dtype, 2), Row("return vset_lane_s32(a[1], vdup_n_s32(a[0]), 1);", NEON, body=True)
            yield Key("store", dtype, 2), Row(f"a[0] = ({ctype})vget_lane_s32(b, 0);\n"
                                              f"a[1] = ({ctype})vget_lane_s32(b, 1);", NEON, body=True)
        return
    for dtype in (DType.I16, DType.U16):
        s = f"{'s' if dtype.is_signed else 'u'}16"
        loaded = f"vmovl_{s}(vld1_{s}({{0}}))"
        yield Key("load", dtype, 4), Row(loaded if dtype.is_signed else f"vreinterpretq_s32_u32({loaded})", NEON)
        low = "vmovn_s32({1})"
        yield Key("store", dtype, 4), Row(f"vst1_{s}({{0}}, {low if dtype.is_signed else f'vreinterpret_u16_s16({low})'})",
                                          NEON)
    for dtype in (DType.I8, DType.U8):
        s = "s" if dtype.is_signed else "u"
        lanes32 = f"vmovl_{s}16(vget_low_{s}16(vmovl_{s}8(vreinterpret_{s}8_u32(vdup_n_u32(bytes)))))"
        if not dtype.is_signed:
            lanes32 = f"vreinterpretq_s32_u32({lanes32})"
        yield Key("load", dtype, 4), Row(f"uint32_t bytes;\nmemcpy(&bytes, a, 4);\nreturn {lanes32};", NEON, body=True)
        yield Key("store", dtype, 4), Row(
            "int16x4_t words = vmovn_s32(b);\n"
            "uint32_t bytes = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(words, words))), 0);\n"
            "memcpy(a, &bytes, 4);", NEON, body=True)


def _half_rows() -> Iterator[tuple[Key, Row]]:
    """f16 and bf16 held as float. FCVTL and FCVTN are part of Armv8.0; arithmetic on halves is not used."""
    f16, bf16 = DType.F16, DType.BF16
    yield Key("load", f16, 1), Row("__fp16 half;\nmemcpy(&half, &a, 2);\nreturn (float)half;", NEON, body=True)
    yield Key("to_bits", f16, 1), Row("__fp16 half = (__fp16)a;\nuint16_t bits;\nmemcpy(&bits, &half, 2);\nreturn bits;",
                                      NEON, body=True)
    yield Key("load", f16, 4), Row("vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16({0})))", NEON)
    yield Key("store", f16, 4), Row("vst1_u16({0}, vreinterpret_u16_f16(vcvt_f16_f32({1})))", NEON)
    yield Key("normalize", f16, 4), Row("vcvt_f32_f16(vcvt_f16_f32({0}))", NEON)
    yield Key("load", bf16, 4), Row("vreinterpretq_f32_u32(vshll_n_u16(vld1_u16({0}), 16))", NEON)
    yield Key("store", bf16, 4), Row("vst1_u16({0}, vshrn_n_u32(vreinterpretq_u32_f32({1}), 16))", NEON)
    yield Key("normalize", bf16, 4), Row(
        "uint32x4_t bits = vreinterpretq_u32_f32(a);\n"
        "uint32x4_t last = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));\n"
        "uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(last, vdupq_n_u32(0x7FFF)));\n"
        "uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));\n"
        "uint32x4_t chosen = vbslq_u32(vceqq_f32(a, a), rounded, quiet);\n"
        "return vreinterpretq_f32_u32(vandq_u32(chosen, vdupq_n_u32(0xFFFF0000)));", NEON, body=True)
