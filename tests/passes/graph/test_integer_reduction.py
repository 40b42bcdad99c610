"""integer-reduction: means, sums and average pools of dequantized operands add integers."""

import pytest

from tests.support.graph_passes import declined, fired

TEXT = """
    graph "g" (%p: u8[1,2,5,5] "p") {
      %s = constant f32[] [0.25]
      %z = constant u8[] [131]
      %x = elementwise(%p, %s, %z) {expr=`mul(f32(sub(i32($0:u8), i32($2:u8))), $1:f32)`} : f32[1,2,5,5]
      %y = reduce(%x) {kind="mean", axes=(2,3), keepdims=true} : f32[1,2,1,1] loc("Mean")
      return %y "y"
    }"""

_REDUCE = '%y = reduce(%x) {kind="mean", axes=(2,3), keepdims=true} : f32[1,2,1,1] loc("Mean")'


def pool(pads: str, result: str, *, include: bool = False, ceil: bool = False) -> str:
    flags = f"count_include_pad={str(include).lower()}, ceil_mode={str(ceil).lower()}"
    return TEXT.replace(_REDUCE, f'%y = pool(%x) {{kind="average", kernel=(3,2), strides=(2,2), pads={pads}, dilations=(1,1), {flags}}} '
                                 f': f32[1,2,{result}] loc("Pool")')


OPEN = TEXT.replace("u8[1,2,5,5]", "u8[1,2,h:1..7,5]").replace("f32[1,2,5,5]", "f32[1,2,h:1..7,5]")

FIRES = {
    "mean": TEXT,
    "mean of as many as the run says": OPEN,
    "sum of as many as the run says": OPEN.replace('"mean"', '"sum"').replace("[131]", "[0]"),
    "sum": TEXT.replace('"mean"', '"sum"'),
    "pool": pool("(0,0,0,0)", "2,2"),
    "pool at the border": pool("(1,1,1,0)", "3,3"),
    "pool of padding": pool("(1,1,1,0)", "3,3", include=True),
    "pool of an open height": pool("(0,0,0,0)", "floordiv(h:4..5 - 3, 2) + 1,2").replace("[1,2,5,5]", "[1,2,h:4..5,5]"),
    "pool of an open batch": pool("(1,1,1,0)", "3,3").replace("[1,2,", "[n:1..3,2,"),
    "pool rounded up": pool("(0,0,0,0)", "2,3", ceil=True),
}

DECLINES = {
    "1 scales of channels": TEXT.replace("%s = constant f32[] [0.25]", "%s = constant f32[2,1,1] [0.25, 0.1]"),
    "1 too many": TEXT.replace("u8[1,2,5,5]", "u16[1,2,200,200]").replace("f32[1,2,5,5]", "f32[1,2,200,200]").replace("u8", "u16"),
    "2 windows": pool("(1,0,0,0)", "floordiv(h:4..5 - 2, 2) + 1,2").replace("[1,2,5,5]", "[1,2,h:4..5,5]"),
}


@pytest.mark.parametrize("case", FIRES)
def test_fires(case, golden):
    golden(fired("integer-reduction", FIRES[case]))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("integer-reduction", DECLINES[case]), "txt")
