"""Scales and zero points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecc.errors import EdgeccError
from edgecc.quantization.scheme import TYPES, Scheme, parameters_of

RANGES = st.floats(-1e6, 1e6, width=32)


@given(RANGES, RANGES, st.sampled_from(sorted(TYPES)), st.booleans())
def test_parameters_hold_their_range_and_zero(a, b, name, symmetric):
    low, high = min(a, b), max(a, b)
    p = parameters_of(low, high, TYPES[name], symmetric=symmetric)
    assert p.type.lowest <= p.zero_point <= p.type.highest and p.scale > 0 and float(np.float32(p.scale)) == p.scale
    assert p.round_trip(np.zeros(1))[0] == 0
    if symmetric and p.type.lowest < 0:
        assert p.zero_point == 0
    # Zero lies on the grid, so an end may lie half a step beyond the last one.
    points = np.linspace(low, high, 101)
    assert np.abs(p.round_trip(points) - points).max() <= p.scale * (1 + 1e-5)


def test_a_range_of_zero_alone():
    assert parameters_of(0, 0, TYPES["int8"]).scale == 1
    assert parameters_of(0, 0, TYPES["uint8"]).zero_point == 0


def test_known_values():
    p = parameters_of(0.0, 6.0, TYPES["int8"])
    assert (p.zero_point, p.scale) == (-128, float(np.float32(6 / 255)))
    p = parameters_of(-1.0, 0.5, TYPES["int8"], symmetric=True)
    assert (p.zero_point, p.scale) == (0, float(np.float32(1 / 127)))


@pytest.mark.parametrize("wrong", [{"activations": "int3"}, {"method": "guess"}, {"percentile": 10.0}, {"percentile": 101.0}])
def test_bad_schemes(wrong):
    with pytest.raises(EdgeccError) as caught:
        Scheme(**wrong)
    assert caught.value.code == "E001"
