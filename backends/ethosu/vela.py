"""Calls Vela, Arm's compiler for Ethos-U, and reads what it says about its result.

It runs in a process of its own and in a folder that is gone afterwards.
"""

from __future__ import annotations

import csv
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecc.backends.requirements import Requirement
from edgecc.errors import EdgeccError, printable

VELA = Requirement("ethosu", "compiles TFLite models for Ethos-U", "pip install ethos-u-vela")
SECONDS = 600
"""How long it may take."""
NPU_OPERATOR = "ethos-u"
"""The custom operator of a TFLite model that holds a command stream."""

_FIGURES = {
    "cycles": "cycles_total", "npu_cycles": "cycles_npu", "sram_bytes": "sram_memory_used", "flash_bytes": "off_chip_flash_memory_used",
    "on_chip_flash_bytes": "on_chip_flash_memory_used", "dram_bytes": "dram_memory_used", "multiply_adds": "nn_macs", "clock_hz": "core_clock",
    "seconds": "inference_time",
}
_KIBIBYTES = ("sram_bytes", "flash_bytes", "on_chip_flash_bytes", "dram_bytes")


@dataclass(frozen=True)
class Compiled:
    """What Vela made.

    Attributes:
        data: the TFLite model, in which command streams stand for operators.
        figures: of the whole network, modelled by Vela: cycles, bytes, multiply-adds, seconds.
        layers: of each operator that runs on the accelerator: its name, kind, cycles and multiply-adds.
        npu_operators: how many command streams there are.
        cpu_operators: the operators that are left for the CPU, by name. cpu_results: the names of the tensors that they compute.
    """

    data: bytes
    figures: Mapping[str, float]
    layers: tuple[Mapping[str, Any], ...]
    npu_operators: int
    cpu_operators: tuple[str, ...]
    cpu_results: tuple[str, ...]


def run_vela(model: bytes, accelerator: str, *, system: str, memory: str, optimise: str, suffix: str = "tflite") -> Compiled:
    """Compiles a TFLite model, or a TOSA file.

    Args:
        accelerator, system, memory, optimise: Vela's --accelerator-config, --system-config, --memory-mode and --optimise.
        suffix: of the file: tflite or tosa.
    Raises: EdgeccError E401 with what Vela says.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, results = Path(folder) / f"network.{suffix}", Path(folder) / "results"
        source.write_bytes(model)
        config = Path(str(importlib.import_module("ethosu").__path__[0])) / "config_files" / "Arm" / "vela.ini"
        command = [sys.executable, "-m", "ethosu.vela", str(source), "--accelerator-config", accelerator, "--config", str(config),
                   "--system-config", system, "--memory-mode", memory, "--optimise", optimise, "--output-dir", str(results),
                   "--verbose-performance"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=folder, check=False)
        except subprocess.TimeoutExpired:
            raise EdgeccError("E401", f"Vela did not finish in {SECONDS} s") from None
        output = results / "network_vela.tflite"
        if done.returncode != 0 or not output.exists():
            said = (done.stderr or done.stdout).strip().splitlines()
            raise EdgeccError("E401", "Vela failed", where=accelerator, details=[printable(line, 300) for line in said[-5:]])
        (row,) = _rows(results, "network_summary_*.csv")
        layers = tuple({"name": entry["Name"], "operator": entry["Original Operator"], "cycles": float(entry["Op Cycles"]),
                        "multiply_adds": float(entry["MAC Count"])}
                       for entry in _rows(results, "network_per-layer.csv") if entry["Target"] == "NPU")
        npu, cpu, made = _operators(output.read_bytes())
        return Compiled(output.read_bytes(), _figures(row), layers, npu, cpu, made)


def _figures(row: Mapping[str, str]) -> dict[str, float]:
    figures = {name: float(row[column]) * (1024 if name in _KIBIBYTES else 1) for name, column in _FIGURES.items()}
    return {name: int(figure) if figure == int(figure) else figure for name, figure in figures.items()}


def _rows(folder: Path, pattern: str) -> list[dict[str, str]]:
    paths = sorted(folder.glob(pattern))
    if len(paths) != 1:
        raise EdgeccError("E401", f"Vela wrote {len(paths)} files {pattern}, one was expected", hint="this edgecc knows Vela 5")
    with paths[0].open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _operators(data: bytes) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """How many command streams a model has, which operators besides, and what tensors these compute."""
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    npu, cpu, made = 0, [], []
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            if code.customCode is not None and code.customCode.decode("ascii", "replace") == NPU_OPERATOR:
                npu += 1
            else:
                cpu.append(names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM"))
                made += [graph.tensors[index].name.decode("utf-8", "replace") for index in operator.outputs]
    return npu, tuple(cpu), tuple(made)
