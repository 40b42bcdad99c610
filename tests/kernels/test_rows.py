"""Kernels of ranges of rows: each range reads the rows it needs and no others, from rings too, and writes its own."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.errors import EdgeccError
from edgecc.ir.op import Op
from edgecc.ir.scalar import Arg, apply, literal
from edgecc.ir.types import Array, DType, Layout, TensorType
from edgecc.kernels.kernel import FromInput, FromOutput, Packed
from edgecc.kernels.registry import lower
from edgecc.kernels.request import Operand, Request
from edgecc.kernels.view import ROW_AXIS, View
from edgecc.loop.interpreter import run_function
from edgecc.loop.verify import verify_function
from edgecc.ops.convolution import Conv, Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.reduction import Reduce
from edgecc.ops.rows import row_needs
from edgecc.passes.loop import apply_schedule
from edgecc.targets.schema import load_target
from tests.support import ccompile

TARGETS = ("cortex-a76", "x86-64-v4", "x86-64-v3", "generic-c")
GARBAGE = np.float32(np.nan)

SUM = apply("max", apply("add", Arg(0, DType.F32), Arg(1, DType.F32)), literal(0.0, DType.F32))


def array(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def channels_last(dims: Sequence[int], ring: int = 0) -> View:
    return View(DType.F32, tuple(dims), Layout.channels_last(len(dims)).strides(tuple(dims)), ring)


def by_rows(buffer: Array, view: View) -> Array:
    """The rows a buffer holds, as [row, everything else]: a view of it."""
    return buffer.reshape(view.held_dims[ROW_AXIS], -1)


def flat_rows(values: Array) -> Array:
    """[1, C, H, W] as [row, the row's elements in memory]."""
    return np.ascontiguousarray(values[0].transpose(1, 2, 0)).reshape(values.shape[2], -1)


class Case:
    """An operator on channels-last images; `cuts` are where one range of rows ends and the next begins.

    Operands that have rows lie in rings that hold just what one range needs, if `rings` says so.
    """

    def __init__(self, op: Op, arrays: Sequence[Array | None], cuts: Sequence[int], rings: bool, target: str,
                 choice: str | None = None) -> None:
        self.arrays = arrays
        self.expected = op.reference(list(arrays))[0]
        shapes = [None if a is None else a.shape for a in arrays]
        dims = self.expected.shape
        self.needs = [row_needs(op, i, shapes, dims) for i in range(len(arrays))]
        self.ranges = list(itertools.pairwise(cuts))
        longest = max(b - a for a, b in self.ranges)
        inputs: list[Operand | None] = []
        for values, needs in zip(arrays, self.needs, strict=True):
            if values is None:
                inputs.append(None)
            elif needs is None:
                view = View(DType.F32, values.shape, Layout.row_major(values.ndim).strides(values.shape))
                inputs.append(Operand(view, is_constant=True))
            else:
                size = max((needs.through(b) - needs.from_row(a) for a, b in self.ranges if b > a), default=0)
                inputs.append(Operand(channels_last(values.shape, max(1, size) if rings and size < needs.height else 0)))
        ring = longest if rings and longest < dims[ROW_AXIS] else 0
        self.request = Request(op, tuple(inputs), (channels_last(dims, max(1, ring) if ring else 0),), load_target(target), rows=True)
        self.kernel = lower(self.request, choice)
        self.function = apply_schedule(self.kernel.function, self.kernel.schedule)
        verify_function(self.kernel.function)
        verify_function(self.function)

    def buffers(self) -> dict[str, Array]:
        out: dict[str, Array] = {}
        for buffer, argument in zip(self.function.buffers, self.kernel.arguments, strict=True):
            if isinstance(argument, Packed):
                out[buffer.name] = argument.pack(*(self.arrays[i] for i in argument.inputs))
            elif isinstance(argument, FromInput) and self.needs[argument.index] is None:
                out[buffer.name] = self.arrays[argument.index].reshape(-1)
            else:
                out[buffer.name] = np.full(buffer.elements, GARBAGE)
        return out

    def interpret(self) -> None:
        """Runs range by range; what a range does not need is garbage while it runs."""
        buffers, y = self.buffers(), self.request.outputs[0]
        result = np.full(flat_rows(self.expected).shape, GARBAGE)
        names = {a: b.name for b, a in zip(self.function.buffers, self.kernel.arguments, strict=True) if not isinstance(a, Packed)}
        for start, stop in self.ranges:
            for index, needs in enumerate(self.needs):
                if needs is not None and FromInput(index) in names:
                    self._fill(buffers[names[FromInput(index)]], index, needs.from_row(start), needs.through(stop))
            held = by_rows(buffers[names[FromOutput(0)]], y)
            held[:] = GARBAGE
            run_function(self.function, buffers, {"row_start": start, "row_stop": stop})
            own = [row % len(held) for row in range(start, stop)]
            result[start:stop] = held[own]
            others = np.setdiff1d(np.arange(len(held)), own)
            assert np.isnan(held[others]).all()
        self.check(result)

    def _fill(self, buffer: Array, index: int, first: int, stop: int) -> None:
        values, operand = self.arrays[index], self.request.inputs[index]
        assert values is not None and operand is not None
        held = by_rows(buffer, operand.view)
        held[:] = GARBAGE
        for row in range(first, stop):
            held[row % len(held)] = flat_rows(values)[row]

    def compile(self, machine: str) -> None:
        """Runs all ranges of whole operands in one C program."""
        buffers = self.buffers()
        for buffer, argument in zip(self.function.buffers, self.kernel.arguments, strict=True):
            if isinstance(argument, FromInput) and self.needs[argument.index] is not None:
                buffers[buffer.name] = flat_rows(self.arrays[argument.index]).reshape(-1)
        found = ccompile.run_function(self.function, buffers, load_target(machine), calls_of=self.ranges)
        self.check(by_rows(found["y"], self.request.outputs[0]))

    def check(self, rows: Array) -> None:
        np.testing.assert_allclose(rows, flat_rows(self.expected), rtol=2e-5, atol=2e-5)


@st.composite
def cases(draw: st.DrawFn, rings: bool = True) -> Case:
    kind = draw(st.sampled_from(["direct", "pointwise", "depthwise", "grouped", "pool", "elementwise"]))
    seed = draw(st.integers(0, 1000))
    height, width = draw(st.integers(1, 13)), draw(st.sampled_from([1, 2, 5, 7, 13]))
    channels = draw(st.sampled_from([1, 3, 8, 13, 17, 24]))
    x: Array
    if kind == "elementwise":
        op: Op = Elementwise(SUM)
        shapes = draw(st.sampled_from([(1, channels, height, width), (1, 1, height, 1), (channels, 1, 1)]))
        arrays: list[Array | None] = [array(seed, 1, channels, height, width), array(seed + 1, *shapes)]
    else:
        kernel = (1, 1) if kind == "pointwise" else (draw(st.integers(1, 4)), draw(st.integers(1, 3)))
        strides = (1, 1) if kind == "pointwise" else (draw(st.integers(1, 3)), draw(st.integers(1, 2)))
        dilations = (draw(st.integers(1, 2)), 1)
        pads = (0, 0, 0, 0) if kind == "pointwise" else tuple(draw(st.integers(0, k - 1)) for k in (*kernel, *kernel))
        extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        height, width = (max(n, e - pads[i] - pads[i + 2]) for i, (n, e) in enumerate(zip((height, width), extents, strict=True)))
        x = array(seed, 1, channels, height, width)
        if kind == "pool":
            mode = draw(st.sampled_from(["max", "average"]))
            op = Pool(mode, kernel, strides, pads, dilations, mode == "average" and draw(st.booleans()))
            arrays = [x]
        else:
            group = {"depthwise": channels, "grouped": 2}.get(kind, 1)
            if kind == "grouped":
                x = array(seed, 1, 2 * channels, height, width)
            outputs = channels if kind == "depthwise" else 2 * draw(st.integers(1, 9))
            w = array(seed + 1, outputs, x.shape[1] // group, *kernel)
            plain = Conv(strides, pads, dilations, group)
            residual = draw(st.booleans())
            op = replace(plain, epilogue=SUM) if residual else plain
            arrays = [x, w, array(seed + 2, outputs)]
            if residual:
                arrays.append(array(seed + 3, *plain.infer([TensorType.of(x), TensorType.of(w)])[0].dims))
    rows = op.infer([None if a is None else TensorType.of(a) for a in arrays])[0].dims[ROW_AXIS]
    cuts = sorted({0, rows, *draw(st.lists(st.integers(0, rows), max_size=4))})
    # Where there is no such candidate, the choice is that of the model.
    choice = draw(st.sampled_from([None, "depthwise", "depthwise rolling"])) if kind == "depthwise" else None
    return Case(op, arrays, [*cuts, rows], rings and draw(st.booleans()), draw(st.sampled_from(TARGETS)), choice)


@settings(max_examples=50)
@given(cases())
def test_ranges_of_rows_make_the_whole(case: Case) -> None:
    case.interpret()


@pytest.mark.parametrize("machine", ["cortex-a76", "x86-64-v3"])
def test_compiled_ranges_make_the_whole(machine: str) -> None:
    x, r = array(0, 1, 24, 9, 13), array(1, 1, 16, 9, 13)
    Case(Conv((1, 1), (0, 0, 0, 0), (1, 1), 1, SUM), [x, array(2, 16, 24, 1, 1), array(3, 16), r], (0, 4, 4, 9), False,
         machine).compile(machine)
    for choice in (None, "depthwise", "depthwise rolling"):
        Case(Conv((2, 1), (1, 1, 1, 1), (1, 1), 24), [x, array(2, 24, 1, 3, 3), array(3, 24)], (0, 2, 5), False, machine,
             choice).compile(machine)


def test_what_cannot_compute_ranges_of_rows_says_so() -> None:
    image = channels_last((1, 8, 6, 6))
    target = load_target("cortex-a76")
    with pytest.raises(EdgeccError, match="ranges of rows") as caught:
        lower(Request(Reduce("mean", (2, 3), True), (Operand(image),), (channels_last((1, 8, 1, 1)),), target, rows=True))
    assert caught.value.code == "E112"
    flat = View(DType.F32, (8, 6), (6, 1))
    with pytest.raises(EdgeccError, match="ranges of rows"):
        lower(Request(Elementwise(apply("neg", Arg(0, DType.F32))), (Operand(flat),), (flat,), target, rows=True))


def test_views_of_rings() -> None:
    view = channels_last((1, 8, 10, 5), ring=4)
    assert (view.span, view.is_dense, view.is_row_major) == (4 * 5 * 8, False, False)
    assert [view.at([0, 2, row, 1]).const for row in range(6)] == [8 + 2 + row % 4 * 40 for row in range(6)]
    assert view.broadcast_to((1, 8, 10, 5)).shows_same(view)
    assert not view.shows_same(channels_last((1, 8, 10, 5)))
    with pytest.raises(EdgeccError, match="ring"):
        view.broadcast_to((3, 1, 8, 10, 5))


def test_a_residual_of_one_image_may_be_overwritten() -> None:
    image = channels_last((1, 8, 6, 6))
    weights = Operand(View(DType.F32, (8, 8, 1, 1), (8, 1, 1, 1)), is_constant=True)
    request = Request(Conv((1, 1), (0, 0, 0, 0), (1, 1), 1, SUM), (Operand(image), weights, None, Operand(image)), (image,),
                      load_target("cortex-a76"))
    assert lower(request).in_place == ((0, 3),)
    assert lower(replace(request, outputs=(channels_last((1, 8, 6, 6), ring=3),), rows=True)).in_place == ()
