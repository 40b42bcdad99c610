"""Names that nothing has yet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgecc.ir.names import UniqueNames

HINTS = st.lists(st.sampled_from(["a", "b", "a_2", "a_2_2", "a_3", ""]), max_size=12)


def test_numbers_what_is_taken() -> None:
    names = UniqueNames(["a", "b_2"])
    assert [names.fresh(hint) for hint in ("a", "b", "b", "a", "c")] == ["a_2", "b", "b_3", "a_3", "c"]


@given(HINTS, HINTS)
def test_gives_each_name_out_once(taken: list[str], hints: list[str]) -> None:
    names = UniqueNames(taken)
    given_out = [names.fresh(hint) for hint in hints]
    assert len({*given_out, *taken}) == len(given_out) + len(set(taken))
    assert all(name.startswith(hint) for name, hint in zip(given_out, hints, strict=True))
