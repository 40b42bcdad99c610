"""Regular expressions against Python's, case mapping against str, and what operators on strings refuse."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.backends.c.string_case import case_ranges
from edgecc.errors import EdgeccError
from edgecc.ir.strings import string_array
from edgecc.ir.types import DType, TensorType
from edgecc.ops.automaton import MOST_STATES, byte_sequences, compile_pattern
from edgecc.ops.indexing import Gather, GatherND
from edgecc.ops.strings import RegexFullMatch, StringCase, StringConcat, other_case

ATOMS = ["a", "b", "ä", "猫", ".", r"\d", r"\w", r"\W", r"\s", "[a-c]", "[^ab]", "[ä-ö_]", r"[\d-]", r"\.", r"\x41", "^", "$", r"\b", r"\B", ""]


def patterns() -> st.SearchStrategy[str]:
    return st.recursive(st.sampled_from(ATOMS), lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?"])).map(lambda two: f"({two[0]}){two[1]}"),
    ), max_leaves=8)


TEXTS = st.text(alphabet="abcA1._- \näö猫", max_size=6)


@settings(max_examples=300)
@given(patterns(), st.lists(TEXTS, min_size=3, max_size=8))
def test_patterns_match_what_python_matches(pattern: str, texts: list[str]) -> None:
    # Before Python 3.14, \B does not match an empty text.
    python = re.compile(pattern.replace("$", r"\Z").replace(r"\B", r"(?:\B|\A\Z)"), re.ASCII)
    automaton = compile_pattern(pattern)
    for text in texts:
        assert automaton.matches(text.encode()) == (python.fullmatch(text) is not None), text


@pytest.mark.parametrize(("pattern", "yes", "no"), [
    (r"(?i)stra\x{df}e|ΣΆ", ["STRAßE", "straẞe", "σά", "ςΆ"], ["STRASSE", "σα"]),
    (r"\p{Lu}\pL*\PN", ["Ähm!", "ÉTé", "ΣΑ"], ["ähm!", "A1", "É"]),
    (r"[[:alpha:]_][[:^digit:]]+", ["_ab", "x--"], ["1ab", "a1"]),
    (r"(?m)^a$\n^b$", ["a\nb"], ["ab", "a\n\nb"]),
    (r"(?s:.)\Q.*\E\z", ["\n.*", "a.*"], ["a.b", ".*"]),
    (r"(?P<year>\d{4})-(?<month>\d\d)", ["2026-11"], ["2026-1", "٢٠٢٦-11"]),
    (r"a{,2}b{x}", ["a{,2}b{x}"], ["aab"]),
    (r"\141\x{1F431}[^\x00-\x7f]", ["a🐱é"], ["a🐱e"]),
])
def test_the_syntax_of_re2(pattern: str, yes: list[str], no: list[str]) -> None:
    (got,) = RegexFullMatch(pattern).reference([string_array([*yes, *no])])
    assert got.tolist() == [True] * len(yes) + [False] * len(no)


@pytest.mark.parametrize("pattern", ["(?=a)b", "(?<!a)b", r"(a)\1", "a**", "a*+", "(", "a)", "[a", "[b-a]", "*", "x{1001}", "x{2,1}", r"\p{Greek}", r"\C",
                                     r"\xZZ", "\\", "(?z)a", r"[[:abc:]]", "(" * 200 + ")" * 200])
def test_patterns_that_re2_or_we_do_not_take(pattern: str) -> None:
    with pytest.raises(EdgeccError) as caught:
        RegexFullMatch(pattern).infer([TensorType(DType.STRING, (2,))])
    assert caught.value.code == "E105"


@pytest.mark.parametrize("pattern", ["(a{100}){300}", "(a|b)*a(a|b){20}", "(.*a){400}", r"(\pL?){1000}"])
def test_patterns_that_explode_are_refused_soon(pattern: str) -> None:
    start = time.monotonic()
    with pytest.raises(EdgeccError, match="too large"):
        compile_pattern(pattern)
    assert time.monotonic() - start < 60


def test_bytes_that_are_no_utf8_match_nothing() -> None:
    automaton = compile_pattern("(?s).*")
    for data in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\xc3", b"\x80"):
        assert not automaton.matches(data)
    assert automaton.matches("\U0010ffffa\n".encode()) and len(automaton.table) < MOST_STATES


@settings(max_examples=100)
@given(st.tuples(st.integers(0, 0x10FFFF), st.integers(0, 0x10FFFF)).map(sorted), st.integers(0, 0x10FFFF))
def test_ranges_of_characters_as_ranges_of_bytes(ends: list[int], other: int) -> None:
    low, high = (code if not 0xD800 <= code <= 0xDFFF else 0x41 for code in ends)
    pieces = [piece for first, last in ((low, min(high, 0xD7FF)), (max(low, 0xE000), high)) if first <= last
              for piece in byte_sequences(first, last)]
    for code in (low, high, other, (low + high) // 2):
        if not 0xD800 <= code <= 0xDFFF:
            data = chr(code).encode()
            found = sum(len(piece) == len(data) and all(a <= byte <= b for (a, b), byte in zip(piece, data, strict=True)) for piece in pieces)
            assert found == (low <= code <= high)


@pytest.mark.parametrize("upper", [False, True])
def test_case_follows_unicode_and_the_table_has_all_of_it(upper: bool) -> None:
    words = string_array(["Grüße", "ÇA VA", "Ǆ", "ﬁ", "İ", "猫1"])
    (got,) = StringCase(upper).reference([words])
    assert got.tolist() == (["GRÜßE", "ÇA VA", "Ǆ", "ﬁ", "İ", "猫1"] if upper else ["grüße", "ça va", "ǆ", "ﬁ", "İ", "猫1"])
    table = {code: code + change for first, last, step, change in case_ranges(upper) for code in range(first, last + 1, step)}
    assert table == {code: ord(mapped) for code in range(0x80, 0x110000) if not 0xD800 <= code <= 0xDFFF
                     and (mapped := other_case(chr(code), upper=upper)) != chr(code)}
    ends = [end for first, last, *_ in case_ranges(upper) for end in (first, last)]
    assert ends == sorted(ends)


def test_one_string_out_of_many_is_a_string() -> None:
    """numpy makes a plain text of a single element."""
    words, first = string_array(["ab", "", "c"], (3,)), np.array(0)
    for op, indices in ((Gather(0), first), (GatherND(), np.array([2]))):
        (result,) = op.reference([words, indices])
        assert result.dtype == words.dtype and result.shape == () and result[()] in ("ab", "c")


def test_shapes_and_types_are_checked() -> None:
    strings, numbers = TensorType(DType.STRING, (2,)), TensorType(DType.I64, (2,))
    assert StringConcat().infer([strings, strings]) == (strings,)
    for op, operands in ((StringConcat(), [strings, TensorType(DType.STRING, (3,))]), (StringConcat(), [strings, numbers]),
                         (StringCase(), [numbers]), (RegexFullMatch("a"), [numbers])):
        with pytest.raises(EdgeccError, match="E110"):
            op.infer(operands)
