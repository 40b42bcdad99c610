"""integer-softmax: powers come from a table and are added as integers."""

import pytest

from tests.support.graph_passes import declined, fired

TEXT = """
    graph "g" (%p: i8[2,7] "p") {
      %s = constant f32[] [0.37]
      %z = constant i8[] [14]
      %x = elementwise(%p, %s, %z) {expr=`mul(f32(sub(i32($0:i8), i32($2:i8))), $1:f32)`} : f32[2,7]
      %y = softmax(%x) {axis=1, log=false} : f32[2,7] loc("Softmax")
      %t = constant f32[] [0.00391]
      %u = constant i8[] [-128]
      %q = elementwise(%y, %t, %u) {expr=`i8(add(round(div($0:f32, $1:f32)), f32($2:i8)))`} : i8[2,7] loc("Quantize")
      return %q "q"
    }"""

DECLINES = {
    "1 a float operand": TEXT.replace('"p")', '"p", %f: f32[2,7] "f")').replace("softmax(%x)", "softmax(%f)"),
    "1 scales of columns": TEXT.replace("%s = constant f32[] [0.37]", "%s = constant f32[2,1] [0.37, 0.1]"),
    "2 logarithms": TEXT.replace("log=false", "log=true"),
}


def test_fires(golden):
    golden(fired("integer-softmax", TEXT))


@pytest.mark.parametrize("case", DECLINES)
def test_declines(case, golden):
    golden(declined("integer-softmax", DECLINES[case]), "txt")
