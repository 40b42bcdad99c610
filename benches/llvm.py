"""LLVM beside C: whether both give the same bytes, on this machine and under an emulator, and how long a run takes.

    python -m benches.llvm FOLDER|MODEL ... [--target host --target cortex-a76] [--precision fp32 --precision fp16]
        [--inputs FOLDER] [--shape batch=1..4] [--cc CC]
    python -m benches.llvm FOLDER|MODEL ... --time [--cc clang] [--seconds 8]

The same loop programs are printed as C and as LLVM IR. For this machine LLVM translates them into this process, without any
compiler; for another one the object is linked with `--cc` or what edgecc finds, and both programs run under the target's emulator.
Inputs are those of NAME.in.npz in `--inputs`, else random ones, of several shapes where dimensions are open. The bits have to be those of
C, and the numbers those of the reference. With `--time` both take turns in this process; the quickest run of each counts, and the
processor time of all runs, which on a busy machine says more. Exit status 1 where results are not as they have to be.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benches.machine import headline
from benches.peers import models_of
from edgecc import api
from edgecc.artifact.load import Model, Port, load, random_inputs
from edgecc.artifact.toolchain import runs_natively
from edgecc.backends.base import EmitOptions
from edgecc.backends.llvm.backend import LlvmBackend
from edgecc.backends.llvm.jit import load_here
from edgecc.cli.arguments import parse_shapes, read_arrays
from edgecc.errors import EdgeccError
from edgecc.ir.instance import corners, graph_symbols
from edgecc.ir.types import Array, is_float_array
from edgecc.reference.compare import ROUNDOFFS, compare_outputs
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target


def compiled(path: Path, target: str, precision: str, inputs: Mapping[str, Array] | None, given: argparse.Namespace) -> api.Compilation:
    """The network as loop programs and as C."""
    options = api.Options(shapes=parse_shapes(given.shape) or None, inputs=inputs, precision=precision, bind_values=inputs is not None)
    return api.compile_model(path, load_target(target), options)


def by_llvm(done: api.Compilation, cc: str | None) -> Model:
    """The network through LLVM: in this process, or linked and under the emulator."""
    target = done.compiled.target
    if runs_natively(target):
        return load_here(done.compiled.module, target)
    return load(LlvmBackend().emit(done.compiled.module, target, EmitOptions(form="obj")), cc=cc)


def cases_of(done: api.Compilation, inputs: Mapping[str, Array] | None) -> list[dict[str, Array]]:
    """The inputs of the runs that are compared."""
    graph = done.graph
    if inputs is not None:
        return [{name: array for name, array in inputs.items() if name in graph.input_names}]
    sizes = corners(graph_symbols(graph)) if graph_symbols(graph) else [{}]
    return [random_inputs([Port(name, value.type.dtype.numpy, value.type.at(each).dims)
                           for name, value in zip(graph.input_names, graph.inputs, strict=True)]) for each in sizes]


def inputs_of(path: Path, given: argparse.Namespace) -> dict[str, Array] | None:
    """Arrays of a file beside the model or in the folder of inputs; None where there is none."""
    file = (given.inputs or path.parent) / f"{path.stem}.in.npz"
    return read_arrays(file, "inputs") if file.exists() else None


def agreement(path: Path, target: str, precision: str, given: argparse.Namespace) -> tuple[list[str], bool]:
    """A row of the table of results, and whether it is as it must be."""
    inputs = inputs_of(path, given)
    start = time.perf_counter()
    try:
        done = compiled(path, target, precision, inputs, given)
        front = time.perf_counter()
        with ExitStack() as stack:
            own = stack.enter_context(by_llvm(done, given.cc))
            seconds = time.perf_counter() - front
            c = stack.enter_context(load(done.artifact, cc=given.cc))
            elements = different = 0
            worst = error = 0.0
            tolerance = max(given.relative, ROUNDOFFS * done.compiled.module.precision.unit_roundoff)
            for case in cases_of(done, inputs):
                got, other = own.run(case), c.run(case)
                for name, result in got.items():
                    same = np.isclose(result, other[name], rtol=0, atol=0, equal_nan=True) if is_float_array(result) else result == other[name]
                    elements += result.size
                    different += int(np.count_nonzero(~same))
                    if is_float_array(result):
                        scale = float(np.max(np.abs(result), initial=0.0)) or 1.0
                        worst = max(worst, float(np.max(np.abs(result.astype(np.float64) - other[name]), initial=0.0, where=~same)) / scale)
                error = max([error, *(each.max_abs_err / max(each.tolerance, 1e-30)
                                      for each in compare_outputs(got, execute(done.compiled.graph, case), relative=tolerance))])
    except EdgeccError as failure:
        return [path.stem, target, precision, "", "", "", str(failure).splitlines()[0], f"{time.perf_counter() - start:.0f}"], False
    ok = error <= 1.0 and different == 0
    return [path.stem, target, precision, str(elements), str(different), f"{worst:.1e}" if different else "0",
            f"{error:.3f}" + ("" if error <= 1.0 else " !"), f"{seconds:.1f}"], ok


def timing(path: Path, given: argparse.Namespace) -> list[str]:
    """A row of the table of times on this machine."""
    inputs = inputs_of(path, given)
    done = compiled(path, "host", "fp32", inputs, given)
    models = {"c": load(done.artifact, cc=given.cc), "llvm": by_llvm(done, None)}
    case = cases_of(done, inputs)[-1]
    outputs = {name: model.run(case) for name, model in models.items()}
    best, used = dict.fromkeys(models, float("inf")), dict.fromkeys(models, 0.0)
    end = time.monotonic() + given.seconds
    while time.monotonic() < end:
        for name, model in models.items():
            before = time.thread_time()
            best[name] = min(best[name], model.benchmark(3, case).minimum_ns * 1e-6)
            used[name] += time.thread_time() - before
    same = all(np.array_equal(outputs["c"][name], array, equal_nan=is_float_array(array)) for name, array in outputs["llvm"].items())
    return [path.stem, f"{best['c']:.4g}", f"{best['llvm']:.4g}", f"{best['llvm'] / best['c']:.3f}", f"{used['llvm'] / used['c']:.3f}", "yes" if same else "no",
            *(str(model.code_bytes) for model in models.values())]


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="FOLDER|MODEL")
    parser.add_argument("--target", action="append", help="host and cortex-a76 without it")
    parser.add_argument("--precision", action="append", help="fp32 without it")
    parser.add_argument("--inputs", type=Path, help="a folder with NAME.in.npz")
    parser.add_argument("--shape", action="append", default=[], help="size of a dynamic input or dimension")
    parser.add_argument("--cc", help="the C compiler, which links objects for other machines, too")
    parser.add_argument("--relative", type=float, default=1e-4, help="tolerance, relative to the largest number of an output")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    print(headline(), file=sys.stderr)
    failed = False
    if given.time:
        table = Table("network", "C, ms", "LLVM, ms", "LLVM / C", "of processor time", "same bits", "code of C, bytes", "of LLVM")
        for path in models_of(given.models):
            table.add_row(*timing(path, given))
    else:
        table = Table("network", "target", "precision", "results", "other than C's", "by at most, relative", "error / tolerance", "LLVM, s")
        for path in models_of(given.models):
            for target in given.target or ["host", "cortex-a76"]:
                for precision in given.precision or ["fp32"]:
                    row, ok = agreement(path, target, precision, given)
                    table.add_row(*row)
                    print(" | ".join(row), file=sys.stderr, flush=True)
                    failed |= not ok
    Console(width=160).print(table)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
