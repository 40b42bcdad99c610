"""Ranges of integer inputs, from what reads them."""

from onnx import parser

from edgecc.frontend import import_model
from edgecc.reference.integer_ranges import integer_ranges


def ranges_of(signature, body):
    table = ",".join(["0"] * 200)
    text = f"""<ir_version: 10, opset_import: ["" : 22]> g {signature}
        <float[50,4] wide = {{{table}}}, float[20,10] narrow = {{{table}}}, int32[7] known = {{3,4,5,6,7,8,9}}, int64[1] one = {{1}}, int64[1] minus = {{-1}}> {{ {body} }}"""
    return integer_ranges(import_model(parser.parse_model(text)), {})


def test_indices_reach_every_row():
    assert ranges_of("(int64[2,3] ids) => (float[2,3,4] y)", "y = Gather<axis=0>(wide, ids)") == {"ids": (0, 49)}


def test_what_several_nodes_read_fits_all_of_them():
    found = ranges_of("(int64[2] ids) => (float[2,4] y, float[2,10] z)", "y = Gather<axis=0>(wide, ids) z = Gather<axis=0>(narrow, ids)")
    assert found == {"ids": (0, 19)}


def test_codes_are_those_of_the_table_they_are_compared_with():
    assert ranges_of("(int32[4] codes) => (bool[4,7] y)", "c = Unsqueeze(codes, one) y = Equal(c, known)") == {"codes": (3, 9)}


def test_ranges_pass_through_casts():
    assert ranges_of("(int8[3] a) => (float[50,3] y)", "i = Cast<to=7>(a) y = Gather<axis=1>(wide, i)") == {"a": (0, 3)}


def test_ranges_keep_within_the_type():
    found = ranges_of("(int8[2] a) => (float[2] y)", "i = Cast<to=7>(a) f = Reshape(wide, minus) y = Gather<axis=0>(f, i)")
    assert found == {"a": (0, 127)}


def test_numbers_that_nothing_is_known_of_have_no_range():
    assert ranges_of("(int64[2] a, float[2,50] b) => (int64[2] y, float[2,50] z)", "y = Add(a, a) z = Neg(b)") == {}


def test_an_axis_whose_size_the_run_decides_says_nothing():
    assert ranges_of("(float[7,4] x, int64[2] at) => (y)", "y = Slice(x, at, at)") == {}
