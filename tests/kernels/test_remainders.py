"""Sizes that no tile divides cost no more than a third over those that a tile divides, for each vector multiply-add they need.

Counted are the operations on vectors and the passes through loops that a scheduled kernel executes. A
lane that a size leaves empty is not held against the kernel: 13 channels need as many vectors as 16.
Single rows are left out, because each of their weights is loaded for one multiply-add.
"""

import functools

import pytest

from edgecc.loop.ir import Body, Broadcast, Expr, For, Load, Op, Store, expressions
from edgecc.targets.schema import load_target
from tests.support.assembly import product, scheduled

LOOP_OPERATIONS = 2
"""Counting and branching of one iteration."""


def operations(expr: Expr, folds: bool) -> int:
    """Instructions of an expression; a load or store of some lanes only counts as two.

    Where `folds`, a multiply-add takes a broadcast factor from memory.
    """
    match expr:
        case Load(valid=valid):
            return 2 if valid else 1
        case Op(op="fma", args=args) if folds:
            return 1 + sum(operations(arg, folds) for arg in args if not isinstance(arg, Broadcast))
        case Op(args=args):
            return 1 + sum(operations(arg, folds) for arg in args)
    return sum(operations(child, folds) for child in expr.children())


def executed(body: Body, folds: bool) -> int:
    """Operations executed by a body whose loops have constant extents."""
    total = 0
    for stmt in body:
        if isinstance(stmt, For):
            assert stmt.extent is not None
            total += stmt.extent * (executed(stmt.body, folds) + LOOP_OPERATIONS)
        else:
            total += sum(operations(expr, folds) for expr in expressions(stmt))
            total += (2 if stmt.valid else 1) if isinstance(stmt, Store) else 0
    return total


@functools.cache
def cost(rows: int, depth: int, columns: int, target: str) -> float:
    """Operations for each vector multiply-add a product needs."""
    vectors = -(-columns // load_target(target).vector.lanes(4))
    return executed(scheduled(product(rows, depth, columns), target).body, target == "x86-64-v4") / (rows * depth * vectors)


@pytest.mark.parametrize("target", ["cortex-a76", "cortex-a55", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("columns", [13, 17, 49, 100, 1000])
def test_no_remainder_falls_off_a_cliff(target, columns):
    for rows in (13, 49):
        ratio = cost(rows, 67, columns, target) / cost(336, 64, 336, target)
        assert ratio <= 1.35, f"{rows} rows: {ratio:.2f}"
