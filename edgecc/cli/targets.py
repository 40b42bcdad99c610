"""`edgecc targets [NAME]`: what can be compiled for."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from edgecc.cli import flags
from edgecc.cli.output import human_bytes, print_json, show
from edgecc.targets.schema import Target, list_targets, load_target, target_table

app = typer.Typer(add_completion=False)


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(metavar="TARGET", help="A target, or a path to a TOML file.", show_default=False)] = None,
    as_json: flags.AsJson = False,
) -> None:
    """List targets, or show one."""
    if name is not None:
        target = load_target(name)
        if as_json:
            print_json(target_table(target))
        else:
            _show(target)
        return
    known = [load_target(each) for each in list_targets()]
    if as_json:
        print_json({"targets": [{"name": t.name, "description": t.description, "architecture": t.architecture,
                                 "features": list(t.isa.features)} for t in known]})
        return
    table = Table("target", "description", "vectors", box=None, pad_edge=False)
    for target in known:
        bits = f"{target.vector.bits} bits" if target.vector.bits else "none"
        table.add_row(target.name, target.description, bits)
    show(table)


def _show(target: Target) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    core, vector = target.core, target.vector
    table.add_row("target", f"{target.name}: {target.description}")
    table.add_row("instruction set", f"{target.isa.base}, features {', '.join(target.isa.features) or 'none'}")
    table.add_row("vectors", f"{vector.bits} bits, {vector.registers} registers" if vector.bits else "none, scalar code")
    table.add_row("core", f"{'in order' if core.in_order else 'out of order'}, {core.issue_width} instructions a cycle")
    table.add_row("multiply-adds", f"{core.fma_per_cycle:g} a cycle, {core.fma_latency} cycles from one to the next on the same accumulator")
    table.add_row("loads, stores", f"{core.loads_per_cycle:g} and {core.stores_per_cycle:g} a cycle")
    for cache in target.caches:
        table.add_row(f"cache {cache.level}", f"{human_bytes(cache.size)}, {cache.ways} ways, lines of {cache.line} bytes"
                      + (", shared" if cache.shared else ""))
    for memory in target.memories:
        limit = human_bytes(memory.limit) if memory.limit else "no limit"
        table.add_row(f"memory {memory.name}", f"{limit}, buffers aligned to {memory.align} bytes")
    table.add_row("cores", str(target.cores))
    emulator = target.emulator
    table.add_row("emulator", " ".join((emulator.command, *emulator.args)) if emulator else "none")
    show(table)
