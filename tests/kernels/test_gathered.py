"""Convolutions of small maps with strides by gathered patches, and products whose reduction is cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgecc.ir.scalar import Arg, apply, literal
from edgecc.ir.types import DType, Layout
from edgecc.kernels.registry import candidates, lower
from edgecc.loop.interpreter import run_function
from edgecc.ops.convolution import Conv
from edgecc.targets.schema import Cache, load_target
from tests.support import ccompile
from tests.support.kernel_check import Given, request_for, run_lowered

LAST = Layout.channels_last(4)
TARGETS = ("x86-64-v4", "x86-64-v3", "cortex-a76", "generic-c")
RELU_OF_SUM = apply("max", apply("add", Arg(0, DType.F32), Arg(1, DType.F32)), literal(0.0, DType.F32))


def array(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def compare(op, operands, request, kernel, runner=run_function):
    arrays = [None if g is None else g.array for g in operands]
    want, size = op.reference(arrays)[0].astype(np.float64), op.magnitude(arrays)[0]
    got = run_lowered(request, kernel, operands, runner)[0].astype(np.float64)
    assert np.all(np.abs(got - want) <= 32 * 2.0**-24 * np.maximum(size, np.abs(want)))


def convolution(seed, *, batch, channels, outputs, size, kernel, strides, pads, residual):
    out = [(size[i] + pads[i] + pads[2 + i] - kernel[i]) // strides[i] + 1 for i in range(2)]
    op = Conv(strides, pads, (1, 1), 1, RELU_OF_SUM if residual else None)
    operands = [Given(array(seed, batch, channels, *size), layout=LAST), Given(array(seed + 1, outputs, channels, *kernel), True),
                Given(array(seed + 2, outputs), True)]
    if residual:
        operands.append(Given(array(seed + 3, batch, outputs, *out), layout=LAST))
    return op, operands


@settings(max_examples=40)
@given(batch=st.sampled_from((1, 1, 2)), channels=st.sampled_from((1, 3, 8, 13, 17, 33)), outputs=st.sampled_from((5, 16, 49, 100)),
       size=st.tuples(st.integers(1, 9), st.integers(1, 9)), kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
       strides=st.sampled_from(((2, 2), (1, 2), (3, 2))), pads=st.tuples(*[st.integers(0, 2)] * 4), residual=st.booleans(),
       machine=st.sampled_from(TARGETS), threads=st.sampled_from((1, 3)), seed=st.integers(0, 9))
def test_gathered_convolutions_agree_with_the_reference(batch, channels, outputs, size, kernel, strides, pads, residual, machine, threads, seed):
    assume(all(size[i] + pads[i] + pads[2 + i] >= kernel[i] for i in range(2)))
    op, operands = convolution(seed, batch=batch, channels=channels, outputs=outputs, size=size, kernel=kernel, strides=strides, pads=pads,
                               residual=residual)
    request = request_for(op, operands, machine, [LAST], threads=threads)
    assume(request.target.cache(2) is not None)
    compare(op, operands, request, lower(request, "gathered"))


def test_small_maps_with_strides_are_gathered_and_large_ones_are_not():
    def names(size, strides):
        op, operands = convolution(0, batch=1, channels=64, outputs=64, size=(size, size), kernel=(3, 3), strides=(strides, strides),
                                   pads=(1, 1, 1, 1), residual=False)
        return {c.name.split()[0] for c in candidates(request_for(op, operands, "x86-64-v4", [LAST]))}

    assert "gathered" in names(14, 2)
    assert "gathered" not in names(14, 1) | names(112, 2)


def test_patches_that_leave_out_most_of_the_input_push_little_out_of_the_caches():
    op, operands = convolution(0, batch=1, channels=128, outputs=256, size=(28, 28), kernel=(1, 1), strides=(2, 2), pads=(0, 0, 0, 0), residual=False)
    best = min(candidates(request_for(op, operands, "x86-64-v3", [LAST])), key=lambda c: c.cycles)
    assert best.name.startswith("gathered")


def test_compiled_gathered_code_agrees():
    op, operands = convolution(3, batch=1, channels=21, outputs=37, size=(7, 9), kernel=(3, 3), strides=(2, 2), pads=(1, 0, 1, 2), residual=True)
    request = request_for(op, operands, "x86-64-v3", [LAST])

    def runner(function, buffers):
        buffers.update(ccompile.run_function(function, buffers, load_target("x86-64-v3"), flags=("-O1", *ccompile.SANITIZERS)))

    compare(op, operands, request, lower(request, "gathered"), runner)


def cut_kernels(request, kind):
    """The request and its kernel on machines with second-level caches of some sizes, where the reduction is cut."""
    for kib in range(16, 400, 8):
        first = kib // 2 if request.target.vector.fma_by_lane else 1
        target = replace(request.target, caches=(Cache(1, first * 1024, 64, 4), Cache(2, kib * 1024, 64, 4)))
        own = replace(request, target=target)
        if any(c.name.startswith(kind) for c in candidates(own)):
            kernel = lower(own, kind)
            if "parts" in kernel.choice:
                yield own, kernel


@pytest.mark.parametrize(("machine", "channels", "outputs", "size", "strides", "residual"), [
    *((machine, *case) for machine in ("x86-64-v4", "x86-64-v3")
      for case in ((768, 37, (3, 5), 1, True), (1024, 100, (1, 7), 1, False), (1024, 68, (7, 7), 2, True))),
    ("cortex-a76", 384, 40, (3, 5), 1, True), ("cortex-a53", 288, 36, (5, 5), 2, False)])
def test_long_reductions_are_cut(machine, channels, outputs, size, strides, residual):
    op, operands = convolution(5, batch=1, channels=channels, outputs=outputs, size=size, kernel=(1, 1), strides=(strides, strides),
                               pads=(0,) * 4, residual=residual)
    found = list(cut_kernels(request_for(op, operands, machine, [LAST]), "gathered" if strides > 1 else "pointwise"))
    assert found
    for request, kernel in found[:1]:
        compare(op, operands, request, kernel)


@pytest.mark.parametrize("channels", [300, 520])
def test_reductions_without_even_parts_are_not_cut(channels):
    op, operands = convolution(5, batch=1, channels=channels, outputs=100, size=(3, 3), kernel=(1, 1), strides=(1, 1), pads=(0,) * 4,
                               residual=False)
    assert not list(cut_kernels(request_for(op, operands, "x86-64-v4", [LAST]), "pointwise"))
