"""Divided networks are compiled, written, read back and run, both sides together."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgecc
from edgecc import EdgeccError
from edgecc.artifact.folder import Artifact
from edgecc.backends.c.backend import CBackend
from edgecc.backends.discovery import create_backend
from edgecc.partition.artifact import part_artifacts
from edgecc.partition.run import PartitionedModel

DIGITS = "examples/digits/digits.onnx"
SHAPES = {"image": (1, 1, 8, 8)}
# A back end whose accelerator is the reference: its files are graphs as text.
MIMIC = '''
from dataclasses import dataclass
from typing import ClassVar

from edgecc.artifact.folder import make_export
from edgecc.backends.base import GraphBackend
from edgecc.ir.parser import parse
from edgecc.ir.text import to_text
from edgecc.reference.executor import execute


@dataclass(frozen=True)
class Mimic(GraphBackend):
    api: ClassVar[int] = 1
    name: ClassVar[str] = "mimic"
    summary: ClassVar[str] = "graphs as text"
    forms: ClassVar = {"mimic": "text"}
    takes_op: str = "conv"

    def supports(self, node, target):
        return None if node.op.name == self.takes_op else f"it is no {self.takes_op}"

    def emit(self, graph, name, target, form):
        return make_export("mimic", graph, name, target, {f"{name}.ir": to_text(graph).encode()}, f"{name}.ir", arena_bytes=7, weights_bytes=9)

    def run(self, artifact, inputs):
        return execute(parse(artifact.files[artifact.manifest.main].decode()), inputs)
'''
BOARD = 'schema = 1\ninherits = "generic-c"\nname = "board"\ndescription = "a board"\n[npu]\nbackend = "mimic"\nmacs_per_cycle = 1e6\nbytes_per_cycle = 1e6\n'


@pytest.fixture
def board(package):
    package("mimic-npu", {"edgecc.backends": {"mimic": "mimic:Mimic"}, "edgecc.targets": {"mimic": "mimic_targets"}},
            {"mimic.py": MIMIC, "mimic_targets/__init__.py": "", "mimic_targets/board.toml": BOARD})


@pytest.mark.usefixtures("board")
def test_both_sides_together(cli):
    outcome = cli("verify", DIGITS, "--shape", "image=1x1x8x8", "--target", "board", "--cc", "gcc", "--json").json()
    placement = outcome["placement"]
    assert outcome["ok"] and outcome["code_bytes"] > 0 and placement["npu_nodes"] == 5
    assert placement["npu_share_of_multiply_adds"] > 0.9 and placement["crossing_bytes"] == sum(c["bytes"] for c in placement["crossings"])
    assert {node["reason"] for node in placement["nodes"]} == {"", "it is no conv"}
    assert all((node["side"] == "npu") == (node["op"] == "conv") == (node["reason"] == "") for node in placement["nodes"])
    assert "of the multiply-adds" in cli("verify", DIGITS, "--shape", "image=1x1x8x8", "--target", "board", "--cc", "gcc").out


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize(("limit", "message"), [("generated_bytes=300", "more than 300 bytes"), ("generated_bytes=10000", "code has"), ("arena_bytes=16", "limit is 16")])
def test_limits_hold_for_what_is_made_of_both_sides(cli, limit, message):
    refused = cli("verify", DIGITS, "--shape", "image=1x1x8x8", "--target", "board", "--limits", limit)
    assert refused.status == 3 and refused.err.startswith("[E101]") and message in refused.err


@pytest.mark.usefixtures("board")
def test_the_folder(cli, tmp_path):
    folder = tmp_path / "out"
    arguments = ("compile", DIGITS, "--shape", "image=1x1x8x8", "--target", "board", "-o", folder)
    table = cli(*arguments, "--json").json()
    sides = [part["side"] for part in table["parts"]]
    assert sides == ["npu", "cpu"] * (len(sides) // 2) + ["npu"] * (len(sides) % 2) and table["backend"] == "mimic+c"
    for number, part in enumerate(table["parts"]):
        assert (folder / part["folder"] / "manifest.json").is_file() and part["folder"] == f"{number}_{part['side']}"
    for words in ("it is no conv", "why not on the accelerator", "f32[1,"):
        assert words in cli(*arguments).out  # the folder is replaced
    assert len(cli(*arguments, "--explain").out) > len(cli(*arguments).out)
    again = Artifact.read(folder)
    assert json.loads(again.files["parts.json"])["npu"] == "mimic" and len(part_artifacts(again)) == len(sides)
    inputs = {"image": np.random.default_rng(0).random((1, 1, 8, 8), np.float32)}
    with PartitionedModel(again, create_backend("mimic"), CBackend(), cc="gcc") as model, \
            edgecc.load(edgecc.compile(DIGITS, "generic-c", shapes=SHAPES), cc="gcc") as whole:
        np.testing.assert_allclose(model.run(inputs)["probabilities"], whole.run(inputs)["probabilities"], atol=1e-6)
        with pytest.raises(EdgeccError, match="image"):
            model.run({})
    assert edgecc.compile(DIGITS, "board", shapes=SHAPES).files == edgecc.compile(DIGITS, "board", shapes=SHAPES).files


@pytest.mark.usefixtures("board")
def test_nothing_for_the_accelerator_is_told(cli, tmp_path):
    (tmp_path / "idle.toml").write_text(BOARD.replace('"mimic"', '"mimic{takes_op=none}"'))
    arguments = ("compile", DIGITS, "--shape", "image=1x1x8x8", "-o", tmp_path / "out", "--target")
    assert "--quantize int8" in cli(*arguments, tmp_path / "idle.toml").err
    assert cli(*arguments, "board").err == ""


@pytest.mark.usefixtures("board")
def test_one_side_alone(cli):
    for arguments in (("--backend", "c"), ("--emit", "onnx")):
        outcome = cli("verify", DIGITS, "--shape", "image=1x1x8x8", "--target", "board", *arguments, "--json").json()
        assert outcome["ok"] and "placement" not in outcome
    refused = cli("verify", DIGITS, "--shape", "image=1x1x8x8", "--target", "board", "--backend", "mimic")
    assert refused.status == 3 and "[E115]" in refused.err and "it is no conv" in refused.err


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["--precision", "fp16"], "E001", "precision is for back ends that take loop programs"), (["--passes", "eliminate"], "E001", "passes of its own"),
    (["--shape", "batch=1..4"], "E104", "wants numbers")])
def test_what_is_for_one_side_only(arguments, code, words, cli, tmp_path):
    shape = [] if "--shape" in arguments else ["--shape", "image=1x1x8x8"]
    outcome = cli("compile", DIGITS, "--target", "board", "-o", tmp_path / "out", *shape, *arguments)
    assert outcome.status in (2, 3) and f"[{code}]" in outcome.err and words in outcome.err and not (tmp_path / "out").exists()


def test_an_accelerator_whose_back_end_is_not_installed(cli, tmp_path):
    target = tmp_path / "board.toml"
    target.write_text(BOARD)
    outcome = cli("compile", DIGITS, "--shape", "image=1x1x8x8", "--target", target, "-o", tmp_path / "out")
    assert outcome.status == 2 and "[E009] there is no back end 'mimic'" in outcome.err
    target.write_text(BOARD.replace("1e6", "0.0"))
    assert "key 'macs_per_cycle' must be positive" in cli("targets", target).err


@pytest.mark.usefixtures("board")
def test_inputs_that_are_outputs():
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["same"]), helper.make_node("Neg", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("same", "y")])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert edgecc.verify(model, "board", cc="gcc").ok
