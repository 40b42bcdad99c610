"""`edgecc bench`: its table, its JSON object, its exit statuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecc.errors import EXIT_MISMATCH, EXIT_OK, EXIT_USAGE

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.onnx"
QUICK = ("--shape", "batch=1", "--rounds", "1", "--turn", "0.01", "--limit", "0")


def test_prints_engines_and_layers(cli: Callable[..., Any]):
    pytest.importorskip("onnxruntime")
    outcome = cli("bench", DIGITS, *QUICK, "--against", "onnxruntime", "--per-layer")
    assert outcome.status == EXIT_OK
    lines = outcome.out.splitlines()
    assert "GFLOP/s" in lines[0] and lines[1].startswith("1 thread; 0.14 M multiply-adds")
    assert [line.split("  ")[0] for line in lines[3:6]] == ["edgecc", "edgecc, profiled", "onnxruntime"]
    assert "residual_pointwise_conv +3" in outcome.out and "conv_pointwise_32_32" in outcome.out


def test_json(cli: Callable[..., Any], reshaping: Path):
    pytest.importorskip("onnxruntime")
    value = cli("bench", reshaping, "--shape", "n=128", "--constant", "shape=2,64", *QUICK[2:], "--against", "onnxruntime", "--json").json()
    assert set(value) == {"machine", "compiler", "threads", "multiply_adds", "arena_bytes", "arena_lower_bound", "weights_bytes",
                          "compared_with", "engines", "layers"}
    assert [engine["engine"] for engine in value["engines"]] == ["edgecc", "onnxruntime"]  # which is given the constant as an input
    for engine in value["engines"]:
        assert not engine["wrong"] and 0 < engine["min_ms"] <= engine["median_ms"]


def test_wrong_results_are_a_failure(cli: Callable[..., Any]):
    outcome = cli("bench", DIGITS, *QUICK, "--tolerance", "-1")
    assert outcome.status == EXIT_MISMATCH and "WRONG" in outcome.out and "wrong" in outcome.err


@pytest.mark.parametrize("arguments", [("--target", "cortex-a76"), ("--rounds", "0"), ("--against", "other"), ("--integers", "no")])
def test_usage(cli: Callable[..., Any], arguments: tuple[str, ...]):
    outcome = cli("bench", DIGITS, *QUICK, *arguments)
    assert outcome.status == EXIT_USAGE and not outcome.out


def test_an_emulated_target_is_refused_with_advice(cli: Callable[..., Any]):
    outcome = cli("bench", DIGITS, *QUICK, "--target", "cortex-a76")
    assert "an emulator's time says nothing" in outcome.err and "--emit exe" in outcome.err
