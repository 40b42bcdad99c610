"""`edgecc verify`: one JSON object, exit status 0 or 1, and clear errors for everything else."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecc.cli.verify import verification_table

KEYS = ["ok", "target", "outputs", "arena_bytes", "weights_bytes", "code_bytes"]
OUTPUT_KEYS = ["name", "max_abs_err", "max_rel_err", "tolerance", "ok"]


def exact(table):
    """Checks that a verification has the promised keys and no other."""
    assert list(table) == KEYS
    for output in table["outputs"]:
        assert list(output) == OUTPUT_KEYS
        assert isinstance(output["ok"], bool) and all(isinstance(output[k], float) for k in OUTPUT_KEYS[1:4])
    assert all(isinstance(table[k], int) and table[k] >= 0 for k in KEYS[3:])
    assert table["ok"] == all(output["ok"] for output in table["outputs"])
    return table


@pytest.mark.parametrize("target", ["host", "generic-c", "cortex-a76"])
def test_right_outputs(cli, small_model, small_fixture, target):
    if target == "cortex-a76" and not (shutil.which("qemu-aarch64") and shutil.which("aarch64-linux-gnu-gcc")):
        pytest.skip("qemu-aarch64 or aarch64-linux-gnu-gcc is not installed")
    outcome = cli("verify", small_model, "--target", target, "--inputs", small_fixture.inputs, "--expected",
                  small_fixture.expected, "--json")
    table = exact(outcome.json())
    assert outcome.status == 0 and table["ok"] and table["target"] == target
    assert [o["name"] for o in table["outputs"]] == ["y", "flag"]
    assert table["outputs"][1] == {"name": "flag", "max_abs_err": 0.0, "max_rel_err": 0.0, "tolerance": 0.0, "ok": True}
    assert table["weights_bytes"] >= 4 * (5 * 27 + 5) and table["code_bytes"] > 100


def test_wrong_outputs(cli, small_model, small_fixture, tmp_path):
    np.savez(tmp_path / "wrong.npz", y=small_fixture.outputs["y"] + np.float32(0.5), flag=small_fixture.outputs["flag"])
    arguments = ["verify", small_model, "--inputs", small_fixture.inputs, "--expected", tmp_path / "wrong.npz"]
    outcome = cli(*arguments, "--json")
    table = exact(outcome.json())
    assert outcome.status == 1 and not table["ok"]
    assert [o["ok"] for o in table["outputs"]] == [False, True]
    assert table["outputs"][0]["max_abs_err"] == pytest.approx(0.5, abs=1e-4)
    outcome = cli(*arguments)
    assert outcome.status == 1 and "DIFFERS" in outcome.out and "the outputs differ" in outcome.out and "VNNI" not in outcome.err


def test_expected_outputs_that_onnxruntime_may_have_saturated(cli, tmp_path):
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "g", [helper.make_tensor_value_info("a", TensorProto.UINT8, [1, 2])],
                              [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 1])], [numpy_helper.from_array(np.full((2, 1), 127, np.int8), "b")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "product.onnx")
    np.savez(tmp_path / "in.npz", a=np.full((1, 2), 255, np.uint8))
    np.savez(tmp_path / "out.npz", y=np.full((1, 1), 32767, np.int32))
    outcome = cli("verify", tmp_path / "product.onnx", "--target", "generic-c", "--inputs", tmp_path / "in.npz", "--expected", tmp_path / "out.npz", "--cc", "gcc")
    assert outcome.status == 1 and "session.x64quantprecision=1" in outcome.err


def test_nan_is_never_right_and_still_json(cli, small_model, small_fixture, tmp_path):
    np.savez(tmp_path / "nan.npz", y=np.full_like(small_fixture.outputs["y"], np.nan), flag=small_fixture.outputs["flag"])
    outcome = cli("verify", small_model, "--inputs", small_fixture.inputs, "--expected", tmp_path / "nan.npz", "--json")
    table = exact(outcome.json())
    assert outcome.status == 1 and table["outputs"][0]["max_abs_err"] > 1e308


def test_a_second_right_answer_counts(cli, small_model, small_fixture, tmp_path):
    y, flag = small_fixture.outputs["y"], small_fixture.outputs["flag"]
    np.savez(tmp_path / "two.npz", y=y + np.float32(0.5), noopt__y=y, flag=flag, unrelated=np.zeros(3))
    arguments = ["verify", small_model, "--inputs", small_fixture.inputs, "--expected", tmp_path / "two.npz", "--json"]
    outcome = cli(*arguments)
    assert outcome.status == 0 and exact(outcome.json())["ok"]
    np.savez(tmp_path / "two.npz", y=y, noopt__y=y + np.float32(0.5), flag=flag)
    assert cli(*arguments).status == 0


def test_the_reference_is_expected_by_default(cli, small_model, small_fixture):
    outcome = cli("verify", small_model, "--shape", "height=4", "--json")
    assert outcome.status == 0 and exact(outcome.json())["ok"]
    outcome = cli("verify", small_model, "--inputs", small_fixture.inputs, "--threads", "2", "--verify-each")
    assert outcome.status == 0 and "host: ok; arena" in outcome.out


@pytest.mark.parametrize(("arguments", "status", "code", "words"), [
    (["--expected", "out.npz"], 2, "E001", "--expected needs --inputs"),
    (["--inputs", "absent.npz"], 2, "E007", "absent.npz"),
    (["--inputs", "{model}"], 2, "E007", "not an .npz file of arrays\n"),
    (["--target", "cortex-a67"], 2, "E002", "unknown target"),
    (["--threads", "0", "--shape", "height=4"], 2, "E001", "one or more threads"),
    (["--threads", "two"], 2, "E001", "--threads"),
    (["--frobnicate"], 2, "E001", "--frobnicate"),
    (["--jsn"], 2, "E001", "did you mean --json?"),
    (["--cc", "no-such-cc", "--shape", "height=4"], 4, "E400", "no-such-cc"),
    (["--cc", "false", "--shape", "height=4"], 4, "E401", "false"),
    ([], 3, "E104", "height"),
    (["--shape", "height=0x"], 2, "E001", "--shape"),
    (["--shape", "x=1x4x5x6"], 3, "E110", "the file fixes this size"),
])
def test_errors(cli, small_model, arguments, status, code, words):
    outcome = cli("verify", small_model, *(a.format(model=small_model) for a in arguments), "--json")
    assert outcome.status == status and outcome.out == ""
    assert outcome.err.startswith(f"[{code}]") and words in outcome.err


@pytest.mark.parametrize(("name", "words"), [
    ("compiled", ["'compiled' is compiled code, not the model it was made of", "edgecc run compiled runs it; edgecc verify MODEL compiles the model again"]),
    ("compiled/libsmall.so", ["is compiled code"]), ("empty", ["'empty' is not a file", "give the .onnx file"])])
@pytest.mark.parametrize("command", ["verify", "check"])
def test_a_folder_is_no_model(cli, monkeypatch, tmp_path, command, name, words):
    monkeypatch.chdir(tmp_path)
    for folder in ("compiled", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "compiled" / "manifest.json").write_text("{}")
    outcome = cli(command, name)
    assert outcome.status == 2 and outcome.err.startswith("[E007]") and all(text in outcome.err for text in words)


def test_no_model_given(cli):
    outcome = cli("verify")
    assert outcome.status == 2 and "missing argument 'model'" in outcome.err.lower()


def test_inputs_that_do_not_fit(cli, small_model, small_fixture, tmp_path):
    np.savez(tmp_path / "in.npz", x=np.zeros((1, 3, 7, 6)), k=np.array(3, np.int64))
    outcome = cli("verify", small_model, "--inputs", tmp_path / "in.npz", "--json")
    assert outcome.status == 2 and "[E005]" in outcome.err and outcome.out == ""
    np.savez(tmp_path / "in.npz", x=np.zeros((1, 3, 7, 6), np.float32))
    outcome = cli("verify", small_model, "--inputs", tmp_path / "in.npz", "--json")
    assert outcome.status == 2 and "[E005]" in outcome.err and "k" in outcome.err
    np.savez(tmp_path / "out.npz", z=np.zeros(3))
    outcome = cli("verify", small_model, "--inputs", small_fixture.inputs, "--expected", tmp_path / "out.npz", "--json")
    assert outcome.status == 2 and "y: missing" in outcome.err


def test_without_any_compiler(cli, small_model, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("EDGECC_CC", raising=False)
    monkeypatch.setattr("edgecc.artifact.toolchain.zig_command", lambda: None)
    # LLVM makes code for this machine, and only for this one.
    assert cli("verify", small_model, "--shape", "height=4", "--json").status == 0
    outcome = cli("verify", small_model, "--shape", "height=4", "--json", "--target", "cortex-a76")
    assert outcome.status == 4 and outcome.out == "" and outcome.err.startswith("[E400] cortex-a76: the emulator qemu-aarch64 was not found")
    assert len(outcome.err.splitlines()) == 2


def test_a_crash_of_the_compiled_model_is_an_error(cli, small_model, monkeypatch):
    emit = "edgecc.backends.c.backend.source"

    def broken(*args, **kwargs):
        return "#error broken\n"

    monkeypatch.setattr(emit, broken)
    outcome = cli("verify", small_model, "--shape", "height=4", "--json")
    assert outcome.status == 4 and outcome.err.startswith("[E401]") and "broken" in outcome.err and outcome.out == ""


def test_infinite_errors_become_the_largest_double():
    class Output:
        name, max_abs_err, max_rel_err, tolerance, ok = "y", float("inf"), float("nan"), 0.5, False

    class Outcome:
        ok, target, outputs, arena_bytes, weights_bytes, code_bytes, precision, layers = False, "t", (Output(),), 1, 2, None, "fp32", None
        allowances = ()

    (output,) = verification_table(Outcome())["outputs"]
    assert output["max_abs_err"] == output["max_rel_err"] > 1e308 and output["tolerance"] == 0.5
