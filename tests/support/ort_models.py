"""Small models that onnxruntime is tested with, run by onnxruntime and through generated C on random inputs.

The folder of models has a manifest.csv, which says which of them onnxruntime loads. As a program, this module takes
the folder and names of models, and prints for each a line when it starts and, at the end, one with all outcomes, so
that whoever runs it can stop it and knows where it was.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgecc.api import Options, compile_model
from edgecc.errors import EXIT_MODEL, EdgeccError
from edgecc.ir.types import DType
from edgecc.targets.schema import load_target
from tests.support import onnxruntime_sessions
from tests.support.onnx_suite import Case, outcomes, stored_names

SIZES = (2, 3, 1, 4, 8, 16, 32, 64, 128, 256, 300, 512, 784)
"""Sizes tried for dimensions without one, until onnxruntime accepts the inputs."""
SECONDS_A_MODEL = 60.0
MEMORY_BYTES = 8 << 30
RUNS = 16
"""Runs of onnxruntime whose results are compared: two random ones of a few elements are often equal."""
UNCOMPARED = "onnxruntime does not run it"
"""What is recorded of models that it does not load or whose inputs were not found; its releases differ in which of both."""
LARGEST_INPUT = 1 << 23
LARGEST_TRIED = 1 << 20
"""Elements of an input, where the model states its size and where sizes are tried."""


def loaded_models(folder: Path) -> list[str]:
    """The models that onnxruntime loads, by file name."""
    with (folder / "manifest.csv").open(encoding="utf-8") as file:
        return [row["file"] for row in csv.DictReader(file) if row["onnxruntime 1.31.1 CPU"].startswith("loads")]


def domains(model: onnx.ModelProto) -> set[str]:
    """The operator domains the nodes use, but for the model's own functions."""
    own = {(function.domain, function.name) for function in model.functions}
    bodies = [model.graph, *model.functions]
    found = set()
    while bodies:
        for node in bodies.pop().node:
            if (node.domain, node.op_type) not in own:
                found.add("" if node.domain == "ai.onnx" else node.domain)
            bodies += [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs) if graph.node]
    return found


def _shape(value: onnx.ValueInfoProto, size: int) -> tuple[int, ...]:
    return tuple(dim.dim_value if dim.dim_value > 0 else size for dim in value.type.tensor_type.shape.dim)


def _random(value: onnx.ValueInfoProto, size: int, below: int, generator: np.random.Generator) -> Any:
    """An array for an input, with integers below `below`; a list of them for a sequence."""
    if value.type.HasField("sequence_type"):
        element = onnx.ValueInfoProto(name=value.name, type=value.type.sequence_type.elem_type)
        return [_random(element, size, below, generator) for _ in range(2)]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    known = DType.from_code(value.type.tensor_type.elem_type)
    if known is not None and known.is_float:
        return generator.standard_normal(_shape(value, size)).astype(dtype)
    numbers = generator.integers(0, below, _shape(value, size))
    return numbers.astype(str).astype(object) if dtype.kind == "O" else numbers.astype(dtype)


def _case(path: Path) -> Case | str:
    """A case made of what onnxruntime computes, or why there is nothing to compare with."""
    model = onnx.load(path, load_external_data=False)
    values = [value for value in model.graph.input if value.name not in stored_names(model)]
    try:
        session = onnxruntime_sessions.session(path)
    except Exception:  # onnxruntime has several kinds
        return UNCOMPARED
    for size, below in itertools.product(SIZES, (2, 1)):
        if any(math.prod(_shape(value, size)) > (LARGEST_INPUT if size == SIZES[0] else LARGEST_TRIED) for value in values):
            continue
        generator = np.random.default_rng(0)
        try:
            inputs = [_random(value, size, below, generator) for value in values]
            if _casts_to_unsigned(model):  # what becomes of negative numbers is not defined
                inputs = [np.abs(x) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in inputs]
            feeds = dict(zip((value.name for value in values), inputs, strict=True))
            results, *again = (session.run(None, feeds) for _ in range(RUNS))
        except Exception:
            continue
        case = Case(path.name, _kind(model), path, [(inputs, results)], 0, 0)
        return "the results are random" if any(difference(case, results, other) for other in again) else case
    return UNCOMPARED


def _kind(model: onnx.ModelProto) -> str:
    """"quantized" or "half" where a model rounds to such types on the way, else "float"."""
    if any(word in node.op_type for node in model.graph.node for word in ("Quantize", "QLinear", "Integer", "NBits", "QAttention")):
        return "quantized"
    half = onnx.TensorProto.FLOAT16
    casts = any(node.op_type == "Cast" and node.attribute[0].i == half for node in model.graph.node)
    stored = {tensor.data_type for tensor in model.graph.initializer}
    return "half" if casts or half in stored | {value.type.tensor_type.elem_type for value in model.graph.input} else "float"


