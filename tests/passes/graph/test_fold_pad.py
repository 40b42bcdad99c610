"""fold-pad: a convolution pads itself."""

from __future__ import annotations

import pytest

from tests.support.graph_passes import declined, fired

CONV = """%y = conv(%p, %w) {{strides=(2,1), pads=({pads}), dilations=(1,1), group=1}} : f32[1,3,{out}] loc("Conv")"""


def padded(pad: str, dims: str, out: str, extra: str = "", pads: str = "0,0,0,0", returned: str = "") -> str:
    return f"""
        graph "g" (%x: f32[1,2,5,6] "x", %v: f32[] "v") {{
          {extra}
          %w = constant f32[3,2,3,2] random
          %p = pad({pad} : f32[{dims}] loc("Pad")
          {CONV.format(pads=pads, out=out)}
          return %y "y"{returned}
        }}"""


FIRES = {
    "uneven widths and own pads": padded('%x) {before=(0,0,1,2), after=(0,0,3,0), mode="constant"}', "1,2,9,8", "4,8",
                                         pads="0,1,1,0"),
    "a zero is given": padded('%x, %z) {before=(0,0,1,0), after=(0,0,0,1), mode="constant"}', "1,2,6,7", "2,6",
                              extra="%z = constant f32[] [0.0]"),
    "another reader keeps the pad": padded('%x) {before=(0,0,1,1), after=(0,0,0,1), mode="constant"}', "1,2,6,8", "2,7",
                                           returned=', %p "p"'),
}

DECLINES = {
    "1 mirrored": padded('%x) {before=(0,0,1,0), after=(0,0,0,0), mode="reflect"}', "1,2,6,6", "2,5"),
    "1 filled with one": padded('%x, %z) {before=(0,0,1,0), after=(0,0,0,1), mode="constant"}', "1,2,6,7", "2,6",
                                extra="%z = constant f32[] [1.0]"),
    "1 filled with something variable": padded('%x, %v) {before=(0,0,1,0), after=(0,0,0,1), mode="constant"}',
                                               "1,2,6,7", "2,6"),
    "2 cropped": padded('%x) {before=(0,0,1,-1), after=(0,0,0,0), mode="constant"}', "1,2,6,5", "2,4"),
    "2 channels": padded('%x) {before=(0,0,1,0), after=(0,0,0,0), mode="constant"}', "1,2,6,6", "2,5").replace(
        "f32[1,2,5,6]", "f32[1,1,5,6]").replace("before=(0,0,", "before=(0,1,"),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("fold-pad", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("fold-pad", DECLINES[case]), "txt")
