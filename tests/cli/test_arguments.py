"""Shapes and constants as they are written on the command line."""

import numpy as np
import pytest

from edgecc.cli.arguments import parse_constants, parse_shapes, read_arrays
from edgecc.errors import EdgeccError
from edgecc.frontend.bind import Range


@pytest.mark.parametrize(("text", "dims"), [
    ("x=", ()), ("x=4", (4,)), ("a=b=1x3x224X224", (1, 3, 224, 224)), ("x=1..8x?", (Range(1, 8), Range())),
    ("x=1x64..320:32x64..320:32", (1, Range(64, 320, 32), Range(64, 320, 32))), ("x=2xn:1..3xn:?", (2, Range(1, 3, name="n"), Range(name="n"))),
    ("x=box:1..3x2", (Range(1, 3, name="box"), 2)),
    ("Total=Past + 2*seq", ("Past + 2*seq",)), ("s1=max_len", ("max_len",)), ("mask=1x(past+1)x?", (1, "past+1", Range()))])
def test_shapes(text, dims):
    assert parse_shapes([text]) == {text.rpartition("=")[0]: dims}


@pytest.mark.parametrize("text", ["x", "=3", "x=3x", "x=a+", "x=1+2", "x=1x(a", "x=1x(a)(b)", "x=n:(a)", "x=1xa", "x=-1", "x=3..", "x=n:3", "x=1..8:", "x=?:2", "x=3 x4", "x=1.5"])
def test_shapes_that_are_not_understood(text):
    with pytest.raises(EdgeccError, match="not understood"):
        parse_shapes([text])


def test_constants(tmp_path):
    np.save(tmp_path / "mask.npy", np.arange(3))
    found = parse_constants(["sr=16000", "scales=1,2.5", "flag=true", f"mask={tmp_path / 'mask.npy'}"])
    assert {name: array.tolist() for name, array in found.items()} == {"sr": 16000, "scales": [1.0, 2.5], "flag": True, "mask": [0, 1, 2]}


@pytest.mark.parametrize("options", [["sr"], ["sr="], ["=3"], ["sr=a"], ["sr=1,"], ["sr=1", "sr=2"]])
def test_constants_that_are_not_understood(options):
    with pytest.raises(EdgeccError) as caught:
        parse_constants(options)
    assert caught.value.code == "E001"


def test_a_file_that_holds_no_array(tmp_path):
    (tmp_path / "bad.npy").write_bytes(b"text")
    for name in ("bad.npy", "absent.npy"):
        with pytest.raises(EdgeccError) as caught:
            parse_constants([f"a={tmp_path / name}"])
        assert caught.value.code == "E007"


def test_an_array_alone_is_no_file_of_named_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(4))
    with pytest.raises(EdgeccError, match="savez"):
        read_arrays(tmp_path / "a.npy", "--inputs")
