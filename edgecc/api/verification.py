"""What a compiled model computes, compared with the reference execution of the model it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgecc.api.compilation import Compilation, Division, Export, inputs_of, random_inputs_of
from edgecc.api.running import loaded
from edgecc.backends.base import Loaded, Trace
from edgecc.errors import EdgeccError, printable
from edgecc.ir.instance import corners, graph_symbols
from edgecc.ir.types import Array, DType
from edgecc.partition.quantization import output_steps
from edgecc.partition.run import PartitionedModel
from edgecc.partition.trace import trace
from edgecc.reference.compare import RELATIVE_TOLERANCE, OutputComparison, compare_outputs, relative_tolerance
from edgecc.reference.executor import execute
from edgecc.reference.layerwise import LayerComparison, follow
from edgecc.reference.sensitivity import Allowance, allow_for_precision, allow_for_rounding
from edgecc.targets.precision import FP32


@dataclass(frozen=True)
class Verification:
    """The outcome of `verify`: each output compared, and the sizes of the compiled model in bytes.

    `code_bytes` is None where the object format is not ELF. `relative_tolerance` is what an output may differ by, over its
    largest expected magnitude: 1e-4, or 16 roundoffs of a shorter type that values are stored in. `layers` is there where a tool
    or an accelerator computed on integers that it rounds by a rule of its own (edgecc/reference/layerwise.py). `allowances` has what
    outputs were allowed besides because rounding moves them further (edgecc/reference/sensitivity.py).
    """

    ok: bool
    target: str
    outputs: tuple[OutputComparison, ...]
    arena_bytes: int
    weights_bytes: int
    code_bytes: int | None
    precision: str = FP32
    relative_tolerance: float = RELATIVE_TOLERANCE
    layers: LayerComparison | None = None
    allowances: tuple[Allowance, ...] = ()


def verify_compilation(done: Compilation | Export | Division, *, inputs: Mapping[str, Array] | None, expected: Mapping[str, Array] | None,
                       cc: str | None = None, seed: int = 0) -> Verification:
    """Runs a compilation in a process of its own and compares; see `verify`.

    Where dimensions are open and no inputs are given, at several sizes (`corners`); the worst comparison of each output counts.
    What is expected of a network on integers: see `meaning_of`. Back ends whose tools
    round by another rule are compared layer by layer, and their outputs with what follows from the integers that the tool had;
    outputs that are expected of them may differ by one step of their quantization. What differs in a half precision, or depends on
    integers that a run rounds floats to, is allowed as much as rounding moves the reference (edgecc/reference/sensitivity.py).
    """
    reference = done.meaning if isinstance(done, Compilation) else done.graph
    writer = done.backend if isinstance(done, Export) else done.partitioned.npu if isinstance(done, Division) else None
    margins = {} if writer is None or not writer.steps else {name: writer.steps * size for name, size in output_steps(done.graph).items()}
    narrowest = (done.compiled.module.precision.unit_roundoff if isinstance(done, Compilation) else
                 0.0 if writer is None or margins else writer.unit_roundoff)
    relative = relative_tolerance(done.graph, narrowest)
    symbols = graph_symbols(done.graph)
    cases = [inputs] if inputs is not None or not symbols else [
        random_inputs_of(done.graph, seed, sizes) for sizes in corners(symbols)]
    manifest, found = done.artifact.manifest, list[tuple[OutputComparison, ...]]()
    layers: LayerComparison | None = None
    allowances: tuple[Allowance, ...] = ()
    with loaded(done, cc) as model:
        for case in cases:
            arrays = inputs_of(done.graph, case, seed)
            results = model.run(arrays)  # first: it counts the iterations of endless loops in a moment
            followed = _followed(done, model, arrays)
            if followed is not None:
                layers = followed[1]
                margins = output_steps(done.graph)
            wanted = expected if expected is not None else execute(reference, arrays) if followed is None else followed[0]
            compared = compare_outputs(results, wanted, relative=relative, margins=margins)
            if followed is None and not all(one.ok for one in compared):
                if isinstance(done, Compilation) and done.compiled.module.precision is not DType.F32:
                    compared, more = allow_for_precision(reference, done.compiled.graph, manifest.precision, arrays, results, wanted, compared, seed)
                else:
                    compared, more = allow_for_rounding(reference, arrays, results, wanted, compared, seed)
                allowances += more
            found.append(compared)
    outputs = tuple(max(same, key=lambda o: (not o.ok, o.max_abs_err / o.tolerance if o.tolerance else 0.0))
                    for same in zip(*found, strict=True))
    return Verification(all(o.ok for o in outputs) and (layers is None or layers.ok), manifest.target.name, outputs, done.artifact.arena_bytes,
                        done.artifact.weights_bytes, model.code_bytes, manifest.precision, relative, layers, allowances)


def require_ok(verification: Verification) -> None:
    """Raises E300 naming the outputs that differ, if any do."""
    if not verification.ok:
        raise EdgeccError("E300", "the compiled model and the reference disagree", where=verification.target, details=[
            f"{printable(o.name)}: largest error {o.max_abs_err:.3g}, tolerance {o.tolerance:.3g}"
            for o in verification.outputs if not o.ok])


def _followed(done: Compilation | Export | Division, model: Loaded, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], LayerComparison] | None:
    """The outputs that follow from the integers a run had, and how its layers compare; None where those integers are not known."""
    found: Trace | None = None
    match done, model:
        case Division(partitioned=made), PartitionedModel():
            graph, found = made.graph, trace(made, model, inputs)
        case Export(), _:
            graph, found = done.prepared.graph, done.backend.trace(done.prepared.graph, done.artifact, inputs)
    return None if found is None or not found.integers else follow(graph, inputs, found.integers, found.beyond)
