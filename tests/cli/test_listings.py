"""Commands that list what there is: targets, passes, operators, tools."""

from __future__ import annotations

from edgecc.cli import doctor
from edgecc.ir.op import OPS
from edgecc.passes.base import load_passes
from edgecc.targets.schema import list_targets, load_target, parse_target


def test_targets(cli, tmp_path):
    outcome = cli("targets")
    assert outcome.status == 0
    for name in list_targets():
        assert name in outcome.out
    listed = cli("targets", "--json").json()["targets"]
    assert [t["name"] for t in listed] == list(list_targets())
    shown = cli("targets", "rpi5").out
    assert "qemu-aarch64 -cpu cortex-a76" in shown and "512.00 KiB (524288 bytes)" in shown
    assert parse_target(cli("targets", "rpi5", "--json").json(), "x") == load_target("rpi5")
    mine = tmp_path / "mine.toml"
    mine.write_text('inherits = "generic-c"\nname = "mine"\ndescription = "[red]mine[/red]"\n')
    assert "mine: [red]mine[/red]" in cli("targets", mine).out
    mine.write_text('inherits = "generic-c"\nnaem = "mine"\n')
    outcome = cli("targets", mine)
    assert outcome.status == 2 and "[E003]" in outcome.err and "did you mean 'name'?" in outcome.err


def test_passes(cli):
    known = load_passes()
    listed = cli("passes", "--json").json()["passes"]
    assert {p["name"] for p in listed} <= set(known)
    outcome = cli("passes")
    assert outcome.status == 0
    for entry in listed:
        assert entry["name"] in outcome.out
        shown = cli("passes", entry["name"])
        assert shown.status == 0 and entry["doc"].splitlines()[0] in shown.out


def test_ops(cli):
    listed = cli("ops", "--json").json()["ops"]
    assert [op["name"] for op in listed] == sorted(OPS)
    assert "conv" in cli("ops").out
    shown = cli("ops", "conv").out
    assert "conv(x, w, b?, extra*)" in shown and "attribute strides" in shown


def test_onnx_ops(cli):
    listed = {op["name"]: op["versions"] for op in cli("ops", "--onnx", "--json").json()["onnx"]}
    assert {"Conv", "Gemm", "LSTM", "Softmax"} <= set(listed)
    assert "ai.onnx.ml.Scaler" in listed and "RandomNormal" in listed
    assert all(since >= 1 and (until is None or until >= since) for versions in listed.values() for since, until in versions)
    assert "Conv" in cli("ops", "--onnx").out and "Add" not in cli("ops", "--onnx", "Conv").out
    outcome = cli("ops", "--onnx", "Convv")
    assert outcome.status == 2 and "did you mean Conv?" in outcome.err


def test_ops_of_a_back_end(cli):
    table = cli("ops", "--backend", "onnx", "--target", "generic-c", "--json").json()
    reasons = {op["name"]: {case["reason"] for case in op["cases"] if not case["supported"]} for op in table["ops"]}
    assert reasons["conv"] == set() and reasons["loop"] == {"loop has no form in ONNX"}
    assert "loop has no form in ONNX" in cli("ops", "loop", "--backend", "onnx").out
    outcome = cli("ops", "convv", "--backend", "onnx")
    assert outcome.status == 2 and "did you mean conv?" in outcome.err


def test_doctor(cli, monkeypatch, tmp_path):
    outcome = cli("doctor")
    assert outcome.status == 0 and "host" in outcome.out
    table = cli("doctor", "--json").json()
    assert table["ok"] and {t["name"] for t in table["tools"]} >= {"gcc", "zig", "qemu-aarch64"}
    assert [t["name"] for t in table["targets"]] == list(list_targets())
    assert [b["name"] for b in table["backends"]][:3] == ["c", "llvm", "onnx"] and table["backends"][0]["forms"] == ["c", "lib", "exe"]
    lacking = {b["name"] for b in table["backends"] if b["missing"]}
    for target in table["targets"]:  # one with an accelerator is usable where the accelerator's back end is
        npu = load_target(target["name"]).npu
        if npu is not None and npu.backend.partition("{")[0] in lacking:
            assert not target["usable"] and target["problem"]

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "zig_command", lambda: None)
    monkeypatch.setattr("edgecc.artifact.toolchain.zig_command", lambda: None)
    broken = tmp_path / "clang"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    outcome = cli("doctor")
    assert outcome.status == 4
    assert "missing: apt-get install gcc" in outcome.out and "pip install 'edgecc[zig]'" in outcome.out
    assert "(does not run)" in outcome.out and "no C compiler was found" in outcome.out
    monkeypatch.setenv("EDGECC_CC", "no-such-cc")
    table = cli("doctor", "--json").json()
    assert not table["ok"] and table["tools"][0] == {
        "name": "no-such-cc", "purpose": "C compiler named by EDGECC_CC", "found": False, "path": "", "version": "",
        "hint": "correct or unset EDGECC_CC"}
