"""Sampling at computed positions against the operators' references, over modes, layouts and targets."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, TensorType
from edgecc.kernels.registry import lower
from edgecc.ops.sampling import SAMPLE_COORDINATES, SAMPLE_MODES, SAMPLE_PADDINGS, GridSample, RoiAlign
from tests.support import kernels

F32, F16, F64, I64, U8, BOOL = DType.F32, DType.F16, DType.F64, DType.I64, DType.U8, DType.BOOL


def request_of(draw, op, arrays, threads=1):
    types = [TensorType.of(a) for a in arrays]
    (result,) = op.infer(types)
    return kernels.request_for(op, arrays, draw(st.sampled_from(kernels.TARGETS)), inputs=[draw(kernels.views(t)) for t in types],
                               outputs=[draw(kernels.views(result))], threads=threads)


def eighths(seed, shape, largest, dtype=F32):
    """Multiples of 1/8: coordinates made of them are exact, so nothing is at the edge of a rounding."""
    return (np.random.default_rng(seed).integers(-8 * largest, 8 * largest, shape) / 8).astype(dtype.numpy)


@st.composite
def grid_samples(draw):
    mode = draw(st.sampled_from(SAMPLE_MODES))
    rank = draw(st.integers(1, 2 if mode == "cubic" else 3))
    dtype = draw(st.sampled_from((F32, F16, I64, U8, BOOL) if mode == "nearest" else (F32, F32, F16, F64)))
    spatial = [draw(st.sampled_from((1, 2, 3, 5, 8))) for _ in range(rank)]
    x = kernels.numbers(draw(st.integers(0, 99)), (draw(st.integers(1, 2)), draw(st.sampled_from((1, 3, 9, 16))), *spatial), dtype)
    op = GridSample(mode, draw(st.sampled_from(SAMPLE_PADDINGS)), draw(st.sampled_from(SAMPLE_COORDINATES)))
    positions = [draw(st.integers(1, 4)) for _ in range(draw(st.integers(1, 2)))]
    grid = eighths(draw(st.integers(0, 99)), (len(x), *positions, rank), 12 if op.coordinates == "pixels" else 2)
    return request_of(draw, op, [x, grid], draw(st.sampled_from((1, 3)))), [x, grid]


@settings(max_examples=80)
@given(grid_samples())
def test_grid_sample_agrees_with_the_reference(case):
    kernels.check(*case, units=0.0 if case[0].op.mode == "nearest" else 8.0)


@pytest.mark.parametrize("mode", SAMPLE_MODES)
@pytest.mark.parametrize("padding", SAMPLE_PADDINGS)
@pytest.mark.parametrize("coordinates", SAMPLE_COORDINATES)
def test_no_coordinate_leaves_the_image(mode, padding, coordinates):
    """The interpreter checks every access. Where the reference is a number, the kernel agrees."""
    x = kernels.numbers(0, (1, 3, 4, 5))
    wild = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 3e9, -3e9, 1e18], np.float32)
    grid = np.stack(np.meshgrid(wild, np.append(wild, 0.25)), axis=-1).reshape(1, -1, 2)
    op = GridSample(mode, padding, coordinates)
    (got,) = kernels.run(kernels.request_for(op, [x, grid]), [x, grid])
    with np.errstate(all="ignore"):
        (wanted,) = op.reference([x, grid])
    if padding != "reflection":  # mirroring numbers without fractions is all rounding
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@st.composite
def roi_aligns(draw):
    dtype = draw(st.sampled_from((F32, F32, F16, F64)))
    x = kernels.numbers(draw(st.integers(0, 99)), (draw(st.integers(1, 3)), draw(st.sampled_from((1, 4, 9, 16))),
                                                   draw(st.integers(1, 9)), draw(st.integers(1, 9))), dtype)
    op = RoiAlign(draw(st.sampled_from(("average", "max"))), draw(st.sampled_from((1, 2, 4))), draw(st.sampled_from((1, 2, 4))),
                  draw(st.sampled_from((0, 0, 1, 2))), draw(st.sampled_from((1.0, 0.5, 0.25))), draw(st.booleans()))
    count, seed = draw(st.integers(1, 4)), draw(st.integers(0, 99))
    rois = np.abs(eighths(seed, (count, 4), 12, dtype)) if draw(st.booleans()) else eighths(seed, (count, 4), 20, dtype)
    batch = np.random.default_rng(seed).integers(-1, len(x) + 1, count)
    return request_of(draw, op, [x, rois, batch]), [x, rois, batch]


@settings(max_examples=50)
@given(roi_aligns())
def test_roi_align_agrees_with_the_reference(case):
    kernels.check(*case, units=8.0)


def test_wild_regions_read_the_image_only_and_end():
    x = kernels.numbers(0, (2, 3, 4, 5))
    rois = np.array([[np.nan] * 4, [-np.inf, -np.inf, np.inf, np.inf], [0, 0, 3e38, 3e38], [np.inf, 0, 0, -np.inf]], np.float32)
    for kind in ("average", "max"):
        arrays = [x, rois, np.array([0, -(2**62), 2**62, 1])]
        (got,) = kernels.run(kernels.request_for(RoiAlign(kind, 3, 2), arrays), arrays)
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(got, RoiAlign(kind, 3, 2).reference(arrays)[0], rtol=1e-5)


def test_images_that_regions_name_are_checked_before():
    arrays = [kernels.numbers(0, (2, 3, 4, 5)), np.zeros((3, 4), np.float32), np.zeros(3, np.int64)]
    request = kernels.request_for(RoiAlign("max", 2, 2), arrays)
    assert lower(request).checks == ()
    ((operand, looked_at),) = lower(dataclasses.replace(request, checks="trap")).checks
    assert (operand, looked_at.size, looked_at.axes) == (2, 2, ((3, 1),))


@pytest.mark.parametrize("machine", kernels.TARGETS)
def test_compiled_code_agrees(machine):
    x, grid = kernels.numbers(0, (2, 13, 7, 10)), eighths(1, (2, 5, 3, 2), 2)
    rois, batch = np.abs(eighths(2, (3, 4), 9)), np.array([1, 0, 1])
    last = kernels.laid_out(TensorType.of(x), (0, 2, 3, 1))
    for number, (op, arrays) in enumerate(((GridSample("linear", "zeros"), [x, grid]), (GridSample("cubic", "reflection", "corners"), [x, grid]),
                       (GridSample("nearest", "zeros"), [x, grid]), (RoiAlign("average", 2, 4, 0, 0.5), [x, rois, batch]),
                       (RoiAlign("max", 4, 2, 2), [x, rois, batch]))):
        (result,) = op.infer([TensorType.of(a) for a in arrays])
        inputs, outputs = ((), ()) if number % 2 else ([last], [kernels.laid_out(result, (0, 2, 3, 1))])
        kernels.check(kernels.request_for(op, arrays, machine, inputs=inputs, outputs=outputs), arrays, units=8.0, machine=machine)
