"""Regular expressions in the syntax of RE2, as trees over sets of characters.

Understood: literals, `.`, classes with ranges, negation, `[:alpha:]` and the like, `\\d \\w \\s` and their opposites (ASCII, as
RE2 has them), `\\pL`, `\\p{Lu}` and `\\P..` for general categories, groups (capturing, named, or not), alternatives, the repetitions
`* + ? {n} {n,} {n,m}` with or without `?` (which changes nothing where all of a text must match), `^ $ \\A \\z \\b \\B`, escapes
`\\n \\t \\x41 \\x{10FFFF} \\Q...\\E` and so on, and the flags i, m, s and U.

Refused, as by RE2: back references, looking around, possessive repetitions, atomic groups, more than 1000 repetitions.
Refused although RE2 takes them: `\\C`, scripts such as `\\p{Greek}`.

Source: the syntax page of RE2, https://github.com/google/re2/wiki/Syntax.
"""

from __future__ import annotations

import functools
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from edgecc.errors import EdgeccError, printable

MOST_REPETITIONS = 1000
MOST_NESTED = 100
LAST_CHARACTER = sys.maxunicode
_SURROGATES = (0xD800, 0xDFFF)

Ranges = tuple[tuple[int, int], ...]
"""Characters as ascending ranges of code points, both ends included, without gaps of nothing between two."""


@dataclass(frozen=True)
class Characters:
    """One character out of a set."""

    ranges: Ranges


@dataclass(frozen=True)
class Assertion:
    """Nothing, at a place of some kind: "text_begin", "text_end", "line_begin", "line_end", "word" or "not_word"."""

    kind: str


@dataclass(frozen=True)
class Sequence:
    """Parts one after the other."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True)
class Choice:
    """One of several."""

    options: tuple[Tree, ...]


@dataclass(frozen=True)
class Repetition:
    """At least `least` and at most `most` (None: any number) times."""

    body: Tree
    least: int
    most: int | None


Tree = Characters | Assertion | Sequence | Choice | Repetition


def normalized(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges sorted, joined where they touch, and without surrogates, which no UTF-8 has."""
    out: list[tuple[int, int]] = []
    pieces = []
    for low, high in ranges:
        pieces += [(low, min(high, _SURROGATES[0] - 1)), (max(low, _SURROGATES[1] + 1), high)]
    for low, high in sorted(piece for piece in pieces if piece[0] <= piece[1]):
        if out and low <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    return tuple(out)


def negated(ranges: Ranges) -> Ranges:
    """All other characters."""
    out, start = [], 0
    for low, high in ranges:
        if start < low:
            out.append((start, low - 1))
        start = high + 1
    if start <= LAST_CHARACTER:
        out.append((start, LAST_CHARACTER))
    return normalized(out)


def _ranges(*pairs: str) -> Ranges:
    return normalized((ord(pair[0]), ord(pair[-1])) for pair in pairs)


ANY: Ranges = normalized([(0, LAST_CHARACTER)])
_DIGIT, _WORD, _SPACE = _ranges("09"), _ranges("09", "AZ", "__", "az"), _ranges("\t\n", "\f\r", "  ")
_CLASSES = {"d": _DIGIT, "D": negated(_DIGIT), "w": _WORD, "W": negated(_WORD), "s": _SPACE, "S": negated(_SPACE)}
_POSIX = {
    "alnum": _ranges("09", "AZ", "az"), "alpha": _ranges("AZ", "az"), "ascii": _ranges("\x00\x7f"), "blank": _ranges("\t\t", "  "),
    "cntrl": _ranges("\x00\x1f", "\x7f\x7f"), "digit": _DIGIT, "graph": _ranges("!~"), "lower": _ranges("az"), "print": _ranges(" ~"),
    "punct": _ranges("!/", ":@", "[`", "{~"), "space": _ranges("\t\r", "  "), "upper": _ranges("AZ"), "word": _WORD,
    "xdigit": _ranges("09", "AF", "af"),
}
_ESCAPES = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_ASSERTIONS = {"A": "text_begin", "z": "text_end", "b": "word", "B": "not_word"}


@functools.cache
def category(name: str) -> Ranges:
    """The characters of a general category of Unicode, "L" or "Lu"; () where there are none."""
    return normalized((c, c) for c in range(LAST_CHARACTER + 1) if unicodedata.category(chr(c)).startswith(name))


@functools.cache
def _case_variants() -> dict[int, frozenset[int]]:
    """Characters that are equal but for case, for each that has some; by simple mappings."""
    groups: dict[str, set[int]] = {}
    for code in range(LAST_CHARACTER + 1):
        character = chr(code)
        folded = character.lower() if len(character.lower()) == 1 else character
        upper = folded.upper() if len(folded.upper()) == 1 else folded
        key = upper.lower() if len(upper.lower()) == 1 else upper
        if key != character or upper != character:
            groups.setdefault(key, {ord(key)}).add(code)
    return {code: frozenset(group) for group in groups.values() if len(group) > 1 for code in group}


