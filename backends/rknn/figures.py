"""What RKNN-Toolkit2 prints about a network it built: its table of layers with modelled cycles, and memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from edgecc.errors import EdgeccError, printable

_LAYER = re.compile(r"(\d+)\s+(?P<kind>\S+)\s+(?P<type>\S+)\s+(?P<unit>CPU|NPU|GPU)\s+\S+\s+\S+\s+(?P<ddr>\d+)/(?P<npu>\d+)/(?P<total>\d+)\s+"
                    r"(?P<kilobytes>[\d.]+)\s+(?P<name>\S*)\s*$")
_MEMORY = re.compile(r"Total (?P<what>Internal|Weight) Memory Size:\s*(?P<kilobytes>[\d.]+)\s*KB")
_BORDER = ("InputOperator", "OutputOperator")


@dataclass(frozen=True)
class Layer:
    """A layer as the toolkit divided the network: what it is, its type, the unit that runs it, cycles and traffic."""

    name: str
    kind: str
    type: str
    unit: str
    ddr_cycles: int
    npu_cycles: int
    cycles: int
    traffic_bytes: int


@dataclass(frozen=True)
class Figures:
    """Of a network: its layers without inputs and outputs, bytes for intermediate values, bytes for weights."""

    layers: tuple[Layer, ...]
    memory_bytes: int
    weight_bytes: int

    def table(self) -> dict[str, Any]:
        """As JSON values; operators that the NPU does not run are counted by kind."""
        cpu = [layer.kind for layer in self.layers if layer.unit != "NPU"]
        return {"cycles": sum(layer.cycles for layer in self.layers), "npu_cycles": sum(layer.npu_cycles for layer in self.layers),
                "ddr_cycles": sum(layer.ddr_cycles for layer in self.layers), "memory_bytes": self.memory_bytes,
                "weight_bytes": self.weight_bytes, "npu_layers": len(self.layers) - len(cpu),
                "cpu_operators": {kind: cpu.count(kind) for kind in sorted(set(cpu))},
                "layers": [{"name": layer.name, "operator": layer.kind, "type": layer.type, "unit": layer.unit, "cycles": layer.cycles,
                            "npu_cycles": layer.npu_cycles, "ddr_cycles": layer.ddr_cycles, "traffic_bytes": layer.traffic_bytes}
                           for layer in self.layers]}


def read_figures(log: str) -> Figures:
    """The figures out of what the toolkit printed. Raises: EdgeccError E401 where they are not there."""
    layers, memory = [], {}
    for line in log.splitlines():
        _, _, text = line.partition("] ")
        found = _LAYER.match(text)
        if found is not None and found["kind"] not in _BORDER:
            layers.append(Layer(printable(found["name"]), printable(found["kind"]), found["type"], found["unit"], int(found["ddr"]), int(found["npu"]),
                                int(found["total"]), round(float(found["kilobytes"]) * 1024)))
        total = _MEMORY.search(text)
        if total is not None:
            memory[total["what"]] = round(float(total["kilobytes"]) * 1024)
    if not layers or len(memory) != 2:
        raise EdgeccError("E401", "RKNN-Toolkit2 printed no table of layers, or no memory", hint="this edgecc knows version 2.5")
    return Figures(tuple(layers), memory["Internal"], memory["Weight"])
