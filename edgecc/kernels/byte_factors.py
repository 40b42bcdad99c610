"""Products of two factors of bytes neither of which is known before the run: what zero points take out of each sum.

    sum_k (x - a) (w - b)  =  sum_k x w  -  b sum_k x  -  a sum_k w  +  depth a b

Instructions that multiply groups of bytes compute the first sum, of an x and a w moved to the signs they take. The other two are sums
along rows and along columns; every sum of products starts from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgecc.ir.types import DType
from edgecc.kernels.contraction import panel_loops
from edgecc.kernels.contraction_weights import Weights
from edgecc.kernels.grouped import Terms, grouped_view, has_product
from edgecc.kernels.kernel import KernelArgument, Workspace
from edgecc.kernels.register_tile import Panel, packed_channels
from edgecc.kernels.request import Request
from edgecc.kernels.view import View
from edgecc.loop.dot import DOTS
from edgecc.loop.index import ZERO, Index, const, var
from edgecc.loop.ir import Assign, Body, Buffer, Const, Declare, Expr, For, Horizontal, Load, Op, Ref, Store
from edgecc.loop.narrow import BYTES

ONES, SIGNS = 0x01010101, 0x80808080
"""Four bytes of one; the highest bits of four bytes."""

COLUMNS, ROWS = "column_starts", "row_starts"

COLUMN = "column"
"""The loop over the starts of columns."""


def byte_terms(request: Request, x: View, zero: int) -> Terms:
    """How to read `x`, whose terms lie along its last axis and whose zero point is `zero`: in groups where the target multiplies them."""
    w = request.operand(1).view
    name = next((name for name in ("dot_s8", "dot_u8s8") if has_product(request.target, name)), "")
    if not name or x.dtype not in BYTES or w.dtype not in BYTES or request.optional(2) is not None or request.known_sums:
        return Terms(x)
    groups = grouped_view(x, len(x.dims) - 1, DOTS[name])
    if groups is None:
        return Terms(x)
    moved = _moved(x.dtype, DOTS[name].element)
    return Terms(groups, DOTS[name].group, name, moved != 0, zero + moved)


def _moved(dtype: DType, wanted: DType) -> int:
    """What is added to bytes of one sign to have them of the other."""
    return 0 if dtype is wanted else 128 if dtype is DType.I8 else -128


@dataclass(frozen=True)
class ByteFactors:
    """The two factors of a product.

    Attributes:
        terms: how x is read; its `offset` is the zero point a.
        w: type of the second factor as it lies in memory. zero: its zero point there.
        rows, steps: of x, in groups.
        lanes: of vectors of groups.
        panels: of the packed second factor "p".
        batch, copies: the number of this product among those that have scratch memory of their own, and how many these are.
    """

    terms: Terms
    w: DType
    zero: int
    rows: int
    steps: int
    lanes: int
    panels: Sequence[Panel]
    batch: Index
    copies: int

    @property
    def _right(self) -> int:
        """The zero point b."""
        return self.zero + _moved(self.w, DType.I8)

    @property
    def _columns(self) -> int:
        return packed_channels(self.panels)

    def packed(self, group: Expr) -> Expr:
        """A group of w as the product takes it."""
        return group if self.w is DType.I8 else Op("bit_xor", (group, Const(SIGNS, DType.U32)), DType.U32)

    @property
    def workspace(self) -> tuple[tuple[Buffer, KernelArgument], ...]:
        """Memory for the starts."""
        sizes = {COLUMNS: self._columns, **({ROWS: self.rows} if self._right else {})}
        return tuple((Buffer(name, DType.I32, self.copies * size, "workspace"), Workspace(4 * self.copies * size)) for name, size in sizes.items())

    def starts(self, x_at: Callable[[Index, Index], Index], begin: Index) -> Body:
        """Fills the starts; `x_at(row, step)` places a group of x, `begin` is where the panels start."""
        return (*self._row_starts(x_at), *self._column_starts(begin))

    def _column_starts(self, begin: Index) -> Body:
        total, step, column = Ref("total", DType.I32), var("step"), var(COLUMN)
        group = Const(ONES, DType.U32)

        def in_panel(panel: Panel, channel0: Index, start: Index, place: Index) -> Body:
            one = Op(self.terms.dot, (group, Load("p", begin + start + step * panel.padded + column, DType.U32), total), DType.I32)
            value = Op("mul", (total, Const(-self.terms.offset, DType.I32)), DType.I32)
            return (For(COLUMN, ZERO, const(panel.padded), (
                Declare("total", Const(0, DType.I32)), For("step", ZERO, const(self.steps), (Assign("total", one),)),
                Store(COLUMNS, self.batch * self._columns + place + column, value))),)

        return panel_loops(self.panels, self.steps, in_panel)

    def _row_starts(self, x_at: Callable[[Index, Index], Index]) -> Body:
        """Sums of rows, in vectors; lanes behind the end of a row hold zeros, which count as what they are once their signs are turned."""
        if not self._right:
            return ()
        lanes, row = self.lanes, var("row")
        total, ones = Ref("total", DType.I32, lanes), Const(ONES, DType.U32, lanes)
        whole, rest = divmod(self.steps, lanes)

        def add(step: Index, valid: int) -> Assign:
            groups: Expr = Load("x", x_at(row, step), DType.U32, lanes, 1, valid)
            if self.terms.flip:
                groups = Op("bit_xor", (groups, Const(SIGNS, DType.U32, lanes)), DType.U32, lanes)
            return Assign("total", Op(self.terms.dot, (groups, ones, total), DType.I32, lanes))

        none = 128 if DOTS[self.terms.dot].element is DType.U8 else -128
        surplus = self.terms.group * (lanes - rest) * none if rest and self.terms.flip else 0
        depth = self.terms.group * self.steps
        known = self._right * (surplus + depth * self.terms.offset)
        found: Expr = Horizontal("add", total) if lanes > 1 else total
        value = Op("add", (Op("mul", (found, Const(-self._right, DType.I32)), DType.I32), Const(known, DType.I32)), DType.I32)
        body: Body = (Declare("total", Const(0, DType.I32, lanes)),
                      *((For("block", ZERO, const(whole), (add(var("block") * lanes, 0),)),) if whole else ()),
                      *((add(const(whole * lanes), rest),) if rest else ()), Store(ROWS, self.batch * self.rows + row, value))
        return (For("row", ZERO, const(self.rows), body),)

    def weights(self, scratch: tuple[Buffer, KernelArgument], result: View) -> Weights:
        """The packed factor and what each sum starts from."""
        by_row = View(DType.I32, result.dims, tuple(1 if axis == len(result.dims) - 2 else 0 for axis in range(len(result.dims))))

        def start(place: Index, address: Callable[[View], Index]) -> Expr:
            column = Load(COLUMNS, self.batch * self._columns + place, DType.I32)
            if not self._right:
                return column
            return Op("add", (column, Load(ROWS, self.batch * self.rows + address(by_row), DType.I32)), DType.I32)

        return Weights((scratch,), True, (scratch[0].name, COLUMNS), start)