def folded(ranges: Ranges) -> Ranges:
    """The characters, and those that differ from them only in case."""
    variants = _case_variants()
    more = [(v, v) for code, group in variants.items() if any(low <= code <= high for low, high in ranges) for v in group]
    return normalized([*ranges, *more])


def has_assertions(tree: Tree) -> bool:
    """Whether a pattern looks at what is around the text that it matches."""
    match tree:
        case Assertion():
            return True
        case Sequence(parts=trees) | Choice(options=trees):
            return any(map(has_assertions, trees))
        case Repetition(body=body):
            return has_assertions(body)
    return False


def parse_pattern(pattern: str) -> Tree:
    """The tree of a pattern.

    Raises: EdgeccError E105 saying what is not understood, and where.
    """
    parser = _Parser(pattern)
    tree = parser.alternatives(0)
    if parser.at < len(pattern):
        raise parser.problem("a ')' closes nothing")
    return tree


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.flags = frozenset[str]()

    def problem(self, what: str) -> EdgeccError:
        return EdgeccError("E105", f"pattern {printable(self.pattern, 80)!r}: {what}, at character {self.at}",
                           hint="patterns have the syntax of RE2")

    def take(self, text: str) -> bool:
        """Whether `text` comes next, which then is taken."""
        if not self.pattern.startswith(text, self.at):
            return False
        self.at += len(text)
        return True

    def next(self, what: str) -> str:
        if self.at >= len(self.pattern):
            raise self.problem(f"it ends inside {what}")
        self.at += 1
        return self.pattern[self.at - 1]

    def alternatives(self, depth: int) -> Tree:
        if depth > MOST_NESTED:
            raise self.problem(f"groups are nested deeper than {MOST_NESTED}")
        flags = self.flags
        options = [self.sequence(depth)]
        while self.take("|"):
            options.append(self.sequence(depth))
        self.flags = flags  # flags that are set inside of a group end with it
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def sequence(self, depth: int) -> Tree:
        parts: list[Tree] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            if self.take("\\Q"):
                end = self.pattern.find("\\E", self.at)
                quoted = self.pattern[self.at:] if end < 0 else self.pattern[self.at:end]
                self.at += len(quoted) + (2 if end >= 0 else 0)
                parts += [self.literal(ord(character)) for character in quoted]
                continue
            start = self.at
            atom = self.atom(depth)
            if atom is not None:
                parts.append(self.repeated(atom))
            elif self.at == start:
                raise self.problem("nothing can be read here")
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def repeated(self, atom: Tree) -> Tree:
        bounds = self.bounds()
        if bounds is None:
            return atom
        self.take("?")
        if self.at < len(self.pattern) and (self.pattern[self.at] in "*+?" or self.peek_bounds()):
            raise self.problem("a repetition is repeated")
        return Repetition(atom, *bounds)

    def peek_bounds(self) -> bool:
        before = self.at
        found = self.bounds() is not None
        self.at = before
        return found

    def bounds(self) -> tuple[int, int | None] | None:
        for text, found in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.take(text):
                return found
        end = self.pattern.find("}", self.at)
        if end < 0 or not self.pattern.startswith("{", self.at):
            return None
        least, comma, most = self.pattern[self.at + 1:end].partition(",")
        if not (least.isascii() and least.isdecimal() and (most == "" or (most.isascii() and most.isdecimal()))):
            return None  # a brace that stands for itself
        bounds = int(least[:6]), (int(least[:6]) if not comma else int(most[:6]) if most else None)
        if max(bounds[0], bounds[1] or 0) > MOST_REPETITIONS or (bounds[1] is not None and bounds[1] < bounds[0]):
            raise self.problem(f"repetitions are at most {MOST_REPETITIONS}, and not fewer than the least")
        self.at = end + 1
        return bounds

    def atom(self, depth: int) -> Tree | None:
        """One thing that can be repeated; None for a group that only sets flags."""
        character = self.next("the pattern")
        match character:
            case ".":
                return Characters(ANY if "s" in self.flags else negated(_ranges("\n\n")))
            case "^":
                return Assertion("line_begin" if "m" in self.flags else "text_begin")
            case "$":
                return Assertion("line_end" if "m" in self.flags else "text_end")
            case "(":
                return self.group(depth)
            case "[":
                return self.characters()
            case "\\":
                return self.escape()
            case "*" | "+" | "?":
                raise self.problem("there is nothing to repeat")
        return self.literal(ord(character))

    def literal(self, code: int) -> Characters:
        ranges = normalized([(code, code)])
        return Characters(folded(ranges) if "i" in self.flags else ranges)

    def group(self, depth: int) -> Tree | None:
        outer = self.flags
        if self.take("?"):
            if self.take("P<") or (self.pattern[self.at:self.at + 2] not in ("<=", "<!") and self.take("<")):
                end = self.pattern.find(">", self.at)
                if end <= self.at or not self.pattern[self.at:end].replace("_", "a").isalnum():
                    raise self.problem("the name of a group is missing or no name")
                self.at = end + 1
            elif not self.set_flags():
                return None
        body = self.alternatives(depth + 1)
        self.flags = outer
        if not self.take(")"):
            raise self.problem("a group is not closed")
        return body

    def set_flags(self) -> bool:
        """Reads flags up to ":" or ")"; whether a group follows."""
        remove = False
        while True:
            character = self.next("a group")
            if character in ":)":
                return character == ":"
            if character == "-" and not remove:
                remove = True
            elif character in "imsU":
                self.flags = self.flags - {character} if remove else self.flags | {character}
            else:
                raise self.problem(f"a group that begins with '(?{character}' is not understood; RE2 cannot look around")

    def escape(self) -> Tree:
        character = self.next("an escape")
        if character in _ASSERTIONS:
            return Assertion(_ASSERTIONS[character])
        self.at -= 1
        return Characters(self.class_escape() or self.literal(self.code()).ranges)

    def class_escape(self) -> Ranges | None:
        """The characters of `\\d`, `\\pL` and the like behind a backslash; None where another escape stands."""
        character = self.pattern[self.at] if self.at < len(self.pattern) else ""
        if character in _CLASSES:
            self.at += 1
            return _CLASSES[character]
        if character not in ("p", "P"):
            return None
        self.at += 1
        name = self.next("a category")
        if name == "{":
            end = self.pattern.find("}", self.at)
            if end < 0:
                raise self.problem("the name of a category is not closed")
            name, self.at = self.pattern[self.at:end], end + 1
        opposite = name.startswith("^")
        name = name.removeprefix("^")
        ranges = category(name) if name.isalpha() and len(name) <= 2 else ANY if name == "Any" else ()
        if not ranges:
            raise self.problem(f"{printable(name, 20)!r} is no general category of Unicode")
        return negated(ranges) if opposite != (character == "P") else ranges

    def code(self) -> int:
        """The code point of an escape that stands for one character."""
        character = self.next("an escape")
        if character in _ESCAPES:
            return _ESCAPES[character]
        if character == "x":
            if self.take("{"):
                end = self.pattern.find("}", self.at)
                digits, self.at = (self.pattern[self.at:end], end + 1) if end >= 0 else ("", self.at)
            else:
                digits = self.next("an escape") + self.next("an escape")
            try:
                code = int(digits, 16)
            except ValueError:
                code = -1
            if not 0 <= code <= LAST_CHARACTER or not digits.isalnum():
                raise self.problem("\\x is followed by no code of a character")
            return code
        if character == "0" or (character in "1234567" and self.pattern[self.at:self.at + 1] in tuple("01234567")):
            digits = character
            while len(digits) < 3 and self.pattern[self.at:self.at + 1] in tuple("01234567"):
                digits += self.next("an escape")
            return int(digits, 8)
        if character.isascii() and character.isalnum():
            raise self.problem(f"'\\{character}' is not understood")
        return ord(character)

    def characters(self) -> Characters:
        """A class in brackets, after the opening one."""
        opposite = self.take("^")
        found: list[tuple[int, int]] = []
        first = True
        while first or not self.take("]"):
            first = False
            if self.take("[:"):
                end = self.pattern.find(":]", self.at)
                name = self.pattern[self.at:end] if end >= 0 else ""
                posix = _POSIX.get(name.removeprefix("^"))
                if posix is None:
                    raise self.problem(f"[:{printable(name, 20)}:] is no class")
                found += negated(posix) if name.startswith("^") else posix
                self.at = end + 2
                continue
            low, ranges = self.member()
            if ranges is not None:
                found += ranges
                continue
            high = low
            if self.pattern.startswith("-", self.at) and not self.pattern.startswith("-]", self.at):
                self.at += 1
                high, ranges = self.member()
                if ranges is not None or high < low:
                    raise self.problem("a range of characters is empty or ends with a class")
            found.append((low, high))
        ranges = normalized(found)
        if "i" in self.flags:
            ranges = folded(ranges)
        return Characters(negated(ranges) if opposite else ranges)

    def member(self) -> tuple[int, Ranges | None]:
        """A character of a class, or the characters of an escape inside of it."""
        character = self.next("a class")
        if character != "\\":
            return ord(character), None
        ranges = self.class_escape()
        return (0, ranges) if ranges is not None else (self.code(), None)
