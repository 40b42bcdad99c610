"""Several networks in one program."""

import numpy as np
import onnx
import pytest

from edgecc.artifact.batch import BatchExecutor, build_batch
from edgecc.artifact.toolchain import find_compiler
from edgecc.backends.c.batch import emit_batch
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.pipeline import compile_graph
from edgecc.targets.schema import load_target

PORTABLE = load_target("generic-c")


def module_of(text, name):
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {text}')
    return compile_graph(import_model(model), PORTABLE, name=name).module


def test_networks_of_a_batch_keep_apart(tmp_path):
    modules = [module_of("g (float[5] x) => (float[5] y) { y = Exp (x) }", "first"),
               module_of("g (float[5] x) => (float[5] y) <float[5] w = {1, 2, 3, 4, 5}> { y = Add (x, w) }", "second"),
               module_of("g (float[5] x) => (float[5] y) <float[5] w = {5, 4, 3, 2, 1}> { z = Exp (x) y = Add (z, w) }", "third")]
    batch = emit_batch(modules, PORTABLE)
    program = build_batch(find_compiler(PORTABLE), batch.files, batch.sources, tmp_path, ("-O1", "-Wall", "-Wextra", "-Werror"))
    executor = BatchExecutor([str(program)])
    x, up = np.float32([0, 1, -1, 2, 0.5]), np.float32([1, 2, 3, 4, 5])
    try:
        for number, wanted in ((2, np.exp(x) + up[::-1]), (0, np.exp(x)), (1, x + up), (2, np.exp(x) + up[::-1])):
            y = np.zeros(5, np.float32)
            executor.run(number, [x], [y])
            np.testing.assert_allclose(y, wanted, rtol=1e-6)
        with pytest.raises(EdgeccError, match=r"E401.*exit status 7"):
            executor.run(3, [x], [np.zeros(5, np.float32)])
        executor.run(1, [x], [y])  # started again
        np.testing.assert_array_equal(y, x + up)
    finally:
        executor.close()


def test_names_in_a_batch_differ():
    module = module_of("g (float[5] x) => (float[5] y) { y = Exp (x) }", "same")
    with pytest.raises(EdgeccError, match="names of their own"):
        emit_batch([module, module], PORTABLE)
