"""Random models from the operator schemas, and what has to hold for every one of them.

`Generator` makes small graphs of one to four nodes: operators of the installed onnx package with attributes and operands that are
mostly of the right kind and now and then absurd. `examine` imports, compiles and, on request, runs one.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from edgecc import api
from edgecc.errors import EdgeccError
from edgecc.frontend import import_model
from edgecc.ir.strings import string_array
from edgecc.ir.types import DType
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target
from tests.support.against_onnxruntime import first_difference, run_session, session_of

INTEGERS = (0, 1, 2, 3, -1, -2, 4, 5, 7, 8, 16, 100, -100, 2**16, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))
FLOATS = (0.0, 1.0, -1.0, 0.5, -0.5, 1e-5, 2.0, 10.0, 1e30, -1e30, 1e-45, math.inf, -math.inf, math.nan)
TEXTS = ("", "x", "linear", "nearest", "cubic", "constant", "edge", "reflect", "wrap", "max", "add", "mul", "min", "none", "SAME_UPPER",
         "SAME_LOWER", "VALID", "NOTSET", "LEFT", "RIGHT", "tanh", "forward", "reverse", "bidirectional", "asymmetric", "align_corners",
         "half_pixel", "ij->ji", "...->...", "ij,jk", "*/", "a" * 300)
ELEMENT_TYPES = {"float": TensorProto.FLOAT, "int64": TensorProto.INT64, "int32": TensorProto.INT32, "bool": TensorProto.BOOL,
                 "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8, "int8": TensorProto.INT8, "double": TensorProto.DOUBLE,
                 "int16": TensorProto.INT16, "uint16": TensorProto.UINT16, "uint32": TensorProto.UINT32, "uint64": TensorProto.UINT64}
LARGE = 1e4
OF_RANDOM_INTEGERS = ("E402", "E403", "E406")
"""What a run ends with where integers of its inputs are no trip counts, indices or sizes."""

Schema = Any


@functools.cache
def schemas() -> tuple[Schema, ...]:
    """The newest schema of every operator of the default domain."""
    return tuple(sorted((s for s in onnx.defs.get_all_schemas() if s.domain == "" and not s.deprecated), key=lambda s: str(s.name)))


class Generator:
    """Makes models from a source of random numbers (a `random.Random`, or hypothesis' own)."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.inputs: list[onnx.ValueInfoProto] = []
        self.weights: list[TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.known: list[tuple[str, int, tuple[int, ...]]] = []

    def model(self) -> onnx.ModelProto:
        """One model; its operators come from the newest opset."""
        shape = self._shape()
        for _ in range(self._one_of((1, 1, 1, 2, 2, 3, 4))):
            self._node(self._one_of(schemas()), shape)
        used = {name for node in self.nodes for name in node.input}
        outputs = [name for node in self.nodes for name in node.output if name and name not in used] or [self.nodes[-1].output[0]]
        graph = helper.make_graph(self.nodes, "fuzz", self.inputs, [helper.make_empty_tensor_value_info(o) for o in outputs], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", onnx.defs.onnx_opset_version())], ir_version=10)

    # -- choices ------------------------------------------------------------------------------

    def _one_of(self, options: Sequence[Any]) -> Any:
        return options[self.source.randrange(len(options))]

    def _chance(self, one_in: int) -> bool:
        return self.source.randrange(one_in) == 0

    def _shape(self) -> tuple[int, ...]:
        rank = self._one_of((0, 1, 2, 2, 3, 4, 4, 4, 5))
        return tuple(self._one_of((1, 2, 3, 4, 4, 5, 6, 7, 8) if not self._chance(40) else (0, 17, 100)) for _ in range(rank))

    def _near(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that has to do with another one."""
        match self.source.randrange(8):
            case 0 | 1 | 2 | 3:
                return shape
            case 4:
                return shape[1:]
            case 5:
                return tuple(1 if self._chance(2) else d for d in shape)
            case 6:
                return shape[:1]
        return self._shape()

    # -- nodes --------------------------------------------------------------------------------

    def _node(self, schema: Schema, shape: tuple[int, ...]) -> None:
        types: dict[str, int] = {}
        operands = [self._operand(schema, parameter, types, shape) for parameter in self._parameters(schema.inputs)]
        while operands and not operands[-1]:
            operands.pop()
        number = len(self.nodes)
        results = [f"r{number}_{i}" for i, _ in enumerate(self._parameters(schema.outputs))] or [f"r{number}_0"]
        node = helper.make_node(schema.name, operands, results, name=f"n{number}")
        for name, attribute in sorted(schema.attributes.items()):
            if attribute.required or self._chance(2):
                made = self._attribute(name, int(attribute.type), shape)
                if made is not None:
                    node.attribute.append(made)
        self.nodes.append(node)
        self.known.append((results[0], next(iter(types.values()), TensorProto.FLOAT), shape))

    def _parameters(self, declared: Sequence[Any]) -> list[Any]:
        found: list[Any] = []
        for parameter in declared:
            kind = parameter.option.name
            if kind == "Variadic":
                found += [parameter] * self._one_of((1, 2, 3))
            elif kind == "Single" or self._chance(2):
                found.append(parameter)
            elif self._chance(2):
                break
            else:
                found.append(None)
        return found

    def _operand(self, schema: Schema, parameter: Any, types: dict[str, int], shape: tuple[int, ...]) -> str:
        if parameter is None:
            return ""
        kind = parameter.type_str
        if kind not in types:
            allowed = next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == kind), [kind])
            usual = [code for name, code in ELEMENT_TYPES.items() if f"tensor({name})" in allowed]
            types[kind] = self._one_of((usual[:1] * 4 + usual) if usual else [TensorProto.FLOAT])
        if self._chance(60):
            types = {kind: self._one_of(list(ELEMENT_TYPES.values()))}
        dtype = types[kind]
        fitting = [name for name, known, _ in self.known if known == dtype]
        if fitting and self._chance(2):
            return str(self._one_of(fitting))
        own = self._near(shape) if kind == schema.inputs[0].type_str else self._one_of(((len(shape),), (1,), (), (2,), shape, (2 * len(shape),)))
        name = f"v{len(self.inputs) + len(self.weights)}"
        if self._chance(2) and name != "v0":
            self.weights.append(numpy_helper.from_array(self._array(dtype, own), name))
        else:
            self.inputs.append(helper.make_tensor_value_info(name, dtype, own))
        self.known.append((name, dtype, own))
        return name

    def _array(self, dtype: int, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
        count = math.prod(shape)
        if self._chance(12):
            values: list[Any] = [self._one_of(FLOATS if numpy_type.kind == "f" else INTEGERS) for _ in range(min(count, 8))]
        elif numpy_type.kind == "f":
            values = [self.source.randrange(-8, 9) / 4 for _ in range(min(count, 16))]
        else:
            values = [self.source.randrange(0, 4) for _ in range(min(count, 16))]
        if count and numpy_type.kind in "iu":
            limits = np.iinfo(numpy_type)
            values = [min(max(v, int(limits.min)), int(limits.max)) for v in values]
        with np.errstate(all="ignore"):
            return np.resize(np.array(values or [0]), shape).astype(numpy_type) if numpy_type.kind not in "iu" else np.resize(
                np.array(values or [0], dtype=numpy_type), shape)

    def _attribute(self, name: str, kind: int, shape: tuple[int, ...]) -> AttributeProto | None:
        if self._chance(80):
            kind = self._one_of((AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.STRING, AttributeProto.INTS, AttributeProto.FLOATS))
        small = self.source.randrange(10) != 0
        made = AttributeProto(name=name, type=kind)
        match kind:
            case AttributeProto.INT:
                made.i = self._one_of(INTEGERS[:8] if small else INTEGERS)
            case AttributeProto.FLOAT:
                made.f = self._one_of(FLOATS[:8] if small else FLOATS)
            case AttributeProto.STRING:
                made.s = str(self._one_of(TEXTS)).encode()
            case AttributeProto.INTS:
                length = self._one_of((len(shape), max(len(shape) - 2, 0), 2 * max(len(shape) - 2, 0), 1, 0, 9))
                made.ints.extend(self._one_of((0, 1, 1, 1, 2, 3) if small else INTEGERS) for _ in range(length))
            case AttributeProto.FLOATS:
                made.floats.extend(self._one_of(FLOATS) for _ in range(self._one_of((0, 1, 2, 4))))
            case AttributeProto.STRINGS:
                made.strings.extend(str(self._one_of(TEXTS)).encode() for _ in range(self._one_of((0, 1, 2))))
            case AttributeProto.TENSOR:
                made.t.CopyFrom(numpy_helper.from_array(self._array(TensorProto.FLOAT, (self._one_of((0, 1, 2)),))))
            case _:
                return None
        return made


# -- what has to hold -------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What became of a model: "ok" or the code of the error, and what is wrong with that, or ""."""

    outcome: str
    problem: str = ""


def examine(model: onnx.ModelProto | bytes, *, run: bool = False, target: str = "generic-c") -> Verdict:
    """Compiles a model; with `run` also builds and runs it and compares with the reference.

    Errors of a user are fine; whatever else escapes is raised.
    """
    try:
        done = api.compile_model(model, load_target(target), api.Options())
        if run and done.artifact.arena_bytes < 2**22:
            verification = api.verify_compilation(done, inputs=None, expected=None, cc="gcc")
            if not verification.ok:
                return Verdict("ok", "; ".join(f"{o.name}: {o.max_abs_err:g} over {o.tolerance:g}" for o in verification.outputs if not o.ok))
    except EdgeccError as error:
        if error.code in OF_RANDOM_INTEGERS:
            return Verdict(error.code)
        text = str(error)
        wrong = "" if error.exit_status in (2, 3) and len(text) < 5000 else text[:1500]
        return Verdict(error.code, wrong)
    return Verdict("ok")


def differs_from_onnxruntime(model: onnx.ModelProto, seed: int = 0) -> str:
    """Where the imported graph computes something else than onnxruntime, or ""; also "" where that refuses the model.

    Where constants or attributes of the model are infinite, no numbers or large, what becomes so is left out: it depends on the
    order of computing.
    """
    graph = import_model(model)
    random_source = np.random.default_rng(seed)
    given = {}
    casts = any(node.op_type in ("Cast", "CastLike") for node in model.graph.node)  # ONNX leaves open what a negative float is as an unsigned integer
    for name, value in zip(graph.input_names, graph.inputs, strict=True):
        dtype = value.type.dtype.numpy
        if value.type.dtype is DType.STRING:
            given[name] = string_array(np.asarray(random_source.choice(["", "a", "1", "Ab c"], value.type.dims)).reshape(-1).tolist(), value.type.dims)
            continue
        drawn = random_source.integers(0, 3, value.type.dims) if dtype.kind in "iub" else random_source.standard_normal(value.type.dims)
        given[name] = np.asarray(np.abs(drawn) if casts else drawn).astype(dtype)
    session = session_of(model)
    found = None if session is None else run_session(session, given)
    if found is None:
        return ""
    wanted = [one for result in found for one in (result if isinstance(result, list) else [result])]  # a sequence is its tensors
    try:
        with np.errstate(all="ignore"):
            results = execute(graph, given)
    except EdgeccError as error:
        if error.code in OF_RANDOM_INTEGERS:
            return ""
        raise
    return first_difference(model, results, wanted, largest=LARGE if _has_wild_numbers(model) else math.inf)


def _has_wild_numbers(model: onnx.ModelProto) -> bool:
    """Whether a constant or an attribute is infinite, no number, or larger than `LARGE`."""
    stored = [*model.graph.initializer, *(a.t for node in model.graph.node for a in node.attribute if a.HasField("t"))]
    numbers = [a.f for node in model.graph.node for a in node.attribute] + [f for node in model.graph.node for a in node.attribute for f in a.floats]
    with np.errstate(all="ignore"):
        return not np.all(np.abs(np.asarray(numbers, np.float64)) < LARGE) or not all(
            np.all(np.abs(numpy_helper.to_array(t).astype(np.float64)) < LARGE) for t in stored if t.data_type != TensorProto.STRING)
