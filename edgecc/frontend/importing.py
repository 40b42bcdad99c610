"""The frontend from end to end: load, bind, order, convert, verify."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx

from edgecc.errors import EdgeccError, Problem, printable
from edgecc.frontend.bind import Binding, GivenDim, InputSpec, bind, in_larger_steps, input_spec, names_of_dims
from edgecc.frontend.convert import Importer, Scope
from edgecc.frontend.fixed_inputs import fixed_arrays
from edgecc.frontend.interface import (
    Given,
    Port,
    flattened,
    port_of_input,
    port_of_output,
    tensor_inputs,
    tensors_of_item,
)
from edgecc.frontend.items import Item, Missing, Refused, TensorSequence
from edgecc.frontend.limits import DEFAULT_LIMITS, Limits
from edgecc.frontend.load import LoadedModel, load_model, source_name
from edgecc.frontend.map_inputs import map_inputs
from edgecc.frontend.registry import Unsupported
from edgecc.frontend.shapes import contradicted_outputs
from edgecc.frontend.structure import inline_functions, without_weights
from edgecc.frontend.tensors import tensor_array
from edgecc.ir.dims import Dim, SymbolicDim, symbols_of
from edgecc.ir.graph import Graph, Value
from edgecc.ir.strings import array_bytes
from edgecc.ir.types import Array
from edgecc.ir.verify import verify


@dataclass(frozen=True)
class ImportReport:
    """What happened while importing.

    Attributes:
        notes: sentences about what was assumed or looks odd.
        opsets: version of each operator domain; "" is ONNX itself.
        dims: sizes of the model's named dimensions.
        bound: the tensors of inputs that became constants, by name, in the model's order.
        inputs, outputs: what the model's inputs (without those that have a value in it) and outputs consist of.
    """

    notes: tuple[str, ...]
    opsets: Mapping[str, int]
    dims: Mapping[str, Dim]
    bound: Mapping[str, Array] = field(default_factory=dict)
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()


class _NotKnownError(Exception):
    """Further inputs would have to be constants: `names`. `error` is what to raise where they cannot be."""

    def __init__(self, names: frozenset[str], error: EdgeccError) -> None:
        super().__init__()
        self.names = names
        self.error = error


def import_model(model: str | Path | bytes | onnx.ModelProto, *, shapes: Mapping[str, Sequence[GivenDim]] | None = None,
                 inputs: Mapping[str, Given] | None = None, limits: Limits = DEFAULT_LIMITS) -> Graph:
    """Imports an ONNX model as a verified graph of core operators.

    Args:
        model: path, bytes or ModelProto. External data needs the path.
        shapes: sizes of dynamic dims, by input name or by the name of a dim; a `Range` leaves one to the run.
        inputs: arrays whose shapes bind dynamic dims; they must fit the model. For a sequence the arrays in it, for an
            optional without a value None.
        limits: bounds on what an untrusted model may ask for.
    Raises: EdgeccError E001, E005 (shapes or inputs contradict the model), E007, E100 to E106, E110.
    """
    return import_model_with_report(model, shapes=shapes, inputs=inputs, limits=limits)[0]


def import_model_with_report(model: str | Path | bytes | onnx.ModelProto, *,
                             shapes: Mapping[str, Sequence[GivenDim]] | None = None,
                             inputs: Mapping[str, Given] | None = None, limits: Limits = DEFAULT_LIMITS,
                             bind_values: bool = False, constants: Mapping[str, Array] | None = None) -> tuple[Graph, ImportReport]:
    """`import_model`, with a report of what was assumed.

    Inputs named in `constants` have those values in every run (`fixed_arrays`) and are no inputs of the graph.

    With `bind_values`, inputs that must be known for the model to be compiled (shapes, axes and the like) become
    constants of the values that `inputs` gives them, and are no inputs of the graph. The report names them.
    """
    name = source_name(model)
    fixed = constants or {}
    bound: frozenset[str] = frozenset(fixed)
    try:
        loaded = load_model(model, limits)
        arrays = flattened(inputs or {})
        while True:
            try:
                return _import(loaded, shapes or {}, inputs or {}, limits, bound, bind_values, fixed)
            except _NotKnownError as problem:
                wanted = problem.names & frozenset(arrays if bind_values else {})
                if not wanted:
                    raise _of_unknown_inputs(problem.error, problem.names) from None
                bound |= wanted
    except EdgeccError as error:
        if error.where == name or error.code in ("E001", "E005", "E007"):
            raise
        where = f"{name}:{error.where}" if error.where else name
        raise EdgeccError(error.code, error.message, where=where, hint=error.hint, details=error.details,
                          problems=error.problems) from error
    except RecursionError as error:
        raise EdgeccError("E101", "something in the model is nested too deeply", where=name) from error
    except MemoryError as error:
        raise EdgeccError("E101", "the model needs more memory than there is", where=name) from error


def _import(loaded: LoadedModel, shapes: Mapping[str, Sequence[GivenDim]], given: Mapping[str, Given],
            limits: Limits, bound: frozenset[str], bind_values: bool, fixed: Mapping[str, Array]) -> tuple[Graph, ImportReport]:
    proto = loaded.proto.graph
    outline = inline_functions(loaded, without_weights(loaded.proto), limits)
    constants = {t.name: t for t in proto.initializer}
    names = set(constants) | {s.values.name for s in proto.sparse_initializer}
    arrays = flattened(given)
    _check_overridden(constants, arrays)
    maps = map_inputs(outline.graph.node, proto.input, limits)
    declared = [maps[value.name].tensor if value.name in maps else value for value in proto.input if value.name not in names]
    specs, refused = _input_specs(tensor_inputs(declared, given))
    arrays |= fixed_arrays(specs, fixed)
    output_names = [value.name for value in proto.output]
    binding = bind(specs, shapes, arrays, limits, ignored=names | {item.loc[0] for item in refused})

    graph = Graph(printable(proto.name, 80) or "graph")
    scope = Scope(loaded.opsets, is_top=True)
    importer = Importer(graph, limits, max(loaded.proto.ir_version, 4))
    importer.unsupported.update(dict.fromkeys(refused))
    importer.opened_batch = binding.opened_batch
    importer.binds_values = bind_values
    names_of = _add_inputs(importer, scope, specs, binding, {s.name: arrays[s.name] for s in specs if s.name in bound})
    scope.items.update((item.loc[0], item) for item in refused)
    inputs = tuple(Port(value.name, "map", (value.name,), maps[value.name].keys) if value.name in maps else
                   port_of_input(value.name, given.get(value.name, _NOTHING_GIVEN)) for value in declared)
    _assemble(scope, inputs)
    importer.add_weights(scope, proto)
    results = importer.run_nodes(outline.graph.node, output_names, scope)
    try:
        outputs = _outputs(importer, results, proto.output)
    except EdgeccError as problem:
        error = _of_other_sizes(problem, binding) if binding.changed else _of_unequal_sizes(_of_rounded_sizes(problem, specs, binding), specs, binding)
        if importer.needed:
            raise _NotKnownError(frozenset(names_of[value] for value in importer.needed), error) from error
        raise error from None
    interface, notes = _distinct([part for port in outputs for part in port.parts])
    graph.set_outputs([value for item in results for value in tensors_of_item(item)], interface)
    verify(graph)
    plain = [(value, item) for value, item in zip(proto.output, results, strict=True) if isinstance(item, Value)]
    notes = [*binding.notes, *(found.note for found in maps.values()), *notes, *contradicted_outputs(plain), *importer.notes]
    return graph, ImportReport(tuple(notes), loaded.opsets, binding.dims,
                               {spec.name: arrays[spec.name] for spec in specs if spec.name in bound}, inputs, _renamed(outputs, interface))


def _add_inputs(importer: Importer, scope: Scope, specs: Sequence[InputSpec], binding: Binding, constants: Mapping[str, Array]) -> dict[Value, str]:
    """Gives the graph its inputs, or constants in their place; returns the names of those that are inputs.

    Raises: EdgeccError E102 where two have one name.
    """
    names: dict[Value, str] = {}
    for spec in specs:
        if spec.name in scope.items:
            raise EdgeccError("E102", f"two inputs are called '{printable(spec.name)}'")
        if spec.name in constants:
            scope.items[spec.name] = importer.emitter.constant(constants[spec.name], spec.name)
            continue
        value = importer.graph.add_input(binding.types[spec.name], spec.name)
        value.name = printable(spec.name)
        scope.items[spec.name] = value
        names[value] = spec.name
    return names


def _assemble(scope: Scope, inputs: Sequence[Port]) -> None:
    """Makes sequences and optionals of the tensors that arrive for them."""
    for port in inputs:
        if port.kind in ("tensor", "map"):
            continue
        parts = tuple(part for part in map(scope.items.get, port.parts) if isinstance(part, Value))
        if len(parts) == len(port.parts):
            scope.items[port.name] = Missing() if port.kind == "missing" else TensorSequence(parts)


_NOTHING_GIVEN = np.zeros(0)
"""Stands for the array of an input for which none is given."""


def _of_unknown_inputs(error: EdgeccError, names: frozenset[str]) -> EdgeccError:
    """An error that would not be met, perhaps, were the values of some inputs known."""
    listed = ", ".join(f"--constant {printable(name)}=VALUE" for name in sorted(names))
    return _hinted(error, f"where the value is the same in every run, give it: {listed}")


def _hinted(error: EdgeccError, hint: str) -> EdgeccError:
    """The error with one more hint."""
    return EdgeccError(error.code, error.message, where=error.where, hint=f"{error.hint}; {hint}" if error.hint else hint,
                       details=error.details, problems=error.problems)


def _of_other_sizes(error: EdgeccError, binding: Binding) -> EdgeccError:
    """An error of a model that is imported for other sizes than those its file fixes: these may be why."""
    if error.code not in ("E102", "E104", "E105", "E110"):
        return error
    hint = (f"{'; '.join(binding.changed)}: the file fixes this size, and the node holds numbers that were made for it. "
            "Give the size of the file, or export the model with a dynamic dimension")
    problems = [replace(problem, change=problem.change or hint) for problem in error.problems]
    return _hinted(EdgeccError(error.code, error.message, where=error.where, hint=error.hint, details=error.details, problems=problems), hint)


def _of_rounded_sizes(error: EdgeccError, specs: Sequence[InputSpec], binding: Binding) -> EdgeccError:
    """An error about open sizes that were halved and rounded: the network may be made for multiples only."""
    if error.code != "E110" or "floordiv(" not in error.message:
        return error
    sizes = [size for size in symbols_of(dim for type_ in binding.types.values() for dim in type_.shape) if str(size) in error.message]
    factor = math.lcm(*map(int, _DIVISORS.findall(error.message)))
    flags = in_larger_steps(specs, binding, sizes, factor)
    return _hinted(error, f"if the network takes only multiples of a number, leave the dimension open in such steps: {flags}") if flags else error


def _of_unequal_sizes(error: EdgeccError, specs: Sequence[InputSpec], binding: Binding) -> EdgeccError:
    """An error about open sizes with several names, of which one may be known to follow from the others: exporters name what is equal apart."""
    said = error.message.split(" (operands:")[0]
    named = names_of_dims(specs)
    counts = {str(name): said.count(str(size)) for name, size in binding.dims.items() if name in named and isinstance(size, SymbolicDim) and str(size) in said}
    rarest = sorted(name for name, count in counts.items() if count == min(counts.values()))  # what both sides have is named more often
    if error.code != "E110" or len(rarest) < 2 or not all(name.isidentifier() for name in rarest):
        return error
    *others, last = rarest
    flag = f"--shape {last}={others[0]}" if len(others) == 1 else "as in --shape total=past+seq"
    return _hinted(error, f"if one of {', '.join(others)} and {last} follows from the others in every run, say so: {flag}")


_DIVISORS = re.compile(r", (\d{1,4})\)", re.ASCII)
"""Of quotients in the text of a dimension: floordiv(h:1..8 + 1, 2)."""


def _renamed(ports: Sequence[Port], names: Sequence[str]) -> tuple[Port, ...]:
    """The ports with other names for their tensors, given in order."""
    remaining = iter(names)
    return tuple(replace(port, parts=tuple(next(remaining) for _ in port.parts)) for port in ports)


def _input_specs(inputs: Sequence[onnx.ValueInfoProto]) -> tuple[list[InputSpec], list[Refused]]:
    """The inputs that can be compiled, and those that cannot."""
    specs: list[InputSpec] = []
    refused: list[Refused] = []
    for value in inputs:
        try:
            specs.append(input_spec(value))
        except Unsupported as problem:
            refused.append(Refused((value.name,), "input", problem.reason, problem.hint))
    return specs, refused


def _check_overridden(constants: Mapping[str, onnx.TensorProto], arrays: Mapping[str, Array]) -> None:
    """Refuses arrays given for weights, unless they hold what the model holds."""
    for name, array in arrays.items():
        if name not in constants:
            continue
        try:
            stored = tensor_array(constants[name])
        except Unsupported:
            continue
        if stored.shape != array.shape or stored.dtype != array.dtype or array_bytes(stored) != array_bytes(array):
            raise EdgeccError("E005", f"'{printable(name)}' has a value in the model; another one is given",
                              hint="leave it out: weights are compiled in")


def _outputs(importer: Importer, results: Sequence[Item], declared: Sequence[onnx.ValueInfoProto]) -> list[Port]:
    """What the model's outputs consist of.

    Raises: EdgeccError E105 naming everything unsupported, else the first error met in a node.
    """
    ports: list[Port] = []
    for item, output in zip(results, declared, strict=True):
        port = port_of_output(output.name, item)
        if port is not None:
            ports.append(port)
        elif not importer.unsupported and not importer.failures:
            importer.unsupported.setdefault(Refused((printable(output.name),), "output", "it is no tensor",
                                                    "let the model return tensors"))
    problems = [Problem("E105", f"{printable('+'.join(refused.loc))} ({refused.op})", refused.reason, refused.hint)
                for refused in importer.unsupported]
    problems += [Problem(failure.code, failure.where, failure.message, failure.hint) for failure in importer.failures]
    if importer.unsupported:
        raise _unsupported_error(list(importer.unsupported), problems)
    if importer.failures:
        first = importer.failures[0]
        raise EdgeccError(first.code, first.message, where=first.where, hint=first.hint, details=first.details,
                          problems=problems) from first
    return ports


def _unsupported_error(problems: Sequence[Refused], every: Sequence[Problem]) -> EdgeccError:
    hints = {problem.hint for problem in problems}
    common = hints.pop() if len(hints) == 1 else ""
    details = []
    for problem in problems:
        hint = f" ({problem.hint})" if problem.hint and not common else ""
        details.append(f"{printable('+'.join(problem.loc))} ({problem.op}): {problem.reason}{hint}")
    kinds = sorted({problem.op for problem in problems})
    shown = ", ".join(kinds[:8]) + (", ..." if len(kinds) > 8 else "")
    count = "1 part" if len(problems) == 1 else f"{len(problems)} parts"
    return EdgeccError("E105", f"{count} of the model cannot be compiled: {shown}", details=details, hint=common, problems=every)


def _distinct(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Output names made distinct, as the graph's interface wants them, and notes about changed ones."""
    taken: set[str] = set(names)
    used: set[str] = set()
    out: list[str] = []
    notes: list[str] = []
    for name in names:
        chosen, number = name, 2
        while chosen in used or (chosen != name and chosen in taken):
            chosen = f"{name}_{number}"
            number += 1
        if chosen != name:
            notes.append(f"output '{printable(name)}' is returned twice; the second one is called '{printable(chosen)}'")
        used.add(chosen)
        out.append(chosen)
    return out, notes
