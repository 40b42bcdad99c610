"""Deterministic automata over the bytes of UTF-8, made of regular expressions.

A pattern becomes a nondeterministic automaton (K. Thompson, "Regular expression search algorithm", 1968), sets of characters
becoming sequences of ranges of bytes, and that a deterministic one by the construction of subsets. Assertions
look at the bytes before and behind a place, so a state of the result also says of which kind the byte before was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from edgecc.errors import EdgeccError, printable
from edgecc.ops.regex import Assertion, Characters, Choice, Ranges, Repetition, Sequence, Tree, parse_pattern

MOST_NODES = 20_000
"""Places of the nondeterministic automaton; repetitions are written out."""
MOST_STATES = 2_000
MOST_ENTRIES = 2**17
"""Entries of the table: states times classes of bytes."""
MOST_WORK = 5_000_000
"""Steps of the construction, which takes a second or two by then."""

_START, _NEWLINE, _WORD, _OTHER = range(4)
"""Kinds of bytes; at an end of the text there is none, which counts as a kind too."""

_HOLDS: Mapping[str, Callable[[int, int], bool]] = {
    "text_begin": lambda before, behind: before == _START,
    "text_end": lambda before, behind: behind == _START,
    "line_begin": lambda before, behind: before in (_START, _NEWLINE),
    "line_end": lambda before, behind: behind in (_START, _NEWLINE),
    "word": lambda before, behind: (before == _WORD) != (behind == _WORD),
    "not_word": lambda before, behind: (before == _WORD) == (behind == _WORD),
}


def _kind(byte: int) -> int:
    character = chr(byte)
    return _NEWLINE if character == "\n" else _WORD if character == "_" or (byte < 128 and character.isalnum()) else _OTHER


@dataclass(frozen=True)
class Automaton:
    """A complete deterministic automaton. State 0 is dead: nothing leads out of it. State 1 is the first one.

    Attributes:
        classes: for each of the 256 bytes its class.
        table: for each state, for each class, the next state.
        accepting: for each state, whether a text may end there.
    """

    classes: tuple[int, ...]
    table: tuple[tuple[int, ...], ...]
    accepting: tuple[bool, ...]

    def matches(self, data: bytes) -> bool:
        """Whether all of `data` matches."""
        state = 1
        for byte in data:
            state = self.table[state][self.classes[byte]]
        return self.accepting[state]

    def longest(self, data: bytes, start: int) -> int:
        """Where the longest match that begins at `start` ends; `start` where there is none. Only for patterns without assertions."""
        state, end = 1, start
        for place in range(start, len(data)):
            state = self.table[state][self.classes[data[place]]]
            if state == 0:
                break
            if self.accepting[state]:
                end = place + 1
        return end


def compile_pattern(pattern: str) -> Automaton:
    """The automaton of a pattern.

    Raises: EdgeccError E105 where the pattern is not understood, or is too large.
    """
    return _Subsets(pattern, _Builder(pattern).finished(parse_pattern(pattern))).run()


def _too_large(pattern: str) -> EdgeccError:
    return EdgeccError("E105", f"pattern {printable(pattern, 80)!r} needs too large a table",
                       hint="use fewer repetitions, or match in the program around the model")


@dataclass
class _Nodes:
    """A nondeterministic automaton: places, and what leads from each to others. Place 0 is the end."""

    start: int = 0
    free: list[list[tuple[str | None, int]]] = field(default_factory=lambda: [[]])
    """For each place, places that can be reached without a byte, under an assertion or none."""
    bytes: list[list[tuple[int, int, int]]] = field(default_factory=lambda: [[]])
    """For each place, ranges of bytes and where they lead."""


class _Builder:
    """Builds from the end: each part is given the place behind it, and returns the one in front of it."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.nodes = _Nodes()

    def finished(self, tree: Tree) -> _Nodes:
        self.nodes.start = self.part(tree, 0)
        return self.nodes

    def place(self) -> int:
        if len(self.nodes.free) >= MOST_NODES:
            raise _too_large(self.pattern)
        self.nodes.free.append([])
        self.nodes.bytes.append([])
        return len(self.nodes.free) - 1

    def part(self, tree: Tree, end: int) -> int:
        match tree:
            case Characters(ranges=ranges):
                return self.characters(ranges, end)
            case Assertion(kind=kind):
                place = self.place()
                self.nodes.free[place].append((kind, end))
                return place
            case Sequence(parts=parts):
                for part in reversed(parts):
                    end = self.part(part, end)
                return end
            case Choice(options=options):
                place = self.place()
                self.nodes.free[place] += [(None, self.part(option, end)) for option in options]
                return place
            case Repetition(body=body, least=least, most=most):
                if most is None:
                    loop = self.place()
                    self.nodes.free[loop] += [(None, end), (None, self.part(body, loop))]
                    end = loop
                else:
                    for _ in range(most - least):
                        skip = self.place()
                        self.nodes.free[skip] += [(None, end), (None, self.part(body, end))]
                        end = skip
                for _ in range(least):
                    end = self.part(body, end)
                return end

    def characters(self, ranges: Ranges, end: int) -> int:
        first = self.place()
        behind: dict[tuple[tuple[int, int], ...], int] = {(): end}

        def place_before(rest: tuple[tuple[int, int], ...]) -> int:
            if rest not in behind:
                behind[rest] = place = self.place()
                self.nodes.bytes[place].append((*rest[0], place_before(rest[1:])))
            return behind[rest]

        for low, high in ranges:
            for piece in byte_sequences(low, high):
                self.nodes.bytes[first].append((*piece[0], place_before(piece[1:])))
        return first


