"""compose-tables: chains of functions of one byte become one table."""

import numpy as np
import pytest

from edgecc.passes.base import parse_passes
from edgecc.pipeline import run_passes
from edgecc.reference.executor import execute
from tests.support.graph_passes import declined, fired, graph_of

TABLE = f"constant u8[256] [{', '.join(str(i * 37 % 251) for i in range(256))}]"
SCALED = "u8(add(round(mul(f32(i32($0:u8)), 0.37:f32)), 5.0:f32))"
PRODUCT = "i8(round(mul(f32(mul(sub(i32($0:i8), 3:i32), i32($1:u8))), 0.011:f32)))"


def network(body: str, *, operands: str = '%p: i8[2,3,4] "p"') -> str:
    """`body` computes %r (i8) from %p (i8) by %table."""
    return f"""
    graph "g" ({operands}) {{
      %table = {TABLE}
      {body}
      return %r "r"
    }}"""


LOOKED_UP = '%t = gather(%table, %p) {axis=0} : u8[2,3,4] loc("T")'
MULTIPLIED = f'%r = elementwise(%p, %t) {{expr=`{PRODUCT}`}} : i8[2,3,4] loc("M")'

FIRES = {
    "a product with a table": network(f"{LOOKED_UP}\n{MULTIPLIED}"),
    "between two tables": network(f"""{LOOKED_UP}
      %m = elementwise(%t) {{expr=`{SCALED}`}} : u8[2,3,4] loc("S")
      %r = gather(%back, %m) {{axis=0}} : i8[2,3,4] loc("B")""").replace(
        "%table = ", f"%back = constant i8[256] [{', '.join(str(i % 200 - 100) for i in range(256))}]\n%table = "),
    "a product of what is scaled": network(f"""%t = elementwise(%p) {{expr=`u8(i32($0:i8))`}} : u8[2,3,4] loc("T")
      {MULTIPLIED}"""),
    "behind a sum": network(f"""%q = elementwise(%p, %o) {{expr=`i8(add(i32($0:i8), i32($1:i8)))`}} : i8[2,3,4] loc("A")
      {LOOKED_UP}
      {MULTIPLIED}""".replace("(%table, %p)", "(%table, %q)").replace("(%p, %t)", "(%q, %t)"), operands='%p: i8[2,3,4] "p", %o: i8[2,3,4] "o"'),
    "wider numbers on the way": network(f"""{LOOKED_UP}
      %w = elementwise(%p, %t) {{expr=`mul(i32($0:i8), i32($1:u8))`}} : i32[2,3,4] loc("W")
      %r = elementwise(%w, %t) {{expr=`i8(sub(div($0:i32, 255:i32), i32($1:u8)))`}} : i8[2,3,4] loc("D")"""),
}

DECLINES = {
    "1 an approximation": network(f"{LOOKED_UP}\n%r = elementwise(%t) {{expr=`i8(exp(f32(i32($0:u8))))`}} : i8[2,3,4]"),
    "1 another shape": network(f"""%t = gather(%table, %o) {{axis=0}} : u8[3,1]
      {MULTIPLIED}""", operands='%p: i8[2,3,4] "p", %o: i8[3,1] "o"'),
    "1 a constant of several elements": network(f"""{LOOKED_UP}
      %c = constant u8[4] [1, 2, 3, 4]
      %m = elementwise(%t, %c) {{expr=`u8(sub(i32($0:u8), i32($1:u8)))`}} : u8[2,3,4]
      %r = gather(%back, %m) {{axis=0}} : i8[2,3,4]""").replace(
        "%table = ", f"%back = constant i8[256] [{', '.join(str(i % 200 - 100) for i in range(256))}]\n%table = "),
    "2 a chain of elementwise operators": network("""%t = elementwise(%p) {expr=`u8(i32($0:i8))`} : u8[2,3,4]
      %r = elementwise(%t) {expr=`i8(sub(i32($0:u8), 128:i32))`} : i8[2,3,4]"""),
    "1 two operands": network(MULTIPLIED, operands='%p: i8[2,3,4] "p", %t: u8[2,3,4] "t"'),
}


@pytest.mark.parametrize("name", FIRES)
def test_fires(name, golden):
    golden(fired("compose-tables", FIRES[name]))


@pytest.mark.parametrize("name", DECLINES)
def test_declines(name, golden):
    golden(declined("compose-tables", DECLINES[name]), "txt")


@pytest.mark.parametrize("name", FIRES)
def test_every_byte_keeps_its_result(name):
    graph = graph_of(FIRES[name].replace("[2,3,4]", "[256]"))
    inputs = {value.name: np.arange(256).astype(np.uint8).view(np.int8) for value in graph.inputs}
    before = execute(graph, inputs)["r"]
    run_passes(graph, parse_passes("compose-tables"))
    np.testing.assert_array_equal(execute(graph, inputs)["r"], before)
