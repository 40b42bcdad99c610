"""f16 arithmetic of AArch64 (FEAT_FP16): vectors of 8 and 4 halves, each operation rounded to f16 as the Loop IR wants it.

Other numbers of lanes, bf16, and machines without the feature hold halves as floats (table.py). Scalars are floats too:
kernels compute with vectors. Where a vector of 8 halves meets 32-bit types (conversions, masks), those are pairs of
vectors of 4 (pairs.py). Sources: see neon.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecc.backends.c import interleaved_stores
from edgecc.backends.c.table import Key, Row
from edgecc.ir.types import DType

F16, F32 = DType.F16, DType.F32
FEATURE = "fp16"
NEEDS = ("neon", FEATURE)
LANES = (8, 4)

_ROUNDINGS = {"floor": "vrndm", "ceil": "vrndp", "round": "vrndn"}
_COMPARE = {"lt": "vclt", "le": "vcle", "eq": "vceq"}


def half_rows() -> Iterator[tuple[Key, Row]]:
    """All rows; they replace those that hold halves as floats."""
    for lanes in LANES:
        yield from _memory_rows(lanes)
        yield from _arithmetic_rows(lanes)
        yield from _conversion_rows(lanes)
    yield from interleaved_stores.half_rows(NEEDS)
    # FMADD rounds once; float arithmetic in between would round twice.
    yield Key("fma", F16, 1), Row("(float)vget_lane_f16(vfma_f16(vdup_n_f16((float16_t){2}), vdup_n_f16((float16_t){0}), "
                                  "vdup_n_f16((float16_t){1})), 0)", NEEDS)


def _q(lanes: int) -> str:
    return "q" if lanes == 8 else ""


def _memory_rows(lanes: int) -> Iterator[tuple[Key, Row]]:
    q = _q(lanes)

    def row(op: str, text: str, *, body: bool = False) -> tuple[Key, Row]:
        return Key(op, F16, lanes), Row(text, NEEDS, body=body)

    yield row("load", f"vreinterpret{q}_f16_u16(vld1{q}_u16({{0}}))")
    yield row("store", f"vst1{q}_u16({{0}}, vreinterpret{q}_u16_f16({{1}}))")
    yield row("broadcast", f"vdup{q}_n_f16((float16_t){{0}})")
    yield row("zero", f"vreinterpret{q}_f16_u16(vdup{q}_n_u16(0))")
    for position in range(lanes):
        yield row(f"lane:{position}", f"(float)vget{q}_lane_f16({{0}}, {position})")
    places = ["a", "a + b", *(f"a + {lane} * b" for lane in range(2, lanes))]
    for count in range(1, lanes + 1):
        form = "" if count == lanes else f":{count}"
        unused = "(void)b;\n" if count == 1 else ""
        moves = [f"v = vld1{q}_lane_u16({place}, v, {lane});" for lane, place in enumerate(places[:count])]
        start, end = f"uint16x{lanes}_t v = vdup{q}_n_u16(0);", f"return vreinterpret{q}_f16_u16(v);"
        yield row(f"gather{form}", "\n".join([f"{unused}{start}", *moves, end]), body=True)
        bits = f"uint16x{lanes}_t v = vreinterpret{q}_u16_f16(c);"
        moves = [f"vst1{q}_lane_u16({place}, v, {lane});" for lane, place in enumerate(places[:count])]
        yield row(f"scatter{form}", "\n".join([f"{unused}{bits}", *moves]), body=True)
        if count == lanes:
            continue
        whole = count // 4 * 4 if lanes == 8 else 0
        first = "vcombine_u16(vld1_u16(a), vdup_n_u16(0))" if whole else f"vdup{q}_n_u16(0)"
        moves = [f"v = vld1{q}_lane_u16(a + {lane}, v, {lane});" for lane in range(whole, count)]
        yield row(f"load:{count}", "\n".join([f"uint16x{lanes}_t v = {first};", *moves, end]), body=True)
        bits = f"uint16x{lanes}_t v = vreinterpret{q}_u16_f16(b);"
        moves = ["vst1_u16(a, vget_low_u16(v));"] if whole else []
        moves += [f"vst1{q}_lane_u16(a + {lane}, v, {lane});" for lane in range(whole, count)]
        yield row(f"store:{count}", "\n".join([bits, *moves]), body=True)


def _arithmetic_rows(lanes: int) -> Iterator[tuple[Key, Row]]:
    q = _q(lanes)

    def row(op: str, text: str, *, body: bool = False) -> tuple[Key, Row]:
        return Key(op, F16, lanes), Row(text, NEEDS, body=body)

    for op in ("add", "sub", "mul", "div", "min", "max"):
        yield row(op, f"v{op}{q}_f16({{0}}, {{1}})")
    for op in ("sqrt", "neg", "abs"):
        yield row(op, f"v{op}{q}_f16({{0}})")
    for op, name in _ROUNDINGS.items():
        yield row(op, f"{name}{q}_f16({{0}})")
    yield row("fma", f"vfma{q}_f16({{2}}, {{0}}, {{1}})")
    yield row("keep", "EDGECC_KEEP({0})")
    yield row("keep_lane", "{0}" if lanes == 8 else "EDGECC_KEEP({0})")
    for source in LANES:
        lane = "laneq" if source == 8 else "lane"
        multiply_add = f"vfma{q}_{lane}_f16"
        yield row(f"fma_lane:{source}", f"EDGECC_FMLA_{'' if source == 8 else 'HALF_'}LANE_F16({multiply_add}, {{2}}, {{0}}, {{1}}, {{3}})" if lanes == 8 else
                  f"{multiply_add}({{2}}, {{0}}, {{1}}, {{3}})")
        yield row(f"mul_lane:{source}", f"vmul{q}_{lane}_f16({{0}}, {{1}}, {{3}})")
    for op in ("add", "mul", "min", "max"):
        half = f"v{op}_f16(vget_low_f16(a), vget_high_f16(a))" if lanes == 8 else "a"
        yield row(f"horizontal:{op}", f"float16x4_t v = {half};\n"
                                      f"v = v{op}_f16(v, vext_f16(v, v, 2));\n"
                                      f"return (float)vget_lane_f16(v{op}_f16(v, vext_f16(v, v, 1)), 0);", body=True)


def _conversion_rows(lanes: int) -> Iterator[tuple[Key, Row]]:
    """Conversions and masks. A mask of 16-bit lanes is widened to the form all masks of so many lanes have, and back."""
    if lanes == 4:
        yield Key("cast:f32", F16, 4), Row("vcvt_f32_f16({0})", NEEDS)
        yield Key("cast:f16", F32, 4), Row("vcvt_f16_f32({0})", NEEDS)
        for op, name in _COMPARE.items():
            yield Key(op, F16, 4), Row(_sign_extended(f"{name}_f16({{0}}, {{1}})"), NEEDS)
        yield Key("select", F16, 4), Row("vbsl_f16(vmovn_u32({0}), {1}, {2})", NEEDS)
        return
    yield Key("cast:f32", F16, 8), Row("return (float32x4x2_t){{vcvt_f32_f16(vget_low_f16(a)), vcvt_f32_f16(vget_high_f16(a))}};",
                                       NEEDS, body=True)
    yield Key("cast:f16", F32, 8), Row("return vcombine_f16(vcvt_f16_f32(a.val[0]), vcvt_f16_f32(a.val[1]));", NEEDS, body=True)
    for op, name in _COMPARE.items():
        halves = ", ".join(_sign_extended(f"vget_{part}_u16(mask)") for part in ("low", "high"))
        yield Key(op, F16, 8), Row(f"uint16x8_t mask = {name}q_f16(a, b);\nreturn (uint32x4x2_t){{{{{halves}}}}};", NEEDS, body=True)
    yield Key("select", F16, 8), Row("return vbslq_f16(vcombine_u16(vmovn_u32(a.val[0]), vmovn_u32(a.val[1])), b, c);",
                                     NEEDS, body=True)


def _sign_extended(mask: str) -> str:
    return f"vreinterpretq_u32_s32(vmovl_s16(vreinterpret_s16_u16({mask})))"
