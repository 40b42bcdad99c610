"""Kernels and loop passes broken on purpose: the comparison with the reference must notice each time."""

from dataclasses import replace

import numpy as np
import pytest

from edgecc.errors import EdgeccError
from edgecc.ir.scalar import Arg, apply, literal
from edgecc.ir.types import DType, Layout
from edgecc.kernels import contraction, contraction_weights, convolution, direct, matmul, spatial, transposed
from edgecc.loop import rewrite
from edgecc.loop.index import const
from edgecc.loop.ir import Op
from edgecc.ops.convolution import Conv, ConvTranspose
from edgecc.ops.matrix import MatMul
from edgecc.passes.loop.tile import Tile
from edgecc.passes.loop.vectorize import Vectorize
from tests.support.kernel_check import Given, check_kernel


def array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def check_everything() -> None:
    """A convolution with padding, stride and residual, a transposed one, and a matrix product, none of them a round size."""
    last = Layout.channels_last(4)
    x = Arg(0, DType.F32)
    epilogue = apply("max", apply("add", x, Arg(1, DType.F32)), literal(0.0, DType.F32))
    conv = Conv((2, 1), (1, 2, 0, 1), (1, 2), 1, epilogue)
    operands = [Given(array(0, 1, 5, 9, 23), layout=last), Given(array(1, 19, 5, 3, 3), True), Given(array(2, 19), True)]
    shape = Conv((2, 1), (1, 2, 0, 1), (1, 2), 1).reference([g.array for g in operands])[0].shape
    check_kernel(conv, [*operands, Given(array(3, *shape), layout=last)], "cortex-a76", [last])
    check_kernel(ConvTranspose((2, 3), (1, 0, 0, 1), (1, 1), 1, (0, 1)), [Given(array(0, 1, 3, 4, 5), layout=last),
                 Given(array(1, 3, 7, 3, 4), True), Given(array(2, 7), True)], "cortex-a76", [last])
    check_kernel(MatMul(False, True), [Given(array(0, 2, 13, 11)), Given(array(1, 2, 29, 11))], "cortex-a76")
    check_kernel(MatMul(False, False), [Given(array(0, 13, 11)), Given(array(1, 11, 29), True)], "x86-64-v4")


def drop_tail(original):
    return lambda self, loop: original(self, loop)[:1]


def shift_lanes(original):
    def run(self, loop):
        return original(self, replace(loop, start=loop.start + 1))
    return run


def wrong_multiply_add(x, w, accumulator, dot="", zeros=(0, 0)):
    kind, lanes = accumulator.dtype, accumulator.lanes
    return Op("add", (accumulator, Op("sub", (x, w), kind, lanes)), kind, lanes)


def one_tap_less(original):
    def bounds(self, position):
        start, stop = original(self, position)
        return start, stop - 1
    return bounds


def wrong_pack(original):
    return lambda weights, panels: original(weights.reshape(weights.shape[0], -1)[:, ::-1], panels)


def forget_last_channel(patch):
    original = convolution.cut_panels

    def cut(*arguments):
        *others, last = original(*arguments)
        return (*others, replace(last, size=last.size - 1))

    for module in (convolution, matmul):
        patch.setattr(module, "cut_panels", cut)


def swapped(original):
    def run(*arguments):
        found = original(*arguments)
        return tuple(replace(p, shift=found[-1 - i].shift) for i, p in enumerate(found))
    return run


MUTATIONS = {
    "tile drops the remainder": lambda p: p.setattr(Tile, "_tile", drop_tail(Tile._tile)),
    "vectorize starts one channel late": lambda p: p.setattr(Vectorize, "_vectorize", shift_lanes(Vectorize._vectorize)),
    "lanes of the wrong window": lambda p: p.setattr("edgecc.passes.loop.broadcast_by_lane._cover", lambda offsets, lanes, least: [offsets[-1]]),
    "padding counted as input": lambda p: p.setattr(spatial.Axis, "bounds", lambda self, position: (const(0), const(self.kernel))),
    "taps end one early": lambda p: p.setattr(spatial.Axis, "bounds", one_tap_less(spatial.Axis.bounds)),
    "subtracts instead of multiplying": lambda p: p.setattr(contraction, "multiply_add", wrong_multiply_add),
    "weights packed in the wrong order": lambda p: p.setattr(direct.Direct, "term_order", lambda self, w: w.reshape(w.shape[0], -1)),
    "panels packed without transposing": lambda p: p.setattr(contraction_weights, "pack_panels", wrong_pack(contraction_weights.pack_panels)),
    "last channel forgotten": forget_last_channel,
    "copies share their locals": lambda p: p.setattr(rewrite, "local_names", lambda body: set()),
    "phases of a transposed convolution swapped": lambda p: p.setattr(transposed, "phases", swapped(transposed.phases)),
}


def test_unbroken_kernels_agree():
    check_everything()


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_kernel_is_noticed(name, monkeypatch):
    MUTATIONS[name](monkeypatch)
    with pytest.raises((AssertionError, EdgeccError, ValueError, IndexError)):
        check_everything()
