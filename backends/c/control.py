"""Branches and loops of the run as C statements."""

from __future__ import annotations

from collections.abc import Sequence

from edgecc.backends.c.address import Symbols, argument_text, iteration
from edgecc.backends.c.names import comment_text
from edgecc.loop.module import Argument, Branch, Copy, Repeat

LOOP_STATUS = 4
"""What `run` returns where a loop leaves its bounds."""


def branch_lines(item: Branch, then: Sequence[str], otherwise: Sequence[str], symbols: Symbols) -> list[str]:
    """An `if` around the statements of both branches."""
    lines = [f"  if ({_bool(item.condition, symbols)}) {{{_comment(item.loc)}", *_indented(then)]
    if otherwise:
        lines += ["  } else {", *_indented(otherwise)]
    return [*lines, "  }"]


def repeat_lines(item: Repeat, body: Sequence[str], symbols: Symbols) -> list[str]:
    """A `for` around the statements of one iteration, with the copies of states and the checks of its bounds."""
    count, number = iteration(item.depth), item.depth
    lines = [f"  {{{_comment(item.loc)}"]
    tests = []
    if not isinstance(item.trips, int):
        lines.append(f"    const int64_t trips_{number} = *(const int64_t *){argument_text(item.trips, symbols, writes=False)};")
        tests.append(f"{count} < trips_{number}")
    elif item.trips <= item.limit:
        tests.append(f"{count} < {max(0, item.trips)}")
    if not (item.condition is True and item.again is True):
        first = str(int(item.condition)) if isinstance(item.condition, bool) else _bool(item.condition, symbols)
        lines.append(f"    int go_on_{number} = {first};")
        tests.append(f"go_on_{number}")
    lines += _copies(item.before, symbols)
    lines += [f"    ptrdiff_t {count} = 0;", f"    for (; {' && '.join(tests)}; ++{count}) {{"]
    if can_exceed(item):
        lines.append(f"      if ({count} == {item.limit}) return {LOOP_STATUS};")
    if item.counter is not None:
        lines.append(f"      *(int64_t *){argument_text(item.counter, symbols, writes=True)} = {count};")
    lines += _indented(_indented(body))
    if not isinstance(item.again, bool):
        lines.append(f"      go_on_{number} = {_bool(item.again, symbols)};")
    elif not (item.condition is True and item.again is True):
        lines.append(f"      go_on_{number} = {int(item.again)};")
    lines += [f"  {line}" for line in _copies(item.after, symbols)]
    lines.append("    }")
    if can_miss(item):
        lines.append(f"    if ({count} != {item.rows}) return {LOOP_STATUS};")
    for argument, row_bytes in item.zeros:
        if row_bytes:
            lines.append(f"    memset((char *){argument_text(argument, symbols, writes=True)} + {row_bytes} * {count}, 0, "
                         f"(size_t)({item.limit} - {count}) * {row_bytes});")
    return [*lines, "  }"]


def can_stop(item: Repeat) -> bool:
    """Whether the run may return `LOOP_STATUS` because of this loop."""
    return can_exceed(item) or can_miss(item)


def can_exceed(item: Repeat) -> bool:
    """Whether another iteration may be due beyond the limit."""
    return not (isinstance(item.trips, int) and item.trips <= item.limit)


def can_miss(item: Repeat) -> bool:
    """Whether there may be another number of iterations than results have rows."""
    return item.rows is not None and not item.padded and item.iterations != item.rows


def _copies(copies: Sequence[Copy], symbols: Symbols) -> list[str]:
    return [f"    memcpy({argument_text(copy.target, symbols, writes=True)}, "
            f"{argument_text(copy.source, symbols, writes=False)}, {copy.size_bytes});" for copy in copies]


def _bool(argument: Argument, symbols: Symbols) -> str:
    return f"*(const unsigned char *){argument_text(argument, symbols, writes=False)} != 0"


def _comment(loc: Sequence[str]) -> str:
    return f" /* {comment_text(', '.join(loc))} */" if loc else ""


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" if line else line for line in lines]
