"""fold-dequantized: what stored integers stand for is computed when compiling."""

from tests.support.graph_passes import declined, fired

TEXT = """
    graph "g" (%x: f32[2,3] "x") {
      %q = constant i8[2,3] [1, -2, 3, 4, 5, -128]
      %s = constant f32[2,1] [0.25, 0.1]
      %w = elementwise(%q, %s) {expr=`mul(f32($0:i8), $1:f32)`} : f32[2,3] loc("Dequantize")
      %y = elementwise(%x, %w) {expr=`add($0:f32, $1:f32)`} : f32[2,3]
      return %y "y"
    }"""


def test_fires(golden):
    golden(fired("fold-dequantized", TEXT))


def test_a_result_is_computed_by_the_network(golden):
    golden(declined("fold-dequantized", TEXT.replace('%y "y"', '%y "y", %w "w"')), "txt")
