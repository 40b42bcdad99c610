"""Limits of the command line: which there are, how they are raised and lowered, what is said when one is crossed."""

import pytest

import edgecc
from edgecc.cli.arguments import parse_limits
from edgecc.errors import EdgeccError
from edgecc.frontend import Limits
from tests.support.hostile import floats, info, ints, model, node

LAYERS = model([node("Reshape", "x s", "a"), node("Transpose", "a", "t", perm=[1, 0]), node("MatMul", "t w", "b"), node("MatMul", "b w")],
               inputs=[info("x", (1, 4, 4))], weights=[floats("w"), ints("s", 4, 4)])
CROSSED = {"file_bytes": 50, "nodes": 3, "operands": 1, "rank": 1, "elements": 15, "constant_bytes": 60, "arena_bytes": 63,
           "generated_bytes": 1000}


@pytest.mark.parametrize("name", CROSSED)
def test_every_limit_is_kept_and_named(name):
    data = LAYERS.SerializeToString()
    with pytest.raises(EdgeccError) as caught:
        edgecc.compile(data, "generic-c", limits=Limits(**{name: CROSSED[name]}))
    assert caught.value.code == "E101" and f"{CROSSED[name]}" in str(caught.value)
    if name != "rank":
        assert f"--limits {name}=NUMBER" in caught.value.hint
    edgecc.compile(data, "generic-c", limits=Limits(**{name: 2**31}))


def test_limits_are_read_from_the_command_line():
    assert parse_limits(["nodes=5,rank=3", "elements=2e9"]) == Limits(nodes=5, rank=3, elements=2 * 10**9)
    assert parse_limits([]) == Limits()
    for wrong in ("nodes", "nodes=", "nodes=-1", "nodes=x", "nods=5", "=5", "nodes=1e999", "nodes=" + "9" * 99):
        with pytest.raises(EdgeccError) as caught:
            parse_limits([wrong])
        assert caught.value.code == "E001"
    with pytest.raises(EdgeccError, match="did you mean nodes=NUMBER"):
        parse_limits(["nods=5"])
