"""Strings in the textual form of the Loop IR: on one line, without quotation marks of their own."""

from __future__ import annotations

import re


def escape(text: str) -> str:
    """The text with line breaks, quotation marks and backslashes written with backslashes."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def unescape(text: str) -> str:
    """The inverse of `escape`."""
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)
