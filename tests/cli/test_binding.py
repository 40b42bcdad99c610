"""Sizes and values of inputs, and limits: every command that reads a model takes them."""

from __future__ import annotations

import inspect

import numpy as np
import onnx
import pytest

from edgecc.cli import bench, check, compile, opt, prune, quantize, run, tune, verify
from edgecc.cli import inspect as inspecting
from edgecc.cli.groups import names_of
from edgecc.cli.models import Binding

GIVEN = ("--constant", "shape=2,64", "--shape", "n=128")


@pytest.mark.parametrize("command", [bench.bench, check.check, compile.compile, inspecting.inspect, opt.opt, prune.command, quantize.command,
                                     run.run, tune.tune, verify.verify])
def test_the_flags_are_everywhere(command):
    assert names_of(Binding) <= set(inspect.signature(command).parameters)


def test_values_reach_every_command(cli, reshaping, tmp_path):
    assert "%x: f32[128]" in cli("opt", reshaping, *GIVEN, "--print-ir").out
    assert cli("inspect", reshaping, *GIVEN, "--json").json()["macs"] == 2 * 64 * 32
    out = tmp_path / "out.onnx"
    for arguments in (["prune", reshaping, "--sparsity", "0.5", "--block", "1", "--target", "cortex-a76"], ["quantize", reshaping, "--weights", "int8"]):
        assert cli(*arguments, *GIVEN, "-o", out).status == 0
        assert [value.name for value in onnx.load(out).graph.input] == ["x"]
        assert "limit" in cli(*arguments, *GIVEN, "--limits", "nodes=1", "-o", tmp_path / "none.onnx").err
    np.savez(tmp_path / "data.npz", x=np.ones(128, np.float32))
    assert cli("quantize", reshaping, *GIVEN, "--calibration", tmp_path / "data.npz", "--target", "cortex-a76", "-o", out).status == 0
    assert [value.name for value in onnx.load(out).graph.input] == ["x"]


def test_what_has_its_sizes_already_takes_none(cli, tmp_path):
    (tmp_path / "net.ir").write_text("graph net() {}")
    (tmp_path / "folder").mkdir()
    for command, model in (("opt", "net.ir"), ("bench", "folder")):
        outcome = cli(command, tmp_path / model, "--shape", "n=2")
        assert outcome.status == 2 and "--shape would do nothing" in outcome.err
