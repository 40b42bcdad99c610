"""Mathematical functions as Loop IR."""

from __future__ import annotations

from dataclasses import dataclass

from edgecc.loop.ir import Body, Expr, Ref


@dataclass(frozen=True)
class MathFunction:
    """A function as straight-line Loop IR.

    Attributes:
        params: the parameters.
        statements: bind what `result` refers to.
        result: the value of the function.
        doc: a line for the comment in generated code.
    """

    params: tuple[Ref, ...]
    statements: Body
    result: Expr
    doc: str = ""


DEFINED: frozenset[str] = frozenset()


def definition(op: str, lanes: int) -> MathFunction:
    """The function of primitive `op` on `lanes` lanes of f32. `op` must be in `DEFINED`."""
    raise KeyError(op)
