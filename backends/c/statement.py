"""Statements of the Loop IR as C text."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from edgecc.backends.c import half_loads
from edgecc.backends.c.expression import Binding, ExpressionPrinter, Scope
from edgecc.backends.c.half_loads import Item, Part, Pinned
from edgecc.backends.c.interleaved_stores import groups_of, joined_parts
from edgecc.backends.c.mixed_rows import LANES, ROW, Step, halves, row_pairs, step_of
from edgecc.backends.c.names import comment_text
from edgecc.backends.c.paired_sums import PAIR, PRODUCT, factors_of, paired_sums, partner_of
from edgecc.backends.c.prelude import Prelude
from edgecc.backends.c.saturating import addends_of, low_bits, runs_of, stores_together
from edgecc.backends.c.table import STORAGE
from edgecc.backends.c.text import strip_parentheses
from edgecc.errors import EdgeccError
from edgecc.ir.types import DType
from edgecc.loop.dot import DOTS
from edgecc.loop.index import Index, substitute
from edgecc.loop.ir import (
    Assign,
    Barrier,
    Body,
    Broadcast,
    Comment,
    Declare,
    Expr,
    For,
    If,
    Lane,
    Let,
    Op,
    Prefetch,
    Ref,
    Reload,
    Store,
)

INDENT = "  "


@dataclass
class Definition:
    """The line that defines a local. If nothing reads the local, `(void)name;` follows, against warnings."""

    text: str
    binding: Binding
    depth: int


_Line = str | Definition


def render(lines: Iterable[_Line]) -> str:
    """Lines as text."""
    out = []
    for line in lines:
        if isinstance(line, Definition):
            out.append(line.text)
            if not line.binding.used:
                out.append(f"{INDENT * line.depth}(void){line.binding.c_name};")
        else:
            out.append(line)
    return "".join(f"{line}\n" for line in out)


class BodyPrinter:
    """Prints the statements of one C function."""

    def __init__(self, prelude: Prelude) -> None:
        self.prelude = prelude
        self.lines: list[_Line] = []
        self._mixed: dict[str, str] = {}  # sums of two rows that are mixed, the second by the first
        self._waiting: dict[str, Step] = {}
        self._halves: dict[str, dict[str, str]] = {}  # C names of the halves of vectors whose parts are being loaded

    def body(self, body: Body, scope: Scope, depth: int) -> None:
        """Prints statements into a block whose scope is `scope`; it is extended by what they bind."""
        pairs = paired_sums(body, self.prelude.has_row)
        self._mixed |= (rows := row_pairs(body, self.prelude.has_row))
        declared: set[str] = set()
        second_of = {second: first for first, second in rows.items()}
        for is_store, stmts in itertools.groupby(stores_together(body, self.prelude.has_row), lambda stmt: isinstance(stmt, Store)):
            if is_store:
                self._stores([stmt for stmt in stmts if isinstance(stmt, Store)], scope, depth)
                continue
            waiting = list(half_loads.spread(tuple(stmts), self.prelude.has_row, paired=self.prelude.isa.paired_halves))
            while waiting:
                count = self._pair(waiting, scope, depth) or self._together(waiting, scope, depth)
                first = waiting[0]
                if isinstance(first, Part):
                    self._part(first, scope, depth)
                elif isinstance(first, Pinned):
                    self._pinned(first.stmt, scope, depth)
                elif isinstance(first, Declare) and first.name in pairs:
                    text = self.prelude.call("split_sums", DType.I32, first.value.lanes,
                                             strip_parentheses(ExpressionPrinter(self.prelude, scope).expr(first.value)))
                    self.define(first.name, DType.I32, first.value.lanes, text, scope, depth, is_const=False, is_pair=True)
                elif not count:
                    self._statement(first, scope, depth)
                    if isinstance(first, Declare) and first.name in rows.keys() | second_of.keys():
                        declared.add(first.name)
                        partner = rows.get(first.name) or second_of[first.name]
                        if partner in declared:
                            self._mix(*((first.name, partner) if first.name in rows else (partner, first.name)), scope, depth)
                del waiting[:count or 1]

    def _part(self, part: Part, scope: Scope, depth: int) -> None:
        """Prints a part of a load in halves."""
        name, load = part.stmt.name, part.load
        if part.row == "join":
            halves = self._halves.pop(name)
            text = self.prelude.call(part.row, load.dtype, load.lanes, halves["load_low"], halves["load_high"])
        else:
            pointer = ExpressionPrinter(self.prelude, scope).pointer(load.buffer, part.base)
            text = self.prelude.call(part.row, load.dtype, load.lanes, pointer, str(part.offset))
        if part.row in ("load_low", "load_high"):
            half = scope.bind(f"{name}_{part.row.removeprefix('load_')}").c_name
            self._halves.setdefault(name, {})[part.row] = half
            ctype = self.prelude.isa.type_name(load.dtype, load.lanes) if part.row == "load_low" else "uint64_t"
            self.emit(depth, f"const {ctype} {half} = {text};")
        elif isinstance(part.stmt, Let):
            self.define(name, load.dtype, load.lanes, text, scope, depth, is_const=True)
        else:
            self.emit(depth, f"{scope.names[name].c_name} = {text};")

    def _pinned(self, stmt: Assign | Declare, scope: Scope, depth: int) -> None:
        """Prints a multiply-add or the start of a sum that keeps its place."""
        printer, value = ExpressionPrinter(self.prelude, scope), stmt.value
        if isinstance(stmt, Declare):
            text = self.prelude.call("pinned", value.dtype, value.lanes, strip_parentheses(printer.expr(value)))
            self.define(stmt.name, value.dtype, value.lanes, text, scope, depth, is_const=False)
        elif isinstance(value, Op):
            text = self.prelude.call("fma_pinned", value.dtype, value.lanes, *map(printer.expr, value.args))
            self.emit(depth, f"{scope.names[stmt.name].c_name} = {text};")

    def _pair(self, stmts: list[Item], scope: Scope, depth: int) -> int:
        """Prints two neighbouring vectors of groups, which some machines interleave together; returns how many statements it printed."""
        if len(stmts) < 2:
            return 0
        match stmts[0], stmts[1]:
            case Let(name=first, value=Op(op="interleave") as low), Let(name=second, value=Op(op="interleave") as high):
                dtype, lanes = low.args[0].dtype, low.lanes
                halves = self.prelude.has_row("interleave_half:0", dtype, lanes)
                if not (halves or self.prelude.has_row("interleave_pair", dtype, lanes)) or (dtype, lanes) != (high.args[0].dtype, high.lanes):
                    return 0
                parts = ExpressionPrinter(self.prelude, scope).joined_bytes(low, high)
                if parts is None:
                    return 0
                if halves:
                    for number, name in enumerate((first, second)):
                        text = self.prelude.call(f"interleave_half:{number}", dtype, lanes, *parts)
                        self.define(name, DType.U32, lanes, text, scope, depth, is_const=True)
                    return 2
                both = scope.bind(f"{first}_both").c_name
                text = self.prelude.call("interleave_pair", dtype, lanes, *parts)
                self.emit(depth, f"const uint32x4x2_t {both} = {text};")
                for number, name in enumerate((first, second)):
                    self.define(name, DType.U32, lanes, f"{both}.val[{number}]", scope, depth, is_const=True)
                return 2
        return 0

    def _together(self, stmts: list[Item], scope: Scope, depth: int) -> int:
        """Prints products for two sums in two registers each, where cores would wait for one alone; returns how many statements it printed."""
        if not self.prelude.has_row(f"{PRODUCT}_together", DType.I32, 4) or (partner := partner_of(stmts)) is None:
            return 0
        both = [stmt for stmt in (stmts[0], stmts[partner]) if isinstance(stmt, Assign) and stmt.name in scope.names]
        if len(both) < 2 or not all(scope.names[stmt.name].is_pair for stmt in both):
            return 0
        stmts.insert(1, stmts.pop(partner))
        operands, printer = list[str](), ExpressionPrinter(self.prelude, scope)
        for stmt in both:
            factors = factors_of(stmt.name, stmt.value) or ()
            operands += [scope.names[stmt.name].c_name, *(strip_parentheses(printer.expr(factor)) for factor in factors)]
        self.emit(depth, self.prelude.call(f"{PRODUCT}_together", DType.I32, 4, *operands) + ";")
        return 2

    def _stores(self, stores: list[Store], scope: Scope, depth: int) -> None:
        """Neighbouring stores; those that saturate or alternate are joined where there are instructions for it."""
        printer = ExpressionPrinter(self.prelude, scope)
        alone: list[Store] = []
        for group in groups_of(stores, self.prelude.has_row):
            if len(group) == 1:
                alone += group
                continue
            first = group[0]
            dtype, lanes = first.value.dtype, first.value.lanes
            values = [strip_parentheses(printer.expr(store.value)) for store in group] if len(group) == first.stride else [
                self.prelude.call(op, dtype, lanes, *(strip_parentheses(printer.saturating(part, dtype)) for part in parts))
                for op, parts in joined_parts(group)]
            self.emit(depth, self.prelude.call(f"store_interleaved:{first.stride}", dtype, lanes * len(group) // first.stride,
                                                printer.pointer(first.buffer, first.index), *values) + ";")
        for run in runs_of(alone, self.prelude.has_row):
            if isinstance(run, Store):
                self._statement(run, scope, depth)
                continue
            first, short = run.first, low_bits(run)
            self._reload_addends(run.values, scope, depth)
            if short is not None and self.prelude.has_row(f"store_low:{len(short.words)}", first.value.dtype, first.value.lanes):
                offset = [] if short.offset is None else [f"(int16_t){printer.scalar(short.offset)}"]
                self.emit(depth, self.prelude.call(
                    f"store_low{'_plus' if offset else ''}:{len(short.words)}", first.value.dtype, first.value.lanes,
                    printer.pointer(first.buffer, first.index), *(printer.expr(word) for word in short.words), *offset) + ";")
                continue
            self.emit(depth, self.prelude.call(
                run.row, first.value.dtype, first.value.lanes, printer.pointer(first.buffer, first.index),
                *(printer.saturating(value, first.value.dtype) for value in run.values)) + ";")

    def _reload_addends(self, values: Iterable[Expr], scope: Scope, depth: int) -> None:
        """Has what multiply-adds add to loaded anew where they write over it: of a value in a register they would take a copy."""
        if not self.prelude.isa.fma_overwrites_addend:
            return
        for addend in itertools.chain.from_iterable(map(addends_of, values)):
            self._reload(addend.buffer, addend.index - addend.index.const, scope, depth)
            return

    def emit(self, depth: int, text: str) -> None:
        """Prints a line."""
        self.lines.append(INDENT * depth + text)

    def _statement(self, stmt: object, scope: Scope, depth: int) -> None:
        printer = ExpressionPrinter(self.prelude, scope)
        match stmt:
            case For():
                self.loop(stmt, scope, depth)
            case Let(name=name, value=value) | Declare(name=name, value=value):
                text = strip_parentheses(printer.expr(value))
                self.define(name, value.dtype, value.lanes, text, scope, depth, is_const=isinstance(stmt, Let))
            case Assign(name=name, value=value) if name in scope.names and scope.names[name].is_pair:
                sums, factors = scope.names[name].c_name, factors_of(name, value)
                row = "split_sums" if factors is None else f"{PRODUCT}_{'twice' if len(factors) == 4 else 'pair'}"
                operands = [printer.expr(value)] if factors is None else [*map(printer.expr, factors), sums]
                self.emit(depth, f"{sums} = {self.prelude.call(row, DType.I32, value.lanes, *operands)};")
            case Assign(name=name, value=value) if name in scope.names and scope.names[name].mixed:
                self._mixed_step(name, value, scope, depth)
            case Assign(name=name, value=value):
                text = strip_parentheses(printer.expr(value))
                keep = _keep(name, value)
                if keep is not None and self.prelude.has_row(keep, value.dtype, value.lanes):
                    text = self.prelude.call(keep, value.dtype, value.lanes, text)
                binding = scope.names.get(name)
                if binding is None:
                    raise EdgeccError("E900", f"C back end: {name!r} is assigned but not in scope")
                self.emit(depth, f"{binding.c_name} = {text};")
            case Store(buffer=buffer, index=index, value=value, stride=stride, valid=valid):
                self.emit(depth, f"{printer.store(buffer, index, value, stride, valid)};")
            case If(condition=condition, then=then, orelse=orelse):
                self.emit(depth, f"if ({strip_parentheses(printer.expr(condition))}) {{")
                self.body(then, scope.nested(), depth + 1)
                if orelse:
                    self.emit(depth, "} else {")
                    self.body(orelse, scope.nested(), depth + 1)
                self.emit(depth, "}")
            case Barrier():
                self.emit(depth, "EDGECC_BARRIER();")
            case Reload(buffer=buffer, index=index):
                self._reload(buffer, index, scope, depth)
            case Prefetch(buffer=buffer, index=index):
                self.emit(depth, f"{printer.prefetch(buffer, index)};")
            case Comment(text=text):
                self.emit(depth, f"/* {comment_text(text)} */")
            case _:
                raise EdgeccError("E900", f"C back end: no statement {type(stmt).__name__}")

    def _mix(self, first: str, second: str, scope: Scope, depth: int) -> None:
        """Exchanges halves of the sums of two rows, which are mixed from here on."""
        low, high = (scope.names[name] for name in (first, second))
        start = scope.bind(f"{first}_start").c_name
        self.emit(depth, f"const int32x4_t {start} = {low.c_name};")
        self.emit(depth, f"{low.c_name} = {halves(start, high.c_name, 1)};")
        self.emit(depth, f"{high.c_name} = {halves(start, high.c_name, 2)};")
        low.mixed, high.mixed = (halves(low.c_name, high.c_name, number) for number in (1, 2))

    def _mixed_step(self, name: str, value: Expr, scope: Scope, depth: int) -> None:
        """A step of the second of two rows does the work for both; that of the first waits for it."""
        step = step_of(name, value)
        if step is None:
            raise EdgeccError("E900", f"C back end: {name!r} is mixed with another row and assigned something else than products")
        if name in self._mixed:
            self._waiting[name] = step
            return
        first = next(one for one, other in self._mixed.items() if other == name and one in self._waiting)
        other, printer = self._waiting.pop(first), ExpressionPrinter(self.prelude, scope)
        operands = [printer.expr(part) for part in (other.x, step.x)] + [str(1 + step.position // 2)] + [
            printer.expr(part) for part in (step.first, step.second)]
        for number, total in enumerate((first, name), 1):
            target = scope.names[total].c_name
            self.emit(depth, f"{target} = {self.prelude.call(f'{ROW}:{number}', DType.I32, LANES, target, *operands)};")

    def _reload(self, buffer: str, index: Index, scope: Scope, depth: int) -> None:
        """Makes a pointer to an element of a buffer that the compiler knows nothing of; an old one to the same element serves again."""
        pointer = scope.pointers.get(buffer, {}).get(index)
        if pointer is None:
            pointer = self._pointer(buffer, index, index, scope, scope, depth)
        self.emit(depth, f"EDGECC_RELOAD({pointer});")

    def _pointer(self, buffer: str, index: Index, first: Index, scope: Scope, known: Scope, depth: int) -> str:
        """Defines a pointer to element `first`, by which the elements near `index` are accessed where `known` is the scope."""
        binding = scope.use(buffer)
        if binding.dtype is None:
            raise EdgeccError("E900", f"C back end: {buffer!r} is not a buffer")
        text = ExpressionPrinter(self.prelude, scope).pointer(buffer, first)
        pointer = known.point(buffer, index)
        self.emit(depth, f"{'const ' if binding.is_const else ''}{STORAGE[binding.dtype]} *{pointer} = {text};")
        return pointer

    def define(self, name: str, dtype: DType, lanes: int, text: str, scope: Scope, depth: int, *,
               is_const: bool, is_pair: bool = False) -> Binding:
        """Prints the definition of a local; `is_pair`: of sums in two registers."""
        binding = scope.bind(name, dtype, lanes)
        binding.is_pair = is_pair
        ctype = PAIR if is_pair else self.prelude.isa.type_name(dtype, lanes)
        const = "const " if is_const else ""
        self.lines.append(Definition(f"{INDENT * depth}{const}{ctype} {binding.c_name} = {text};", binding, depth))
        return binding

    def loop(self, loop: For, scope: Scope, depth: int, bounds: tuple[str, str] | None = None) -> None:
        """Prints a loop. `bounds` are C texts of the first value and the limit, if not those of the loop."""
        printer = ExpressionPrinter(self.prelude, scope)
        start, stop = bounds or (printer.index(loop.start), printer.index(loop.stop))
        inner = scope.nested()
        name = inner.bind(loop.var, low=printer.least(loop.start)).c_name
        step = f"++{name}" if loop.step == 1 else f"{name} += {loop.step}"
        moving = [] if bounds else self._moving_pointers(loop, scope, inner, depth)
        self.emit(depth, f"for (ptrdiff_t {name} = {start}; {name} < {stop}; {step}) {{")
        self.body(loop.body, inner, depth + 1)
        for pointer, distance in moving:
            self.emit(depth + 1, f"{pointer} += {distance};")
        self.emit(depth, "}")

    def _moving_pointers(self, loop: For, scope: Scope, inner: Scope, depth: int) -> list[tuple[str, int]]:
        """Defines the pointers that the body of a loop reloads first and that move by the same distance with every iteration;
        computed anew for each, they would cost a copy or an addition beside the counting."""
        moving = []
        for stmt in loop.body:
            if not isinstance(stmt, Reload):
                break
            distance = stmt.index.coefficient(loop.var)
            if distance and stmt.index not in inner.pointers.get(stmt.buffer, {}):
                first = substitute(stmt.index, {loop.var: loop.start})
                moving.append((self._pointer(stmt.buffer, stmt.index, first, scope, inner, depth), distance * loop.step))
        return moving


def _keep(name: str, value: Expr) -> str | None:
    """The row that keeps the register of `name = value` where that is a multiply-add onto the register itself."""
    match value:
        case Op(op=op, args=(first, second, Ref(name=addend))) if addend == name and (op == "fma" or op in DOTS):
            by_lane = any(isinstance(factor, Broadcast) and isinstance(factor.arg, Lane) for factor in (first, second))
            return "keep_lane" if by_lane else "keep"
    return None
