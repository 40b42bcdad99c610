"""What is told about the choice of kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecc import api
from edgecc.choices import MEASURED, MODELLED, ONLY, Choice, choices_of
from edgecc.float_layers import left_in_float
from edgecc.kernels.registry import candidates
from edgecc.kernels.request import signature
from edgecc.pipeline import compile_graph
from edgecc.targets.schema import load_target
from tests.support.graph_passes import graph_of

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits" / "digits.onnx"


def explained(**options: object) -> tuple[Choice, ...]:
    done = api.compile_model(DIGITS, load_target("x86-64-v4"), api.Options(shapes={"batch": (1,)}, **options))  # type: ignore[arg-type]
    return choices_of(done.compiled.lowered, (done.compiled.lowered.requests and options.get("tuning")) or {})  # type: ignore[arg-type]


def test_every_call_is_explained():
    done = api.compile_model(DIGITS, load_target("x86-64-v4"), api.Options(shapes={"batch": (1,)}))
    calls, choices = done.compiled.lowered.calls, choices_of(done.compiled.lowered)
    assert [(c.position, c.op, c.kernel, c.nodes, c.reason) for c in choices] == [
        (i, call.op, call.function, call.loc, call.choice) for i, call in enumerate(calls)]
    assert sum(choice.share for choice in choices) == pytest.approx(1.0)
    assert all(choice.threads == 1 for choice in choices)


def test_the_cost_model_takes_the_cheapest_candidate():
    choices = [choice for choice in explained() if choice.decided == MODELLED]
    assert choices
    for choice in choices:
        assert choice.candidate and all(choice.cycles <= cycles for _, cycles in choice.alternatives)
        assert choice.candidate not in dict(choice.alternatives)


def test_a_single_way_has_no_alternatives():
    softmax = next(choice for choice in explained() if choice.op == "softmax")
    assert softmax.decided == ONLY and softmax.alternatives == () and softmax.candidate == ""


def test_a_measured_choice_is_told_apart():
    done = api.compile_model(DIGITS, load_target("x86-64-v4"), api.Options(shapes={"batch": (1,)}, depth_first="off"))
    request = next(r for r in done.compiled.lowered.requests if len(candidates(r)) > 1)
    other = candidates(request)[-1].name
    choices = explained(depth_first="off", tuning={signature(request): other})
    (tuned,) = [choice for choice in choices if choice.decided == MEASURED]
    assert tuned.candidate == other and min(cycles for _, cycles in tuned.alternatives) <= tuned.cycles


def test_threads_are_those_that_share_the_work():
    threads = {choice.threads for choice in explained(threads=3)}
    assert threads <= {1, 3}


QUANTIZED = """
    graph "g" (%p: i8[1,16,5,5] "p", %f: f32[16] "f") {
      %x = elementwise(%p) {expr=`mul(f32($0:i8), 0.02:f32)`} : f32[1,16,5,5]
      %q = constant i8[8,16,1,1] random
      %w = elementwise(%q) {expr=`mul(f32($0:i8), 0.01:f32)`} : f32[8,16,1,1]
      %c = conv(%x, %w) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1} : f32[1,8,5,5] loc("Conv")
      %y = elementwise(%c) {expr=`u8(round(div($0:f32, 0.04:f32)))`} : u8[1,8,5,5] loc("Quantize")
      %n = elementwise(%f) {expr=`i8(round(div($0:f32, 0.04:f32)))`} : i8[16] loc("Other")
      return %y "y", %n "n"
    }"""


def test_types_and_what_is_left_in_float():
    compiled = compile_graph(graph_of(QUANTIZED), load_target("cortex-a76"), name="g")
    assert {choice.nodes[-1]: choice.types for choice in choices_of(compiled.lowered)} == {"Quantize": "i8 to u8", "Other": "f32 to i8"}
    assert [(decline.loc, decline.reason) for decline in left_in_float(compiled.passes)] == [
        (("Other",), "it quantizes an input of the network")]
