"""groups-by-lane: which groups become lanes of which vector, and that the result is the same."""

import re

import numpy as np
import pytest

from edgecc.ir.scalar import Arg, literal
from edgecc.ir.types import DType, TensorType
from edgecc.kernels.registry import lower
from edgecc.loop.ir import Lane, Load, expressions, subexpressions, walk
from edgecc.loop.parser import parse
from edgecc.loop.text import to_text
from edgecc.ops.convolution import Conv
from edgecc.ops.requantize import requantized
from edgecc.passes.loop import apply_schedule
from tests.support import kernels

F32, I32, U8, I8 = DType.F32, DType.I32, DType.U8, DType.I8


def group(place: int, flip: bool = False) -> str:
    word = "interleave(" + ", ".join(f"x[{place + j}]" for j in range(4)) + ")"
    return f"bit_xor({word}, 2155905152:u32)" if flip else word


def source(*places: int, flip: bool = False, extra: str = ""):
    sums = " ".join(f"s = dot_s8(broadcast({group(place, flip)}, 4), w[0, lanes 4], s)" for place in places)
    return parse(f"function f(x: u8[40] input, w: u32[4] input, y: i32[4] output) {{ var s = 0:i32x4 {sums} {extra} y[0, lanes 4] = s }}")


def lanes_of(function) -> list[int]:
    return [e.position for s in walk(function.body) for top in expressions(s) for e in subexpressions(top) if isinstance(e, Lane)]


def starts_of(function) -> list[int]:
    return [int(start) for start in re.findall(r"interleave\(x\[(\d+), lanes \d+, stride 4\]", to_text(function))]


@pytest.mark.parametrize(("places", "starts"), [
    ((0, 4, 8, 12), [0]),
    ((0, 4, 5, 6, 10, 11, 12, 16, 17, 18, 22, 23), [0, 5, 6, 8, 10, 11]),
    ((0, 4, 5), []),
], ids=["neighbours", "windows of three", "too short"])
def test_places_share_vectors(places, starts):
    function = apply_schedule(source(*places), ["groups-by-lane{lanes=4}"])
    assert sorted(starts_of(function)) == starts
    assert len(lanes_of(function)) == (len(places) if starts else 0)


def test_single_pixels_have_shorter_vectors():
    function = apply_schedule(source(0, 4, 5, flip=True), ["groups-by-lane{lanes=4}", "groups-by-lane{lanes=2}"])
    assert len(lanes_of(function)) == 3 and starts_of(function) == [0, 1]


@pytest.mark.parametrize(("dtype", "zero"), [(U8, 130), (I8, 0)])
@pytest.mark.parametrize(("stride", "size"), [(2, 29), (1, 13)])
def test_first_layers_read_vectors_of_groups_and_give_the_same_bytes(dtype, zero, stride, size):
    random = np.random.default_rng(1)
    x = random.integers(0, 256, (1, 3, 9, size)).astype(np.uint8).view(dtype.numpy)
    w = random.integers(-20, 21, (20, 3, 3, 3)).astype(np.int8)
    op = Conv((stride, stride), (1, 1, 1, 1), (1, 1), 1, requantized(Arg(0, I32), Arg(1, F32), literal(4, F32), I8), zero or None)
    arrays = [x, w, random.integers(-300, 300, 20).astype(np.int32), np.full((1, 20, 1, 1), 2.0**-7, np.float32)]
    (result,) = op.infer([TensorType.of(a) for a in arrays])
    order = (0, 2, 3, 1)
    request = kernels.request_for(op, arrays, "cortex-a76", inputs=[kernels.laid_out(TensorType.of(x), order)],
                                  outputs=[kernels.laid_out(result, order)], constants=[1, 2, 3])
    kernel = lower(request)
    function = apply_schedule(kernel.function, kernel.schedule)
    assert any(isinstance(e, Load) and e.buffer == "x" and e.lanes == 4 and e.stride == 4
               for s in walk(function.body) for top in expressions(s) for e in subexpressions(top))
    kernels.check(request, arrays)
    kernels.check(request, arrays, machine="cortex-a76")
