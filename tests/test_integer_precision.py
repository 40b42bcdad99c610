"""Which layers of quantized networks are summed in float: the cheapest choice, and the same numbers whatever is chosen."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecc import api
from edgecc.errors import EdgeccError
from edgecc.lowering.precision import FLOATS, INTEGERS, MARGIN, _Costs, _Pair, cheapest_floats
from edgecc.pipeline import CompiledModel, compile_graph
from edgecc.targets.schema import Target, load_target
from tests.support.graph_passes import graph_of
from tests.support.quantized_models import small_network


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[tuple[float, float]], list[list[int]], list[float]]:
    """Up to six layers that read up to four values."""
    values = draw(st.lists(st.integers(0, 30).map(float), min_size=1, max_size=4))
    cycles = st.integers(0, 40).map(float)
    layers = draw(st.lists(st.tuples(cycles, cycles), min_size=1, max_size=6))
    reads = [draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=2, unique=True)) for _ in layers]
    return layers, reads, values


@given(problems())
def test_the_choice_is_the_cheapest_of_all(problem: tuple[list[tuple[float, float]], list[list[int]], list[float]]):
    layers, reads, values = problem

    def cost(chosen: frozenset[int]) -> float:
        converted = {value for number in chosen for value in reads[number]}
        return sum(pair[number in chosen] for number, pair in enumerate(layers)) + sum(values[v] for v in converted)

    every = (frozenset(c) for size in range(len(layers) + 1) for c in itertools.combinations(range(len(layers)), size))
    assert cost(cheapest_floats(layers, reads, values)) == min(map(cost, every))


def test_layers_share_the_conversion_of_what_they_read():
    assert cheapest_floats([(10.0, 6.0)], [[0]], [5.0]) == frozenset()
    assert cheapest_floats([(10.0, 6.0), (10.0, 6.0)], [[0], [0]], [5.0]) == {0, 1}


POINTWISE = """
    graph "g" (%p: u8[1,16,9,9] "p") {
      %x = elementwise(%p) {expr=`mul(f32(sub(i32($0:u8), 7:i32)), 0.02:f32)`} : f32[1,16,9,9]
      %q = constant i8[32,16,1,1] random
      %w = elementwise(%q) {expr=`mul(f32($0:i8), 0.01:f32)`} : f32[32,16,1,1]
      %c = conv(%x, %w) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1} : f32[1,32,9,9] loc("Conv")
      %y = elementwise(%c) {expr=`u8(round(div($0:f32, 0.04:f32)))`} : u8[1,32,9,9]
      return %y "y"
    }"""


def compiled(target: Target, integers: str = "auto", text: str = POINTWISE) -> CompiledModel:
    return compile_graph(graph_of(text), target, name="g", integers=integers)


def sums(model: CompiledModel) -> list[str]:
    """The types that convolutions read."""
    return [node.operand(0).type.dtype.value for node in model.graph.nodes if node.op.name == "conv"]


def converting_slowly(name: str) -> Target:
    """A machine on which integers become floats slowly, as they do where they are requantized."""
    target = load_target(name)
    return replace(target, rates=replace(target.rates, conversions=0.01))


@pytest.mark.parametrize(("faster", "precision"), [(0.95 * MARGIN, INTEGERS), (1.05 * MARGIN, FLOATS)])
def test_float_must_be_modelled_to_be_clearly_faster(monkeypatch: pytest.MonkeyPatch, faster: float, precision: str):
    monkeypatch.setattr(_Costs, "layer", lambda self, node: _Pair(faster * 1e6, 1e6))
    monkeypatch.setattr(_Costs, "conversion", lambda self, value: 0.0)
    assert [layer.precision for layer in compiled(load_target("cortex-a76")).precisions] == [precision]


@pytest.mark.parametrize(("target", "precision"), [
    (load_target("cortex-a76"), INTEGERS), (load_target("x86-64-v4-bf16"), INTEGERS), (converting_slowly("generic-c"), FLOATS)],
    ids=lambda value: getattr(value, "name", value))
def test_machines_choose_differently(target: Target, precision: str):
    model = compiled(target)
    (layer,) = model.precisions
    assert (layer.precision, layer.nodes) == (precision, ("Conv",))
    assert (layer.integer_cycles > MARGIN * layer.float_cycles + layer.conversion) == (precision == FLOATS)
    assert sums(model) == ["f32" if precision == FLOATS else "u8"]


def test_integers_on_request_and_where_floats_would_round():
    slow = converting_slowly("generic-c")
    assert compiled(slow, "always").precisions == () and sums(compiled(slow, "always")) == ["u8"]
    wide = POINTWISE.replace("u8", "u16").replace("[1,16,9,9]", "[1,2048,2,2]").replace("[32,16,", "[32,2048,").replace("32,9,9", "32,2,2")
    (layer,) = compiled(slow, text=wide).precisions
    assert (layer.precision, layer.float_cycles, layer.reason) == (INTEGERS, 0.0, "in float sums would not be exact")


def test_layers_without_results_cost_nothing():
    assert compiled(load_target("generic-c"), text=POINTWISE.replace("[1,16,9,9]", "[0,16,9,9]").replace("[1,32,9,9]", "[0,32,9,9]")).precisions == ()


def test_whatever_is_chosen_gives_the_same_bytes():
    target, slow = load_target("generic-c"), converting_slowly("generic-c")
    model, x = small_network(1, np.uint8), np.random.default_rng(2).standard_normal((1, 3, 17, 20)).astype(np.float32)
    found = []
    for machine, integers in ((target, "always"), (slow, "auto")):
        done = api.compile_model(model, machine, api.Options(integers=integers))
        assert (FLOATS in {layer.precision for layer in done.compiled.precisions}) == (machine is slow)
        with api.load_compilation(done) as run:
            found.append([result.tobytes() for result in run.run({"x": x}).values()])
    assert found[0] == found[1]


def test_each_step_keeps_the_numbers():
    done = api.compile_model(small_network(3, np.int8), converting_slowly("generic-c"), api.Options(verify_each=True))
    assert FLOATS in {layer.precision for layer in done.compiled.precisions}


def test_options_are_checked():
    with pytest.raises(EdgeccError, match="integers 'never' is not one of auto, always"):
        api.compile_model(small_network(3, np.int8), load_target("generic-c"), api.Options(integers="never"))
