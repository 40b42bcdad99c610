"""The C code that runs a divided network, with C code of edgecc in the accelerator's place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgecc
from edgecc import EdgeccError, api
from edgecc.artifact.folder import Artifact
from edgecc.artifact.runner import LibraryExecutor
from edgecc.artifact.toolchain import WARNING_FLAGS, BuildOptions, build_shared_library, find_compiler
from edgecc.backends.base import EmitOptions
from edgecc.backends.c.backend import CBackend
from edgecc.partition.split import split
from edgecc.pipeline import compile_graph
from edgecc.targets.schema import load_target
from tests.partition.test_run import board as board

STAND_IN = """#include "{network}_parts.h"
#include "{place}/{name}.h"
int {name}_invoke(const void *const *in, void *const *out, void *arena) {{
  static _Alignas(64) unsigned char own[{arena_bytes}];
  (void)arena;
  if (*(const float *)in[0] == 77) return 123;
  return {name}_get_model()->run(in, out, own);
}}
"""
GETTER = """#include "net.h"
EDGECC_EXPORT const edgecc_model *edgecc_get_model(void);
const edgecc_model *edgecc_get_model(void) {
  return net_get_model();
}
"""


def compiled(model: onnx.ModelProto, folder: Path) -> tuple[LibraryExecutor, Artifact]:
    """The network by its driver, compiled with warnings as errors."""
    target = load_target("board")
    done = api.compile_for(model, target, api.Options(name="net"))
    assert isinstance(done, api.Division)
    made = done.partitioned
    path = done.artifact.write(folder / "net")
    sources = ["net.c", "model.c"]
    for number, part in enumerate(split(made.graph, made.plan).parts):
        place, name = f"{number}_{'npu' if part.on_npu else 'cpu'}", f"net_{'npu' if part.on_npu else 'cpu'}{number}"
        if part.on_npu:
            code = CBackend().emit(compile_graph(part.graph, target, name=name).module, target, EmitOptions())
            for file, content in code.files.items():
                (path / place / file).write_bytes(content)
            (path / f"{name}_stand_in.c").write_text(STAND_IN.format(network="net", place=place, name=name, arena_bytes=max(1, code.arena_bytes)))
            sources += [f"{name}_stand_in.c", *(f"{place}/{source}" for source in code.manifest.sources)]
        else:
            sources += [f"{place}/{source}" for source in Artifact.read(path / place).manifest.sources]
    assert sum("npu" in source for source in sources) >= 4 and sum("cpu" in source for source in sources) >= 2
    (path / "model.c").write_text(GETTER)
    flags = (*WARNING_FLAGS, "-DEDGECC_NO_GET_MODEL", *(f"-I{folder}" for folder in {(path / source).parent for source in sources}))
    return LibraryExecutor(build_shared_library(find_compiler(target, "gcc"), path, sources, folder / "net.so", BuildOptions(flags=flags)).output), done.artifact


def network() -> onnx.ModelProto:
    """Products of small integers, so that the order of sums is all the same; outputs that are an input, and one twice."""
    rng = np.random.default_rng(1)
    weights = [helper.make_tensor(f"w{i}", TensorProto.FLOAT, (4, c, 3, 3), rng.integers(-3, 4, 36 * c).astype(np.float32))
               for i, c in enumerate((2, 4, 4))]
    nodes = [helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1] * 4), helper.make_node("Abs", ["a"], ["b"]),
             helper.make_node("Conv", ["b", "w1"], ["c"], pads=[1] * 4), helper.make_node("Add", ["c", "a"], ["d"]),
             helper.make_node("Conv", ["d", "w2"], ["e"], pads=[1] * 4), helper.make_node("Mul", ["e", "b"], ["f"]),
             helper.make_node("Identity", ["d"], ["again"]), helper.make_node("Identity", ["x"], ["same"])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2 if name == "same" else 4, 6, 5]) for name in ("d", "f", "again", "same", "e")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 6, 5])], outputs, weights)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model


@pytest.mark.usefixtures("board")
def test_all_parts_give_the_bytes_of_the_whole_network(tmp_path):
    model, x = network(), np.random.default_rng(0).integers(-9, 10, (1, 2, 6, 5)).astype(np.float32)
    executor, artifact = compiled(model, tmp_path)
    outputs = artifact.manifest.outputs
    results = [np.full(port.type.dims, np.nan, np.float32) for port in outputs]
    executor.run([x], results)
    with edgecc.load(edgecc.compile(model, "generic-c"), cc="gcc") as whole:
        wanted = whole.run({"x": x})
    for port, result in zip(outputs, results, strict=True):
        np.testing.assert_array_equal(result, wanted[port.name], err_msg=port.name)
    assert artifact.arena_bytes == executor.model.arena_bytes
    with pytest.raises(EdgeccError, match="123"):  # what a function of the user's returns
        executor.run([np.full_like(x, 77)], results)


@pytest.mark.usefixtures("board")
def test_every_part_of_the_accelerator_has_a_function(tmp_path):
    files = edgecc.compile("examples/digits/digits.onnx", "board", shapes={"image": (1, 1, 8, 8)}).files
    header, source, cmake = (files[name].decode() for name in ("digits_parts.h", "digits.c", "CMakeLists.txt"))
    for number, side in ((0, "npu"), (2, "npu"), (1, "cpu")):
        name = f"digits_{side}{number}"
        assert (f"int {name}_invoke(" in header) == (side == "npu") == (f"{name}_get_model()->run" not in source)
        assert (f"add_subdirectory({number}_cpu)" in cmake) == (side == "cpu")
    assert "/* Runs 0_npu/digits_npu0.ir.\n * in[0]: image, f32[1,1,8,8], 256 bytes\n" in header
