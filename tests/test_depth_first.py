"""Depth-first blocks from the command line's option to generated code: compiled stripes compute what the graph means."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from edgecc import api
from edgecc.artifact.load import load
from edgecc.backends.base import EmitOptions, SelfTest
from edgecc.backends.c import selftest
from edgecc.backends.c.backend import CBackend
from edgecc.errors import EdgeccError
from edgecc.loop.module import Module, Stripes
from edgecc.lowering import lower_graph
from edgecc.lowering.options import LoweringOptions
from edgecc.memory.depth_first import Limits
from edgecc.reference.executor import execute, sample_inputs
from edgecc.targets.schema import load_target
from tests.support.ccompile import SANITIZERS, build, require, run_program
from tests.support.images import bottleneck, close, image_networks

SMALLEST = Limits(2**40, 2**40, min_rows=1, slack=1e9)


def striped(graph, target: str) -> Module:
    module = lower_graph(graph, load_target(target), name="net", options=LoweringOptions(limits=SMALLEST)).module
    assert any(isinstance(item, Stripes) for item in module.calls)
    return module


@pytest.mark.parametrize("target", ["generic-c", "x86-64-v3", "cortex-a76"])
def test_compiled_stripes_agree_with_the_reference(target):
    require(load_target(target))
    graph = bottleneck(height=19, channels=12)
    with load(CBackend().emit(striped(graph, target), load_target(target))) as model:
        for seed in range(2):
            inputs = sample_inputs(graph, seed)
            assert close(model.run(inputs)["y"], execute(graph, inputs)["y"])


@settings(max_examples=4, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(image_networks(most_nodes=9))
def test_any_network_runs_in_stripes_without_a_complaint_of_the_sanitizers(graph):
    """The self-test of the artifact compares with the reference."""
    target = load_target("generic-c")
    module = lower_graph(graph, target, name="net", options=LoweringOptions(limits=SMALLEST)).module
    wanted = execute(graph, selftest.inputs(module))
    artifact = CBackend().emit(module, target, EmitOptions(self_test=SelfTest(wanted, 1e-4, 1e-4)))
    files = {name: data for name, data in artifact.files.items()
             if name.endswith(".h") or name in artifact.manifest.sources or name in ("selftest.c", "weights.bin")}
    assert run_program(build(files, target, flags=("-O1", *SANITIZERS)), target).decode().endswith("ok\n")


def test_the_run_is_a_loop_over_stripes(golden):
    """What a reader of NAME.c sees."""
    module = striped(bottleneck(height=9, width=5, blocks=1), "generic-c")
    source = CBackend().emit(module, load_target("generic-c")).files["net.c"].decode()
    run = source[source.index("/* Depth-first"):source.index("static int run_generic")]
    golden(re.sub(r"\(w \+ \d+\)", "(w + ...)", run[:run.index("static const int64_t")]), suffix="c")


def test_profiled_builds_count_a_striped_call_once():
    target = load_target("generic-c")
    require(target)
    module = striped(bottleneck(), "generic-c")
    artifact = CBackend().emit(module, target, EmitOptions(profile=True))
    source = artifact.files["net.c"].decode()
    assert len(set(re.findall(r"note_call\((\d+),", source))) == len(module.all_calls)
    with load(artifact) as model:
        model.run({"x": np.zeros((1, 3, 17, 13), np.float32)})


def test_the_manifest_tells_what_runs_in_stripes():
    module = striped(bottleneck(), "generic-c")
    blocks = [item for item in module.calls if isinstance(item, Stripes)]
    artifact = CBackend().emit(module, load_target("generic-c"))
    assert artifact.manifest.depth_first == tuple((len(block.calls), len(block.ends)) for block in blocks)
    again = type(artifact.manifest).from_json(artifact.manifest.to_json(), "here")
    assert again.depth_first == artifact.manifest.depth_first


def test_the_option_turns_stripes_off():
    with pytest.raises(EdgeccError, match="'always' is not one of auto, off") as caught:
        api.compile("examples/digits/digits.onnx", "generic-c", shapes={"batch": 1}, depth_first="always")
    assert caught.value.code == "E001"