def byte_sequences(low: int, high: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """The UTF-8 of the characters low..high as sequences of ranges of bytes, which together have just these.

    Source: the way of R. Cox in Go's and Rust's regular expressions: cut where lengths or leading bytes differ.
    """
    for last in (0x7F, 0x7FF, 0xFFFF):
        if low <= last < high:
            yield from byte_sequences(low, last)
            yield from byte_sequences(last + 1, high)
            return
    if high < 0x80:
        yield ((low, high),)
        return
    for shift in (6, 12, 18):
        mask = (1 << shift) - 1
        if low & ~mask != high & ~mask:
            if low & mask:
                yield from byte_sequences(low, low | mask)
                yield from byte_sequences((low | mask) + 1, high)
                return
            if high & mask != mask:
                yield from byte_sequences(low, (high & ~mask) - 1)
                yield from byte_sequences(high & ~mask, high)
                return
    yield tuple(zip(chr(low).encode("utf-8"), chr(high).encode("utf-8"), strict=True))


class _Subsets:
    """The construction of subsets: a state is a set of places, before assertions are looked at, and the kind of the byte before."""

    def __init__(self, pattern: str, nodes: _Nodes) -> None:
        self.pattern = pattern
        self.nodes = nodes
        self.work = 0
        cuts = {0, 0x0A, 0x0B, 0x80, 256, *(c for low, high in ((48, 57), (65, 90), (95, 95), (97, 122)) for c in (low, high + 1))}
        cuts.update(c for ranges in nodes.bytes for low, high, _ in ranges for c in (low, high + 1))
        self.starts = sorted(cuts)[:-1]
        """The first byte of each class before equal ones are joined."""

    def run(self) -> Automaton:
        first = (frozenset((self.nodes.start,)), _START)
        numbers: dict[tuple[frozenset[int], int], int] = {(frozenset(), _OTHER): 0, first: 1}
        table: list[list[int]] = [[0] * len(self.starts)]
        accepting = [False]
        pending = [first]
        for state in pending:  # grows while it is walked over
            row, (places, before) = [], state
            closures = {behind: self.closure(places, before, behind) for behind in (_NEWLINE, _WORD, _OTHER)}
            for byte in self.starts:
                kind = _kind(byte)
                reached = self.step(closures[kind], byte)
                following = (reached, kind if reached else _OTHER)
                if following not in numbers:
                    numbers[following] = len(numbers)
                    pending.append(following)
                    if len(numbers) > MOST_STATES:
                        raise _too_large(self.pattern)
                row.append(numbers[following])
            table.append(row)
            accepting.append(0 in self.closure(places, before, _START))
        return self.joined(table, accepting)

    def closure(self, places: frozenset[int], before: int, behind: int) -> set[int]:
        """All places that can be reached without a byte."""
        found, pending = set(places), list(places)
        while pending:
            for kind, place in self.nodes.free[pending.pop()]:
                self.work += 1
                if place not in found and (kind is None or _HOLDS[kind](before, behind)):
                    found.add(place)
                    pending.append(place)
        if self.work > MOST_WORK:
            raise _too_large(self.pattern)
        return found

    def step(self, places: set[int], byte: int) -> frozenset[int]:
        out = []
        for place in places:
            ranges = self.nodes.bytes[place]
            self.work += len(ranges)
            out += [to for low, high, to in ranges if low <= byte <= high]
        return frozenset(out)

    def joined(self, table: list[list[int]], accepting: list[bool]) -> Automaton:
        """Bytes that lead to the same states everywhere become one class."""
        columns: dict[tuple[int, ...], int] = {}
        of_start = [columns.setdefault(tuple(row[i] for row in table), len(columns)) for i in range(len(self.starts))]
        if len(columns) * len(table) > MOST_ENTRIES:
            raise _too_large(self.pattern)
        classes, current = [], -1
        for byte in range(256):
            if current + 1 < len(self.starts) and self.starts[current + 1] == byte:
                current += 1
            classes.append(of_start[current])
        return Automaton(tuple(classes), tuple(zip(*columns, strict=True)), tuple(accepting))
