"""Running a compiled model: in this process, in its own process, and under the emulator of another machine."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from edgecc.artifact import load as loading
from edgecc.artifact import toolchain
from edgecc.artifact.load import Port, check_inputs, load, random_inputs
from edgecc.artifact.runner import RUNNER_SOURCE, ProcessExecutor
from edgecc.errors import EdgeccError


def check(model, inputs, expected):
    got = model.run(inputs)
    assert list(got) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype == array.dtype and got[name].shape == array.shape


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("isolated", [False, True])
def test_runs_on_this_machine(make_hand_artifact, tmp_path, hand_inputs, hand_expected, linked, isolated):
    folder = make_hand_artifact(linked=linked).write(tmp_path / "hand")
    with load(folder, isolated=isolated) as model:
        check(model, hand_inputs, hand_expected)
        check(model, hand_inputs, hand_expected)
        assert [str(p) for p in model.inputs] == ["float32[2,3]", "int64[]"]
        assert (model.arena_bytes, model.weights_bytes) == (24, 12)
        assert 50 < model.code_bytes < 5000
        assert [p.name for p in model.outputs] == ['y/"out"', "flag"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["edgecc_abi.h", "hand.c", "hand.h", "manifest.json", "weights.bin"] + ["weights.S"] * linked)


def test_accepts_an_artifact_that_was_not_written(make_hand_artifact, hand_inputs, hand_expected):
    check(load(make_hand_artifact()), hand_inputs, hand_expected)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_compilers_on_this_machine(hand_folder, hand_inputs, hand_expected, compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    check(load(hand_folder, cc=compiler, flags=("-Wall", "-Wextra", "-Werror")), hand_inputs, hand_expected)


@pytest.mark.parametrize("linked", [True, False])
def test_runs_under_the_emulator(make_hand_artifact, needs_arm, tmp_path, hand_inputs, hand_expected, linked):
    folder = make_hand_artifact("cortex-a76", linked).write(tmp_path / "hand")
    with load(folder, cc="aarch64-linux-gnu-gcc") as model:
        for k in range(300):  # one process serves them all
            hand_inputs["k"] = np.array(k, np.int64)
            assert model.run(hand_inputs)["flag"] == (k > 0)
        hand_inputs["k"] = np.array(2, np.int64)
        check(model, hand_inputs, hand_expected)
        assert len(model.benchmark(3, hand_inputs).times_ns) == 3


def test_benchmark(hand_folder, hand_inputs):
    for isolated in (False, True):
        with load(hand_folder, isolated=isolated) as model:
            timing = model.benchmark(5, hand_inputs)
            assert len(timing.times_ns) == 5 and 0 <= timing.minimum_ns <= timing.median_ns
            assert len(model.benchmark(2).times_ns) == 2
            with pytest.raises(EdgeccError, match="at least one run"):
                model.benchmark(0)


def test_a_bare_shared_library(make_hand_artifact, tmp_path, hand_inputs, hand_expected):
    for linked in (True, False):
        folder = make_hand_artifact(linked=linked).write(tmp_path / f"hand{linked}")
        compiler = loading.find_compiler(loading.read_manifest(folder).target)
        loading.build_shared_library(compiler, folder, loading.read_manifest(folder).sources, folder / "libhand.so")
        model = load(folder / "libhand.so")
        assert model.manifest is None
        assert [(p.name, str(p)) for p in model.inputs] == [("x:0", "float32[2,3]"), ("k", "int64[]")]
        check(model, hand_inputs, hand_expected)


def test_a_folder_with_a_ready_library_needs_no_compiler(make_hand_artifact, tmp_path, monkeypatch, hand_inputs,
                                                         hand_expected):
    artifact = make_hand_artifact()
    folder = artifact.write(tmp_path / "hand")
    compiler = loading.find_compiler(artifact.manifest.target)
    built = loading.build_shared_library(compiler, folder, artifact.manifest.sources, tmp_path / "lib.so")
    artifact.with_library("libhand.so", built.output.read_bytes()).write(folder)
    monkeypatch.setenv("PATH", "")
    check(load(folder), hand_inputs, hand_expected)


@pytest.mark.parametrize(("change", "words"), [
    ({"x:0": None}, ["x:0: missing, the model wants float32[2,3]"]),
    ({"x:0": np.zeros((2, 3))}, ["x:0: got float64[2,3], the model wants float32[2,3]"]),
    ({"x:0": np.zeros((3, 2), np.float32)}, ["got float32[3,2]"]),
    ({"xx:0": np.zeros(1)}, ["xx:0: the model has no such input; did you mean x:0?"]),
    ({"x:0": None, "k": np.zeros(1, np.int64)}, ["x:0: missing", "k: got int64[1], the model wants int64[]"]),
    ({"\x1b[31m": np.zeros(1)}, ["\\x1b[31m: the model has no such input"]),
])
def test_inputs_that_do_not_fit_are_all_listed(hand_folder, hand_inputs, change, words):
    inputs = {name: array for name, array in {**hand_inputs, **change}.items() if array is not None}
    with pytest.raises(EdgeccError) as caught:
        load(hand_folder).run(inputs)
    assert caught.value.code == "E005"
    for word in words:
        assert word in str(caught.value)


def test_inputs_need_not_be_dense_and_bfloat16_may_come_as_raw_bytes():
    port = Port("x", np.dtype(np.float32), (2, 3))
    (array,) = check_inputs([port], {"x": np.zeros((3, 2), np.float32).T})
    assert array.flags.c_contiguous
    raw = np.ones(2, ml_dtypes.bfloat16).view("V2")
    (array,) = check_inputs([Port("x", np.dtype(ml_dtypes.bfloat16), (2,))], {"x": raw})
    assert array.astype(np.float32).tolist() == [1, 1]


def test_random_inputs_repeat_and_keep_types():
    ports = [Port("a", np.dtype(np.float16), (4,)), Port("b", np.dtype(np.int64), ()), Port("c", np.dtype(bool), (0, 2)),
             Port("d", np.dtype(np.uint8), (3,))]
    one, two = random_inputs(ports), random_inputs(ports)
    for port in ports:
        assert one[port.name].dtype == port.dtype and one[port.name].shape == port.shape
        np.testing.assert_array_equal(one[port.name], two[port.name])
    assert not np.array_equal(random_inputs(ports, seed=1)["a"], one["a"])


@pytest.mark.parametrize("isolated", [False, True])
def test_a_status_other_than_zero_is_an_error(make_hand_artifact, hand_inputs, isolated):
    with load(make_hand_artifact(body="if (k == 2) return 77;"), isolated=isolated) as model, \
            pytest.raises(EdgeccError, match="status 77") as caught:
        model.run(hand_inputs)
    assert caught.value.exit_status == 4


@pytest.mark.parametrize(("body", "words"), [
    ("if (k == 2) *(volatile int *)0 = 1;", "SIG"),
    ('if (k == 2) { __builtin_trap(); }', "SIG"),
    ("extern void exit(int); if (k == 2) exit(3);", "exit status 3"),
])
def test_a_crash_of_an_isolated_model_is_an_error(make_hand_artifact, hand_inputs, body, words):
    with load(make_hand_artifact(body=body), isolated=True) as model:
        with pytest.raises(EdgeccError) as caught:
            model.run(hand_inputs)
        assert caught.value.code == "E401" and words in str(caught.value)
        with pytest.raises(EdgeccError):
            model.run(hand_inputs)


def test_the_arena_starts_as_nan(make_hand_artifact, hand_inputs):
    artifact = make_hand_artifact(body="if (t[0] == t[0]) return 1;")
    for isolated in (False, True):
        with load(artifact, isolated=isolated) as model:
            model.run(hand_inputs)


def test_a_silent_process_is_stopped(tmp_path):
    script = tmp_path / "silent"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    with pytest.raises(EdgeccError, match=r"was silent for 0\.2 s"):
        ProcessExecutor([str(script)], [], [], timeout=0.2)


@pytest.mark.parametrize(("output", "words"), [
    ("printf 'HELLO   ........'", "did not greet"), ("echo 'no library' >&2; exit 3", "no library"),
    (r"printf 'EDGECC1\n\1\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0'", "other sizes"),
])
def test_a_process_that_is_no_runner(tmp_path, output, words):
    script = tmp_path / "odd"
    script.write_text(f"#!/bin/sh\n{output}\n")
    script.chmod(0o755)
    with pytest.raises(EdgeccError, match=words) as caught:
        ProcessExecutor([str(script)], [8], [])
    assert caught.value.code == "E401"


def test_wrong_places(tmp_path, hand_folder):
    with pytest.raises(EdgeccError, match="no such file or folder"):
        load(tmp_path / "absent")
    with pytest.raises(EdgeccError, match="not an edgecc artifact"):
        load(tmp_path)
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(EdgeccError, match="not a loadable shared library") as caught:
        load(tmp_path / "text.so")
    assert caught.value.code == "E007"
    (hand_folder / "weights.bin").unlink()
    with pytest.raises(EdgeccError, match=r"weights\.bin"):
        load(hand_folder)


def test_a_library_without_the_abi(tmp_path, hand_folder):
    compiler = loading.find_compiler(loading.read_manifest(hand_folder).target)
    (tmp_path / "other.c").write_text("int other(void);\nint other(void) { return 1; }\n")
    loading.build_shared_library(compiler, tmp_path, ["other.c"], tmp_path / "other.so")
    with pytest.raises(EdgeccError, match="does not export edgecc_get_model"):
        load(tmp_path / "other.so")
    (tmp_path / "old.c").write_text(
        '#include "edgecc_abi.h"\nstatic const edgecc_model m = {.abi = 7};\n'
        "const edgecc_model *edgecc_get_model(void) { return &m; }\n")
    options = loading.BuildOptions(include=(hand_folder,))
    loading.build_shared_library(compiler, tmp_path, ["old.c"], tmp_path / "old.so", options)
    with pytest.raises(EdgeccError, match="ABI 7"):
        load(tmp_path / "old.so")


def test_weights_that_do_not_belong_to_the_code(make_hand_artifact, tmp_path):
    folder = make_hand_artifact(linked=False).write(tmp_path / "hand")
    (folder / "weights.bin").write_bytes(b"short")
    for isolated in (False, True):
        with pytest.raises(EdgeccError, match="status 5"):
            load(folder, isolated=isolated)


def test_no_emulator_and_no_compiler(make_hand_artifact, tmp_path, monkeypatch):
    folder = make_hand_artifact("cortex-a76").write(tmp_path / "hand")
    host = make_hand_artifact().write(tmp_path / "host")
    monkeypatch.setattr(loading, "runs_natively", lambda target: target.name == "host")
    monkeypatch.setattr("edgecc.artifact.toolchain.runs_natively", lambda target: target.name == "host")
    monkeypatch.setattr("edgecc.artifact.toolchain.zig_command", lambda: None)
    monkeypatch.delenv("EDGECC_CC", raising=False)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(EdgeccError, match="qemu-aarch64 was not found") as caught:
        load(folder)
    assert caught.value.code == "E400" and "qemu-user" in caught.value.hint
    (tmp_path / "qemu-aarch64").write_text("#!/bin/sh\n")
    (tmp_path / "qemu-aarch64").chmod(0o755)
    with pytest.raises(EdgeccError, match="no C compiler for aarch64") as caught:
        load(folder)
    assert "gcc-aarch64-linux-gnu" in caught.value.hint and "edgecc[zig]" in caught.value.hint
    with pytest.raises(EdgeccError, match="no C compiler was found") as caught:
        load(host)
    assert caught.value.exit_status == 4


def test_a_target_without_an_emulator(make_hand_artifact, tmp_path, monkeypatch):
    folder = make_hand_artifact("x86-64-v4").write(tmp_path / "hand")
    monkeypatch.setattr(loading, "runs_natively", lambda target: False)
    monkeypatch.setattr("edgecc.artifact.toolchain.runs_natively", lambda target: False)
    with pytest.raises(EdgeccError, match="names no emulator") as caught:
        load(folder)
    assert "avx512f" in caught.value.hint


def test_the_manifest_carries_the_whole_target(make_hand_artifact, tmp_path):
    artifact = make_hand_artifact("rpi5")
    folder = artifact.write(tmp_path / "hand")
    table = json.loads((folder / "manifest.json").read_text())
    assert table["target"]["emulator"]["command"] == "qemu-aarch64"
    assert loading.read_manifest(Path(folder)) == artifact.manifest
    assert dataclasses.replace(artifact.manifest) == artifact.manifest


def test_the_runner_is_a_program_of_its_own(make_hand_artifact, tmp_path, hand_inputs, hand_expected):
    artifact = make_hand_artifact()
    folder = artifact.write(tmp_path / "hand")
    program = tmp_path / "program"
    flags = (*toolchain.WARNING_FLAGS, "-fsanitize=address,undefined")
    built = toolchain.build_executable(loading.find_compiler(artifact.manifest.target), folder, artifact.manifest.sources,
                                       program, toolchain.BuildOptions(flags=flags), main=(RUNNER_SOURCE,))
    for name, array in zip("xk", hand_inputs.values(), strict=True):
        (tmp_path / name).write_bytes(array.tobytes())

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([built.output, *args], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert call("x", "k", "y", "flag").returncode == 0
    assert (tmp_path / "y").read_bytes() == next(iter(hand_expected.values())).tobytes()
    assert (tmp_path / "flag").read_bytes() == b"\1"
    timed = call("--runs", "3", "x", "k", "y", "flag")
    assert timed.returncode == 0 and timed.stdout.count(" ms") == 3
    usage = call("x")
    assert usage.returncode == 2 and "input x:0: ONNX type 1, shape [2,3], 24 bytes" in usage.stderr
    assert call("--runs", "0", "x", "k", "y", "flag").returncode == 2
    assert "x: not a readable file of 8 bytes" in call("x", "x", "y", "flag").stderr
    assert "no/y: cannot be written" in call("x", "k", "no/y", "flag").stderr
