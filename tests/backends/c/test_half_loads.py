"""Loads in halves: where their parts stand among multiply-adds."""

import pytest
from hypothesis import given as examples_of
from hypothesis import settings
from hypothesis import strategies as st

from edgecc.backends.c.half_loads import (
    JOINED_DISTANCE,
    VECTOR_DISTANCE,
    WORD_DISTANCE,
    Part,
    Pinned,
    addresses,
    spread,
)
from edgecc.ir.types import DType
from edgecc.loop.index import const, var
from edgecc.loop.ir import Assign, Broadcast, Declare, Lane, Let, Load, Op, Ref, Store

F32 = DType.F32


def load(buffer, index, lanes=4, **options) -> Load:
    return Load(buffer, index, F32, lanes, **options)


def add(total, weights, row) -> Assign:
    factor = Broadcast(Lane(Ref(row, F32, 2), 0), 4)
    return Assign(total, Op("fma", (Ref(weights, F32, 4), factor, Ref(total, F32, 4)), F32, 4))


def has_row(op, dtype, lanes) -> bool:
    return dtype is F32 and lanes == (2 if op == "load_half" else 4)


def body(columns: int, rows: int) -> tuple:
    """Columns of weights, each loaded in front of its sums."""
    return tuple(stmt for j in range(columns) for stmt in (
        Let(f"w{j}", load("w", var("k") * 48 + 4 * j)), *(add(f"acc{j}_{i}", f"w{j}", f"x{i}") for i in range(rows))))


def places_of(out) -> dict:
    """By name and part, how many multiply-adds stand in front of it."""
    places, sums = {}, 0
    for item in out:
        if isinstance(item, Part):
            places[item.stmt.name, item.row] = sums
        elif isinstance(item, Let):
            places[item.name, "whole"] = sums
        else:
            sums += 1
    return places


@pytest.mark.parametrize("rows", [7, 9, 12])
def test_parts_stand_beside_different_sums_and_far_enough_from_their_use(rows):
    given = body(4, rows)
    out = spread(given, has_row)
    assert [item for item in out if isinstance(item, Assign)] == [stmt for stmt in given if isinstance(stmt, Assign)]
    places = places_of(out)
    for j in range(1, 4):
        low, high, join = (places[f"w{j}", row] for row in ("load_low", "load_high", "join"))
        assert join - high >= WORD_DISTANCE and join - low >= VECTOR_DISTANCE and j * rows - join >= JOINED_DISTANCE
    later = [place for (name, _), place in places.items() if name != "w0"]
    assert len(set(later)) == len(later)


def test_sums_of_whole_vectors_and_their_starts_stay_in_place_among_halves():
    starts = [Declare(f"acc{i}", Ref("b", F32, 4)) for i in range(8)]
    sums = [Assign(f"acc{i}", Op("fma", (Ref("x", F32, 4), Ref("w", F32, 4), Ref(f"acc{i}", F32, 4)), F32, 4)) for i in range(8)]
    out = spread((*starts, Let("x", load("x", var("k") * 4)), *sums), has_row)
    assert [item.stmt for item in out if isinstance(item, Pinned)] == [*starts, *sums]
    parts = {item.row: place for place, item in enumerate(out) if isinstance(item, Part)}
    assert parts["load_high"] < parts["load_low"] < parts["join"] < out.index(Pinned(sums[0]))
    assert spread(tuple(starts), has_row) == tuple(starts)  # nothing to start beside


def test_paired_halves_stand_beside_insertions():
    """Behind a multiply-add at most a load of half a vector and an insertion, most of them together; distances stay."""
    places = places_of(spread(body(6, 7), has_row, paired=True))
    lows, joins = ({place for (_, part), place in places.items() if part == row} for row in ("load_low", "join"))
    assert len(lows) == len(joins) == 5 and len(lows & joins) == 4
    for j in range(2, 6):
        assert places[f"w{j}", "join"] - places[f"w{j}", "load_high"] >= WORD_DISTANCE
        assert places[f"w{j}", "join"] - places[f"w{j}", "load_low"] >= VECTOR_DISTANCE


def test_registers_for_the_next_iteration_are_filled_behind_their_last_use():
    sums = [add(f"acc{i}", "w", "x") for i in range(12)]
    out = spread((*sums[:2], *(add(f"more{i}", "v", "x") for i in range(10)), Assign("w", load("w", var("k") * 4))), has_row)
    places = places_of(out)
    assert places["w", "load_low"] >= 2 and places["w", "join"] - places["w", "load_high"] >= WORD_DISTANCE


def versions(out) -> list:
    """For each multiply-add in order, the load behind each register it reads, or the register's name where that is older."""
    held, halves, found = {}, {}, []
    for item in out:
        if isinstance(item, Part):
            if item.row in ("load_low", "load_high"):
                halves[item.stmt.name, item.row] = item.load
                continue
            if item.row == "join":
                assert halves.pop((item.stmt.name, "load_low")) is halves.pop((item.stmt.name, "load_high")) is item.load
            held[item.stmt.name] = item.load
        elif isinstance(item.value, Load):
            held[item.name] = item.value
        else:
            weights, factor, _ = item.value.args
            found.append([held.get(name, name) for name in (weights.name, factor.arg.arg.name)])
    return found


@settings(max_examples=200)
@examples_of(st.lists(st.one_of(st.tuples(st.sampled_from("vwz"), st.booleans()), st.tuples(st.sampled_from("vwz"), st.sampled_from("xy"))),
                min_size=10, max_size=40))
def test_multiply_adds_read_the_loads_they_read_before(choices):
    """Registers are loaded anywhere, in this iteration's order and for the next one."""
    given = tuple(Assign(one, load(one, const(4 * place), 4 if one in "vwz" else 2)) if isinstance(other, bool) else add(f"acc{place}", one, other)
                  for place, (one, other) in enumerate(choices))
    out = spread(given, has_row)
    assert versions((*out, *out)) == versions((*given, *given))


def test_what_is_no_whole_vector_or_not_among_sums_stays_as_it_is():
    few = body(1, 7)
    assert spread(few, has_row) == few
    assert spread(body(4, 7), lambda *key: False) == body(4, 7)
    others = (Declare("a", load("w", const(0))), Store("y", const(0), Ref("a", F32, 4)))
    assert spread(others, has_row) == others
    kept = spread((Let("a", load("w", const(0), valid=3)), Let("b", load("w", const(0), stride=2)), *body(2, 7)), has_row)
    assert {key for key in places_of(kept) if key[0] in "ab"} == {("a", "whole"), ("b", "whole")}


@pytest.mark.parametrize(("offsets", "expected"), [
    ([0, 4, 61], [(0, 0), (0, 16), (61, 0)]),  # of a multiple of 8 bytes alone
    ([-896, -768, 0], [(-896, 0), (-896, 512), (-896, 3584)]),
    ([61, 63, 64], [(61, 0), (61, 8), (0, 256)]),
    ([0, 8188, 8192, 8200], [(0, 0), (0, 32752), (8192, 0), (8192, 32)])])
def test_as_few_elements_as_offsets_allow_address_all_loads(offsets, expected):
    loads = [load("w", var("k") * 16 + offset) for offset in offsets]
    found = addresses(loads)
    assert [found[each] for each in loads] == [(var("k") * 16 + base, offset) for base, offset in expected]


def test_addresses_that_differ_by_more_than_a_constant_are_apart():
    loads = [load("w", var("k") * 16 + 4), load("w", var("k") * 8 + 4), load("x", var("k") * 16 + 4)]
    assert [base for base, _ in addresses(loads).values()] == [var("k") * 16, var("k") * 8, var("k") * 16]
