"""Resampling against the operator's reference, over modes, factors, layouts and targets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, TensorType
from edgecc.kernels.kernel import Packed
from edgecc.kernels.registry import lower
from edgecc.loop.ir import Load, Store, expressions, subexpressions, walk
from edgecc.ops.resize import COORDINATE_MODES, NEAREST_MODES, RESIZE_MODES, Resize
from tests.support import kernels

F32, F16, F64, I64, U8, BOOL = DType.F32, DType.F16, DType.F64, DType.I64, DType.U8, DType.BOOL


@st.composite
def resizes(draw, antialias=False):
    mode = draw(st.sampled_from(("linear", "cubic") if antialias else RESIZE_MODES))
    dims = draw(kernels.shapes(1, 1 if antialias else 3 if mode == "cubic" else 4, most_elements=200))
    dtype = draw(st.sampled_from((F32, F32, F16, I64, U8, BOOL) if mode == "nearest" else (F32, F32, F16, F64)))
    factors = [draw(st.sampled_from((1, 1, 1, 2, 3, 0.5, 1.7, 0.6))) for _ in dims]
    sizes = tuple(max(1, int(d * f)) for d, f in zip(dims, factors, strict=True))
    exact = draw(st.booleans())
    coordinate_mode = draw(st.sampled_from(COORDINATE_MODES))
    roi = ()
    if coordinate_mode == "tf_crop_and_resize":
        roi = tuple(draw(st.sampled_from((0.0, 0.0, 0.25, -0.4, 1.2))) for _ in dims)
        roi += tuple(draw(st.sampled_from((1.0, 1.0, 0.75, 1.3, -0.3))) for _ in dims)
    op = Resize(mode, sizes, tuple(s / d if exact else f for s, d, f in zip(sizes, dims, factors, strict=True)),
                coordinate_mode, draw(st.sampled_from(NEAREST_MODES)), draw(st.sampled_from((-0.75, -0.5))),
                draw(st.booleans()), draw(st.sampled_from((0.0, 1.0 if dtype in (U8, BOOL) else -2.5))), roi, antialias)
    x = kernels.numbers(draw(st.integers(0, 99)), dims, dtype)
    x_type = TensorType.of(x)
    (result,) = op.infer([x_type])
    return kernels.request_for(op, [x], draw(st.sampled_from(kernels.TARGETS)), inputs=[draw(kernels.views(x_type))],
                               outputs=[draw(kernels.views(result))], threads=draw(st.sampled_from((1, 3)))), [x]


@settings(max_examples=300)
@given(resizes())
def test_agrees_with_the_reference(case):
    kernels.check(*case, units=0.0 if case[0].op.mode == "nearest" else 12.0)


@settings(max_examples=40)
@given(resizes(antialias=True))
def test_antialiasing_agrees_with_the_reference(case):
    kernels.check(*case, units=12.0)


def channels_last(x):
    return kernels.laid_out(TensorType.of(x), (0, 2, 3, 1))


def resize_request(op, x, target="x86-64-v3", threads=1):
    (result,) = op.infer([TensorType.of(x)])
    return kernels.request_for(op, [x], target, inputs=[channels_last(x)],
                               outputs=[kernels.laid_out(result, (0, 2, 3, 1))], threads=threads)


def doubling(mode, x, **options):
    n, c, h, w = x.shape
    return Resize(mode, (n, c, 2 * h, 2 * w), (1.0, 1.0, 2.0, 2.0), **options)


@pytest.mark.parametrize("options", [{"coordinate_mode": "asymmetric", "nearest_mode": "floor"}, {}], ids=["asymmetric", "half"])
def test_nearest_by_whole_factors_needs_no_tables(options):
    x = kernels.numbers(0, (1, 24, 5, 7))
    request = resize_request(doubling("nearest", x, **options), x)
    kernel = lower(request)
    assert not any(isinstance(a, Packed) for a in kernel.arguments)
    assert {s.value.lanes for s in walk(kernel.function.body) if isinstance(s, Store)} == {8}
    kernels.check(request, [x], units=0.0)


@pytest.mark.parametrize("mode, taps", [("linear", 4), ("cubic", 16)])
def test_channels_last_interpolation_is_in_vectors_of_channels(mode, taps):
    x = kernels.numbers(0, (1, 16, 5, 7))
    request = resize_request(doubling(mode, x), x)
    loads = [e for s in walk(lower(request).function.body) for root in expressions(s) for e in subexpressions(root)
             if isinstance(e, Load) and e.buffer == "x"]
    assert [e.lanes for e in loads] == [8] * taps
    kernels.check(request, [x], units=8.0)


@pytest.mark.parametrize("mode, height", [("nearest", 24), ("linear", 8), ("cubic", 3)])
def test_large_images_are_divided_among_threads(mode, height):
    x = kernels.numbers(0, (1, 16, height, 45))
    request = resize_request(doubling(mode, x), x, threads=2)
    assert any(getattr(s, "kind", "") == "parallel" for s in lower(request).function.body)
    kernels.check(request, [x], units=8.0)


def test_infinities_meet_weights_of_zero_as_in_the_reference():
    x = np.array([1.0, np.inf, 2.0, 3.0], np.float32)
    for sizes, scales in (((4,), (1.0,)), ((8,), (2.0,)), ((2,), (0.5,))):
        for mode in RESIZE_MODES:
            op = Resize(mode, sizes, scales, "asymmetric")
            with np.errstate(invalid="ignore"):
                kernels.check(kernels.request_for(op, [x]), [x])


def test_empty_result():
    x = kernels.numbers(0, (2, 0, 3))
    kernels.check(kernels.request_for(Resize("linear", (2, 0, 6), (1.0, 2.0, 2.0)), [x]), [x])


@pytest.mark.parametrize("machine", kernels.TARGETS)
@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_compiled_code_agrees(machine, mode):
    x = kernels.numbers(0, (1, 10, 6, 7), F16 if mode == "linear" else F32)
    kernels.check(resize_request(doubling(mode, x), x, machine), [x], units=8.0, machine=machine)
    op = Resize(mode, (2, 10, 9, 5), (2.0, 1.0, 1.5, 5 / 7), "tf_crop_and_resize", extrapolation_value=1.25,
                roi=(0, 0, -0.1, 0.2, 1, 1, 0.9, 1.3))
    kernels.check(kernels.request_for(op, [x], machine), [x], units=8.0, machine=machine)


@pytest.mark.parametrize("target", ["x86-64-v3", "cortex-a76", "generic-c"])
def test_whole_weights_give_every_machine_the_same_integers(target):
    x = np.random.default_rng(3).integers(-255, 256, (1, 5, 4, 7)).astype(np.float32)
    op = Resize("linear", (1, 5, 6, 14), (1.0, 1.0, 1.5, 2.0), units=(1, 1, 6, 4))
    request = resize_request(op, x, target)
    (found,) = kernels.run(request, [x], machine=target)
    assert found.tobytes() == op.reference([x])[0].tobytes()
