"""Runs the kernel of one operator on given arrays and layouts and compares it with the operator's reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgecc.ir.op import Op
from edgecc.ir.types import Array, Layout, TensorType
from edgecc.kernels.kernel import FromInput, FromOutput, Kernel, Packed, SameMemory
from edgecc.kernels.registry import lower
from edgecc.kernels.request import Operand, Request
from edgecc.kernels.shifted_sums import with_fused_scale, with_known_sums
from edgecc.kernels.view import View
from edgecc.loop.interpreter import run_function
from edgecc.loop.ir import Function
from edgecc.loop.verify import verify_function
from edgecc.passes.loop import apply_schedule
from edgecc.targets.schema import load_target

Runner = Callable[[Function, Mapping[str, Array]], None]


@dataclass(frozen=True)
class Given:
    """An operand: its array, whether the compiler knows it, and how it lies in memory."""

    array: Array
    constant: bool = False
    layout: Layout | None = None
    strides: tuple[int, ...] | None = None
    """Distances in elements, with gaps perhaps; instead of a layout."""


def any_strides(dims: tuple[int, ...], seed: int) -> tuple[int, ...]:
    """Strides of some order of the axes, with gaps here and there."""
    rng = np.random.default_rng(seed)
    step, out = int(rng.choice([1, 1, 1, 2, 3])), [0] * len(dims)
    for axis in rng.permutation(len(dims)):
        out[axis] = step
        step = step * dims[axis] + int(rng.choice([0, 0, 0, 1, 5]))
    return tuple(out)


def _view(array: Array, layout: Layout | None) -> View:
    kind = TensorType.of(array)
    order = layout or Layout.row_major(kind.rank)
    return View(kind.dtype, kind.dims, order.strides(kind.dims))


def store_as(array: Array, view: View) -> Array:
    """The flat buffer that holds `array` as `view` says."""
    flat = np.zeros(max(1, view.span), array.dtype)
    if array.size:
        strides = tuple(s * array.dtype.itemsize for s in view.strides)
        np.lib.stride_tricks.as_strided(flat, view.dims, strides)[...] = array
    return flat


def read_as(flat: Array, view: View) -> Array:
    """The array a flat buffer holds."""
    strides = tuple(s * flat.dtype.itemsize for s in view.strides)
    return np.lib.stride_tricks.as_strided(flat, view.dims, strides).copy()


def request_for(op: Op, given: Sequence[Given | None], target: str, out_layouts: Sequence[Layout | None] | None = None,
                threads: int = 1) -> Request:
    """The request a compiled graph would make for this operator."""
    types = op.infer([None if g is None else TensorType.of(g.array) for g in given])
    layouts = out_layouts or [None] * len(types)
    operands = []
    for g in given:
        if g is None:
            operands.append(None)
            continue
        view = _view(g.array, None if g.constant else g.layout)
        if g.strides is not None and not g.constant:
            view = View(view.dtype, view.dims, g.strides)
        operands.append(Operand.of_constant(view, g.array, types[0].dtype) if g.constant else Operand(view))
    outputs = tuple(View(t.dtype, t.dims, (lay or Layout.row_major(t.rank)).strides(t.dims))
                    for t, lay in zip(types, layouts, strict=True))
    request = Request(op, tuple(operands), outputs, load_target(target), threads)
    known = [g.array if g is not None and g.constant else None for g in given]
    return with_fused_scale(with_known_sums(request, known), known)


def buffers_for(kernel: Kernel, request: Request, given: Sequence[Given | None]) -> dict[str, Array]:
    """Arrays for every buffer of a kernel; results hold zeros."""
    out: dict[str, Array] = {}
    for buffer, argument in zip(kernel.function.buffers, kernel.arguments, strict=True):
        match argument:
            case FromInput(index=index):
                item, operand = given[index], request.operand(index)
                assert item is not None
                out[buffer.name] = store_as(item.array, operand.view)
            case FromOutput(index=index):
                out[buffer.name] = np.zeros(max(1, request.outputs[index].span), request.outputs[index].dtype.numpy)
            case Packed(inputs=inputs, pack=pack):
                arrays = [given[i].array if given[i] is not None else None for i in inputs]  # type: ignore[union-attr]
                packed = np.asarray(pack(*arrays))
                assert packed.size == buffer.elements, (buffer, packed.shape)
                out[buffer.name] = packed.reshape(-1)
            case SameMemory(position=position):
                out[buffer.name] = out[kernel.function.buffers[position].name].view(buffer.dtype.numpy)
            case _:
                out[buffer.name] = np.zeros(buffer.elements, buffer.dtype.numpy)
        assert out[buffer.name].size <= max(1, buffer.elements), (buffer, out[buffer.name].size)
    return out


def run_kernel(op: Op, given: Sequence[Given | None], target: str = "cortex-a76",
               out_layouts: Sequence[Layout | None] | None = None, runner: Runner = run_function,
               threads: int = 1, scheduled: bool = True, choice: str | None = None) -> tuple[Array, ...]:
    """Lowers, schedules and runs the operator's kernel, or the candidate named `choice`."""
    request = request_for(op, given, target, out_layouts, threads)
    return run_lowered(request, lower(request, choice), given, runner, scheduled)


def run_lowered(request: Request, kernel: Kernel, given: Sequence[Given | None], runner: Runner = run_function,
                scheduled: bool = True) -> tuple[Array, ...]:
    """Schedules and runs a kernel."""
    function = apply_schedule(kernel.function, kernel.schedule) if scheduled else kernel.function
    verify_function(function)
    buffers = buffers_for(kernel, request, given)
    runner(function, buffers)
    results: list[Array] = [np.zeros(0)] * len(request.outputs)
    for buffer, argument in zip(kernel.function.buffers, kernel.arguments, strict=True):
        if isinstance(argument, FromOutput):
            results[argument.index] = read_as(buffers[buffer.name], request.outputs[argument.index])
    return tuple(results)


def check_kernel(op: Op, given: Sequence[Given | None], target: str = "cortex-a76",
                 out_layouts: Sequence[Layout | None] | None = None, runner: Runner = run_function, units: float = 16.0,
                 threads: int = 1, choice: str | None = None) -> None:
    """Asserts that the kernel agrees with the reference: `units` roundings of the magnitude of the summed terms.

    Elements of a kernel that states a bound for all of them may err by that, too.
    """
    arrays = [None if g is None else g.array for g in given]
    expected = op.reference(arrays)
    magnitude = op.magnitude(arrays)
    request = request_for(op, given, target, out_layouts, threads)
    kernel = lower(request, choice)
    got = run_lowered(request, kernel, given, runner)
    for result, want, size in zip(got, expected, magnitude, strict=True):
        assert result.shape == want.shape
        if want.dtype.kind == "f":
            roundoff = float(np.finfo(want.dtype).eps) / 2
            terms = np.maximum(size.astype(np.float64), np.abs(want.astype(np.float64)))
            bound = roundoff * np.maximum(units * terms, kernel.error_units * np.max(terms, initial=0.0)) + 1e-30
            error = np.abs(result.astype(np.float64) - want.astype(np.float64))
            same = (result == want) | (np.isnan(result) & np.isnan(want))
            bad = ~same & ~(error <= bound)
            assert not bad.any(), f"{op}: {int(bad.sum())} of {bad.size} wrong, worst {np.nanmax(error[bad])} at {np.argwhere(bad)[0]}"
        else:
            np.testing.assert_array_equal(result, want)
