"""A small model written by hand against ABI 1, so that the artifact layer is tested without the compiler."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgecc.artifact.folder import Artifact, make_artifact, weights_blob
from edgecc.ir.types import DType, TensorType
from edgecc.loop.module import ArenaBytes, Call, Constant, InputBytes, Interface, Module, OutputBytes, WeightBytes
from edgecc.targets.schema import load_target

WEIGHTS = np.arange(1, 4, dtype=np.float32)

# y = x * w + k; flag = k > 0; "count" of a stream lives nowhere: a run keeps nothing.
SOURCE = r"""
#include "hand.h"
%(weights)s
static const int64_t dims_x[] = {2, 3};
static const edgecc_tensor inputs[] = {{"x:0", 1, 2, dims_x, 24}, {"k", 7, 0, NULL, 8}};
static const edgecc_tensor outputs[] = {{"y/\"out\"", 1, 2, dims_x, 24}, {"flag", 9, 0, NULL, 1}};
static int run(const void *const *in, void *const *out, void *arena) {
  const float *x = in[0];
  float *y = out[0], *t = arena;
  const int64_t k = *(const int64_t *)in[1];
  %(body)s
  if (((uintptr_t)arena & 127) != 0) return 9;
  for (int i = 0; i < 6; i++) t[i] = x[i] * weights[i %% 3];
  for (int i = 0; i < 6; i++) y[i] = t[i] + (float)k;
  *(uint8_t *)out[1] = k > 0;
  return 0;
}
static const edgecc_model model = {EDGECC_ABI, "hand", "%(target)s", 2, 2, inputs, outputs, 24, 128, 12, %(init)s, run};
const edgecc_model *edgecc_get_model(void) { return &model; }
"""
LINKED = 'extern const float hand_weights[];\n#define weights hand_weights'
ASSEMBLY = """
    .section .rodata
    .globl hand_weights
    .balign 64
hand_weights:
    .incbin "weights.bin"
    .section .note.GNU-stack,"",%progbits
"""
PASSED = """
static const float *weights;
static int init(const void *blob, size_t bytes) {
  if (bytes != 12) return 5;
  weights = blob;
  return 0;
}
"""


def hand_module() -> Module:
    x = TensorType(DType.F32, (2, 3))
    return Module(
        name="hand", inputs=(Interface("x:0", x), Interface("k", TensorType(DType.I64, ()))),
        outputs=(Interface('y/"out"', x), Interface("flag", TensorType(DType.BOOL, ()))), functions=(),
        calls=(Call("affine", (InputBytes(0), WeightBytes(0), ArenaBytes(0)), ("Mul_0",)),
               Call("affine", (ArenaBytes(0), InputBytes(1), OutputBytes(0)), ("Add_1", "Greater_2"))),
        constants=(Constant(0, WEIGHTS),), weights_bytes=12, arena_bytes=24, arena_lower_bound=24, arena_align=128)


def hand_artifact(target: str = "host", linked: bool = True, body: str = "") -> Artifact:
    module = hand_module()
    source = SOURCE % {"weights": LINKED if linked else PASSED, "body": body, "target": target,
                       "init": "NULL" if linked else "init"}
    files = {"hand.c": source.encode(), "hand.h": b'#include "edgecc_abi.h"\n', "weights.bin": weights_blob(module)}
    sources = ["hand.c"]
    if linked:
        files["weights.S"] = ASSEMBLY.encode()
        sources.append("weights.S")
    return make_artifact(module, load_target(target), files, sources, weights_file="weights.bin", weights_linked=linked)


@pytest.fixture
def make_hand_artifact() -> Callable[..., Artifact]:
    """Builds the artifact of the hand-written model; see `hand_artifact`."""
    return hand_artifact


@pytest.fixture
def hand_folder(tmp_path: Path) -> Path:
    """The hand-written model for the host, as a folder."""
    return hand_artifact().write(tmp_path / "hand")


@pytest.fixture
def hand_inputs() -> dict[str, np.ndarray]:
    return {"x:0": np.arange(6, dtype=np.float32).reshape(2, 3), "k": np.array(2, np.int64)}


@pytest.fixture
def hand_expected() -> dict[str, np.ndarray]:
    return {'y/"out"': np.arange(6, dtype=np.float32).reshape(2, 3) * WEIGHTS + np.float32(2), "flag": np.array(True)}


@pytest.fixture
def needs_arm() -> None:
    """Skips where no AArch64 code can be built and run."""
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is not installed")
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("aarch64-linux-gnu-gcc is not installed")
