"""Which repairs are chosen, from invented noise and costs."""

from __future__ import annotations

from edgecc.quantization.costs import Costs
from edgecc.quantization.mixed import Repair, chosen_repairs, repaired, repairs
from edgecc.quantization.points import find_points
from edgecc.quantization.scheme import Scheme
from edgecc.quantization.sensitivity import Source
from tests.quantization.networks import convolutions

SOURCES = (Source("rounding", "r1", "act1", 4.0), Source("weights", "c1", "first", 3.0), Source("rounding", "y", "sum", 2.0))
COSTS = Costs(narrow={"first": 10, "second": 10, "sum": 1}, wide={"first": 10, "second": 50, "sum": 2}, real={"first": 30, "second": 8, "sum": 3})


def test_a_wide_value_costs_where_it_is_read_and_a_float_layer_where_it_runs():
    found = {(r.precision, r.node): r for r in repairs(convolutions(), SOURCES, COSTS, Scheme())}
    assert found["int16", "act1"].cycles == 41 and found["int16", "sum"].cycles == 1 and found["float", "first"].cycles == 20
    assert COSTS.slower == ("second",)


def test_what_is_done_already_is_no_repair():
    scheme = Scheme(wide=frozenset({"act1"}), exclude=frozenset({"first"}))
    assert [r.node for r in repairs(convolutions(), SOURCES, COSTS, scheme)] == ["sum"]


def test_the_best_worth_comes_first_and_what_is_not_needed_is_left_out():
    possible = (Repair("int16", "a", 1.0, 1.0), Repair("int16", "b", 6.0, 10.0), Repair("float", "c", 2.0, 40.0))
    assert chosen_repairs(possible, 9.0, 9.0) == ()
    assert [r.node for r in chosen_repairs(possible, 9.0, 8.5)] == ["a"]
    assert [r.node for r in chosen_repairs(possible, 9.0, 3.5)] == ["b"], "a alone was too little, and with b it is not needed"
    assert [r.node for r in chosen_repairs(possible, 9.0, 0.0)] == ["a", "b", "c"]


def test_a_layer_in_float_takes_its_activation_along():
    network = convolutions()
    scheme = repaired(network, find_points(network), Scheme(), [Repair("float", "first", 1.0, 1.0), Repair("int16", "sum", 1.0, 1.0)])
    assert scheme.exclude == {"first", "act1"} and scheme.wide == {"sum"}
