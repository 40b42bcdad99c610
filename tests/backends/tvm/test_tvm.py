"""The TVM back end passes the kit, and what is its own: targets, forms, the script beside a library, roundings."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import numpy as np
import pytest

from edgecc.artifact.toolchain import find_compiler
from edgecc.backends.testing import BackendTests
from edgecc.backends.testing.subject import Subject
from edgecc.backends.tvm import emulated
from edgecc.backends.tvm.rules import RULES, obstacle
from edgecc.errors import EdgeccError
from edgecc.ir.graph import Graph
from edgecc.ir.scalar import Arg, apply, convert, literal
from edgecc.ir.types import DType, TensorType
from edgecc.ops.convolution import Pool
from edgecc.ops.elementwise import Elementwise
from edgecc.ops.requantize import rounded
from edgecc.ops.sizes import Sizes
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target

pytest.importorskip("tvm", reason="the extra tvm is not installed")

AARCH64 = 183
"""What ELF calls the machine."""


class TestTvm(BackendTests):
    backend = "tvm{optimize=0}"
    target = "host"
    batch = 200
    least = 149


def small() -> Graph:
    """y = max(a + b, 0)."""
    graph = Graph("small")
    a, b = (graph.add_input(TensorType(DType.F32, (2, 3)), name) for name in "ab")
    total = apply("add", Arg(0, DType.F32), Arg(1, DType.F32))
    graph.set_outputs([graph.add(Elementwise(apply("max", total, literal(0.0, DType.F32))), a, b)], ["y"])
    return graph


def test_the_script_runs_the_library(tmp_path):
    folder = Subject.of("tvm{optimize=0}", "host", None).emit(small()).write(tmp_path / "out")
    a = np.arange(-3, 3, dtype=np.float32).reshape(2, 3)
    np.savez(tmp_path / "in.npz", a=a, b=np.ones_like(a))
    done = subprocess.run([sys.executable, str(folder / "load.py"), str(tmp_path / "in.npz")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["'y'", "float32", "(2,", "3)", "mean", str(float(np.maximum(a + 1, 0).astype(np.float64).mean()))]


def test_a_library_for_another_processor(monkeypatch):
    try:
        find_compiler(load_target("cortex-a76"))
    except EdgeccError as error:
        pytest.skip(error.message)
    subject = Subject.of("tvm", "cortex-a76", "tvm")
    artifact = subject.emit(small())
    library = artifact.files["net.so"]
    assert library[:4] == b"\x7fELF"
    assert struct.unpack_from("<H", library, 18) == (AARCH64,)
    assert "cortex-a76" in artifact.manifest.report["target"]
    if sys.platform == "linux" and find_compiler(load_target("cortex-a76")).native:
        return
    arrays = {"a": np.arange(-3, 3, dtype=np.float32).reshape(2, 3), "b": np.ones((2, 3), np.float32)}
    if os.environ.get(emulated.VARIABLE):
        np.testing.assert_array_equal(subject.run(artifact, arrays)["y"], np.maximum(arrays["a"] + 1, 0))
    monkeypatch.setenv(emulated.VARIABLE, "nowhere")
    with pytest.raises(EdgeccError, match=r"(?s)E405.*manylinux_2_28_aarch64 apache-tvm"):
        subject.run(artifact, arrays)


def test_the_module_can_be_printed():
    artifact = Subject.of("tvm", "host", "relax").emit(small())
    text = artifact.files["net_relax.py"].decode()
    assert "R.add(input_0, input_1)" in text
    assert "R.maximum(" in text
    assert artifact.manifest.report["operators"] == {"relax.add": 1, "relax.maximum": 1}
    with pytest.raises(EdgeccError, match="E405"):
        Subject.of("tvm", "host", "relax").run(artifact, {})


def test_sums_of_rounded_products_are_rounded_twice():
    """A product that were rounded together with the sum, as a fused multiply-add does, would round ties to the other integer."""
    graph = Graph("ties")
    a, b = (graph.add_input(TensorType(DType.I8, (256, 256)), name) for name in "ab")

    def term(index, scale):
        return apply("mul", convert(Arg(index, DType.I8), DType.F32), literal(scale, DType.F32))

    expr = rounded(apply("add", term(0, 0.1), term(1, 0.3)), None, DType.I8)
    graph.set_outputs([graph.add(Elementwise(expr), a, b)], ["y"])
    codes = np.arange(256).astype(np.uint8).view(np.int8)
    inputs = {"a": np.repeat(codes, 256).reshape(256, 256), "b": np.tile(codes, (256, 1))}
    subject = Subject.of("tvm", "host", None)
    np.testing.assert_array_equal(subject.run(subject.emit(graph), inputs)["y"], execute(graph, inputs)["y"])


def test_limits_of_what_can_be_written():
    graph = Graph("pool")
    x = graph.add_input(TensorType(DType.F32, (1, 1, 4, 4)), "x")
    pool = graph.add_node(Pool("average", (3, 3), (2, 2), (0,) * 4, (1, 1), count_include_pad=True, ceil_mode=True), [x])
    assert "beyond" in obstacle(pool)
    assert Sizes not in RULES
    with pytest.raises(EdgeccError, match="E009"):
        Subject.of("tvm{optimize=4}", "host", None)
