"""Kernels of AVX2 that multiply bytes without products of four, through LLVM: pairs of words, and bytes combined with masks."""

import pytest

from edgecc.ir.types import DType
from edgecc.kernels.complements import MASKS
from edgecc.kernels.registry import lower
from tests.kernels import test_depthwise_pairs, test_direct_runs
from tests.support import ccompile, kernels, llvm

TARGET = "x86-64-v3"


@pytest.fixture
def by_llvm(monkeypatch):
    """Kernels that are run for a machine are compiled by LLVM."""
    monkeypatch.setattr(ccompile, "run_function", lambda function, buffers, target, flags: llvm.run_functions([(function, buffers)], target)[0])


@pytest.mark.parametrize(("dtype", "zero", "channels", "stride"), [(DType.U8, 255, 24, 1), (DType.I8, -128, 19, 2)])
def test_pairs_of_words(by_llvm, dtype, zero, channels, stride):
    request, arrays = test_depthwise_pairs.extreme(dtype, zero, channels, 3, stride)
    kernels.check(request, arrays, machine=TARGET, choice=test_depthwise_pairs.PAIRED)


def test_masked_bytes_of_first_layers(by_llvm):
    request, arrays = test_direct_runs.extreme(DType.U8, 114, 3, 3, 2, (1, 1, 1, 1))
    assert MASKS in {b.name for b in lower(request).function.buffers}
    kernels.check(request, arrays, machine=TARGET)
