"""Compiles the digit classifier for a Cortex-A76, runs all test images, and compares with the reference.

    make demo                                                       # from the root of the repository
    python examples/digits/demo.py --target neoverse-n1 --output out/digits    # wherever edgecc is installed

The generated folder stays in out/, to be read and built. Where the target's code cannot be executed
(no emulator), the demo compiles for this machine instead and says so. Ends with status 1 if the
compiled code and the reference disagree.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

import edgecc
from edgecc.api import Compilation, Options, compile_model
from edgecc.artifact.toolchain import find_compiler, find_emulator
from edgecc.cli.output import show
from edgecc.errors import EdgeccError
from edgecc.reference.compare import compare_outputs
from edgecc.targets.schema import Target, load_target

FOLDER = Path(__file__).resolve().parent
GREY_LEVELS = 16  # the test images hold counts 0..16, the network wants 0..1


def main() -> int:
    """Compiles, runs, compares, prints; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cortex-a76", help="a target of `edgecc targets`")
    parser.add_argument("--output", type=Path, help="the folder to write; out/digits-TARGET by default")
    options = parser.parse_args()
    with np.load(FOLDER / "digits_test.npz") as data:
        images, labels, reference = data["image"].astype(np.float32) / GREY_LEVELS, data["label"], data["probabilities"]

    target = _runnable(load_target(options.target))
    # With verify_each the graph is executed before and after every pass, here on the first test image.
    done = compile_model(FOLDER / "digits.onnx", target, Options(inputs={"image": images[:1]}, verify_each=True))
    folder = done.artifact.write(options.output or Path("out", f"digits-{target.name}"))
    show(_passes_table(done, len(done.graph)))

    with edgecc.load(folder) as model:
        results = np.concatenate([model.run({"image": image[None]})["probabilities"] for image in images])
        code_bytes = model.code_bytes
    (comparison,) = compare_outputs({"probabilities": results}, {"probabilities": reference})
    same = results.argmax(1) == reference.argmax(1)

    emulator = find_emulator(target)
    place = f"under {Path(emulator[0]).name}" if emulator else "on this machine"
    manifest = done.artifact.manifest
    table = Table(title=f"{len(images)} test images, compiled for {target.name} and run {place}", title_justify="left",
                  show_header=False, box=box.SIMPLE)
    table.add_row("accuracy, compiled", _share(results.argmax(1) == labels))
    table.add_row("accuracy, onnxruntime", _share(reference.argmax(1) == labels))
    table.add_row("same class as onnxruntime", _share(same))
    table.add_row("largest difference of a probability", f"{comparison.max_abs_err:.1e}")
    table.add_row("arena", f"{manifest.arena_bytes:,} bytes (lower bound {manifest.arena_lower_bound:,})")
    table.add_row("weights", f"{manifest.weights.size_bytes:,} bytes")
    table.add_row("code", "unknown" if code_bytes is None else f"{code_bytes:,} bytes")
    table.add_row("C compiler", find_compiler(target).version)
    table.add_row("folder", str(folder))
    show(table)
    ok = comparison.ok and bool(same.all())
    print("compiled code and reference agree" if ok else "compiled code and reference DISAGREE")
    return 0 if ok else 1


def _runnable(target: Target) -> Target:
    """The target, or the host where nothing executes the target's code."""
    try:
        find_emulator(target)
    except EdgeccError as error:
        print(f"{error.message}, so this runs on the host instead" + (f" ({error.hint})" if error.hint else ""))
        return load_target("host")
    return target


def _passes_table(done: Compilation, nodes: int) -> Table:
    """What each pass that changed something did."""
    changed = [report for report in done.compiled.passes if report.changed]
    idle = len(done.compiled.passes) - len(changed)
    table = Table(title=f"graph passes: {nodes} nodes to {changed[-1].nodes_after if changed else nodes}", title_justify="left",
                  caption=f"{idle} further passes had nothing to do; results were compared after each",
                  caption_justify="left", box=box.SIMPLE)
    table.add_column("pass")
    table.add_column("nodes before", justify="right")
    table.add_column("nodes after", justify="right")
    table.add_column("what it is for")
    for report in changed:
        table.add_row(str(report.graph_pass), str(report.nodes_before), str(report.nodes_after),
                      (type(report.graph_pass).__doc__ or "").strip().splitlines()[0])
    return table


def _share(hits: np.ndarray) -> str:
    return f"{int(hits.sum())} of {len(hits)} ({hits.mean():.2%})"


if __name__ == "__main__":
    sys.exit(main())
