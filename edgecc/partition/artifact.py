"""A divided network as one artifact: a folder for each part, and what runs when.

    parts.json                        the sequence of parts, where their inputs come from, the table of placement
    0_cpu/manifest.json, 0_cpu/...    an artifact of C for a part of the CPU
    1_npu/manifest.json, 1_npu/...    what the accelerator's back end wrote for a part of its own
    NAME.c, NAME.h, NAME_parts.h      all parts in turn (driver.py)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgecc.artifact.folder import MANIFEST_NAME, Artifact, Manifest, make_export
from edgecc.backends.base import EmitOptions, GraphBackend, LoopBackend
from edgecc.errors import EdgeccError, printable
from edgecc.ir.graph import Graph, Node
from edgecc.loop.module import Interface
from edgecc.lowering.options import DEFAULT_LOWERING, LoweringOptions
from edgecc.options import spelled
from edgecc.partition.driver import DriverPart, write_driver
from edgecc.partition.plan import Crossing, Plan, plan_partition
from edgecc.partition.split import Source, Split, split
from edgecc.pipeline import C, backend_passes, check_accepts, check_static, compile_graph, run_passes
from edgecc.targets.schema import Npu, Target

PARTS = "parts.json"
SCHEMA = 1


@dataclass(frozen=True)
class Partitioned:
    """A divided network: the graph after the accelerator's passes, the division, the artifact, and who wrote the parts."""

    graph: Graph
    plan: Plan
    artifact: Artifact
    npu: GraphBackend
    cpu: LoopBackend


def partition(graph: Graph, name: str, target: Target, npu: GraphBackend, cpu: LoopBackend = C, *,
              options: LoweringOptions = DEFAULT_LOWERING) -> Partitioned:
    """Divides a copy of a graph between the target's accelerator and its CPU, and compiles all parts.

    Args:
        name: a C identifier.
        target: one with an accelerator.
        npu: the back end that writes for it; it decides which nodes it takes.
        options: of the parts on the CPU.
    Raises: EdgeccError E115 where the target has no accelerator, or the back end does not write for it; E104 for open
        dimensions; what passes, kernels and back ends raise.
    """
    if target.npu is None:
        raise EdgeccError("E115", f"target {target.name} has no accelerator", hint="[npu] of the target's file describes one")
    check_accepts(npu, target)
    check_static(graph, npu)
    own = graph.copy()
    run_passes(own, backend_passes(npu, target))
    reasons = {node: reason for node in own.nodes if (reason := npu.supports(node, target)) is not None}
    plan, pieces, written = _written(own, name, target, target.npu, npu, reasons)
    files: dict[str, bytes] = {}
    parts: list[dict[str, Any]] = []
    artifacts: list[DriverPart] = []
    for number, part in enumerate(pieces.parts):
        side = "npu" if part.on_npu else "cpu"
        part_name = _part_name(name, number, on_npu=part.on_npu)
        if part.on_npu:
            artifact = written[number]
        else:
            artifact = cpu.emit(compile_graph(part.graph, target, name=part_name, options=options, backend=cpu).module, target, EmitOptions())
        folder = f"{number}_{side}"
        files |= {f"{folder}/{file}": content for file, content in artifact.files.items()}
        files[f"{folder}/{MANIFEST_NAME}"] = artifact.manifest.to_json()
        artifacts.append(DriverPart(folder, part_name, artifact, part.on_npu, part.inputs))
        parts.append({"folder": folder, "side": side, "name": part_name, "inputs": [_source(source) for source in part.inputs],
                      "arena_bytes": artifact.arena_bytes, "weights_bytes": artifact.weights_bytes})
    report = placement_report(plan)
    content = {"schema": SCHEMA, "npu": spelled(npu.name, npu), "cpu": spelled(cpu.name, cpu), "parts": parts,
               "outputs": [_source(source) for source in pieces.outputs], **report}
    files[PARTS] = (json.dumps(content, indent=2) + "\n").encode("ascii")
    inputs, outputs = (tuple(Interface(port, value.type) for port, value in zip(names, values, strict=True))
                       for names, values in ((own.input_names, own.inputs), (own.output_names, own.outputs)))
    driver = write_driver(name, target, inputs, outputs, artifacts, pieces.outputs)
    if driver is not None:
        files |= driver.files
    # Parts run one after the other: one arena serves all.
    arena_bytes = max((part.artifact.arena_bytes for part in artifacts), default=0) if driver is None else driver.arena_bytes
    whole = make_export(f"{spelled(npu.name, npu)}+{spelled(cpu.name, cpu)}", own, name, target, files, PARTS, report=report,
                        arena_bytes=arena_bytes, weights_bytes=sum(part.artifact.weights_bytes for part in artifacts))
    return Partitioned(own, plan, whole, npu, cpu)


