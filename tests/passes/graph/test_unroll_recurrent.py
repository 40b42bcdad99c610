"""unroll-recurrent: the steps of a layer one after another."""

from __future__ import annotations

import pytest

from tests.support.graph_passes import declined, fired, graph_of, run_checked

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def layer(kind="lstm", steps="4", *, d=1, layout=0, direction="forward", more="", bias="%b", operands="", inputs=""):
    gates, batch = GATES[kind], 2
    x, y = (f"{batch},{steps}", f"{batch},{steps},{d}") if layout else (f"{steps},{batch}", f"{steps},{d},{batch}")
    state = f"f32[{batch},{d},3]" if layout else f"f32[{d},{batch},3]"
    results, types = ("%y, %h, %c", f"{state}, {state}") if kind == "lstm" else ("%y, %h", state)
    returned = ", ".join(f'{name} "{name[1:]}"' for name in results.split(", "))
    given = "".join(f', %{name}: {state} "{name}"' for name in inputs.split())
    return f"""
        graph "g" (%x: f32[{x},5] "x"{given}) {{
          %w = constant f32[{d},{3 * gates},5] random
          %r = constant f32[{d},{3 * gates},3] random
          %b = constant f32[{d},{6 * gates}] random
          %p = constant f32[{d},9] random
          %n = constant i32[2] [3, 4]
          {results} = recurrent(%x, %w, %r, {bias}{operands}) {{kind="{kind}", hidden_size=3, direction="{direction}", layout={layout}{more}}} : f32[{y},3], {types} loc("layer")
          return {returned}
        }}"""


FIRES = {
    "lstm": layer(),
    "gru": layer("gru"),
    "gru, linear before reset": layer("gru", more=", linear_before_reset=true"),
    "gru with states, linear before reset": layer("gru", more=", linear_before_reset=true", operands=", none, %h0", inputs="h0"),
    "gru without bias": layer("gru", bias="none", more=", linear_before_reset=true"),
    "rnn, reverse": layer("rnn", direction="reverse"),
    "lstm with states, both directions, batch first": layer(d=2, layout=1, direction="bidirectional", operands=", none, %h0, %c0", inputs="h0 c0"),
    "lstm, limits and coupled gates": layer(more=", clip=0.5, input_forget=true", operands=", none, %h0, %c0", inputs="h0 c0"),
    "one step": layer("gru", "1"),
}
DECLINES = {
    "many steps": layer(steps="200"),
    "lengths": layer(operands=", %n"),
    "peepholes": layer(operands=", none, none, none, %p"),
    "weights that are not constant": layer("rnn").replace('"x")', '"x", %w: f32[1,3,5] "w")').replace("%w = constant f32[1,3,5] random", ""),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case):
    graph = graph_of(FIRES[case])
    assert [report.changed for report in run_checked(graph, "unroll-recurrent")] == [True]  # results are compared
    assert not any(node.op.name == "recurrent" for node in graph.nodes)
    assert all(node.output.users or graph.is_output(node.output) for node in graph.nodes)


def test_what_it_writes(golden):
    golden(fired("unroll-recurrent", layer("rnn", "2")))


def test_results_that_nobody_reads_are_not_written():
    text = layer("lstm", "1")
    every, first = graph_of(text), graph_of(text[:text.index("return")] + 'return %y "y"\n}')
    for graph in (every, first):
        run_checked(graph, "unroll-recurrent")
    assert len(every) - len(first) == 2


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("unroll-recurrent", DECLINES[case]), "txt")
