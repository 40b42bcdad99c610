"""The back end under the kit of edgecc, and what is its own: the stream, the simulator, the pass."""

from __future__ import annotations

import numpy as np
import pytest
from toy_npu import simulator
from toy_npu.commands import Add, Conv, Limit, Stream, bits_of, joined, number_of, split

from edgecc import EdgeccError
from edgecc.backends.discovery import create_backend
from edgecc.backends.op_table import op_table
from edgecc.backends.testing import BackendTests
from edgecc.pipeline import prepare_graph
from edgecc.targets.schema import load_target


class TestToyNpu(BackendTests):
    backend = "toy-npu"
    target = "toy-npu-board"
    least = 8


def artifact_of(name):
    (case,) = (case for case in op_table() if str(case) == name)
    target, backend = load_target("toy-npu-board"), create_backend("toy-npu")
    return backend.emit(prepare_graph(case.build(), target, backend).graph, "net", target, "tnpu")


def test_a_convolution_is_one_command():
    artifact = artifact_of("conv, 3x3 requantized, a scale for each channel, i8")
    stream = Stream.from_bytes(artifact.files["net.tnpu"])
    (command,) = stream.commands
    assert isinstance(command, Conv) and split(command.kernel, 2) == (3, 3) and command.channels == 8
    assert artifact.manifest.report == {"commands": {"conv": 1, "add": 0, "limit": 0}, "multiply-adds": 6 * 6 * 8 * 4 * 9}


def test_streams_are_read_back():
    stream = Stream(64, ((0, 16),), ((32, 16),), (Limit(0, 32, 16, -5, 9), Add(0, 32, 32, 16, 1, bits_of(0.5), -2, bits_of(0.25), 3, -128, 127)), b"abc")
    assert Stream.from_bytes(stream.to_bytes()) == stream
    for damaged in (b"", b"TNPU", stream.to_bytes()[:-1], b"XXXX" + stream.to_bytes()[4:]):
        with pytest.raises(ValueError):
            Stream.from_bytes(damaged)


def test_small_numbers_share_a_word():
    assert split(joined(3, 15, 0, 7), 4) == (3, 15, 0, 7)
    assert number_of(bits_of(0.1)) == np.float32(0.1)


def test_the_simulator_adds_and_limits():
    stream = Stream(48, ((0, 3), (16, 3)), ((32, 3),), (
        Add(0, 16, 32, 3, 1, bits_of(0.5), -2, bits_of(0.25), 3, -128, 127), Limit(32, 32, 3, 4, 100)), b"")
    (got,) = simulator.run(stream.to_bytes(), [np.array([1, 5, 127], np.int8), np.array([-2, 0, 127], np.int8)])
    # round(0) + 3 = 3 -> 4; round(2 + 0.5) + 3 = 5, half to even; round(63 + 32.25) + 3 = 98
    np.testing.assert_array_equal(got, [4, 5, 98])
    with pytest.raises(ValueError, match="4 bytes instead of 3"):
        simulator.run(stream.to_bytes(), [np.zeros(4, np.int8), np.zeros(3, np.int8)])


def test_memory_that_is_too_small():
    (case,) = (case for case in op_table() if str(case) == "conv, pointwise requantized, one scale, i8")
    target, backend = load_target("toy-npu-board"), create_backend("toy-npu{memory=256}")
    with pytest.raises(EdgeccError) as caught:
        backend.emit(prepare_graph(case.build(), target, backend).graph, "net", target, "tnpu")
    assert caught.value.code == "E113" and "256" in caught.value.message
