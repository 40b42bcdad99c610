"""C text put together: operands in calls and in the rows of instruction tables, without parentheses that say nothing, and long lists broken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

LINE = 120
"""Characters of a line of C, where it can be broken."""
_WHOLE_ARGUMENT = re.compile(r"(?<=\(|,)( ?)\{(\d)\}(?=[,)])")


def strip_parentheses(text: str) -> str:
    """`text` without a pair of parentheses around all of it."""
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for position, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0 and position < len(text) - 1:
            return text
    return text[1:-1]


def call_text(name: str, operands: Sequence[str]) -> str:
    """A call of a function."""
    return f"{name}({', '.join(map(strip_parentheses, operands))})"


def listed_lines(head: str, items: Sequence[str], tail: str, separator: str = ",") -> list[str]:
    """`head(items)tail` with the separator between items, on lines of up to `LINE` characters, the further ones aligned behind the parenthesis."""
    current, lines = f"{head}(", list[str]()
    indent = " " * min(len(current), LINE // 2)
    for number, item in enumerate(items):
        text = item + (f"){tail}" if number == len(items) - 1 else separator)
        if number and len(current) + 1 + len(text) > LINE:
            lines.append(current)
            current = indent + text
        else:
            current += f" {text}" if number else text
    return [*lines, current]


def filled(text: str, operands: Sequence[str]) -> str:
    """The text of a row with its operands in place of {0}, {1} ...: bare where one is all that stands between parentheses or commas."""
    return _with_bare(text).format(*operands, bare=[strip_parentheses(operand) for operand in operands])


@cache
def _with_bare(text: str) -> str:
    return _WHOLE_ARGUMENT.sub(r"\1{bare[\2]}", text)
