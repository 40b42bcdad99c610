"""Weights as C text: the bytes of the arrays, declared with the types that kernels read."""

import re

import ml_dtypes
import numpy as np
import pytest

from edgecc.artifact.folder import weights_blob
from edgecc.backends.base import WEIGHTS_TEXT_LIMIT, EmitOptions, SelfTest
from edgecc.backends.c import selftest
from edgecc.backends.c.backend import CBackend
from edgecc.backends.c.table import STORAGE
from edgecc.backends.c.weights import fits_text, weights_text
from edgecc.ir.types import DType
from edgecc.loop.module import Constant, Module
from edgecc.targets.schema import load_target
from tests.support.ccompile import build, run_program

GENERIC = load_target("generic-c")
MAIN = """#include <stdio.h>
extern const unsigned char *const tiny_weights;
int main(void) { return fwrite(tiny_weights, 1, %d, stdout) != %d; }
"""


def special_values(dtype: DType) -> np.ndarray:
    numpy_type = dtype.numpy
    if dtype is DType.BOOL:
        return np.array([True, False, True])
    if dtype.is_float:
        special = [0.0, -0.0, 1.0, -1.5, 0.1, np.inf, -np.inf, np.float64(2.0) ** -149, 3.0e38 if dtype is not DType.F16 else 6.5e4]
        return np.concatenate([np.array(special).astype(numpy_type), np.random.default_rng(0).standard_normal(50).astype(numpy_type)])
    limits = ml_dtypes.iinfo(numpy_type)
    return np.array([0, 1, limits.min, limits.max, limits.min + 1], numpy_type)


def module_of(constants: tuple[Constant, ...]) -> Module:
    size = max(c.offset + c.data.nbytes for c in constants)
    return Module("tiny", (), (), (), (), constants, size, 0, 0)


def test_the_text_has_the_bytes_of_every_type():
    constants, offset = [], 0
    for number, dtype in enumerate(STORAGE):
        data = special_values(dtype)
        constants.append(Constant(offset, data))
        offset = -(-(offset + data.nbytes) // 8) * 8 + (64 if number % 3 == 0 else 0)
    module = module_of(tuple(constants))
    assert fits_text(module, WEIGHTS_TEXT_LIMIT)
    program = build({"weights.c": weights_text(module), "main.c": MAIN % (module.weights_bytes, module.weights_bytes)}, GENERIC)
    assert run_program(program, GENERIC) == weights_blob(module)


def test_every_constant_is_declared_with_the_type_kernels_read():
    text = weights_text(module_of((Constant(0, np.ones(3, np.float32)), Constant(16, np.ones(2, np.int64)),
                                   Constant(32, np.ones(4, np.float16)))))
    assert re.findall(r"^  (\w+(?: char)?) (\w+)\[(\d+)\];", text, re.MULTILINE) == [
        ("float", "w0", "3"), ("unsigned char", "gap1", "4"), ("int64_t", "w1", "2"), ("uint16_t", "w2", "4")]


def test_weights_without_a_literal_or_too_large_for_text_go_to_a_file(make_network):
    assert not fits_text(module_of((Constant(0, np.array([1, np.nan], np.float32)),)), WEIGHTS_TEXT_LIMIT)
    small, large = (CBackend().emit(make_network(weight_rows=rows), GENERIC) for rows in (6, 2000))
    assert "weights.c" in small.files and "weights.bin" not in small.files
    assert "weights.S" in large.files and "weights.bin" in large.files


@pytest.mark.parametrize("weight_rows", [6, 2000])
def test_a_compiler_that_sees_the_whole_program_finds_the_weights(make_network, network_expected, weight_rows):
    module = make_network(weight_rows=weight_rows)
    y, flag = network_expected(selftest.inputs(module)["x"])
    artifact = CBackend().emit(module, GENERIC, EmitOptions(self_test=SelfTest({"y": y, "flag": flag})))
    wanted = {*artifact.manifest.sources, "selftest.c", "weights.bin"}
    files = {name: content for name, content in artifact.files.items() if name.endswith(".h") or name in wanted}
    program = build(files, GENERIC, flags=("-O3", "-flto", "-fstrict-aliasing", "-Wstrict-aliasing=2"))
    assert run_program(program, GENERIC).decode().endswith("ok\n")
