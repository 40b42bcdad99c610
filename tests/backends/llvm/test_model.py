"""Networks through the LLVM back end: in this process, as objects that the linker takes, and the text of a small kernel."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import edgecc
from edgecc import api
from edgecc.artifact import elf, toolchain
from edgecc.artifact.load import load, random_inputs
from edgecc.backends.base import EmitOptions, SelfTest
from edgecc.backends.c.backend import CBackend
from edgecc.backends.llvm.backend import LlvmBackend
from edgecc.backends.llvm.jit import load_here
from edgecc.backends.llvm.kernel import function_text
from edgecc.backends.llvm.machine import machine_of
from edgecc.backends.llvm.writer import Shared
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.ir.types import DType
from edgecc.loop.builder import Builder, fma
from edgecc.loop.module import Module
from edgecc.pipeline import compile_graph
from edgecc.targets.schema import list_targets, load_target
from tests.backends.c.conftest import expected, network

GOLDEN = Path(__file__).parent / "axpy.ll"
X = np.linspace(-3, 3, 60, dtype=np.float32).reshape(6, 10)
DIGITS = Path("examples/digits/digits.onnx")


def digits(target: str) -> Module:
    graph = import_model(Path(__file__).parents[3] / DIGITS, shapes={"image": (1, 1, 8, 8)})
    return compile_graph(graph, load_target(target), name="digits").module


def check_tiny(results: dict[str, np.ndarray]) -> None:
    y, flag = expected(X)
    np.testing.assert_array_equal(results["y"], y)
    np.testing.assert_array_equal(results["flag"], flag)


def test_network_in_this_process():
    model = load_here(network(lanes=4), load_target("host"))
    check_tiny(model.run({"x": X, "k": np.int64(3)}))
    assert model.inputs[0].name == "x" and model.code_bytes


def test_threads_run_one_after_the_other_in_this_process():
    check_tiny(load_here(network(threads=2), load_target("host")).run({"x": X, "k": np.int64(3)}))


@pytest.mark.parametrize("weights", ["linked", "file"])
def test_object_links_into_a_library(tmp_path: Path, weights: str):
    artifact = LlvmBackend().emit(network(weight_rows=700), load_target("host"), EmitOptions(weights=weights))
    assert set(artifact.files) == {"tiny.o", "tiny.h", "edgecc_abi.h", "CMakeLists.txt", *(["weights.bin"] if weights == "file" else [])}
    check_tiny(load(artifact.write(tmp_path / "net")).run({"x": X, "k": np.int64(3)}))
    with LlvmBackend().load(artifact) as model:  # no linker
        check_tiny(model.run({"x": X, "k": np.int64(3)}))


def test_equal_modules_give_equal_bytes():
    target = load_target("cortex-a76")
    first, second = (LlvmBackend().emit(network(), target).files["tiny.o"] for _ in range(2))
    assert first == second


def require_aarch64() -> None:
    if shutil.which("qemu-aarch64") is None or shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("no emulator or linker for AArch64")


def test_object_for_another_machine():
    require_aarch64()
    artifact = LlvmBackend().emit(network(lanes=4), load_target("cortex-a53"))
    check_tiny(load(artifact, cc="aarch64-linux-gnu-gcc").run({"x": X, "k": np.int64(3)}))


def test_object_for_another_machine_gives_the_bits_of_c():
    require_aarch64()
    module, chosen = digits("cortex-a76"), load_target("cortex-a76")
    image = np.random.default_rng(3).random((1, 1, 8, 8), np.float32)
    results = [load(backend.emit(module, chosen), cc="aarch64-linux-gnu-gcc").run({"image": image})["probabilities"]
               for backend in (LlvmBackend(), CBackend())]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("name", [name for name in list_targets() if LlvmBackend().accepts(load_target(name)) is None])
def test_every_target_of_these_architectures_has_code(name: str):
    target = load_target(name)
    machine = machine_of(target)
    assert machine is not None
    content = LlvmBackend().emit(network(lanes=4 if machine.has_vectors else 1), target).files["tiny.o"]
    architecture = {62: "x86_64", 183: "aarch64"}[int.from_bytes(content[18:20], "little")]  # e_machine of ELF
    assert target.architecture in (architecture, "generic") and elf.code_bytes(content)


def test_assembly_and_text_say_what_they_are_for():
    target = load_target("cortex-a76")
    assembly = LlvmBackend().emit(network(lanes=4), target, EmitOptions(form="asm"))
    assert b"fmul" in assembly.files["tiny.s"] and b'.incbin "weights.bin"' in assembly.files["tiny.s"].replace(b"\t", b" ")
    text = LlvmBackend().emit(network(lanes=4), target, EmitOptions(form="llvm-ir"))
    assert text.files["tiny.ll"].startswith(b"; tiny, for cortex-a76.")
    assert text.files["weights.bin"] == assembly.files["weights.bin"]


def test_what_it_has_not_is_said():
    with pytest.raises(EdgeccError, match="self-test"):
        LlvmBackend().emit(network(), load_target("host"), EmitOptions(self_test=SelfTest({})))


def test_text_of_a_small_kernel(request: pytest.FixtureRequest):
    b = Builder("axpy", doc="y = 2*x + y")
    x, y = b.buffer("x", DType.F32, 32, "input"), b.buffer("y", DType.F32, 32, "output")
    with b.loop("i", 32, step=4) as i:
        b.store(y, i, fma(b.load(x, i, 4), 2.0, b.load(y, i, 4)))
    machine = machine_of(load_target("cortex-a76"))
    assert machine is not None
    text = function_text(b.function(), Shared(machine), "net_axpy", locs=("Mul_0", "Add_1"))
    if request.config.getoption("--bless"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_models_run_here_where_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(toolchain, "zig_command", lambda: None)
    monkeypatch.delenv(toolchain.CC_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    model, shapes = Path(__file__).parents[3] / DIGITS, {"image": (1, 1, 8, 8)}
    assert edgecc.verify(model, shapes=shapes, threads=2).ok
    with api.load_or_compile(model, None, options=api.Options(shapes=shapes)) as loaded:
        wanted = loaded.run(random_inputs(loaded.inputs))["probabilities"]
    edgecc.compile(model, output=tmp_path / "digits", emit="obj", shapes=shapes)
    with api.load_or_compile(tmp_path / "digits", None) as loaded:
        np.testing.assert_array_equal(loaded.run(random_inputs(loaded.inputs))["probabilities"], wanted)
    with pytest.raises(EdgeccError, match="nothere"):  # what was asked for is not replaced
        edgecc.verify(model, shapes=shapes, cc="nothere")