def _part_name(name: str, number: int, *, on_npu: bool) -> str:
    return f"{name}_{'npu' if on_npu else 'cpu'}{number}"


def _written(graph: Graph, name: str, target: Target, described: Npu, npu: GraphBackend,
             reasons: Mapping[Node, str]) -> tuple[Plan, Split, dict[int, Artifact]]:
    """The division, its parts, and what the accelerator's back end wrote for its own, by number.

    Where it finds nothing to do for the accelerator in a part (E114), that part goes to the CPU; nodes that its tool leaves go there, too.
    """
    reasons = dict(reasons)
    while True:
        plan = plan_partition(graph, target, described, reasons)
        pieces = split(graph, plan)
        written: dict[int, Artifact] = {}
        refused: dict[Node, str] = {}
        for number, part in enumerate(pieces.parts):
            if part.on_npu:
                try:
                    written[number] = npu.emit(part.graph, _part_name(name, number, on_npu=True), target, next(iter(npu.forms)))
                    own = dict(zip(part.graph.nodes, plan.parts[number][1], strict=True))
                    refused |= {own[node]: reason for node, reason in npu.left(part.graph, written[number]).items()}
                except EdgeccError as error:
                    if error.code != "E114":
                        raise
                    refused |= dict.fromkeys(plan.parts[number][1], error.message)
        if not refused:
            return plan, pieces, written
        reasons |= refused


def part_artifacts(artifact: Artifact) -> tuple[tuple[Mapping[str, Any], Artifact], ...]:
    """The parts of a divided network, in order: what parts.json says of each, and its artifact.

    Raises: EdgeccError E007 where the artifact is none of a divided network.
    """
    table = parts_table(artifact)
    found = []
    for part in table["parts"]:
        prefix = f"{part['folder']}/"
        inner = {name.removeprefix(prefix): content for name, content in artifact.files.items() if name.startswith(prefix)}
        manifest = inner.pop(MANIFEST_NAME, b"")
        found.append((part, Artifact(Manifest.from_json(manifest, printable(prefix + MANIFEST_NAME)), inner)))
    return tuple(found)


def parts_table(artifact: Artifact) -> Mapping[str, Any]:
    """The content of parts.json. Raises: EdgeccError E007."""
    try:
        table = json.loads(artifact.files[PARTS])
    except (KeyError, ValueError, RecursionError):
        raise EdgeccError("E007", "not an artifact of a divided network", where=PARTS) from None
    if not isinstance(table, dict) or table.get("schema") != SCHEMA:
        raise EdgeccError("E007", f"{PARTS} is of another version", where=PARTS, hint="compile the model again")
    return table


def placement_report(plan: Plan) -> dict[str, Any]:
    """The one table of placement as JSON values: what runs where, why not on the accelerator, what crosses."""
    order = {number: index for index, (number, _) in enumerate(plan.parts)}
    return {
        "npu_share_of_multiply_adds": round(plan.npu_share, 6),
        "npu_nodes": sum(placed.on_npu for placed in plan.nodes),
        "cpu_nodes": sum(not placed.on_npu for placed in plan.nodes),
        "crossing_bytes": plan.crossing_bytes,
        "nodes": [{"name": placed.name, "op": placed.node.op.name, "part": order[placed.part], "side": "npu" if placed.on_npu else "cpu",
                   "multiply_adds": placed.macs, "reason": placed.reason} for placed in plan.nodes],
        "crossings": [_crossing(crossing) for crossing in plan.crossings],
    }


def _crossing(crossing: Crossing) -> dict[str, Any]:
    quantization = crossing.quantization
    return {"value": printable(crossing.value.name), "type": str(crossing.value.type), "to": "cpu" if crossing.source % 2 else "npu",
            "bytes": crossing.size_bytes * len(crossing.readers),
            "scale": None if quantization is None else quantization.scale, "zero_point": None if quantization is None else quantization.zero}


def _source(source: Source) -> dict[str, int | None]:
    return {"part": source.part, "index": source.index}
