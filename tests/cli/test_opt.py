"""`edgecc opt`: passes one by one, the graph as text, and the check of each pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecc.ir.parser import parse
from edgecc.passes.base import create_pass
from edgecc.pipeline import default_graph_passes

F32 = TensorProto.FLOAT


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """relu(conv(x)) and an addition of constants, with a dynamic batch."""
    weights = [numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w"),
               numpy_helper.from_array(np.full(1, 2, np.float32), "one"), numpy_helper.from_array(np.ones(1, np.float32), "two")]
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["r"]),
                               helper.make_node("Add", ["one", "two"], ["three"]), helper.make_node("Mul", ["r", "three"], ["y"])],
                              "net", [helper.make_tensor_value_info("x", F32, ["size", 3, 4, 4])],
                              [helper.make_tensor_value_info("y", F32, None)], weights)
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_the_default_pipeline(cli, network):
    table = cli("opt", network, "--shape", "size=2", "--json").json()
    assert [p["pass"] for p in table["passes"]] == [str(p) for p in default_graph_passes()]
    assert any(p["changed"] for p in table["passes"]) and "ir" not in table
    outcome = cli("opt", network, "--shape", "size=2")
    assert outcome.status == 0 and "fuse-activation" in outcome.out and " -> " in outcome.out


def test_chosen_passes_and_the_graph_as_text(cli, network, tmp_path):
    before = cli("opt", network, "--passes", "", "--shape", "size=2", "--print-ir")
    assert before.status == 0 and before.out.startswith("graph ") and "constant f32[2,3,1,1]\n" in before.out
    written = tmp_path / "net.ir"
    after = cli("opt", network, "--shape", "size=2", "--passes", "fold-constants,eliminate", "--print-ir", "--constants", "data",
                "-o", written)
    assert after.status == 0 and len(parse(after.out).nodes) < len(parse(written.read_text()).nodes) + 1
    again = cli("opt", written, "--passes", "", "--print-ir", "--constants", "data")
    assert again.out == after.out
    table = cli("opt", written, "--passes", "eliminate", "--print-ir", "--json").json()
    assert table["passes"][0]["pass"] == "eliminate" and table["ir"].startswith("graph ")


def test_verify_each_uses_given_or_random_inputs(cli, network, tmp_path):
    assert cli("opt", network, "--shape", "size=1", "--verify-each").status == 0
    np.savez(tmp_path / "in.npz", x=np.ones((3, 3, 4, 4), np.float32))
    outcome = cli("opt", network, "--inputs", tmp_path / "in.npz", "--verify-each", "--print-ir")
    assert outcome.status == 0 and "f32[3,3,4,4]" in outcome.out


def test_verify_each_names_the_pass_that_changes_the_meaning(cli, network, monkeypatch):
    culprit = type(create_pass("fold-constants"))

    def wrong(self, graph):
        node = next(n for n in graph.nodes if n.op.name == "conv")
        graph.set_operand(node, 1, graph.constant(np.zeros((2, 3, 1, 1), np.float32)))
        return True

    monkeypatch.setattr(culprit, "run", wrong)
    outcome = cli("opt", network, "--shape", "size=1", "--passes", "eliminate,fold-constants", "--verify-each")
    assert outcome.status == 70 and "[E901] pass fold-constants" in outcome.err and "passes before it: eliminate" in outcome.err


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["--passes", "fuse-activaton"], "E004", "did you mean fuse-activation?"),
    (["--passes", "eliminate{x=1}"], "E004", "no option 'x'"),
    (["--passes", "eliminate{"], "E004", "not closed"),
    (["--constants", "none"], "E001", "not one of type, data"),
    (["--inputs", "absent.npz"], "E007", "absent.npz"),
])
def test_mistakes(cli, network, arguments, code, words):
    outcome = cli("opt", network, "--shape", "size=1", *arguments)
    assert outcome.status == 2 and f"[{code}]" in outcome.err and words in outcome.err and outcome.out == ""


def test_texts_that_are_no_graphs(cli, tmp_path):
    path = tmp_path / "net.ir"
    assert "[E007]" in cli("opt", path).err
    path.write_text("graph (")
    outcome = cli("opt", path)
    assert outcome.status == 2 and "[E111] net.ir" in outcome.err
    path.write_bytes(b"\xff\xfe")
    assert "not a text file" in cli("opt", path).err


def test_declines_are_notes(cli, network):
    outcome = cli("opt", network, "--shape", "size=1", "--declines", "--print-ir")
    assert outcome.status == 0 and "note: " not in outcome.out


def test_an_output_that_cannot_be_written(cli, network, tmp_path):
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "absent" / "x.ir", tmp_path / "folder"):
        outcome = cli("opt", network, "--shape", "size=1", "-o", place)
        assert outcome.status == 2 and "[E006]" in outcome.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "net.onnx"]


def test_writes_onnx(cli, network, tmp_path):
    assert cli("opt", network, "--shape", "size=2", "-o", tmp_path / "out.onnx", "--opset", 18).status == 0
    written = onnx.load(tmp_path / "out.onnx")
    assert [n.op_type for n in written.graph.node] == ["Conv", "Relu", "Mul"] and written.opset_import[0].version == 18
    assert cli("opt", network, "--shape", "size=2", "-o", tmp_path / "other.onnx", "--opset", 3).status == 2
    assert not (tmp_path / "other.onnx").exists()


def test_the_graph_that_a_back_end_is_asked_for(cli, network):
    shape = ("--shape", "size=2")
    passes = [p["pass"] for p in cli("opt", network, *shape, "--backend", "ethosu", "--target", "ethos-u55-128", "--json").json()["passes"]]
    assert "ethosu.fold-strides" in passes and "fuse-activation" not in passes and "eliminate" in passes
    assert "--backend" in cli("opt", network, *shape, "--passes", "", "--backend", "c").err
    assert "--target" in cli("opt", network, *shape, "--target", "host").err