def _casts_to_unsigned(model: onnx.ModelProto) -> bool:
    unsigned = (onnx.TensorProto.UINT8, onnx.TensorProto.UINT16, onnx.TensorProto.UINT32, onnx.TensorProto.UINT64)
    return any(node.op_type == "Cast" and node.attribute[0].i in unsigned for node in model.graph.node)


def difference(case: Case, wanted: Sequence[Any], got: Sequence[Any]) -> str:
    """What is wrong with the results.

    They may differ by 1e-3 of their own size plus 1e-4 of the largest one, ten times that in half precision. Where a
    model quantizes on the way, sums in another order can end in the next step: then one element in fifty may be off by
    a twentieth of the largest one, and integers by 1.
    """
    if len(wanted) != len(got):
        return "wrong number of results"
    for number, (want, have) in enumerate(zip(wanted, got, strict=True)):
        if isinstance(want, list) is not isinstance(have, list) or (want is None) is not (have is None):
            return "wrong kind"
        if isinstance(want, list):
            problem = difference(case, want, have)
        else:
            problem = "" if want is None else _compared(case.kind, np.asarray(want), have)
        if problem:
            return f"{problem} (result {number})"
    return ""


def _compared(kind: str, want: Any, have: Any) -> str:
    if want.shape != have.shape:
        return f"wrong shape {have.shape}, wanted {want.shape}"
    if want.dtype != have.dtype:
        return f"wrong type {have.dtype}, wanted {want.dtype}"
    if want.dtype == object or not want.size:
        return "" if np.array_equal(want, have) else "wrong result"
    quantized = kind == "quantized"
    with np.errstate(all="ignore"):
        wide, other = want.astype(np.float64), have.astype(np.float64)
        finite = np.abs(wide[np.isfinite(wide)])
        largest = float(finite.max()) if finite.size else 0.0
        if want.dtype.kind in "iub":
            off = np.abs(wide - other) > (1 if quantized else 0)
            steps = off
        else:
            rounding = 10.0 if kind == "half" or want.dtype.itemsize == 2 else 1.0
            off = ~np.isclose(other, wide, rtol=1e-3 * rounding, atol=1e-4 * rounding * largest + 1e-6, equal_nan=True)
            steps = ~np.isclose(other, wide, rtol=0, atol=0.05 * largest, equal_nan=True)
        good = not off.any() or (quantized and off.mean() <= 0.02 and not steps.any())
        return "" if good else "wrong result"


def run_models(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """How each model ends, in processes that are stopped when a model takes too long; "ended" is a crash."""
    found: dict[str, str] = {}
    pending = list(names)
    while pending:
        process = subprocess.Popen([sys.executable, "-m", "tests.support.ort_models", str(folder), *pending],
                                   cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            output, _ = process.communicate(timeout=SECONDS_A_MODEL * (2 + len(pending) / 10))
            problem = f"ended with status {process.returncode}"
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            problem = "took too long"
        lines = output.splitlines()
        if lines and lines[-1].startswith("{"):
            return {**found, **json.loads(lines[-1])}
        found[lines[-1] if lines else pending[0]] = problem
        pending.remove(lines[-1] if lines else pending[0])
    return found


def _compiled(path: Path) -> str:
    """Compiles a model that there is nothing to compare with; returns what no model may bring about, or ""."""
    model = onnx.load(path, load_external_data=False)
    shapes = {value.name: _shape(value, SIZES[0]) for value in model.graph.input
              if value.type.HasField("tensor_type") and value.name not in stored_names(model)}
    try:
        compile_model(path, load_target("host"), Options(shapes=shapes))
    except EdgeccError as error:
        return "" if error.exit_status == EXIT_MODEL else error.code
    except Exception as error:  # any other exception is a finding
        return f"unhandled {type(error).__name__}"
    return ""


def _main(folder: Path, names: Sequence[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    refused: dict[str, str] = {}

    def cases() -> Iterator[Case]:
        for name in names:
            print(name, flush=True)
            case = _case(folder / name)
            if isinstance(case, str):
                refused[name] = _compiled(folder / name) or f"not compared: {case}"
            else:
                yield case

    found = outcomes(cases(), load_target("host"), reference=False, difference=difference)
    print(json.dumps({**refused, **found}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2:])
