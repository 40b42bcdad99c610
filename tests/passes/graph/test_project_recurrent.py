"""project-recurrent: one matrix product for the inputs of all steps."""

from __future__ import annotations

import pytest

from tests.support.graph_passes import declined, fired


def layer(steps: int = 5, batch: int = 1, *, direction: str = "forward", d: int = 1, layout: int = 0, w: str = "%w") -> str:
    x, y = (f"{batch},{steps}", f"{batch},{steps},{d}") if layout else (f"{steps},{batch}", f"{steps},{d},{batch}")
    state = f"{batch},{d},6" if layout else f"{d},{batch},6"
    return f"""
        graph "g" (%x: f32[{x},3] "x", %v: f32[{d},18,3] "v") {{
          %w = constant f32[{d},18,3] random
          %r = constant f32[{d},18,6] random
          %b = constant f32[{d},36] random
          %y, %h = recurrent(%x, {w}, %r, %b) {{kind="gru", hidden_size=6, direction="{direction}", layout={layout}}} : f32[{y},6], f32[{state}] loc("GRU")
          return %y "y", %h "h"
        }}"""


FIRES = {
    "five steps": layer(),
    "both directions, batch first": layer(3, 2, direction="bidirectional", d=2, layout=1),
    "weights that are not constant": layer(w="%v"),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("project-recurrent", FIRES[case]))


def test_declines_single_steps(golden):
    golden(declined("project-recurrent", layer(3)), "txt")
