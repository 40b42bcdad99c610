"""Winograd convolutions against the operator's reference: interpreted, and as C on several machines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import edgecc
from edgecc.api import Options, compile_model, resolve_target
from edgecc.errors import EdgeccError
from edgecc.ir.scalar import Arg, apply, literal
from edgecc.ir.types import DType, Layout
from edgecc.kernels.registry import candidates, lower
from edgecc.kernels.spatial import Axis
from edgecc.kernels.winograd import ERROR_UNITS, HALF_ERROR_UNITS, lower_winograd
from edgecc.kernels.winograd_tiles import Blocking, Division, Tiling
from edgecc.loop.index import const
from edgecc.loop.ir import For
from edgecc.ops.convolution import Conv
from edgecc.passes.loop import apply_schedule
from edgecc.reference.compare import error_units
from tests.support.ccompile import run_functions
from tests.support.kernel_check import Given, buffers_for, check_kernel, read_as, request_for, run_lowered

KINDS = ((2, 1), (3, 1), (4, 1), (6, 1), (2, 2), (4, 2))
"""Results of a tile along each axis, and the stride."""

TARGETS = ("cortex-a76", "x86-64-v4", "x86-64-v3", "generic-c")
LAST = Layout.channels_last(4)


def array(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def epilogue(kind):
    x, zero = Arg(0, DType.F32), literal(0.0, DType.F32)
    return {"": None, "relu6": apply("min", apply("max", x, zero), literal(6.0, DType.F32)),
            "residual": apply("max", apply("add", x, Arg(1, DType.F32)), zero),
            "silu": apply("mul", x, apply("sigmoid", x))}[kind]


def strides_with_gaps(dims, rng):
    """Channels next to each other, and perhaps gaps between pixels, rows and images."""
    out, step = [0] * 4, 1
    for axis in (1, 3, 2, 0):
        out[axis] = step
        step = step * dims[axis] + int(rng.choice([0, 0, 3, 16]))
    return tuple(out)


def convolution(seed, *, batch, channels, outputs, size, pads, kind="", bias=True, gaps=False, stride=1):
    """The operator and its operands."""
    op, rng = Conv((stride, stride), pads, (1, 1), 1, epilogue(kind)), np.random.default_rng(seed)
    x = array(seed, batch, channels, *size)
    y_dims = (batch, outputs, *((size[i] + pads[i] + pads[2 + i] - 3) // stride + 1 for i in range(2)))
    operands = [Given(x, layout=LAST, strides=strides_with_gaps(x.shape, rng) if gaps else None),
                Given(array(seed + 1, outputs, channels, 3, 3), True)]
    operands.append(Given(array(seed + 2, outputs), True) if bias else None)
    if kind == "residual":
        operands.append(Given(array(seed + 3, *y_dims), layout=LAST))
    return op, operands


@st.composite
def cases(draw):
    pads = tuple(draw(st.integers(0, 2)) for _ in range(4))
    size = tuple(max(draw(st.one_of(st.integers(1, 20), st.sampled_from([13, 17, 49]))), 3 - pads[i] - pads[2 + i]) for i in range(2))
    channels, outputs = (draw(st.sampled_from([1, 3, 13, 17, 64, 100])) for _ in range(2))
    assume(size[0] * size[1] * (channels + outputs) < 4000 and channels * outputs < 400)
    return draw(st.integers(0, 999)), {
        "batch": draw(st.sampled_from([1, 1, 2])), "channels": channels, "outputs": outputs, "size": size, "pads": pads,
        "kind": draw(st.sampled_from(["", "relu6", "residual", "silu"])), "bias": draw(st.booleans()), "gaps": draw(st.booleans())}


@pytest.mark.parametrize(("m", "stride"), KINDS)
@settings(max_examples=6)
@given(case=cases(), target=st.sampled_from(TARGETS))
def test_agrees_with_the_reference(m, stride, case, target):
    seed, options = case
    op, operands = convolution(seed, **options, stride=stride)
    assert f"winograd {m}x{m}" in [c.name for c in candidates(request_for(op, operands, target, [LAST]))]
    check_kernel(op, operands, target, [LAST], choice=f"winograd {m}x{m}")


SHAPES = (
    {"batch": 1, "channels": 13, "outputs": 17, "size": (7, 9), "pads": (1, 1, 1, 1), "kind": "residual"},
    {"batch": 2, "channels": 64, "outputs": 100, "size": (17, 49), "pads": (0, 2, 1, 0), "kind": "relu6", "gaps": True},
)


def shared_error(got, op, operands):
    """The largest error in units of roundoff times the largest magnitude."""
    magnitude = op.magnitude(operands)[0]
    return error_units(got, op.reference(operands)[0], np.full_like(magnitude, magnitude.max()), DType.F32)


@pytest.mark.parametrize("target", TARGETS)
def test_compiled_code_agrees_with_the_reference(target):
    cases = [(f"winograd {m}x{m}", *convolution(number, **shape, stride=stride)) for m, stride in KINDS
             for number, shape in enumerate(SHAPES)]
    requests = [request_for(op, operands, target, [LAST]) for _, op, operands in cases]
    kernels = [lower(request, choice) for request, (choice, _, _) in zip(requests, cases, strict=True)]
    functions = [replace(apply_schedule(k.function, k.schedule), name=f"kernel_{i}") for i, k in enumerate(kernels)]
    buffers = [{name: data for name, data in buffers_for(k, r, operands).items() if k.function.buffer(name).role == "input"}
               for k, r, (_, _, operands) in zip(kernels, requests, cases, strict=True)]
    results = run_functions(list(zip(functions, buffers, strict=True)), resolve_target(target))
    for result, kernel, request, (choice, op, operands) in zip(results, kernels, requests, cases, strict=True):
        wide = [None if g is None else g.array.astype(np.float64) for g in operands]
        got = read_as(result["y"], request.outputs[0])
        error = shared_error(got, op, wide)
        assert error <= kernel.error_units, f"{choice}, {op}: {error} units"


@pytest.mark.parametrize(("stride", "blocking"), [
    (1, Blocking(2, 11, 7, 4, 7)), (1, Blocking(4, 6, 4, 1, 3)), (1, Blocking(6, 4, 3, 1, 2)),
    (1, Blocking(4, 6, 4, 1, 3, True)), (1, Blocking(6, 4, 3, 3, 3, True)), (1, Blocking(2, 11, 7, 11, 7, True)),
    (2, Blocking(2, 6, 4, 4, 4)), (2, Blocking(4, 3, 2, 1, 1, True)), (2, Blocking(4, 3, 2, 3, 2, True))])
def test_tiles_in_blocks_that_do_not_divide_them(stride, blocking):
    op, operands = convolution(5, batch=2, channels=20, outputs=9, size=(22, 13), pads=(1, 1, 1, 1), stride=stride)
    request = request_for(op, operands, "cortex-a76", [LAST])
    axes = tuple(Axis(size, (size - 1) // stride + 1, 3, stride, 1, 1) for size in (22, 13))
    kernel = lower_winograd(request, op, axes, blocking)
    result = run_lowered(request, kernel, operands)[0]
    wide = [g.array.astype(np.float64) for g in operands]
    assert shared_error(result, op, wide) <= kernel.error_units


@pytest.mark.parametrize(("batch", "stride", "blocking"), [
    (1, 1, Blocking(4, 4, 4, 1, 4, True, Division(2, 1))), (2, 1, Blocking(6, 3, 3, 3, 3, True, Division(1, 2))),
    (1, 1, Blocking(2, 8, 7, 2, 4, False, Division(3, 1))), (1, 1, Blocking(4, 4, 4, 2, 2, True, Division(2, 2))),
    (2, 2, Blocking(2, 4, 4, 3, 4, True, Division(2, 2))), (1, 2, Blocking(4, 2, 2, 1, 2, True, Division(2, 1)))])
def test_threads_share_the_work_without_races(batch, stride, blocking):
    op, operands = convolution(5, batch=batch, channels=7, outputs=24, size=(15, 13), pads=(1, 1, 1, 1), kind="residual", stride=stride)
    request = request_for(op, operands, "cortex-a76", [LAST], blocking.division.shares)
    axes = tuple(Axis(size, (size - 1) // stride + 1, 3, stride, 1, 1) for size in (15, 13))
    kernel = lower_winograd(request, op, axes, blocking)
    function = apply_schedule(kernel.function, kernel.schedule)
    assert [(stmt.kind, stmt.extent) for stmt in function.body] == [("parallel", blocking.division.shares)]
    result = run_lowered(request, kernel, operands)[0]
    assert shared_error(result, op, [g.array.astype(np.float64) for g in operands]) <= kernel.error_units


@pytest.mark.parametrize(("batch", "stride", "blocking"), [
    (1, 1, Blocking(4, 2, 4, 2, 4, True, Division(2, 1, True))), (2, 1, Blocking(6, 2, 3, 1, 3, True, Division(2, 1, True))),
    (1, 1, Blocking(3, 2, 5, 2, 2, False, Division(4, 2, True))), (1, 2, Blocking(4, 1, 2, 1, 2, True, Division(2, 2, True))),
    (2, 2, Blocking(2, 2, 4, 1, 4, False, Division(2, 1, True)))])
def test_ranges_of_rows_have_tiles_of_their_own(batch, stride, blocking):
    op, operands = convolution(5, batch=batch, channels=7, outputs=24, size=(16, 13), pads=(1, 1, 1, 1), kind="residual", stride=stride)
    request = request_for(op, operands, "cortex-a76", [LAST], blocking.division.shares)
    kernel = lower_winograd(request, op, tuple(Axis(size, (size - 1) // stride + 1, 3, stride, 1, 1) for size in (16, 13)), blocking)
    function = apply_schedule(kernel.function, kernel.schedule)
    assert [(stmt.kind, stmt.extent) for stmt in function.body] == [("parallel", blocking.division.shares)]
    assert shared_error(run_lowered(request, kernel, operands)[0], op, [g.array.astype(np.float64) for g in operands]) <= kernel.error_units


@pytest.mark.parametrize(("rows", "parts"), [(1, 1), (5, 2), (10, 2), (10, 4), (7, 7), (11, 3)])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_ranges_of_rows_are_even(rows, parts, size):
    tiling = Tiling(Axis(4 * rows - 2, 4 * rows - 2, 3, 1, 1, 1), 4, rows, 2)
    cuts, division = tiling.cuts(size), Division(parts)
    owners = [[part for part in range(parts) for start, stop in [division.bounds(cuts, const(part))[number]]
               for _ in range(start.const, stop.const)] for number in range(len(cuts))]
    assert [len(own) for own in owners] == [cut.count for cut in cuts]
    busiest = max(sum(own.count(part) * cut.size for own, cut in zip(owners, cuts, strict=True)) for part in range(parts))
    assert busiest <= size * (-(-rows // size) // parts + 1)
    assert 1.0 <= division.unevenness(tiling, size) <= parts


@pytest.mark.parametrize(("channels", "size", "stride", "division"), [
    (64, 56, 1, "2 even ranges of rows x 1 of"), (256, 14, 1, "1 ranges of rows x 2 of"), (512, 7, 1, "1 ranges of rows x 2 of"),
    (256, 28, 2, "1 ranges of rows x 2 of")])
def test_threads_divide_rows_or_what_has_the_larger_weights(channels, size, stride, division):
    op, operands = convolution(0, batch=1, channels=channels, outputs=channels, size=(size, size), pads=(1, 1, 1, 1), stride=stride)
    assert division in lower(request_for(op, operands, "x86-64-v4", [LAST], 2)).choice


@pytest.mark.parametrize("threads", [1, 2])
def test_small_blocks_of_threads_pay_for_reading_weights_again(threads):
    op, operands = convolution(0, batch=1, channels=64, outputs=64, size=(56, 56), pads=(1, 1, 1, 1))
    assert lower(request_for(op, operands, "x86-64-v4", [LAST], threads)).choice.startswith("winograd 6x6")


@pytest.mark.parametrize(("channels", "outputs", "size", "threads", "choice"), [
    (128, 256, 28, 1, "winograd 4x4"), (128, 256, 28, 2, "winograd 4x4"), (64, 128, 56, 2, "blocks of 4 x 7 tiles, the last ones of 2, threads by 2 even")])
def test_threads_prefer_fewer_weights_and_reading_them_less_often(channels, outputs, size, threads, choice):
    op, operands = convolution(0, batch=1, channels=channels, outputs=outputs, size=(size, size), pads=(1, 1, 1, 1), stride=2)
    target = resolve_target("x86-64-v4")
    caches = tuple(replace(cache, size=32 << 20) if cache.level == 3 else cache for cache in target.caches)
    request = replace(request_for(op, operands, "x86-64-v4", [LAST], threads), target=replace(target, caches=caches))
    assert choice in lower(request).choice


@pytest.mark.parametrize("size", [1, 3, 5])
def test_large_weights_of_small_maps_are_judged(size):
    """All tiles may be short ones, which have no products by some of the weights."""
    op, operands = convolution(0, batch=1, channels=256, outputs=256, size=(size, size), pads=(1, 1, 1, 1))
    assert "winograd" in names(op, operands)


def test_maps_too_small_for_threads_are_computed_by_one():
    op, operands = convolution(0, batch=1, channels=100, outputs=100, size=(5, 6), pads=(1, 1, 1, 1))
    kernel = lower(request_for(op, operands, "x86-64-v4", [LAST], 3), "winograd 6x6")
    assert not any(isinstance(stmt, For) and stmt.kind == "parallel" for stmt in apply_schedule(kernel.function, kernel.schedule).body)


def names(op, operands, layouts=(LAST,), target="x86-64-v4", **changes):
    return [c.name.split()[0] for c in candidates(replace(request_for(op, operands, target, list(layouts)), **changes))]


def test_is_offered_only_where_it_applies():
    plain = {"batch": 1, "channels": 8, "outputs": 8, "size": (9, 9), "pads": (1, 1, 1, 1)}
    op, operands = convolution(0, **plain)
    assert names(op, operands).count("winograd") == len(ERROR_UNITS)
    assert "winograd" not in names(op, operands, winograd=False)
    assert "winograd" not in names(op, operands, rows=True)
    assert "winograd" not in names(op, [replace(operands[0], layout=None), *operands[1:]])
    assert "winograd" not in names(op, [operands[0], replace(operands[1], constant=False)])
    strided = Conv((2, 2), (1, 1, 1, 1), (1, 1))
    assert names(strided, operands).count("winograd") == 2
    assert names(strided, operands, threads=2).count("winograd") == 2
    assert "winograd" not in names(Conv((2, 1), (1, 1, 1, 1), (1, 1)), operands)
    assert "winograd" not in names(Conv((3, 3), (1, 1, 1, 1), (1, 1)), operands)
    assert "winograd" not in names(Conv((1, 1), (2, 2, 2, 2), (2, 2)), operands)
    assert "winograd" not in names(Conv((1, 1), (3, 1, 1, 1), (1, 1)), operands)
    assert "winograd" not in names(Conv((1, 1), (2, 2, 2, 2), (1, 1)), [operands[0], Given(array(1, 8, 8, 5, 5), True)])
    half = [Given(g.array.astype(np.float16), g.constant, g.layout) for g in operands]
    assert "winograd" not in names(op, half)


@pytest.mark.parametrize("target", ["x86-64-v4", "x86-64-v3", "cortex-a76"])
@pytest.mark.parametrize(("channels", "size", "wins"), [(64, 56, True), (128, 28, True), (256, 14, True), (3, 56, False), (1, 7, False)])
def test_is_chosen_where_multiplications_dominate(target, channels, size, wins):
    op, operands = convolution(0, batch=1, channels=channels, outputs=max(channels, 16), size=(size, size), pads=(1, 1, 1, 1))
    assert names(op, operands, target=target)[0] == ("winograd" if wins else "direct")


def test_bounds_of_the_error_grow_with_the_tile():
    bounds = [ERROR_UNITS[m] for m in sorted(ERROR_UNITS)]
    assert bounds == sorted(bounds)
    op, operands = convolution(0, batch=1, channels=8, outputs=8, size=(9, 9), pads=(1, 1, 1, 1))
    request = request_for(op, operands, "x86-64-v4", [LAST])
    for m, bound in ERROR_UNITS.items():
        assert lower(request, f"winograd {m}x{m}").error_units == bound


def network():
    """Four convolutions and a residual, as ONNX; between the outer two values lie in memory channels last."""
    weights = [numpy_helper.from_array(array(i, 32, 32, 3, 3) * np.float32(0.06), f"w{i}") for i in range(4)]
    nodes = [node for i, (x, y) in enumerate(("xa", "ab", "bc", "dy"))
             for node in (helper.make_node("Conv", [x, f"w{i}"], [f"{y}_sum"], pads=[1] * 4),
                          helper.make_node("Relu", [f"{y}_sum"], [y]))]
    nodes.insert(6, helper.make_node("Add", ["a", "c"], ["d"]))
    graph = helper.make_graph(nodes, "net", *([helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 32, 24, 24])]
                                              for name in ("x", "y")), initializer=weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(("winograd", "used"), [("auto", True), ("off", False)])
def test_the_option_decides(winograd, used):
    done = compile_model(network(), resolve_target("x86-64-v4"), Options(winograd=winograd))
    assert any(call.choice.startswith("winograd") for call in done.compiled.lowered.calls) == used


def test_an_option_that_there_is_not():
    with pytest.raises(EdgeccError, match=r"E001.*winograd 'on' is not one of auto, off"):
        compile_model(onnx.ModelProto(), resolve_target("host"), Options(winograd="on"))


def test_a_network_stays_within_the_tolerance():
    result = edgecc.verify(network(), target="host")
    assert result.ok, result.outputs


def half_convolution(seed, *, channels, outputs, size, pads, residual, stride=1):
    """A convolution whose operands and result are f16, with arithmetic in f16 allowed, and its request."""
    sum16 = apply("max", apply("add", Arg(0, DType.F16), Arg(1, DType.F16)), literal(0.0, DType.F16))
    op, operands = convolution(seed, batch=1, channels=channels, outputs=outputs, size=size, pads=pads,
                               kind="residual" if residual else "", stride=stride)
    operands = [None if g is None else replace(g, array=g.array.astype(np.float16)) for g in operands]
    op = replace(op, epilogue=sum16 if residual else None)
    return op, operands, replace(request_for(op, operands, "cortex-a76", [LAST]), precision=DType.F16)


def assert_half_precision(got, op, operands, m):
    """Tiles of 6: only loads, the sum and the epilogue round to f16, all between is f32. Smaller ones: the stated bound."""
    wide = replace(op, epilogue=epilogue("residual") if op.epilogue is not None else None)
    arrays = [None if g is None else g.array.astype(np.float32) for g in operands]
    want = wide.reference(arrays)[0]
    assert got.dtype == np.float16
    sums = HALF_ERROR_UNITS[m] * wide.magnitude(arrays)[0].max() if m in HALF_ERROR_UNITS else 0.0
    assert np.all(np.abs(got - want) <= 2.0**-11 * (3 * (np.abs(want) + 4.0) + sums))


@pytest.mark.parametrize(("m", "stride"), KINDS)
@settings(max_examples=5)
@given(seed=st.integers(0, 99), channels=st.sampled_from([1, 13, 17, 72]), outputs=st.sampled_from([1, 8, 13]),
       high=st.integers(1, 13), wide=st.sampled_from([1, 7, 17]), pads=st.tuples(*[st.integers(1, 2)] * 4), residual=st.booleans())
def test_half_precision_stays_within_its_bound(m, stride, seed, channels, outputs, high, wide, pads, residual):
    assume(channels * outputs * high * wide < 20000)
    op, operands, request = half_convolution(seed, channels=channels, outputs=outputs, size=(high, wide), pads=pads,
                                             residual=residual, stride=stride)
    kernel = lower(request, f"winograd {m}x{m}")
    assert kernel.candidate == f"winograd {m}x{m}"
    assert_half_precision(run_lowered(request, kernel, operands)[0], op, operands, m)


def test_compiled_half_precision_agrees_with_the_reference():
    cases = [(m, *half_convolution(m, channels=channels, outputs=m + 9, size=(13, 17), pads=(1, 1, 1, 1), residual=m == 4, stride=stride))
             for m, stride, channels in [(2, 1, 24), (4, 1, 144), (6, 1, 13), (4, 2, 24)]]
    kernels = [lower(request, f"winograd {m}x{m}") for m, _, _, request in cases]
    functions = [replace(apply_schedule(k.function, k.schedule), name=f"kernel_{i}") for i, k in enumerate(kernels)]
    buffers = [{name: data for name, data in buffers_for(k, request, operands).items() if k.function.buffer(name).role == "input"}
               for k, (_, _, operands, request) in zip(kernels, cases, strict=True)]
    results = run_functions(list(zip(functions, buffers, strict=True)), resolve_target("cortex-a76"))
    for result, (m, op, operands, request) in zip(results, cases, strict=True):
        assert_half_precision(read_as(result["y"], request.outputs[0]), op, operands, m)


def test_large_inputs_do_not_overflow_half_precision():
    op, operands, request = half_convolution(0, channels=8, outputs=8, size=(9, 9), pads=(1, 1, 1, 1), residual=False)
    operands[0] = replace(operands[0], array=np.full_like(operands[0].array, 12000))
    operands[1] = replace(operands[1], array=(operands[1].array / 64).astype(np.float16))
    for m in HALF_ERROR_UNITS:
        assert_half_precision(run_lowered(request, lower(request, f"winograd {m}x{m}"), operands)[0], op, operands, m)


def test_half_precision_uses_it_where_it_beats_twice_the_lanes():
    def first(channels, size):
        case = half_convolution(0, channels=channels, outputs=channels, size=(size, size), pads=(1, 1, 1, 1), residual=False)
        return candidates(case[2])[0].name.split()[0]

    assert first(64, 56) == "winograd"
    assert first(8, 5) == "direct"
