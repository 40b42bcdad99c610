"""A scanner for the textual forms: tokens with line and column, and errors that point at them.

Tokens: identifiers (`conv`, `f32`), values (`%x.1`), arguments (`$0`), numbers (`-3`, `1e-05`), JSON
strings, the range sign `..` and single punctuation characters. `//` starts a comment that ends with
the line. Spaces and line ends only separate tokens.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import NoReturn

from edgecc.errors import EdgeccError, printable

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|//[^\n]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<value>%[A-Za-z0-9_.]+)
    |(?P<argument>\$[0-9]+)
    |(?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<mark>\.\.|[^\sA-Za-z0-9_"%$])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    """One token: its kind (a group of the token pattern, or "end"), its text and where it starts (from 0)."""

    kind: str
    text: str
    start: int


class Scanner:
    """Reads tokens from `text`; `source` names it in error messages."""

    def __init__(self, text: str, source: str = "text") -> None:
        self._text = text
        self._source = source
        self._position = 0
        self.token = Token("end", "", 0)
        self._advance()

    def _advance(self) -> None:
        position = self._position
        while True:
            if position >= len(self._text):
                self.token = Token("end", "", len(self._text))
                self._position = position
                return
            match = _TOKEN.match(self._text, position)
            if match is None or match.lastgroup is None:
                self.fail(f"unexpected character {printable(self._text[position])}", position)
            position = match.end()
            if match.lastgroup != "space":
                self.token = Token(match.lastgroup, match.group(), match.start())
                self._position = position
                return

    def fail(self, message: str, start: int | None = None) -> NoReturn:
        """Raises EdgeccError E111 with the line and column of `start`, by default of the current token."""
        at = self.token.start if start is None else start
        line = self._text.count("\n", 0, at) + 1
        column = at - (self._text.rfind("\n", 0, at) + 1) + 1
        raise EdgeccError("E111", message, where=f"{self._source}:{line}:{column}")

    def expected(self, what: str) -> NoReturn:
        """Raises EdgeccError E111 saying what was expected and what stands there instead."""
        found = "the end of the text" if self.token.kind == "end" else f"'{printable(self.token.text, 40)}'"
        self.fail(f"expected {what}, found {found}")

    def take(self) -> Token:
        """Returns the current token and moves to the next."""
        token = self.token
        self._advance()
        return token

    def at(self, text: str) -> bool:
        """Whether the current token is the word or mark `text`."""
        return self.token.kind in ("word", "mark") and self.token.text == text

    def accept(self, text: str) -> bool:
        """Moves past the word or mark `text` if it stands here; returns whether it did."""
        if not self.at(text):
            return False
        self._advance()
        return True

    def expect(self, text: str) -> None:
        """Moves past the word or mark `text`, or raises E111."""
        if not self.accept(text):
            self.expected(f"'{text}'")

    def kind(self, kind: str, what: str) -> Token:
        """Takes a token of this kind, or raises E111 saying that `what` was expected."""
        if self.token.kind != kind:
            self.expected(what)
        return self.take()

    def integer(self) -> int:
        """Takes an integer."""
        token = self.token
        if token.kind != "number" or not token.text.lstrip("-").isdigit():
            self.expected("an integer")
        if len(token.text) > 40:
            self.fail("the integer is too long")
        self._advance()
        return int(token.text)

    def string(self) -> str:
        """Takes a JSON string and returns its value."""
        token = self.kind("string", "a string in double quotes")
        try:
            return str(json.loads(token.text))
        except ValueError:
            self.fail("this is not a JSON string", token.start)
