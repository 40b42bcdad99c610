"""Runs one kernel on arrays laid out in memory as a request says, and compares it with its operator.

    check(request, arrays)                      # interpreter against op.reference; every access checked
    check(request, arrays, machine="cortex-a76")   # through the C back end instead

Memory between the elements of a view holds garbage, which must not be read into results and must
not be changed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

import edgecc.kernels  # noqa: F401  (registers the kernels)
from edgecc.ir.op import Op
from edgecc.ir.types import DType, TensorType
from edgecc.kernels.kernel import FromInput, FromOutput, Kernel, Packed, SameMemory, Workspace
from edgecc.kernels.kernel_builder import storage_type
from edgecc.kernels.registry import lower
from edgecc.kernels.request import Operand, Request
from edgecc.kernels.shifted_sums import with_fused_scale, with_known_sums
from edgecc.kernels.sparse_pointwise import with_stored_blocks
from edgecc.kernels.view import View
from edgecc.loop.interpreter import run_function
from edgecc.loop.ir import Function
from edgecc.loop.verify import verify_function
from edgecc.passes.loop.base import apply_schedule
from edgecc.reference.compare import error_units
from edgecc.targets.schema import Target, load_target
from tests.support import ccompile

Array = np.ndarray[Any, Any]

TARGETS = ("generic-c", "x86-64-v3", "x86-64-v4", "cortex-a76")


def target_named(name: str) -> Target:
    """The built-in target of this name."""
    return load_target(name)


# -- views ------------------------------------------------------------------------------------


def row_major(array_type: TensorType) -> View:
    """The view of a tensor stored in logical order."""
    return laid_out(array_type, tuple(range(array_type.rank)))


def laid_out(array_type: TensorType, order: Sequence[int], gaps: Sequence[int] = ()) -> View:
    """A view whose axes lie in memory in `order`, outermost first; before each step outwards `gaps` elements are left
    (one entry for each axis in `order`, innermost last)."""
    strides = [0] * array_type.rank
    step = 1
    for position in range(array_type.rank - 1, -1, -1):
        axis = order[position]
        gap = gaps[position] if gaps else 0
        if position == array_type.rank - 1 and gap:
            step = 1 + gap
        strides[axis] = step
        step = step * max(1, array_type.dims[axis]) + (gap if position != array_type.rank - 1 else 0)
    return View(array_type.dtype, array_type.dims, tuple(strides))


@st.composite
def views(draw: st.DrawFn, array_type: TensorType, *, expanded: bool = False) -> View:
    """Any order of axes, sometimes with gaps; with `expanded`, sometimes a stride of 0."""
    order = draw(st.permutations(range(array_type.rank)))
    gaps = [draw(st.sampled_from((0, 0, 0, 1, 3))) for _ in order]
    view = laid_out(array_type, order, gaps)
    if expanded and array_type.rank and draw(st.integers(0, 7)) == 0:
        axis = draw(st.integers(0, array_type.rank - 1))
        view = dataclasses.replace(view, strides=tuple(0 if a == axis else s for a, s in enumerate(view.strides)))
    return view


@st.composite
def shapes(draw: st.DrawFn, least_rank: int = 1, most_rank: int = 4, *, most_elements: int = 600) -> tuple[int, ...]:
    """Shapes in which one axis may be long enough for several vectors and a tail."""
    rank = draw(st.integers(least_rank, most_rank))
    dims = [draw(st.integers(1, 5)) for _ in range(rank)]
    if rank and draw(st.booleans()):
        dims[draw(st.integers(0, rank - 1))] = draw(st.sampled_from((7, 16, 19, 33, 40, 70)))
    while math.prod(dims) > most_elements:
        dims[dims.index(max(dims))] //= 2
    return tuple(dims)


def numbers(seed: int, shape: Sequence[int], dtype: DType = DType.F32, scale: float = 1.0) -> Array:
    """Random elements: normal floats, small integers, fair bools."""
    random = np.random.default_rng(seed)
    if dtype.is_float:
        return np.asarray(random.normal(size=tuple(shape)) * scale).astype(dtype.numpy)
    if dtype is DType.BOOL:
        return np.asarray(random.integers(0, 2, size=tuple(shape))).astype(np.bool_)
    return np.asarray(random.integers(-20 if dtype.is_signed else 0, 50, size=tuple(shape))).astype(dtype.numpy)


def strided(memory: Array, view: View) -> Array:
    """The elements of a view in `memory` as an array that writes through."""
    strides = [s * memory.itemsize for s in view.strides]
    return np.lib.stride_tricks.as_strided(memory, view.dims, strides)


# -- requests ---------------------------------------------------------------------------------


def request_for(op: Op, arrays: Sequence[Array | None], target: str = "x86-64-v3", *,
                inputs: Sequence[View | None] = (), outputs: Sequence[View] = (), constants: Sequence[int] = (),
                threads: int = 1) -> Request:
    """A request for operands of these types; views are row-major unless given. `constants` lists constant operands."""
    types = [None if a is None else TensorType.of(a) for a in arrays]
    results = [row_major(t) for t in op.infer(types)]
    operands: list[Operand | None] = []
    for index, (array, array_type) in enumerate(zip(arrays, types, strict=True)):
        if array is None or array_type is None:
            operands.append(None)
            continue
        given = inputs[index] if index < len(inputs) else None
        is_constant = index in constants
        view = row_major(array_type) if given is None or is_constant else given
        operands.append(Operand.of_constant(view, array, results[0].dtype) if is_constant else Operand(view))
    results = [row_major(t) for t in op.infer(types)]
    for index, view in enumerate(outputs):
        results[index] = view
    request = Request(op, tuple(operands), tuple(results), target_named(target), threads)
    known = [array if index in constants else None for index, array in enumerate(arrays)]
    return with_stored_blocks(with_fused_scale(with_known_sums(request, known), known), known)


# -- running ----------------------------------------------------------------------------------


def scheduled(kernel: Kernel) -> Function:
    """The function after its schedule; verified before and after."""
    verify_function(kernel.function)
    function = apply_schedule(kernel.function, kernel.schedule)
    verify_function(function)
    return function


def _memory(view: View, array: Array | None, fill: int) -> Array:
    memory = np.full(max(1, view.span) * view.dtype.size, fill, np.uint8).view(view.dtype.numpy)
    if view.dtype is DType.BOOL:
        memory = np.zeros(max(1, view.span), np.bool_)
    if array is not None and array.size:
        strided(memory, view)[...] = array
    return memory


def run(request: Request, arrays: Sequence[Array | None], machine: str = "", in_place: tuple[int, int] | None = None,
        flags: Sequence[str] = ccompile.FLAGS, choice: str | None = None, kernel: Kernel | None = None) -> tuple[Array, ...]:
    """Results of the kernel of `request`, of its candidate `choice`, or of `kernel`, on these operands.

    Without `machine` it is interpreted; else it is compiled (with `flags`) and run for the target of that name.
    With `in_place` = (result, operand) those two share their memory.
    """
    kernel = kernel or lower(request, choice)
    function = scheduled(kernel)
    buffers: dict[str, Array] = {}
    before: dict[int, Array] = {}
    results: dict[int, Array] = {}
    by_operand: dict[int, Array] = {}
    assert len(kernel.arguments) == len(function.buffers)
    for buffer, argument in zip(function.buffers, kernel.arguments, strict=True):
        match argument:
            case FromInput(index=index):
                view = request.operand(index).view
                if index not in by_operand:
                    by_operand[index] = _memory(view, arrays[index], 0xFF)
                memory = by_operand[index]
            case FromOutput(index=index):
                view = request.outputs[index]
                memory = _memory(view, None, 0xA5)
                if in_place is not None and in_place[0] == index:
                    memory = by_operand.setdefault(in_place[1], _memory(view, arrays[in_place[1]], 0xFF))
                before[index], results[index] = memory.copy(), memory
            case Packed(inputs=indices, pack=pack):
                memory = np.asarray(pack(*(arrays[i] for i in indices)))
                assert memory.ndim == 1
            case SameMemory(position=position):
                memory = buffers[function.buffers[position].name].view(buffer.dtype.numpy)
            case Workspace(size_bytes=size_bytes):
                memory = np.full(size_bytes, 0xA5, np.uint8).view(buffer.dtype.numpy)
        if memory.dtype != buffer.dtype.numpy:  # kernels may take elements as integers, or groups of them as u32
            assert buffer.dtype in (storage_type(DType.from_numpy(memory.dtype)), DType.U32) or memory.dtype == np.int8, buffer
            memory = memory.view(buffer.dtype.numpy)
        assert memory.size >= buffer.elements, buffer
        buffers[buffer.name] = memory[:buffer.elements]
    if machine:
        got = ccompile.run_function(function, buffers, target_named(machine), flags=flags)
        for buffer, argument in zip(function.buffers, kernel.arguments, strict=True):
            if isinstance(argument, FromOutput):
                results[argument.index] = got[buffer.name].view(request.outputs[argument.index].dtype.numpy)
    else:
        run_function(function, buffers)
    out = []
    for index, view in enumerate(request.outputs):
        memory = results[index]
        out.append(np.array(strided(memory, view)) if view.elements else np.zeros(view.dims, view.dtype.numpy))
        outside = np.ones(memory.size, np.bool_)
        if view.elements:
            strided(outside, View(DType.BOOL, view.dims, view.strides))[...] = False
            same = memory.view(np.uint8).reshape(memory.size, -1) == before[index].view(np.uint8).reshape(memory.size, -1)
            assert same[outside].all(), f"result {index}: elements outside of the view were written"
    return tuple(out)


def check(request: Request, arrays: Sequence[Array | None], units: float = 4.0, machine: str = "",
          in_place: tuple[int, int] | None = None, flags: Sequence[str] = ccompile.FLAGS, choice: str | None = None, kernel: Kernel | None = None) -> None:
    """Runs the kernel and compares all results with the operator's reference, in units of roundoff times magnitude."""
    got = run(request, arrays, machine, in_place, flags, choice, kernel)
    wide = [a.astype(np.float64) if a is not None and DType.from_numpy(a.dtype).is_float else a for a in arrays]
    expected = request.op.reference(wide)
    magnitude = request.op.magnitude(wide)
    for index, (result, wanted, size, view) in enumerate(zip(got, expected, magnitude, request.outputs, strict=True)):
        error = error_units(result, wanted, size, view.dtype)
        assert error <= units, f"result {index}: error of {error} units\n{result}\n{wanted}"
