"""Whole networks in fp16 under emulation and in bf16 on this machine, against the fp32 reference."""

from __future__ import annotations

import dataclasses
import re
from contextlib import nullcontext

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgecc
from edgecc.artifact.folder import read_manifest
from edgecc.errors import EdgeccError
from edgecc.targets.schema import load_target
from tests.support.ccompile import build, require, run_program

DIGITS = "examples/digits/digits.onnx"
SHAPES = {"image": (1, 1, 8, 8)}


def machine(precision: str) -> str:
    name = "cortex-a76" if precision == "fp16" else "x86-64-v4-bf16"
    require(load_target(name))
    return name


def target_of(precision: str) -> object:
    """The target with the machine's own compiler, where it is this machine."""
    target = load_target(machine(precision))
    return target if precision == "fp16" else dataclasses.replace(
        target, toolchain=dataclasses.replace(target.toolchain, gcc_triple="", zig_target=""))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_network_stays_within_the_tolerance_and_takes_half_the_memory(precision, tmp_path):
    target = target_of(precision)
    full = edgecc.compile(DIGITS, target=target, shapes=SHAPES)
    outcome = edgecc.verify(DIGITS, target=target, shapes=SHAPES, precision=precision, verify_each=True)
    assert outcome.ok and outcome.precision == precision, outcome.outputs
    (output,) = outcome.outputs
    assert 0.0 < output.range_err < 0.01 and 40.0 < output.snr_db < 120.0
    assert outcome.relative_tolerance == {"fp16": 2.0**-7, "bf16": 2.0**-4}[precision]
    assert outcome.arena_bytes <= 0.55 * full.arena_bytes and outcome.weights_bytes < 0.6 * full.weights_bytes
    folder = edgecc.compile(DIGITS, target=target, shapes=SHAPES, precision=precision, output=tmp_path / "digits")
    assert folder.manifest.precision == read_manifest(tmp_path / "digits").precision == precision


@pytest.mark.parametrize(("target", "precision", "able"), [("cortex-a53", "fp16", "cortex-a55"), ("cortex-a76", "bf16", "x86-64-v4-bf16"),
                                                           ("x86-64-v4", "fp16", "cortex-a76"), ("generic-c", "fp16", "rpi5")])
def test_targets_without_the_arithmetic_refuse(target, precision, able):
    with pytest.raises(EdgeccError, match=f"{target} has no arithmetic for {precision}") as caught:
        edgecc.compile(DIGITS, target=target, shapes=SHAPES, precision=precision)
    assert caught.value.code == "E001" and able in caught.value.hint
    with pytest.raises(EdgeccError, match="not one of fp32, fp16, bf16"):
        edgecc.compile(DIGITS, target=target, shapes=SHAPES, precision="fp8")


def growing() -> bytes:
    """Two products, of which the first gives numbers beyond 65504 that the second brings back."""
    large = numpy_helper.from_array(np.full((8, 8), 9000.0, np.float32), "large")
    small = numpy_helper.from_array(np.full((8, 8), 1e-4, np.float32), "small")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "large"], ["big"], "grow"), helper.make_node("MatMul", ["big", "small"], ["y"], "shrink")],
                              "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8))],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8))], [large, small])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def test_overflow_is_reported_and_named_nodes_escape_it():
    target, inputs = machine("fp16"), {"x": np.full((1, 8), 2.0, np.float32)}
    onnx.checker.check_model(onnx.load_from_string(growing()))
    outcome = edgecc.verify(growing(), target=target, inputs=inputs, precision="fp16")
    (output,) = outcome.outputs
    assert not outcome.ok and output.overflows == 8 and output.max_abs_err == np.inf
    kept = edgecc.verify(growing(), target=target, inputs=inputs, precision="fp16", keep_fp32=("grow", "shrink"))
    assert kept.ok and kept.outputs[0].overflows == 0


def products(lengthened: float = 1.0) -> bytes:
    """Two products whose results cancel, and the place of the largest of sixteen of them that all but agree."""
    generator = np.random.default_rng(3)
    weights = [numpy_helper.from_array((lengthened * generator.standard_normal(shape) / 16).astype(np.float32), f"w{number}")
               for number, shape in enumerate([(256, 256), (256, 64)])]
    near = numpy_helper.from_array(np.repeat(generator.standard_normal((256, 1)), 16, 1).astype(np.float32), "near")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w0"], ["h"]), helper.make_node("MatMul", ["h", "w1"], ["y"]),
         helper.make_node("MatMul", ["h", "near"], ["alike"]), helper.make_node("ArgMax", ["alike"], ["place"], axis=1, keepdims=0)],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 256))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 64)), helper.make_tensor_value_info("place", TensorProto.INT64, (1,))],
        [*weights, near])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_self_test_allows_what_verify_does(precision):
    target = target_of(precision)

    right, wrong = (edgecc.compile(products(length), target=target, precision=precision, self_test=True, name="g").files for length in (1.0, 1.2))
    for files in (right, wrong):
        sources = {name: data for name, data in files.items() if name.endswith((".c", ".h", ".S", ".bin"))}
        program = build(sources | {"selftest.c": right["selftest.c"]}, target)
        with nullcontext() if files is right else pytest.raises(AssertionError, match="ended with 1"):
            run_program(program, target)
    exact = edgecc.compile(products(), target=target, self_test=True).files["selftest.c"].decode()
    assert "errors_" not in exact and re.search(r"far\(.*, 0.0001, 0.001\)", exact)
