"""Prints how a model was divided between an accelerator and the CPU."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from edgecc.artifact.folder import Artifact
from edgecc.cli.output import human_bytes, print_json, results, show
from edgecc.partition.artifact import parts_table


def show_division(artifact: Artifact, folder: Path, *, explain: bool, as_json: bool) -> None:
    """What was written, and the table of placement; with `explain` a row for each node instead of one for neighbours alike."""
    manifest = artifact.manifest
    parts = parts_table(artifact)["parts"]
    if as_json:
        print_json({"ok": True, "folder": str(folder), "target": manifest.target.name, "backend": manifest.backend, "name": artifact.name,
                    "arena_bytes": artifact.arena_bytes, "weights_bytes": artifact.weights_bytes,
                    "parts": parts, "placement": dict(manifest.report), "files": [e.name for e in manifest.files]})
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("folder", str(folder))
    table.add_row("target", manifest.target.name)
    table.add_row("back ends", manifest.backend)
    table.add_row("arena", human_bytes(artifact.arena_bytes))
    table.add_row("weights", human_bytes(artifact.weights_bytes))
    show(table)
    results().print()
    show_placement(manifest.report, explain=explain)
    results().print()
    show_crossings(manifest.report)
    show_summary(manifest.report)


def show_placement(report: Mapping[str, Any], *, explain: bool) -> None:
    """What runs where, and why not on the accelerator."""
    table = Table("part", "runs on", "nodes", "operators", "multiply-adds", "why not on the accelerator", box=None, pad_edge=False)
    nodes = report["nodes"]
    groups = [[node] for node in nodes] if explain else [
        list(group) for _, group in itertools.groupby(sorted(nodes, key=lambda node: node["part"]), key=lambda node: (node["part"], node["reason"]))]
    for group in groups:
        first = group[0]
        count = f"{len(group)}: {first['name']} .. {group[-1]['name']}" if len(group) > 1 else first["name"]
        operators = ", ".join(dict.fromkeys(node["op"] for node in group))
        macs = sum(node["multiply_adds"] for node in group)
        table.add_row(str(first["part"]), first["side"], Text(count), operators, str(macs) if macs else "", Text(first["reason"]))
    show(table)


def show_crossings(report: Mapping[str, Any]) -> None:
    """What crosses between the two."""
    table = Table("crosses", "to", "type", "bytes", "scale", "zero point", box=None, pad_edge=False)
    for crossing in report["crossings"]:
        scale, zero = crossing["scale"], crossing["zero_point"]
        table.add_row(Text(crossing["value"]), crossing["to"], crossing["type"], str(crossing["bytes"]),
                      "" if scale is None else f"{scale:.6g}", "" if zero is None else str(zero))
    show(table)


def show_summary(report: Mapping[str, Any]) -> None:
    """One line."""
    results().print(f"accelerator: {report['npu_nodes']} nodes, {100 * report['npu_share_of_multiply_adds']:.2f} % of the multiply-adds; "
                    f"CPU: {report['cpu_nodes']} nodes; {human_bytes(report['crossing_bytes'])} cross")
