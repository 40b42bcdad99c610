"""Measuring programs run: here, under an emulator as the stand-in of a device, warm and swept, for kernels of rows too."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from edgecc.artifact.toolchain import WARNING_FLAGS, find_compiler
from edgecc.errors import EdgeccError
from edgecc.ir.scalar import Arg
from edgecc.ir.types import DType, Layout
from edgecc.kernels.kernel import Candidate
from edgecc.kernels.registry import candidates, lower
from edgecc.kernels.request import Request
from edgecc.loop.module import Stripes
from edgecc.ops.convolution import Conv
from edgecc.ops.indexing import Gather
from edgecc.ops.matrix import MatMul
from edgecc.ops.requantize import requantized
from edgecc.targets.schema import load_target
from edgecc.tuning.measure import Settings, measure_with, run_program
from edgecc.tuning.program import measuring_program
from tests.support.kernel_check import Given, request_for


def convolution(target: str, channels: int = 16, size: int = 12) -> Request:
    generator = np.random.default_rng(0)
    nhwc = Layout.channels_last(4)
    x = Given(generator.standard_normal((1, channels, size, size)).astype(np.float32), layout=nhwc)
    w = Given(generator.standard_normal((channels, channels, 3, 3)).astype(np.float32), constant=True)
    b = Given(generator.standard_normal(channels).astype(np.float32), constant=True)
    return request_for(Conv(strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1), group=1), [x, w, b], target, [nhwc])


@pytest.mark.parametrize("sweep_bytes", [0, 100_000])
def test_every_candidate_is_timed(sweep_bytes: int):
    request = convolution("host")
    ways = candidates(request)[:3]
    assert len(ways) > 1
    compiler = find_compiler(load_target("host"))
    strict = replace(compiler, command=(*compiler.command, *WARNING_FLAGS))
    measure = measure_with(Settings(strict, seconds=0.001, sweep_bytes=sweep_bytes))
    seconds = measure(request, ways)
    assert list(seconds) == [way.name for way in ways]
    assert all(1e-9 < value < 1.0 for value in seconds.values())


def test_a_device_is_reached_through_a_command():
    emulator = shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("no emulator")
    request = convolution("cortex-a76", 8)
    settings = Settings(find_compiler(load_target("cortex-a76")), (emulator, "-cpu", "cortex-a76"), seconds=0.001)
    seconds = measure_with(settings)(request, candidates(request)[:2])
    assert len(seconds) > 1 and all(value > 0 for value in seconds.values())


def test_kernels_of_rows_compute_all_rows_at_once():
    request = replace(convolution("host"), rows=True)
    ways = candidates(request)[:2]
    program = measuring_program(request, ways, 0)
    blocks = [call for call in program.module.calls if isinstance(call, Stripes)]
    assert [block.ends for block in blocks] == [((12,),)] * len(ways)
    seconds = run_program(program, Settings(find_compiler(load_target("host")), seconds=0.001))
    assert all(value > 0 for value in seconds.values())


def test_integer_operands_are_valid_indices():
    data = Given(np.arange(40, dtype=np.float32).reshape(10, 4))
    request = request_for(Gather(axis=0), [data, Given(np.array([3, 9], np.int64))], "host")
    kernel = lower(request)
    program = measuring_program(request, [Candidate("only", 1.0, lambda: kernel)], 0)
    assert run_program(program, Settings(find_compiler(load_target("host")), seconds=0.001))["only"] > 0


@pytest.mark.parametrize(("runner", "match"), [(("no-such-command-anywhere",), "E400"), (("echo",), r"E401.*something else than times")])
def test_runners_that_fail(runner: tuple[str, ...], match: str):
    program = measuring_program(convolution("host"), candidates(convolution("host"))[:1], 0)
    with pytest.raises(EdgeccError, match=match):
        run_program(program, Settings(find_compiler(load_target("host")), runner))


def test_sums_that_are_scaled_in_one_multiply_add_are_measured_with_scales_that_fit():
    generator = np.random.default_rng(0)
    op = MatMul(epilogue=requantized(Arg(0, DType.I32), Arg(1, DType.F32), Arg(2, DType.I8), DType.I8))
    x = Given(generator.integers(-128, 128, (16, 2000)).astype(np.int8))
    w, b = (Given(generator.integers(-1, 2, shape).astype(dtype), constant=True) for shape, dtype in (((2000, 64), np.int8), ((64,), np.int32)))
    scale, zero = (Given(array, constant=True) for array in (generator.uniform(0.01, 0.04, 64).astype(np.float32), np.array(3, np.int8)))
    request = request_for(op, [x, w, b, scale, zero], "cortex-a76")
    assert request.fused_scale
    measuring_program(request, candidates(request)[:1], 0)
