"""`edgecc compile`, `run` and `check`: whole folders or nothing, what they say, what they refuse."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgecc.artifact.folder import Artifact
from tests.support.quantized_models import small_network


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_folder_named_like_the_model(cli, small_model, tmp_path):
    outcome = cli("compile", small_model, "--shape", "height=4")
    assert outcome.status == 0 and listing(tmp_path) == ["small_model"]
    folder = tmp_path / "small_model"
    assert {"small_model.c", "small_model.h", "edgecc_abi.h", "manifest.json", "CMakeLists.txt", "selftest.c"} <= set(listing(folder))
    assert Artifact.read(folder).manifest.target.name == "host"
    for words in ("folder   small_model", "arena    ", "% above the lower bound", "weights  ", "kernels  "):
        assert words in outcome.out


def test_json_and_options(cli, small_model, small_fixture, tmp_path):
    outcome = cli("compile", small_model, "--target", "cortex-a76", "-o", "out/deep", "--inputs", small_fixture.inputs,
                  "--name", "9 lives", "--threads", "2", "--json")
    table = outcome.json()
    assert table["ok"] and table["target"] == "cortex-a76" and table["folder"] == "out/deep"
    manifest = json.loads((tmp_path / "out" / "deep" / "manifest.json").read_text())
    assert manifest["name"] == table["name"] and table["name"].isidentifier() and manifest["threads"] == 2
    assert manifest["inputs"][0]["shape"] == [1, 3, 7, 6]
    assert table["arena_bytes"] == manifest["arena"]["bytes"] >= table["arena_lower_bound"]
    assert sorted(table["files"]) == [f for f in listing(tmp_path / "out" / "deep") if f != "manifest.json"]


def test_the_same_model_gives_the_same_bytes(cli, small_model, tmp_path):
    for folder in ("one", "two"):
        assert cli("compile", small_model, "--shape", "height=4", "-o", folder).status == 0
    assert listing(tmp_path / "one") == listing(tmp_path / "two")
    for name in listing(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_emitted_library_and_program(cli, small_model, small_fixture, tmp_path):
    assert cli("compile", small_model, "--inputs", small_fixture.inputs, "--emit", "lib", "-o", "lib").status == 0
    (library,) = (tmp_path / "lib").glob("lib*.so")
    assert cli("run", library, "--inputs", small_fixture.inputs, "--outputs", "lib.npz").status == 0
    assert cli("compile", small_model, "--inputs", small_fixture.inputs, "--emit", "exe", "-o", "exe").status == 0
    with np.load(small_fixture.inputs) as inputs:
        for name in inputs:
            (tmp_path / name).write_bytes(inputs[name].tobytes())
    subprocess.run([tmp_path / "exe" / "small_model", "x", "k", "y", "flag"], check=True)
    y = np.frombuffer((tmp_path / "y").read_bytes(), np.float32)
    np.testing.assert_allclose(y, small_fixture.outputs["y"].ravel(), atol=1e-5)
    np.testing.assert_array_equal(np.load("lib.npz")["y"].ravel(), y)


def test_verify_before_writing(cli, small_model, tmp_path, monkeypatch):
    arguments = ["compile", small_model, "--shape", "height=4", "-o", "out", "--verify", "--verify-each", "--self-test"]
    assert cli(*arguments).status == 0
    monkeypatch.setattr("edgecc.api.verification.execute", lambda graph, inputs: {"y": np.ones((1, 5, 4, 6), np.float32), "flag": np.array(True)})
    outcome = cli(*arguments[:4], "-o", "new", "--verify")
    assert outcome.status == 1 and "[E300] host:" in outcome.err and "y: largest error" in outcome.err
    assert listing(tmp_path) == ["out"]


def test_the_memory_plan(cli, small_model):
    outcome = cli("compile", small_model, "--shape", "height=4", "--print-memory-plan")
    assert outcome.status == 0 and "lower bound" in outcome.out and "gap" in outcome.out


@pytest.mark.parametrize(("arguments", "status", "code", "words"), [
    (["--emit", "bj"], 2, "E001", "no back end emits 'bj'"),
    (["--backend", "cc"], 2, "E009", "did you mean c?"),
    (["--backend", "c", "--emit", "onnx"], 2, "E001", "no form 'onnx'"),
    (["--shape", "height=4", "-o", "taken"], 2, "E006", "not an edgecc artifact"),
    (["--shape", "height=4", "-o", "file/below"], 2, "E006", "cannot"),
    (["--shape", "height=4", "--emit", "lib", "--cc", "no-such-cc"], 4, "E400", "no-such-cc"),
    (["--shape", "height=4", "--passes", "fuse"], 2, "E004", "no graph pass 'fuse'"),
    (["--shape", "height=99999999"], 3, "E101", ""),
    ([], 3, "E104", "height"),
    (["--symmetric", "--no-bias-correction"], 2, "E001", "--symmetric, --bias-correction would do nothing without --quantize"),
    (["--shape", "height=4", "--precision", "int8"], 2, "E001", "--quantize int8"),
    (["--keep-fp32", "c"], 2, "E001", "--keep-fp32 would do nothing without --precision"),
])
def test_errors_write_nothing(cli, small_model, tmp_path, arguments, status, code, words):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    outcome = cli("compile", small_model, *arguments, "--json")
    assert outcome.status == status and outcome.out == ""
    assert outcome.err.startswith(f"[{code}]") and words in outcome.err
    assert listing(tmp_path) == ["file", "taken"] and listing(tmp_path / "taken") == ["thesis.txt"]


@pytest.mark.parametrize(("arguments", "words"), [
    (["--emit", "onnx", "--explain"], "--explain does nothing with a back end that takes no loop programs"),
    (["--print-memory-plan", "--json"], "--print-memory-plan does nothing with --json"),
])
def test_flags_that_have_nothing_to_show_are_told(cli, small_model, arguments, words):
    outcome = cli("compile", small_model, "--shape", "height=4", *arguments)
    assert outcome.status == 0 and words in " ".join(outcome.err.split())


def unsupported_model(folder: Path) -> Path:
    nodes = [helper.make_node("NoSuchOp", ["x"], ["a"], name="first"), helper.make_node("NorThis", ["a"], ["y"], name="second")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])])
    path = folder / "unsupported.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_unsupported_and_damaged_models(cli, small_model, tmp_path):
    model = unsupported_model(tmp_path)
    outcome = cli("compile", model)
    assert outcome.status == 3 and "[E105]" in outcome.err and "first" in outcome.err and "second" in outcome.err
    (tmp_path / "short.onnx").write_bytes(small_model.read_bytes()[:-30])
    outcome = cli("compile", "short.onnx")
    assert outcome.status == 3 and outcome.err.startswith("[E100] short.onnx")
    assert listing(tmp_path) == ["short.onnx", "unsupported.onnx"]


def test_check(cli, small_model, tmp_path):
    outcome = cli("check", small_model, "--shape", "height=4", "--target", "cortex-a76")
    assert outcome.status == 0 and outcome.out.startswith("small model.onnx compiles for cortex-a76: ")
    table = cli("check", small_model, "--shape", "height=4", "--json").json()
    assert table.keys() == {"ok", "target", "problems", "notes", "calls", "arena_bytes", "weights_bytes", "index_checks"}
    assert table["ok"] and table["problems"] == [] and table["calls"] > 0 and table["weights_bytes"] > 0
    outcome = cli("check", unsupported_model(tmp_path), "--json")
    table = outcome.json()
    assert outcome.status == 3 and not table["ok"] and [p["code"] for p in table["problems"]] == ["E105"] * 2
    outcome = cli("check", tmp_path / "unsupported.onnx")
    assert outcome.status == 3 and outcome.out == "" and "NorThis" in outcome.err
    outcome = cli("check", tmp_path / "unsupported.onnx", "--precision", "fp16", "--target", "cortex-a53")
    assert outcome.status == 3 and outcome.err.startswith("[E105]") and "fp16" in outcome.err and "NorThis" in outcome.err
    outcome = cli("check", "absent.onnx", "--json")
    assert outcome.status == 2 and "[E007]" in outcome.err and outcome.out == ""
    assert listing(tmp_path) == ["unsupported.onnx"]


def test_run_a_folder(cli, small_model, small_fixture, tmp_path):
    assert cli("compile", small_model, "--inputs", small_fixture.inputs, "-o", "out").status == 0
    outcome = cli("run", "out", "--inputs", small_fixture.inputs, "--outputs", "results.npz", "--json", "--benchmark", "3")
    table = outcome.json()
    assert outcome.status == 0 and list(table) == ["outputs", "benchmark"] and table["benchmark"]["runs"] == 3
    assert table["outputs"][1] == {"name": "flag", "dtype": "bool", "shape": [], "min": 1.0, "mean": 1.0, "max": 1.0, "not_finite": 0}
    with np.load("results.npz") as results:
        assert sorted(results) == ["flag", "y"]
        np.testing.assert_allclose(results["y"], small_fixture.outputs["y"], atol=1e-5)
        assert results["flag"] == small_fixture.outputs["flag"] and results["flag"].dtype == bool
    outcome = cli("run", "out", "--benchmark", "1")
    assert outcome.status == 0 and "float32[1,5,7,6]" in outcome.out and "1 runs: least" in outcome.out


def test_run_a_model(cli, small_model, small_fixture):
    outcome = cli("run", small_model, "--inputs", small_fixture.inputs, "--target", "generic-c")
    assert outcome.status == 0 and "bool[]" in outcome.out


def test_run_a_model_on_strings(cli, tmp_path):
    texts = helper.make_graph([helper.make_node("StringConcat", ["x", "x"], ["y"])], "texts", [helper.make_tensor_value_info("x", TensorProto.STRING, [2, 2])],
                              [helper.make_empty_tensor_value_info("y")])
    onnx.save(helper.make_model(texts, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), "texts.onnx")
    np.savez("in.npz", x=np.array([["a", "\u00e9"], ["", "b c"]]))
    outcome = cli("run", "texts.onnx", "--inputs", "in.npz", "--outputs", "out.npz", "--target", "generic-c")
    assert outcome.status == 0 and "string[2,2]" in outcome.out
    with np.load("out.npz") as results:
        assert results["y"].tolist() == [["aa", "\u00e9\u00e9"], ["", "b cb c"]]


@pytest.mark.parametrize(("arguments", "status", "code", "words"), [
    (["out", "--target", "host", "--threads", "1"], 2, "E001", "--target, --threads would do nothing with out, which is compiled already"),
    (["out", "--benchmark", "-1"], 2, "E001", "--benchmark"),
    (["out", "--inputs", "wrong.npz"], 2, "E005", "x: missing"),
    (["out", "--outputs", "no/folder.npz"], 2, "E006", "no/folder.npz"),
    (["absent"], 2, "E007", "absent"),
    (["empty"], 2, "E007", "not an edgecc artifact"),
])
def test_run_errors(cli, small_model, tmp_path, arguments, status, code, words):
    assert cli("compile", small_model, "--shape", "height=4", "-o", "out").status == 0
    (tmp_path / "empty").mkdir()
    np.savez("wrong.npz", z=np.zeros(1))
    before = listing(tmp_path)
    outcome = cli("run", *arguments, "--json")
    assert outcome.status == status and outcome.out == ""
    assert outcome.err.startswith(f"[{code}]") and words in outcome.err
    assert listing(tmp_path) == before


def test_explain_prints_a_row_for_each_call(cli, small_model: Path, tmp_path: Path):
    arguments = ("compile", small_model, "--shape", "height=7", "-o", tmp_path / "out", "--explain")
    lines = cli(*arguments).out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("call "))
    assert "instead (k cycles)" in lines[start] and len(lines) == start + 3
    assert lines[start + 1].startswith("0 ") and "cost model" in lines[start + 1] and "%" in lines[start + 1]
    choices = cli(*arguments, "--json").json()["choices"]
    assert [choice["op"] for choice in choices] == ["conv", "elementwise"]
    assert all(choice["cycles"] > 0 for choice in choices) and sum(choice["share"] for choice in choices) == pytest.approx(1.0)
    assert choices[0]["alternatives"] and set(choices[0]["alternatives"][0]) == {"candidate", "cycles"}
    assert "choices" not in cli(*arguments[:-1], "--json").json()


def test_explain_says_how_layers_of_quantized_networks_are_summed(cli, tmp_path: Path):
    onnx.save(small_network(1, np.uint8), tmp_path / "small.onnx")
    (tmp_path / "slow.toml").write_text('inherits = "generic-c"\n[rates]\nconversions = 0.01\n')
    arguments = ("compile", tmp_path / "small.onnx", "--target", tmp_path / "slow.toml", "-o", tmp_path / "out", "--explain")
    lines = cli(*arguments).out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("layer "))
    rows = [row for row in lines[start + 1:] if " conv " in row or " matmul " in row or " gather " in row]
    assert "int8 k cycles" in lines[start]
    assert any(" float " in row and "the same numbers" in row for row in rows) and any(" int8 " in row and "a table" in row for row in rows)
    layers = cli(*arguments, "--json").json()["precisions"]
    sums = [layer for layer in layers if layer["op"] in ("conv", "matmul")]
    assert len(sums) == 4 and "float" in {layer["precision"] for layer in sums} and [layer["float_cycles"] > 0 for layer in sums] == [False, True, True, True]
    assert {layer["precision"] for layer in layers if layer not in sums} == {"int8"}
    always = cli(*arguments, "--integers", "always", "--json").json()["precisions"]
    assert {layer["precision"] for layer in always} == {"int8"}
