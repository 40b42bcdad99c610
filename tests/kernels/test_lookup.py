"""Functions of a byte, looked up in a table: in registers where the machine permutes bytes, else byte by byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.ir.types import DType, Layout, TensorType
from edgecc.kernels.registry import lower
from edgecc.kernels.request import Operand, Request
from edgecc.kernels.view import View
from edgecc.loop.interpreter import run_function
from edgecc.loop.ir import Op, expressions, subexpressions, walk
from edgecc.loop.verify import verify_function
from edgecc.ops.indexing import Gather
from edgecc.passes.loop import apply_schedule
from edgecc.targets.schema import load_target
from tests.support import kernels, llvm

PERMUTES, PERMUTES_PARTS = "x86-64-v4-bf16", "x86-64-v3"
BYTES = (np.int8, np.uint8)


def case(seed, shape, table_type, index_type):
    """A table and every byte, as far as there is room."""
    random = np.random.default_rng(seed)
    table = np.frombuffer(random.bytes(256 * np.dtype(table_type).itemsize), table_type)
    indices = np.resize(random.permutation(256).astype(np.uint8).view(index_type), shape)
    return [table, indices]


def has_lookup(request, op="lookup"):
    return any(isinstance(part, Op) and part.op == op for stmt in walk(lower(request).function.body)
               for expr in expressions(stmt) for part in subexpressions(expr))


@st.composite
def gathers(draw):
    shape = draw(kernels.shapes(0, 4, most_elements=700))
    arrays = case(draw(st.integers(0, 99)), shape, draw(st.sampled_from((*BYTES, np.int32))), draw(st.sampled_from(BYTES)))
    view = draw(kernels.views(TensorType.of(arrays[1])))
    result_type = Gather(0).infer([TensorType.of(a) for a in arrays])[0]
    result = draw(kernels.views(result_type))
    if draw(st.booleans()):
        result = kernels.laid_out(result_type, range(len(shape)))
        view = kernels.laid_out(TensorType.of(arrays[1]), range(len(shape)))
    target = draw(st.sampled_from((PERMUTES, PERMUTES, PERMUTES_PARTS, *kernels.TARGETS)))
    return kernels.request_for(Gather(0), arrays, target, inputs=[None, view], outputs=[result], constants=[0],
                               threads=draw(st.sampled_from((1, 4)))), arrays


@settings(max_examples=100)
@given(gathers())
def test_lookups_agree_with_the_reference(drawn):
    request, arrays = drawn
    kernels.check(request, arrays, units=0.0)
    if lower(request).in_place:
        kernels.check(request, arrays, units=0.0, in_place=(0, 1))


@pytest.mark.parametrize(("machine", "shape"), [("host", (1, 13, 49)), ("host", (256,)), ("x86-64-v3", (3, 100)), ("cortex-a76", (1000,))])
def test_compiled_lookups_give_every_entry(machine, shape):
    for number in range(2):
        arrays = case(number, shape, BYTES[number], BYTES[1 - number])
        kernels.check(kernels.request_for(Gather(0), arrays, machine, constants=[0]), arrays, units=0.0, machine=machine)
    words = case(3, shape, np.int32, np.uint8)
    kernels.check(kernels.request_for(Gather(0), words, machine, constants=[0]), words, units=0.0, machine=machine)


def test_runs_of_bytes_are_looked_up_in_registers():
    request = kernels.request_for(Gather(0), case(0, (2, 100), np.int8, np.uint8), PERMUTES, constants=[0])
    assert has_lookup(request)
    few = kernels.request_for(Gather(0), case(0, (7,), np.int8, np.uint8), PERMUTES, constants=[0])
    other = kernels.request_for(Gather(0), case(0, (2, 100), np.int8, np.uint8), "x86-64-v4", constants=[0])
    assert not has_lookup(few) and not has_lookup(other)


def test_groups_of_bytes_are_looked_up_in_parts_of_the_table():
    for shape, whole in (((2, 100), True), ((3, 33), False), ((28,), False), ((1, 4, 9), True)):
        request = kernels.request_for(Gather(0), case(0, shape, np.int8, np.uint8), PERMUTES_PARTS, constants=[0])
        assert has_lookup(request, "lookup_groups") == whole, shape
        assert not has_lookup(request)


def test_rows_of_a_ring_are_looked_up_in_groups():
    (table, x), dims = case(7, (6, 10, 8), np.uint8, np.uint8), (1, 8, 6, 10)  # rows, columns, channels
    views = [View(DType.U8, dims, Layout.channels_last(4).strides(dims), ring) for ring in (4, 2)]
    request = Request(Gather(0), (Operand(View(DType.U8, (256,), (1,)), is_constant=True), Operand(views[0])), (views[1],), load_target(PERMUTES_PARTS), rows=True)
    assert has_lookup(request, "lookup_groups")
    kernel = lower(request)
    function = apply_schedule(kernel.function, kernel.schedule)
    verify_function(function)
    held = {"x": np.zeros(4 * 20, np.uint32), "y": np.zeros(2 * 20, np.uint32), "table": kernel.arguments[0].pack(table)}
    for row in (0, 2, 4):
        for place in (row, row + 1):
            held["x"].view(np.uint8).reshape(4, 80)[place % 4] = x[place].reshape(-1)
        run_function(function, held, {"row_start": row, "row_stop": row + 2})
        np.testing.assert_array_equal(held["y"].view(np.uint8).reshape(2, 10, 8), table[x[row:row + 2]])


def test_llvm_looks_up_groups():
    pytest.importorskip("llvmlite")
    if not load_target("host").has("avx2"):
        pytest.skip("this machine does not permute the bytes of 128 bits")
    arrays = case(5, (1000,), np.int8, np.uint8)
    function = lower(kernels.request_for(Gather(0), arrays, PERMUTES_PARTS, constants=[0])).function
    table = np.tile(arrays[0].reshape(16, 1, 16), (1, 2, 1)).view(np.uint32).reshape(-1)
    found = llvm.run_function(function, {"table": table, "x": arrays[1].view(np.uint32)}, PERMUTES_PARTS)["y"]
    np.testing.assert_array_equal(found.view(np.int8), arrays[0][arrays[1]])


def test_llvm_looks_up_in_registers():
    pytest.importorskip("llvmlite")
    arrays = case(5, (1000,), np.int8, np.uint8)
    function = lower(kernels.request_for(Gather(0), arrays, PERMUTES, constants=[0])).function
    if not load_target("host").has("avx512vbmi"):
        pytest.skip("this machine does not permute bytes")
    found = llvm.run_function(function, {"table": arrays[0], "x": arrays[1]}, "host")["y"]
    np.testing.assert_array_equal(found.view(np.int8), arrays[0][arrays[1]])
    words = case(6, (1000,), np.int32, np.uint8)
    function = lower(kernels.request_for(Gather(0), words, PERMUTES, constants=[0])).function
    planes = np.concatenate([(words[0].view(np.uint32) >> 8 * place).astype(np.uint8) for place in range(4)])
    np.testing.assert_array_equal(llvm.run_function(function, {"table": planes, "x": words[1]}, "host")["y"].view(np.int32), words[0][words[1]])
