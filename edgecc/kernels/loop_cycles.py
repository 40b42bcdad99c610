"""Modelled cycles of a scheduled loop program: how often each kind of instruction runs, over how many of it the core starts in a cycle.

A straight piece of code takes as long as the busiest of its resources: vector units, loads, stores, or the width of the
front end (the bottleneck of the throughput bound that llvm-mca and IACA report; latencies are not modelled). Cores that
issue in order and move vectors through memory in more than one cycle do nothing else meanwhile, so that there units and
loads add up. Loops multiply; bounds that depend on other loops are taken in the middle of these.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edgecc.ir.types import DType
from edgecc.kernels.complements import PRODUCT, pays
from edgecc.kernels.rows import START, STOP
from edgecc.loop.dot import DOTS
from edgecc.loop.index import Index, IndexOf, IndexOp, LoopVar
from edgecc.loop.ir import (
    Assign,
    Body,
    Broadcast,
    Cast,
    Const,
    Declare,
    Expr,
    For,
    FromIndex,
    Function,
    Horizontal,
    If,
    Lane,
    Let,
    Load,
    Op,
    Ref,
    Stmt,
    Store,
    expressions,
    subexpressions,
)
from edgecc.loop.math import DEFINED, definition
from edgecc.targets.schema import Target

LOOP_INSTRUCTIONS = 2.0
"""Counting and branching, for each iteration."""

BY_COMPILERS = 0.5
"""Share of the lanes that is gained where a C compiler makes vectors of a loop of scalars."""

DIVIDING = frozenset({"div", "sqrt", "mod", "fmod"})
ROUNDING = frozenset({"round", "floor", "ceil", "nearest"})
SHUFFLING = frozenset({"interleave", "join_words", "lookup"})
GROUP_LOOKUP, GROUP_LOOKUP_INSTRUCTIONS = "lookup_groups", 35
"""A lookup of groups: 16 shuffles, 15 choices between two of them, and what makes their operands."""
WORDS = "dot_s16"
ANY_BYTES = "avx512vbmi"
"""Feature of machines that permute the bytes of two registers at once."""


@dataclass
class _Work:
    """What a piece of code asks of the core: cycles of its units, of loads and of stores, and instructions."""

    units: float = 0.0
    loads: float = 0.0
    stores: float = 0.0
    instructions: float = 0.0

    def cycles(self, target: Target) -> float:
        core = target.core
        units, moved = self.units, max(self.loads, self.stores)
        if core.in_order and core.loads_per_cycle < 1:
            units, moved = units + self.loads + self.stores, 0.0
        return max(units, moved, self.instructions / core.issue_width)


def loop_cycles(function: Function, target: Target) -> float:
    """Modelled cycles of one run of a scheduled function, all data in the first cache.

    Of ranges of rows all are counted; other parameters are in the middle of what they may be.
    """
    ends = {START: 0.0, STOP: 1.0}
    counter = _Counter(target, {p.name: p.minimum + ends.get(p.name, 0.5) * (p.maximum - p.minimum) for p in function.parameters})
    return counter.body(function.body)


@dataclass
class _Counter:
    target: Target
    middle: dict[str, float]
    known: set[Load] = field(default_factory=set)
    functions: dict[tuple[str, int], _Work] = field(default_factory=dict)

    def body(self, body: Body, more: float = 0.0) -> float:
        """Cycles of a block and `more` instructions: its own statements together, nested ones one after the other."""
        own, nested = _Work(instructions=more), 0.0
        outer, self.known = self.known, set()
        for stmt in body:
            nested += self.statement(stmt, own)
        self.known = outer
        return nested + own.cycles(self.target)

    def statement(self, stmt: Stmt, work: _Work) -> float:
        """Adds what a statement does itself to `work`; returns the cycles of its bodies."""
        match stmt:
            case For(var=name, start=start, stop=stop, step=step, body=body):
                low, high = self.value(start), self.value(stop)
                trips = max(0.0, (high - low) / step)
                if not trips:
                    return 0.0
                self.middle[name] = (low + max(low, high - step)) / 2
                widest = _widest_integer(body) if self.target.vector.bits else 0
                return trips * self.body(body, LOOP_INSTRUCTIONS) / (max(1.0, BY_COMPILERS * self.target.vector.bits / 8 / widest) if widest else 1.0)
            case If(condition=condition, then=then, orelse=orelse):
                self.expression(condition, work)
                return max(self.body(then), self.body(orelse))
            case Let(value=value) | Declare(value=value) | Assign(value=value):
                self.expression(value, work)
            case Store(value=value, stride=stride):
                self.expression(value, work)
                vectors = self.vectors(value.dtype, value.lanes) if stride == 1 else value.lanes
                work.stores += vectors / self.target.core.stores_per_cycle
                work.instructions += vectors
        return 0.0

    def vectors(self, dtype: DType, lanes: int) -> int:
        """Registers that so many lanes fill; scalars take one."""
        bits = self.target.vector.bits or 64
        return max(1, -(-lanes * dtype.size * 8 // bits))

    def value(self, index: Index) -> float:
        """An index where all loops are in the middle."""
        total = float(index.const)
        for atom, coefficient in index.terms:
            match atom:
                case LoopVar(name=name):
                    total += coefficient * self.middle.get(name, 0.0)
                case IndexOp(op=op, args=args):
                    total += coefficient * _combined(op, [self.value(a) for a in args])
        return total

    def expression(self, expr: Expr, work: _Work, *, fused: bool = False) -> None:
        """Adds the instructions of an expression; what is loaded again within a block is there already.

        `fused`: whether it is a summand, of which machines without vectors (MLA, MADD) multiply integers at once.
        """
        if isinstance(expr, Load):
            if expr in self.known:
                return
            self.known.add(expr)
        core, rates, count = self.target.core, self.target.rates, self.vectors(expr.dtype, expr.lanes)
        match expr:
            case Load(index=index, lanes=lanes, stride=stride):
                looked_up = [atom.expr for atom, _ in index.terms if isinstance(atom, IndexOf)]
                for inner in looked_up:
                    self.expression(inner, work)
                count = count if stride == 1 and not (looked_up and lanes > 1) else lanes
                work.loads += count / core.loads_per_cycle
                work.instructions += count
                if count == lanes > 1:
                    self.add(work, lanes, rates.shuffles)
            case Broadcast(arg=arg):
                self.expression(arg, work)
                if isinstance(arg, Op | Cast) and not _is_word(arg) and not _is_flipped(arg):  # loads broadcast, and so do products by lane
                    self.add(work, 1, rates.shuffles)
            case Lane(arg=arg):
                self.expression(arg, work)
                if not self.target.vector.fma_by_lane:
                    self.add(work, 1, rates.shuffles)
            case Horizontal(arg=arg):
                self.expression(arg, work)
                steps = max(1, arg.lanes.bit_length() - 1)
                self.add(work, steps, rates.shuffles)
                self.add(work, steps, rates.arithmetic)
            case Cast(arg=arg, dtype=dtype):
                self.expression(arg, work)
                count = max(count, self.vectors(arg.dtype, arg.lanes))
                if arg.dtype.is_float != dtype.is_float:
                    self.add(work, count, rates.conversions)
                if arg.dtype.size != dtype.size and (arg.lanes > 1 or arg.dtype.size > dtype.size):  # scalar loads extend
                    self.add(work, count, rates.widenings)
            case FromIndex():
                self.add(work, 1, rates.arithmetic)
            case Op(args=args) if _is_word(expr):
                self.expression(next((arg for arg in args if isinstance(arg, Load)), args[0]), work)
            case Op(op=op, args=args):
                summand = op == "add" and expr.dtype is DType.I32 and not self.target.vector.bits
                for inner in args:
                    self.expression(inner, work, fused=summand)
                if op in DEFINED and expr.dtype is DType.F32:
                    self.function(op, expr.lanes, work)
                    return
                count = max([count, *(self.vectors(a.dtype, a.lanes) for a in args)])
                if op == "mul" and fused:
                    return
                if op == GROUP_LOOKUP:
                    self.add(work, GROUP_LOOKUP_INSTRUCTIONS, rates.arithmetic)
                    return
                if op == "join_words":
                    count += 1  # of two operands that are widened, one serves again
                if op == "interleave":
                    # In pairs, pairs of pairs, and to their places; or one permutation of what two loads put side by side.
                    count *= 2 if expr.lanes == 16 and self.target.has(ANY_BYTES) else len(args)
                self.add(work, count, self.rate(op, args[0].dtype, expr.lanes))

    def function(self, op: str, lanes: int, work: _Work) -> None:
        """Adds the instructions of a mathematical function."""
        own = self.functions.get((op, lanes))
        if own is None:
            own = self.functions[op, lanes] = _Work()
            found = definition(op, lanes)
            for stmt in found.statements:
                self.statement(stmt, own)
            self.expression(found.result, own)
        work.units += own.units
        work.instructions += own.instructions

    def rate(self, op: str, dtype: DType, lanes: int) -> float:
        """Instructions of an operation that start in a cycle."""
        rates = self.target.rates
        if op == "fma":  # portable C has none: a product and a sum
            return self.target.core.fma_per_cycle if self.target.vector.bits else self.target.rates.arithmetic / 2
        if op == PRODUCT:  # two products and a sum, where sums start beside products
            return rates.arithmetic / 2
        if op == WORDS and pays(self.target):  # one product and a sum, where those of bytes take two of each
            return 2 * rates.dot_products
        if op in DOTS:
            return rates.dot_products if DOTS[op].element.is_integer else self.target.core.fma_per_cycle
        if op in DIVIDING:
            return rates.divisions
        if op in ROUNDING:
            return rates.roundings
        if op in SHUFFLING:
            return rates.shuffles
        if op == "mul" and dtype.is_integer:
            return rates.integer_products
        return rates.arithmetic

    def add(self, work: _Work, count: float, rate: float) -> None:
        """`count` instructions of a unit that starts `rate` of them in a cycle."""
        work.units += count / rate
        work.instructions += count


def _widest_integer(body: Body) -> int:
    """Bytes of the widest type of a body that only adds up or compares scalar integers, which compilers make vectors of; else 0."""
    if not body or not all(isinstance(stmt, Assign) for stmt in body):
        return 0
    every = [expr for stmt in body for top in expressions(stmt) for expr in subexpressions(top)]
    plain = all((expr.lanes == 1 and expr.dtype.is_integer and not isinstance(expr, Op)) or (
        isinstance(expr, Op) and expr.lanes == 1 and expr.op in ("add", "max", "min") and expr.dtype.is_integer) for expr in every)
    return max(expr.dtype.size for expr in every) if plain else 0


def _is_word(expr: Expr) -> bool:
    """Whether an expression joins neighbouring bytes, which is a load of all of them."""
    return isinstance(expr, Op) and expr.op == "interleave" and expr.lanes == 1


def _is_flipped(expr: Expr) -> bool:
    """Whether an expression is what was loaded with some bits turned around, which may be done behind a broadcast."""
    return isinstance(expr, Op) and expr.op == "bit_xor" and isinstance(expr.args[1], Const) and (
        isinstance(expr.args[0], Load | Ref) or _is_word(expr.args[0]))


def _combined(op: str, args: list[float]) -> float:
    match op:
        case "min":
            return min(args)
        case "max":
            return max(args)
        case "mod":
            return args[0] % args[1] if args[1] else 0.0
    return args[0] // args[1] if args[1] else 0.0
