"""The bits of short floats as scalar expressions, against the types of ml_dtypes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.scalar import Arg, convert_array, evaluate
from edgecc.ir.short_floats import SHORT_FLOATS, decoded, encoded
from edgecc.ir.types import DType

FORMS = [*SHORT_FLOATS, DType.F8E8M0]


def codes(dtype):
    return np.arange(1 << dtype.bits, dtype=np.uint8)


def same_bits(got, want):
    """Equal bits, signs of zeros included; one NaN is as good as another."""
    a, b = got.astype(np.float32), want.astype(np.float32)
    return (got.view(np.uint8) == want.view(np.uint8)) | (np.isnan(a) & np.isnan(b))


@pytest.mark.parametrize("dtype", FORMS, ids=lambda d: d.value)
def test_every_pattern_of_bits_is_read(dtype):
    got = evaluate(decoded(Arg(0, DType.U8), dtype), [codes(dtype)])
    want = codes(dtype).view(dtype.numpy).astype(np.float32)
    np.testing.assert_array_equal(got, want)
    numbers = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(want[numbers]))


@pytest.mark.parametrize("kind", [DType.F32, DType.F64], ids=lambda d: d.value)
@pytest.mark.parametrize("dtype", FORMS, ids=lambda d: d.value)
def test_ties_neighbours_of_ties_and_the_ends_of_the_range(dtype, kind):
    numbers = codes(dtype).view(dtype.numpy).astype(np.float64)
    numbers = np.unique(numbers[np.isfinite(numbers)])
    beyond = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30, 1e-45])
    exact = np.concatenate([numbers, (numbers[:-1] + numbers[1:]) / 2, numbers * 1.5, beyond]).astype(kind.numpy)
    values = np.concatenate([exact, np.nextafter(exact, kind.numpy.type(np.inf)), np.nextafter(exact, kind.numpy.type(-np.inf))])
    got = evaluate(encoded(Arg(0, kind), dtype), [values]).view(dtype.numpy)
    assert same_bits(got, convert_array(values, dtype)).all()


@pytest.mark.parametrize("dtype", FORMS, ids=lambda d: d.value)
@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=200))
@settings(max_examples=30)
def test_any_float_is_rounded_as_ml_dtypes_does(dtype, bits):
    values = np.array(bits, np.uint32).view(np.float32)
    want = np.where(np.isnan(values), np.float32(0), values) if dtype is DType.F4E2M1 else values
    with np.errstate(all="ignore"):
        expected = want.astype(dtype.numpy)
    assert same_bits(evaluate(encoded(Arg(0, DType.F32), dtype), [values]).view(dtype.numpy), expected).all()


def test_doubles_are_rounded_once():
    just_above_a_tie = np.array([1.0625 + 2.0**-40, 1.0625 - 2.0**-40, 1.0625])  # between 1 and 1.125 in f8e4m3fn
    np.testing.assert_array_equal(convert_array(just_above_a_tie, DType.F8E4M3FN).astype(np.float64), [1.125, 1.0, 1.0])
