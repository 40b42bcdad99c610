"""Addresses of a module as C expressions of the run function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgecc.errors import EdgeccError
from edgecc.loop.module import ArenaBytes, Argument, InputBytes, OutputBytes, RowBytes, WeightBytes


@dataclass(frozen=True)
class Symbols:
    """C names that belong to a module: members of the structs of inputs and outputs, functions by Loop IR name."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    functions: Mapping[str, str]


def argument_text(argument: Argument, symbols: Symbols, *, writes: bool) -> str:
    """The address as a `void *`, const unless it `writes`.

    Raises: EdgeccError E900 where an input or the weights would be written.
    """
    base = argument.base if isinstance(argument, RowBytes) else argument
    moves = _moves(argument.steps) if isinstance(argument, RowBytes) else ""
    match base:
        case ArenaBytes(offset=offset):
            return f"({'' if writes else 'const '}void *){_sum('a', offset, moves)}"
        case OutputBytes(index=index, offset=offset):
            member = f"out->{symbols.outputs[index]}"
            return f"(void *){_sum(f'(char *){member}' if offset or moves else member, offset, moves)}"
        case WeightBytes(offset=offset) if not writes:
            return f"(const void *){_sum('w', offset, moves)}"
        case InputBytes(index=index, offset=offset) if not writes:
            member = f"in->{symbols.inputs[index]}"
            return f"(const void *){_sum(f'(const char *){member}' if offset or moves else member, offset, moves)}"
    raise EdgeccError("E900", "C back end: a kernel writes to an input of the network or to the weights")


def _sum(pointer: str, offset: int, moves: str) -> str:
    """A pointer to bytes moved on, as an operand of a cast."""
    return f"({pointer}{f' + {offset}' if offset else ''}{moves})" if offset or moves else pointer


def _moves(steps: Sequence[tuple[int, int]]) -> str:
    return "".join(f" {'-' if step < 0 else '+'} {abs(step)} * {iteration(depth)}" for depth, step in steps if step)


def iteration(depth: int) -> str:
    """The variable that counts the iterations of the loop that lies in `depth` others."""
    return f"iteration_{depth}"
