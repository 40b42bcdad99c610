"""Factors of contractions that are read in groups of neighbouring terms, for instructions that multiply groups.

The first factor is seen as a view of u32 whose elements are the groups, the second is packed so that the group of a lane is
one u32 as well: with [channels, terms] weights a panel holds [step][lane][element of the group]. A contraction of d terms
then is one of d / group steps; all else stays as it is (edgecc/loop/dot.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from edgecc.ir.types import Array, DType
from edgecc.kernels import complements
from edgecc.kernels.register_tile import widens_bytes
from edgecc.kernels.request import Request
from edgecc.kernels.view import View
from edgecc.loop.dot import DOTS, Dot
from edgecc.loop.index import Index
from edgecc.loop.ir import Const, Expr, Horizontal, Load, Op
from edgecc.ops.convolution import Conv
from edgecc.targets.schema import Target

FEATURES: Mapping[str, tuple[tuple[str, ...], ...]] = MappingProxyType({
    "dot_bf16": (("avx512f", "avx512bf16"),), "dot_s8": (("dotprod",), ("dsp",)), "dot_u8s8": (("avx2",),), "dot_s8_short": (("neon",),),
    "dot_s16": (("avx2",), ("dsp",))})
"""What a target needs for each grouped product to be an instruction, or a few of them that are quicker than one by one: all of a row."""

DSP, DSP_RATE, DSP_REGISTERS = "dsp", 0.5, 7
"""Cores that multiply two pairs of 16 bits at once (SMLAD): how many grouped products they do in the time of a multiply-add once
the bytes of both factors are widened, and the registers for sums and groups, as each group is widened into two."""

SHORT_PRODUCT = "dot_s8_short"
"""The product for machines that multiply bytes but do not sum them: two of it take four long products and two pairwise accumulations."""

SEVERAL_INSTRUCTIONS = frozenset({"dot_u8s8", complements.PRODUCT})
"""Products that are one instruction only with VNNI."""

BY_LANE = frozenset({"dot_s8"})
"""Products whose instruction takes a group of the first factor out of a vector of groups, where multiply-adds do."""


@dataclass(frozen=True)
class Terms:
    """How a contraction reads its terms.

    Attributes:
        x: the first factor; with a `dot` its elements are groups.
        group: terms in one step.
        lanes: groups of four bytes in a step whose products all go into one sum.
        matrix: whether products of matrices take two rows at a time.
        dot: the operation of a step, or "" for a multiply-add.
        flip: whether the bytes of x are of the other sign than the operation's: their highest bits are turned around.
        offset: what is left of a zero point: this many times the sum of the weights belongs out of each sum.
    """

    x: View
    group: int = 1
    dot: str = ""
    flip: bool = False
    offset: int = 0
    lanes: int = 1
    matrix: bool = False

    @property
    def masked(self) -> bool:
        """Whether bytes are combined with masks (edgecc/kernels/complements.py)."""
        return self.dot == complements.PRODUCT

    def factor(self, load: Expr, place: Index) -> Expr:
        """The first factor of a step as the operation takes it; `place` is that of the second one."""
        if self.masked:
            return complements.masked(load, place)
        if self.lanes > 1 and isinstance(load, Load):
            return replace(load, lanes=self.lanes)
        return Op("bit_xor", (load, Const(0x80808080, DType.U32)), DType.U32) if self.flip else load

    @property
    def text(self) -> str:
        """For `Kernel.choice`."""
        return f", {self.group} terms a step" if self.dot else ""

    def element(self, own: DType) -> DType:
        """The type the second factor is read as, given its own."""
        return DType.U32 if self.dot else own


@dataclass(frozen=True)
class ByteDot:
    """A product of four bytes of the first factor.

    Attributes:
        name: the operation.
        flip, offset: see `Terms`.
    """

    name: str
    flip: bool
    offset: int


def byte_dot(request: Request, x: DType, *, zero: int, folds: bool) -> ByteDot | None:
    """The target's product of four bytes for a first factor of type `x` and constant weights; None where there is none.

    `zero`, `folds`: see `terms_of`.
    """
    w = request.operand(1)
    if x not in (DType.I8, DType.U8) or w.view.dtype is not DType.I8 or not w.is_constant:
        return None
    names = ("dot_s8", SHORT_PRODUCT, "dot_u8s8") if request.short_weights else ("dot_s8", "dot_u8s8")
    dot = next((DOTS[name] for name in names if has_product(request.target, name)), None)
    if dot is None:
        return None
    moved = 0 if x is dot.element else 128 if x is DType.I8 else -128
    return ByteDot(dot.name, moved != 0, zero + moved) if folds or zero + moved == 0 else None


MATRIX_FEATURE, MATRIX_REGISTERS, MATRIX_TERMS = "i8mm", 3, 48
"""Machines that multiply two rows by two columns of bytes, and the registers that shuffles of operands take."""


def pairs_steps(terms: Terms, target: Target) -> bool:
    """Whether the products of two steps are added at once."""
    return terms.dot == SHORT_PRODUCT or (terms.matrix and target.has(MATRIX_FEATURE))


HELIUM, HELIUM_LANES, HELIUM_RATE, HELIUM_REGISTERS = "mve", 4, 1.0, 7
"""Cores that add all products of two vectors of bytes to a general register (VMLADAV): groups in a vector, how many such products they
do in the time of a multiply-add, and the registers for sums and vectors (there are eight of those, and sums take even numbers only)."""


def has_product(target: Target, name: str) -> bool:
    """Whether a grouped product pays on a target."""
    return any(target.has(*features) for features in FEATURES[name])


PRODUCTS_TOGETHER = 8
"""Registers for products of 16 bits that are open at a time, and for lanes that are spread for them, where instructions issue in order."""


def product_target(request: Request, widening: Target, terms: Terms) -> Target:
    """The target for a contraction: `widening`, made for factors that are converted on the way, unless groups are multiplied by lane."""
    if terms.dot == SHORT_PRODUCT and widening.vector.bits:
        # Each sum takes two registers (the C back end's paired_sums), and lanes of the first factor are spread by an instruction.
        registers = (widening.vector.registers - (PRODUCTS_TOGETHER if widening.core.in_order else 0)) // 2
        vector = replace(widening.vector, registers=registers, fma_by_lane=request.target.vector.fma_by_lane)
        return replace(widening, vector=vector, core=replace(widening.core, fma_per_cycle=request.target.rates.dot_products))
    if terms.dot in BY_LANE and request.target.has(DSP) and not widening.vector.bits:
        registers, rate = (HELIUM_REGISTERS, HELIUM_RATE) if terms.lanes > 1 else (DSP_REGISTERS, DSP_RATE)
        return replace(widening, vector=replace(widening.vector, registers=registers),
                       core=replace(widening.core, fma_per_cycle=rate * widening.core.fma_per_cycle))
    if terms.dot in BY_LANE and request.target.has(MATRIX_FEATURE) and widening.vector.bits:
        target = request.target
        if not terms.matrix:
            return replace(target, isa=replace(target.isa, features=tuple(f for f in target.isa.features if f != MATRIX_FEATURE)))
        return replace(target, vector=replace(target.vector, registers=target.vector.registers - MATRIX_REGISTERS),
                       core=replace(target.core, fma_per_cycle=target.rates.dot_products))
    if terms.dot in SEVERAL_INSTRUCTIONS and widens_bytes(request.target) and widening.vector.bits:
        return replace(widening, core=replace(widening.core, fma_per_cycle=request.target.rates.dot_products))
    return request.target if terms.dot in BY_LANE and request.target.vector.fma_by_lane and widening.vector.bits else widening


def takes_complements(request: Request, *, folds: bool, rows: int) -> bool:
    """Whether a step combines bytes with masks; see `terms_of`."""
    return complements.pays(request.target) and folds and request.short_weights and rows >= complements.LEAST_ROWS


def terms_of(request: Request, x: View, axis: int, *, zero: int = 0, folds: bool = False, vectors: bool = False,
             rows: int = 0) -> Terms:
    """How to read `x`, a view of operand 0 whose terms lie along `axis`: in groups where the target and the layout allow it.

    Args:
        zero: the zero point of x.
        folds: whether an `offset` can go into a bias: every sum has all of its terms, and weights and bias are known.
        vectors: whether a step may take vectors of groups (`Terms.lanes`) where the target multiplies those.
        rows: how many rows of the result share the weights, if a step may combine bytes with masks.
    """
    if x.dtype in (DType.I8, DType.U8):
        byte = byte_dot(request, x.dtype, zero=zero, folds=folds)
        groups = None if byte is None else grouped_view(x, axis, DOTS[byte.name])
        if groups is not None and byte is not None and vectors and request.target.has(HELIUM) and not byte.flip and groups.dims[axis] % HELIUM_LANES == 0:
            dims = tuple(d // HELIUM_LANES if a == axis else d for a, d in enumerate(groups.dims))
            strides = tuple(HELIUM_LANES if a == axis else s for a, s in enumerate(groups.strides))
            return Terms(replace(groups, dims=dims, strides=strides), HELIUM_LANES * DOTS[byte.name].group, byte.name, offset=byte.offset, lanes=HELIUM_LANES)
        if byte is None or groups is None:
            return Terms(x)
        if takes_complements(request, folds=folds, rows=rows):
            return Terms(groups, DOTS[byte.name].group, complements.PRODUCT, byte.flip, byte.offset)
        op, w = request.op, request.operand(1).view
        depth = w.elements // max(1, w.dims[0]) if isinstance(op, Conv) else x.dims[axis]
        matrix = byte.name in BY_LANE and request.target.has(MATRIX_FEATURE) and depth >= MATRIX_TERMS
        return Terms(groups, DOTS[byte.name].group, byte.name, byte.flip, byte.offset, matrix=matrix)
    if x.dtype is DType.I16:
        return _words(request, x, axis, zero if folds or not zero else None)
    for dot in DOTS.values():
        if dot.sum.is_float and x.dtype is dot.element and request.operand(1).view.dtype is dot.element and has_product(request.target, dot.name):
            groups = grouped_view(x, axis, dot)
            if groups is not None:
                return Terms(groups, dot.group, dot.name)
    return Terms(x)


def _words(request: Request, x: View, axis: int, offset: int | None) -> Terms:
    """How 16-bit terms are read: in pairs where the target multiplies those, by bytes that are widened when they are packed.

    `offset`: see `Terms`; None where it cannot go into a bias.
    """
    w, dot = request.operand(1), DOTS["dot_s16"]
    takes = offset is not None and w.is_constant and w.view.dtype is DType.I8 and has_product(request.target, dot.name)
    groups = grouped_view(x, axis, dot) if takes else None
    return Terms(x) if groups is None else Terms(groups, dot.group, dot.name, offset=offset or 0)


def grouped_view(view: View, axis: int, dot: Dot) -> View | None:
    """The view of groups along `axis`, or None where they are not neighbours at whole distances."""
    others = [s for a, (s, d) in enumerate(zip(view.strides, view.dims, strict=True)) if a != axis and d != 1]
    if view.strides[axis] != 1 or view.dims[axis] % dot.group or any(s % dot.group for s in others):
        return None
    dims = tuple(d // dot.group if a == axis else d for a, d in enumerate(view.dims))
    strides = tuple(1 if a == axis else s // dot.group for a, s in enumerate(view.strides))
    return replace(view, dtype=DType.U32, dims=dims, strides=strides)


def group_terms(arrange: Callable[[Array], Array], group: int, weights: Array) -> Array:
    """Weights as [channels, terms] with every `group` neighbouring terms in one u32, or, of more than four bytes, in one element of so many.

    Two bytes are widened to 16 bits each."""
    flat = np.ascontiguousarray(arrange(weights))
    if group == 1:
        return flat
    flat = flat.astype(np.int16) if group * flat.itemsize < 4 else flat
    size = group * flat.itemsize
    return flat.reshape(flat.shape[0], -1).view(np.uint32 if size == 4 else f"V{size}")


def grouped_sum(dot: str, x: Expr, w: Expr, total: Expr) -> Expr:
    """`total` and the products of a step; where x is a vector of groups and the sum a scalar, those of as many groups of w, which lie together."""
    if x.lanes == total.lanes:
        return Op(dot, (x, w, total), total.dtype, total.lanes)
    if isinstance(w, Load):
        w = replace(w, index=w.index * x.lanes, lanes=x.lanes)
    products = Op(dot, (x, w, Const(0, total.dtype, x.lanes)), total.dtype, x.lanes)
    return Op("add", (total, Horizontal("add", products)), total.dtype)
