"""The cost model: monotone, and with the right extremes."""

from __future__ import annotations

import dataclasses

import pytest

import edgecc.kernels  # noqa: F401  (registers all kernels)
from edgecc.ir.types import DType
from edgecc.kernels.cost import CALL_CYCLES, combine, read_cycles, worthwhile_threads
from edgecc.kernels.registry import candidates, lower
from edgecc.kernels.request import Operand, Request, signature
from edgecc.kernels.view import View
from edgecc.memory.strides import row_major_strides
from edgecc.ops.convolution import Conv
from edgecc.targets.schema import load_target

A76 = load_target("cortex-a76")


@pytest.mark.parametrize(("footprint", "rate"), [(1024, A76.bandwidth.level1), (64 * 1024, A76.bandwidth.level2),
                                                 (1024 * 1024, A76.bandwidth.level3), (10**8, A76.bandwidth.memory)])
def test_reads_are_served_by_the_level_that_holds_the_footprint(footprint: int, rate: float) -> None:
    assert read_cycles(4096, footprint, A76) == 4096 / rate


@pytest.mark.parametrize(("shared", "threads", "rate"), [(12.0, 1, 8.0), (12.0, 2, 6.0), (12.0, 4, 3.0), (40.0, 2, 8.0), (0.0, 4, 8.0)])
def test_threads_share_what_memory_gives(shared: float, threads: int, rate: float) -> None:
    target = dataclasses.replace(A76, bandwidth=dataclasses.replace(A76.bandwidth, memory=8.0, memory_shared=shared))
    assert read_cycles(4800, 10**8, target, threads) == 4800 / rate
    assert read_cycles(4800, 1024, target, threads) == read_cycles(4800, 1024, target)


def test_in_order_cores_hide_nothing() -> None:
    in_order = dataclasses.replace(A76, core=dataclasses.replace(A76.core, in_order=True))
    assert combine(100, 60, in_order) == CALL_CYCLES + 160
    assert CALL_CYCLES + 100 < combine(100, 60, A76) < CALL_CYCLES + 160
    assert combine(60, 100, A76) == combine(100, 60, A76)


def _request(depth: int) -> Request:
    def view(*dims: int) -> View:
        return View(DType.F32, dims, row_major_strides(dims))

    return Request(Conv((1, 1), (0, 0, 0, 0), (1, 1), 1, None),
                   (Operand(view(1, depth, 5, 5)), Operand(view(8, depth, 1, 1), True), None), (view(1, 8, 5, 5),), A76)


def test_candidates_are_sorted_and_can_be_chosen_by_name() -> None:
    found = candidates(_request(16))
    assert found and [c.cycles for c in found] == sorted(c.cycles for c in found)
    for candidate in found:
        assert lower(_request(16), candidate.name).choice == candidate.build().choice
    assert lower(_request(16), "no such candidate").choice == found[0].build().choice


def test_signatures_tell_requests_apart_and_repeat() -> None:
    assert signature(_request(16)) == signature(_request(16)) != signature(_request(17))
    assert "\n" not in signature(_request(16))


def test_small_kernels_run_on_one_thread() -> None:
    assert worthwhile_threads(1000, 4) == 1
    assert worthwhile_threads(10**6, 4) == 4
    assert worthwhile_threads(10**6, 1) == 1
    small, large = (lower(dataclasses.replace(_request(depth), threads=2)) for depth in (16, 10**5))
    assert not any(step.startswith("parallelize") for step in small.schedule)
    assert large.schedule[-1] == "parallelize{threads=2}"
